"""Laws of training, each against an oracle that shares no code with it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from labqueue.llm import train, trainer
from labqueue.llm.checkpoint import trainable
from tests.llm.conftest import RECIPE, Bench

Build = Callable[..., Bench]


def nll_by_hand(model: Any, row: dict[str, list[int]]) -> tuple[float, int]:
    """Summed loss and count of one row alone, unpadded: token t is predicted from the tokens before it."""
    import torch

    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row["input_ids"]], device=model.device)).logits[0].float()
    total, count = 0.0, 0
    for position in range(1, len(row["input_ids"])):
        target = row["labels"][position]
        if target != -100:
            scores = logits[position - 1]  # [vocabulary]
            total += float(torch.logsumexp(scores, 0) - scores[target])
            count += 1
    return total, count


def mean_by_hand(model: Any, rows: Any) -> float:
    sums = [nll_by_hand(model, row) for row in rows]
    return sum(total for total, _ in sums) / sum(count for _, count in sums)


def test_loss_falls_on_answer_tokens_only(bench: Build) -> None:
    made = bench(evaluate=(0,))
    order = train.epoch_order(len(made.rows), 8, RECIPE.seed)
    made.adapted.eval()
    expected = mean_by_hand(made.adapted, [made.rows[number] for number in order[:2]])
    held_out = mean_by_hand(made.adapted, made.held_out)
    made.trainer.train()
    assert made.told.steps[0].train_loss == pytest.approx(expected, abs=1e-5)
    assert made.told.losses[0] == pytest.approx(held_out, abs=1e-5)


def test_held_out_loss_does_not_depend_on_its_batches(bench: Build) -> None:
    made = bench()
    losses = [train.held_out_loss(made.trainer, made.held_out, batch) for batch in (1, 2, 5)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def test_an_untrained_adapter_equals_its_base_exactly(bench: Build) -> None:
    import torch

    for quantization, dtype in (("none", "float32"), ("4bit", "bfloat16")):
        made = bench(quantization=quantization, dtype=dtype, dropout=0.1)
        made.adapted.eval()
        ids = torch.tensor([made.rows[0]["input_ids"]])
        with torch.no_grad():
            with_adapter = made.adapted(input_ids=ids).logits
            with made.adapted.disable_adapter():
                base = made.adapted(input_ids=ids).logits
        assert torch.equal(with_adapter, base)
        assert any(value.abs().max() > 0 for name, value in trainable(made.adapted).items() if "lora_A" in name)


def test_accumulation_equals_the_big_batch(bench: Build) -> None:
    import torch

    ended = []
    for batch, accumulation in ((6, 1), (2, 3), (1, 6)):
        made = bench(dataclasses.replace(RECIPE, batch=batch, accumulation=accumulation))
        made.trainer.train()
        ended.append(([step.train_loss for step in made.told.steps], trainable(made.adapted)))
    losses, weights = ended[0]
    assert len(losses) == 4
    for other, others in ended[1:]:
        assert other == pytest.approx(losses, abs=1e-5)
        # Adam divides by the root of the second moment: rounding of near-zero gradients is magnified to rate * 1e-2.
        assert all(torch.allclose(value, others[name], atol=1e-4) for name, value in weights.items())


def test_gradient_checkpointing_changes_no_loss(bench: Build) -> None:
    losses = []
    for on in (False, True):
        made = bench(dataclasses.replace(RECIPE, gradient_checkpointing=on))
        made.trainer.train()
        losses.append([step.train_loss for step in made.told.steps])
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(bench: Build) -> None:
    runs = []
    for seed in (0, 0, 1):
        made = bench(dataclasses.replace(RECIPE, seed=seed), quantization="4bit", dtype="bfloat16", dropout=0.1)
        made.trainer.train()
        runs.append([step.train_loss for step in made.told.steps])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_adapters_are_fp32_whatever_the_base(bench: Build) -> None:
    made = bench(quantization="4bit", dtype="bfloat16")
    assert {str(value.dtype) for value in trainable(made.trainer.model).values()} == {"torch.float32"}
    made.trainer.train()
    assert {str(value.dtype) for value in trainable(made.trainer.model).values()} == {"torch.float32"}


def test_a_setting_that_the_trainer_does_not_hold_is_an_error(bench: Build) -> None:
    made = bench()
    trainer.check_held(made.trainer, {"max_steps": 4}, RECIPE, 8)
    for asked, reason in (({"max_steps": 5}, "max_steps: asked 5, holds 4"), ({"gone": 1}, "gone: asked 1, holds 'no")):
        with pytest.raises(trainer.ConfigDrift, match=reason):
            trainer.check_held(made.trainer, asked, RECIPE, 8)
    next(iter(trainable(made.trainer.model).values())).data = next(
        iter(trainable(made.trainer.model).values())
    ).data.bfloat16()
    with pytest.raises(trainer.ConfigDrift, match="adapter dtype"):
        trainer.check_held(made.trainer, {}, RECIPE, 8)


def test_what_the_trainer_holds_names_no_folder_of_this_machine(bench: Build) -> None:
    made = bench()
    held = trainer.held_config(made.trainer)
    assert held["learning_rate"] == RECIPE.learning_rate
    assert str(made.trainer.args.output_dir) not in str(held)


def test_the_order_of_the_data_is_whole_epochs_of_the_seed() -> None:
    order = train.epoch_order(5, 12, seed=3)
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:10]
    assert order == train.epoch_order(5, 12, seed=3)
    assert order != train.epoch_order(5, 12, seed=4)


@pytest.mark.parametrize(("steps", "between"), [(1, 0), (2, 1), (7, 3), (100, 4), (29, 28)])
def test_evaluations_are_first_last_and_evenly_between(steps: int, between: int) -> None:
    at = train.evaluation_steps(steps, between)
    assert at[0] == 0
    assert at[-1] == steps
    assert len(at) == between + 2
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert max(gaps) - min(gaps) <= 1
    with pytest.raises(ValueError, match="do not fit"):
        train.evaluation_steps(steps, steps)


def test_tokens_of_a_step_are_those_of_its_rows_without_padding(bench: Build) -> None:
    made = bench()
    made.trainer.train()
    order = train.epoch_order(len(made.rows), 8, RECIPE.seed)
    lengths = [len(made.rows[number]["input_ids"]) for number in order]
    assert [step.tokens for step in made.told.steps] == [sum(lengths[i : i + 2]) for i in range(0, 8, 2)]
    assert all(step.wall_s > 0 and math.isfinite(step.grad_norm) for step in made.told.steps)
