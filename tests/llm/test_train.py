"""Laws of training, each against an oracle that shares no code with it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest

from labqueue.llm.training import trl_trainer
from labqueue.llm.training.checkpoint import trainable
from labqueue.llm.training.recipe import answer_loss, epoch_order, evaluation_steps, held_out_loss
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
    order = epoch_order(len(made.rows), 8, RECIPE.seed)
    made.adapted.eval()
    expected = mean_by_hand(made.adapted, [made.rows[number] for number in order[:2]])
    held_out = mean_by_hand(made.adapted, made.held_out)
    made.trainer.train()
    assert made.told.steps[0].train_loss == pytest.approx(expected, abs=1e-5)
    assert made.told.losses[0] == pytest.approx(held_out, abs=1e-5)


def test_the_loss_of_a_step_and_its_gradient_are_the_models_own(bench: Build) -> None:
    import torch

    made = bench(rows=uneven_rows())
    batch = made.trainer.data_collator(list(made.rows[:3]))
    count = int((batch["labels"][:, 1:] != -100).sum()) + 5  # of a step of several micro-batches
    found = []
    for loss in (
        lambda: made.adapted(**batch, num_items_in_batch=count).loss,
        lambda: answer_loss(made.adapted, batch, count),
    ):
        made.adapted.zero_grad()
        value = loss()
        value.backward()
        weights = [each.grad.flatten() for each in made.adapted.parameters() if each.grad is not None]
        found.append((float(value.detach()), torch.cat(weights)))
    (own, gradient), (ours, of_ours) = found
    assert ours == pytest.approx(own, rel=1e-6)
    assert torch.allclose(of_ours, gradient, rtol=1e-4, atol=1e-7)
    assert float(gradient.abs().max()) > 0


def test_held_out_loss_does_not_depend_on_its_batches(bench: Build) -> None:
    made = bench()
    losses = [held_out_loss(made.trainer, made.held_out, batch) for batch in (1, 2, 5)]
    assert losses == pytest.approx([losses[0]] * 3, abs=1e-6)


def uneven_rows() -> tuple[dict[str, list[int]], ...]:
    """24 rows of 4 to 50 tokens, with 1 to 40 of them in the answer: a mean of micro-batch means is far off."""
    import random

    draw = random.Random(0)
    rows = []
    for number in range(24):
        answer = 40 if number % 5 == 0 else 1 + number % 4
        tokens = [draw.randrange(3, 250) for _ in range(3 + number % 7 + answer)]
        rows.append({"input_ids": tokens, "labels": [-100] * (len(tokens) - answer) + tokens[-answer:]})
    return tuple(rows)


@pytest.mark.parametrize("full", [False, True])
def test_accumulation_equals_the_big_batch_whatever_the_lengths_of_its_rows(bench: Build, full: bool) -> None:
    import torch

    ended = []
    for batch, accumulation in ((6, 1), (2, 3), (1, 6)):
        # Plain gradient descent without clipping: an update is the rate times the gradient, so it shows the gradient.
        plain = {"optimizer": "sgd", "learning_rate": 0.5, "max_grad_norm": 1e9}
        recipe = dataclasses.replace(RECIPE, batch=batch, accumulation=accumulation, **plain)
        made = bench(recipe, rows=uneven_rows(), full=full)
        began = {name: value.detach().clone() for name, value in trainable(made.adapted).items()}
        order = epoch_order(24, 6, RECIPE.seed)
        expected = mean_by_hand(made.adapted.eval(), [made.rows[number] for number in order])
        made.trainer.train()
        moved = torch.cat([(value.detach() - began[name]).flatten() for name, value in trainable(made.adapted).items()])
        told = made.told.steps
        assert told[0].train_loss == pytest.approx(expected, abs=1e-5)
        ended.append(([step.train_loss for step in told], [step.grad_norm for step in told], moved))
    losses, norms, update = ended[0]
    assert len(losses) == 4
    for other_losses, other_norms, other in ended[1:]:
        assert other_losses == pytest.approx(losses, abs=1e-5)
        assert other_norms == pytest.approx(norms, rel=1e-5, abs=1e-6)
        assert float((other - update).norm() / update.norm()) < 1e-5


def test_adapters_of_one_seed_see_the_same_rows_in_the_same_order(bench: Build) -> None:
    seen = []
    for lora, full in (({"rank": 2}, False), ({"rank": 9, "dora": True, "scaling": "rslora"}, False), ({}, True)):
        made = bench(lora=lora, full=full, dropout=0.0 if full else 0.3)
        inner, batches = made.trainer.data_collator, []

        def collate(rows: Any, inner: Any = inner, batches: Any = batches) -> Any:
            batch = inner(rows)
            batches.append(batch["input_ids"].tolist())
            return batch

        made.trainer.data_collator = collate
        made.trainer.train()
        seen.append(batches)
    assert len(seen[0]) == 4
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant_with_warmup", lambda step: 1.0),
        ("linear", lambda step: 1 - (step - 4) / 16),
        ("cosine", lambda step: (1 + math.cos(math.pi * (step - 4) / 16)) / 2),
        ("cosine_with_min_lr", lambda step: 0.2 + 0.8 * (1 + math.cos(math.pi * (step - 4) / 16)) / 2),
        ("inverse_sqrt", lambda step: math.sqrt(4 / step)),
        (
            "warmup_stable_decay",
            lambda step: 1.0 if step < 15 else (1 + math.cos(math.pi * (step - 15) / 5)) / 2,
        ),
    ],
)
def test_each_schedule_is_the_curve_that_its_name_says(
    bench: Build, schedule: str, share: Callable[[int], float]
) -> None:
    decay = 5 if schedule == "warmup_stable_decay" else None
    changes = {"schedule": schedule, "warmup_steps": 4, "min_rate": 0.2, "decay_steps": decay}
    made = bench(dataclasses.replace(RECIPE, steps=20, batch=1, **changes))
    made.trainer.create_optimizer_and_scheduler(20)
    rates = []
    for _ in range(20):
        rates.append(made.trainer.lr_scheduler.get_last_lr()[0])
        made.trainer.optimizer.step()
        made.trainer.lr_scheduler.step()
    expected = [RECIPE.learning_rate * (step / 4 if step < 4 else share(step)) for step in range(20)]
    assert rates == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_each_optimizer_lowers_the_loss(bench: Build) -> None:
    rates = {"sgd": 0.5, "adafactor": 1e-2, "adamw": 1e-2, "adamw_8bit": 1e-2}
    assert set(trl_trainer.OPTIMIZERS) - set(rates) == {"paged_adamw_8bit"}, "pages need a GPU"
    for optimizer, rate in rates.items():
        made = bench(dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=rate), evaluate=(0, 4), full=True)
        made.trainer.train()
        assert made.told.losses[4] < made.told.losses[0] - 0.05, optimizer


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
    trl_trainer.check_held(made.trainer, {"max_steps": 4}, RECIPE, 8)
    for asked, reason in (({"max_steps": 5}, "max_steps: asked 5, holds 4"), ({"gone": 1}, "gone: asked 1, holds 'no")):
        with pytest.raises(trl_trainer.ConfigDrift, match=reason):
            trl_trainer.check_held(made.trainer, asked, RECIPE, 8)
    next(iter(trainable(made.trainer.model).values())).data = next(
        iter(trainable(made.trainer.model).values())
    ).data.bfloat16()
    with pytest.raises(trl_trainer.ConfigDrift, match="dtype of trained weights"):
        trl_trainer.check_held(made.trainer, {}, RECIPE, 8)


def test_what_the_trainer_holds_names_no_folder_of_this_machine(bench: Build) -> None:
    made = bench()
    held = trl_trainer.held_config(made.trainer)
    assert held["learning_rate"] == RECIPE.learning_rate
    assert str(made.trainer.args.output_dir) not in str(held)


def test_the_order_of_the_data_is_whole_epochs_of_the_seed() -> None:
    order = epoch_order(5, 12, seed=3)
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:10]
    assert order == epoch_order(5, 12, seed=3)
    assert order != epoch_order(5, 12, seed=4)


@pytest.mark.parametrize(("steps", "between"), [(1, 0), (2, 1), (7, 3), (100, 4), (29, 28)])
def test_evaluations_are_first_last_and_evenly_between(steps: int, between: int) -> None:
    at = evaluation_steps(steps, between)
    assert at[0] == 0
    assert at[-1] == steps
    assert len(at) == between + 2
    gaps = [later - earlier for earlier, later in itertools.pairwise(at)]
    assert max(gaps) - min(gaps) <= 1
    with pytest.raises(ValueError, match="do not fit"):
        evaluation_steps(steps, steps)


def test_tokens_of_a_step_are_those_of_its_rows_without_padding(bench: Build) -> None:
    made = bench()
    made.trainer.train()
    order = epoch_order(len(made.rows), 8, RECIPE.seed)
    lengths = [len(made.rows[number]["input_ids"]) for number in order]
    assert [step.tokens for step in made.told.steps] == [sum(lengths[i : i + 2]) for i in range(0, 8, 2)]
    assert all(step.wall_s > 0 and math.isfinite(step.grad_norm) for step in made.told.steps)
