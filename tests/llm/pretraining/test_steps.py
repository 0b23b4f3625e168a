"""Batches, schedules, optimizers, the chunked loss and the step itself, each against an independent statement of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from labqueue.domain.errors import LabError, WorkFailed
from labqueue.llm.pretraining import checkpoint, validation
from labqueue.llm.pretraining.batches import Batches, mix, offsets, signed, step_key
from labqueue.llm.pretraining.chunked_loss import fused_loss, rows_at_once
from labqueue.llm.pretraining.gpt import GPT, GPTConfig
from labqueue.llm.pretraining.optimizers import Optimizers
from labqueue.llm.pretraining.schedules import Recipe, evaluation_steps
from labqueue.llm.pretraining.train_step import Reading, TrainStep, Way

TOKENS = np.random.default_rng(0).integers(0, 31, 3000, dtype=np.uint16)
CONFIG = GPTConfig(vocabulary=31, context=8, layers=2, heads=2, width=16, dropout=0.2)
MODERN = replace(CONFIG, family="llama", qk_norm=True, tied=False, zero_projections=True, zero_head=True)
RECIPE = Recipe(steps=20, batch=4, learning_rate=1e-2, warmup_steps=2)


def taken(config: GPTConfig = CONFIG, recipe: Recipe = RECIPE, seed: int = 0, **way: object) -> TrainStep:
    step = TrainStep(GPT(config, seed=seed), TOKENS, recipe, Way(**way), seed=seed, device="cpu")  # type: ignore[arg-type]  # of many types
    step.prepare()
    return step


def losses(step: TrainStep, numbers: range) -> list[Reading]:
    for number in numbers:
        step.run(number)
    return step.read()


# -- batches


@given(st.integers(0, 2**63), st.integers(1, 10**9), st.integers(1, 2**40), st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_places_are_those_of_the_hash_in_whole_numbers(seed: int, step: int, places: int, first: int) -> None:
    """Against Python's integers, which never overflow."""
    key = step_key(seed, step)
    found = offsets(torch.tensor(signed(key)), first, 3, places).tolist()
    golden = 0x9E3779B97F4A7C15
    expected = [(mix((key + (first + row + 1) * golden) % 2**64) % 2**63) % places for row in range(3)]
    assert found == expected


def test_the_mixing_function_is_splitmix64() -> None:
    """The first outputs for seed 0 of the published generator, whose state grows by the golden ratio."""
    golden = 0x9E3779B97F4A7C15
    outputs = [mix(golden * number % 2**64) for number in (1, 2, 3)]
    assert outputs == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_every_place_of_a_split_is_drawn_alike() -> None:
    places = 50
    keys = [torch.tensor(signed(step_key(1, step))) for step in range(1, 401)]
    drawn = torch.cat([offsets(key, 0, 50, places) for key in keys])
    counts = torch.bincount(drawn, minlength=places).double()
    assert counts.sum() == 20_000
    chi2 = float(((counts - 400).square() / 400).sum())
    assert chi2 < 49 + 5 * math.sqrt(2 * 49), "49 degrees of freedom"


def test_a_step_in_more_micro_batches_sees_the_same_sequences() -> None:
    batches, key = Batches(TOKENS, 8, "cpu"), step_key(3, 17)
    whole = batches.read(key, 0, 8)
    assert torch.equal(torch.cat([batches.read(key, 0, 3), batches.read(key, 3, 5)]), whole)
    assert not torch.equal(batches.read(step_key(3, 18), 0, 8), whole)
    assert not torch.equal(batches.read(step_key(4, 17), 0, 8), whole)
    text = TOKENS.tolist()
    for row in whole.tolist():
        assert any(text[at : at + 9] == row for at in range(len(text) - 8)), "nine neighbours of the corpus"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_corpus_on_the_device_gives_the_batches_of_its_memory_map(dtype: type) -> None:
    high = np.array([0, 40_000, 65_535, 7] * 100, dtype=dtype)
    batches, key = Batches(high, 8, "cpu"), step_key(0, 1)
    signed_view = high.view(np.int16 if dtype is np.uint16 else np.int32)
    batches.whole = torch.from_numpy(signed_view.copy())  # as on a GPU
    assert torch.equal(batches.gather(torch.tensor(signed(key)), 2, 5), batches.read(key, 2, 5))


def test_a_split_shorter_than_a_context_is_refused() -> None:
    with pytest.raises(LabError, match="has 8 tokens, and a context of 8 needs 9"):
        Batches(TOKENS[:8], 8, "cpu")


# -- schedules


def nanogpt_rate(iteration: int, recipe: Recipe) -> float:
    """``get_lr`` of nanoGPT's train.py, written again."""
    low = recipe.min_rate * recipe.learning_rate
    if iteration < recipe.warmup_steps:
        return recipe.learning_rate * (iteration + 1) / (recipe.warmup_steps + 1)
    ratio = (iteration - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return low + 0.5 * (1 + math.cos(math.pi * ratio)) * (recipe.learning_rate - low)


def test_cosine_is_nanogpts() -> None:
    recipe = Recipe(steps=500, batch=1, warmup_steps=100)
    for step in range(1, 501):
        assert recipe.rates(step)[0] == pytest.approx(nanogpt_rate(step - 1, recipe), rel=1e-12)


def test_wsd_rises_stays_and_falls_to_its_end() -> None:
    recipe = Recipe(steps=100, batch=1, warmup_steps=10, schedule="wsd", decay_share=0.3, min_rate=0.05)
    scales = [recipe.scale(step) for step in range(1, 101)]
    assert scales[:10] == sorted(scales[:10])
    assert scales[10:70] == [1.0] * 60
    assert scales[69:] == sorted(scales[69:], reverse=True)
    assert scales[-1] == pytest.approx(0.05)
    assert scales[84] == pytest.approx(0.05 + 0.95 * (1 - math.sqrt(0.5))), "halfway down"


def test_a_warm_up_beyond_the_run_is_refused() -> None:
    with pytest.raises(LabError, match="warmup_steps is 30, more than the 20 steps"):
        Recipe(steps=20, batch=1, warmup_steps=30)
    with pytest.raises(LabError, match="more than the 20 of the run"):
        Recipe(steps=20, batch=1, warmup_steps=18, schedule="wsd")
    assert Recipe(steps=20, batch=1, warmup_steps=20).scale(20) < 1


def test_evaluations_are_at_the_ends_and_evenly_between() -> None:
    assert evaluation_steps(100, 3) == [0, 25, 50, 75, 100]
    assert evaluation_steps(2, 5) == [0, 1, 2]


# -- the chunked loss


@pytest.mark.parametrize("softcap", [None, 2.0])
@pytest.mark.parametrize("rows", [1, 6, 24])
def test_the_chunked_loss_and_its_gradients_are_those_of_whole_logits(rows: int, softcap: float | None) -> None:
    source = torch.Generator().manual_seed(0)
    x = torch.randn(24, 12, generator=source, dtype=torch.float64)
    w = torch.randn(31, 12, generator=source, dtype=torch.float64)
    y = torch.randint(31, (24,), generator=source)
    found = []
    for chunked in (False, True):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        if chunked:
            loss = fused_loss(a, b, y, rows=rows, softcap=softcap) * 3
        else:
            z = a @ b.t()
            loss = F.cross_entropy(z if softcap is None else softcap * torch.tanh(z / softcap), y) * 3
        loss.backward()
        found.append((loss.item(), a.grad, b.grad))
    (plain, of_x, of_w), (whole, chunk_x, chunk_w) = found
    assert whole == pytest.approx(plain, rel=1e-6)
    torch.testing.assert_close(chunk_x, of_x, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(chunk_w, of_w, rtol=1e-5, atol=1e-7)


@given(st.integers(1, 4096), st.integers(2, 60_000), st.integers(1, 2**24))
def test_chunks_are_equal_and_no_larger_than_they_must_be(tokens: int, vocabulary: int, limit: int) -> None:
    rows = rows_at_once(tokens, vocabulary, limit)
    assert tokens % rows == 0
    assert rows == 1 or 4 * rows * vocabulary <= limit


def test_a_step_through_the_chunked_loss_is_the_same_step() -> None:
    whole, chunked = taken(), taken()
    chunked.plain, chunked.rows = False, 8
    for one, other in zip(losses(whole, range(1, 6)), losses(chunked, range(1, 6)), strict=True):
        assert other.loss == pytest.approx(one.loss, abs=2e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


# -- the step


def test_ten_steps_are_those_of_a_plain_loop_with_nanogpts_optimizer() -> None:
    config = replace(CONFIG, dropout=0.0)
    step = taken(config)
    found = losses(step, range(1, 11))
    model = GPT(config)
    decayed = [weight for weight in model.parameters() if weight.dim() >= 2]
    plain = [weight for weight in model.parameters() if weight.dim() < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0.0}], betas=(0.9, 0.99)
    )
    for number in range(1, 11):
        span = Batches(TOKENS, 8, "cpu").read(step_key(0, number), 0, 4)
        loss = F.cross_entropy(model.logits(model(span[:, :-1])).flatten(0, 1), span[:, 1:].flatten())
        for group in optimizer.param_groups:
            group["lr"] = nanogpt_rate(number - 1, RECIPE)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert found[number - 1].loss == pytest.approx(loss.item(), abs=2e-5)
        assert found[number - 1].grad_norm == pytest.approx(float(norm), rel=1e-4)


def test_accumulated_micro_batches_are_one_batch() -> None:
    config = replace(CONFIG, dropout=0.0)
    whole = losses(taken(config), range(1, 6))
    split = losses(taken(config, replace(RECIPE, batch=1, accumulation=4)), range(1, 6))
    for one, other in zip(whole, split, strict=True):
        assert other.loss == pytest.approx(one.loss, abs=2e-5)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-4)


def test_muon_trains_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = GPT(MODERN)
    optimizers = Optimizers(model, replace(RECIPE, optimizer="muon"))
    names = {id(weight): name for name, weight in model.named_parameters()}
    by_muon = {names[id(weight)] for weight in optimizers.matrices}
    assert by_muon == {name for name in names.values() if name.startswith("blocks.") and "norm" not in name}
    rest = {names[id(weight)] for group in optimizers.adamw.param_groups for weight in group["params"]}
    assert rest | by_muon == set(names.values())
    assert not rest & by_muon


def test_muon_at_a_rate_that_a_graph_can_read_is_torchs_muon() -> None:
    """Its update is linear in the rate: what ``captured`` relies on."""
    found = []
    for captured in (False, True):
        model = GPT(replace(MODERN, zero_projections=False, zero_head=False))
        optimizers = Optimizers(model, replace(RECIPE, optimizer="muon"))
        optimizers.captured = captured
        if captured:
            assert optimizers.muon is not None
            optimizers.muon.param_groups[0]["lr"] = 1.0
            optimizers.adamw.param_groups[0]["lr"] = optimizers.adamw.param_groups[1]["lr"] = 0.02
        source = torch.Generator().manual_seed(1)
        for _ in range(3):
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=source)
            optimizers.muon_rate.fill_(0.03)
            if not captured:
                optimizers.set_rates(0.02, 0.03)
            optimizers.step()
        found.append([weight.detach().clone() for weight in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(optimizer: str, tmp_path: Path) -> None:
    """Dropout on; whatever else has drawn random numbers meanwhile."""
    recipe = replace(RECIPE, optimizer=optimizer)  # type: ignore[arg-type]
    whole = taken(MODERN, recipe)
    expected = losses(whole, range(1, 13))
    first = taken(MODERN, recipe)
    assert losses(first, range(1, 6)) == expected[:5]
    tmp_path.joinpath("at").mkdir()
    checkpoint.save(tmp_path / "at", first, {"step": 5})
    torch.manual_seed(99)
    torch.rand(1000)
    again = TrainStep(GPT(MODERN, seed=7), TOKENS, recipe, Way(), seed=0, device="cpu")
    assert checkpoint.restore(tmp_path / "at", again) == {"step": 5}
    again.prepare()
    assert losses(again, range(6, 13)) == expected[5:]
    for one, other in zip(whole.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert checkpoint.differences(tmp_path / "at", again) == []


def test_a_resume_in_other_circumstances_says_which(tmp_path: Path) -> None:
    first = taken()
    checkpoint.save(tmp_path, first, {})
    other = taken(recipe=replace(RECIPE, batch=2, accumulation=2), recompute=True)
    assert checkpoint.differences(tmp_path, other) == ["recompute was False, is True", "micro_batch was 4, is 2"]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, taken(), {})
    with pytest.raises(WorkFailed, match=r"does not fit this model: .* tensors differ"):
        checkpoint.restore(tmp_path, taken(MODERN))


def test_norms_by_layer_add_up_to_the_whole_before_clipping() -> None:
    step = taken(recipe=replace(RECIPE, max_grad_norm=0.01))
    before = step.weights()
    (reading,) = losses(step, range(1, 2))
    norms = step.gradient_norms()
    assert list(norms) == ["embedding", "positions", "layer 0", "layer 1", "norm"]
    assert math.sqrt(sum(norm**2 for norm in norms.values())) == pytest.approx(reading.grad_norm, rel=1e-3)
    moved = step.update_norms(before)
    embedding = step.model.embedding.weight.detach()
    change = (embedding - before["embedding.weight"]).norm() / before["embedding.weight"].norm()
    assert moved["embedding"] == pytest.approx(float(change), rel=1e-5)


# -- validation


def test_the_loss_of_a_split_predicts_every_token_but_the_first_once() -> None:
    model = GPT(CONFIG).train()
    tokens = TOKENS[:203]  # 25 whole windows and one of 2
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for first in range(0, 202, 8):
            span = torch.from_numpy(tokens[first : first + 9].astype(np.int64))[None]
            total += float(F.cross_entropy(model.logits(model(span[:, :-1]))[0], span[0, 1:], reduction="sum"))
            count += span.shape[1] - 1
    assert count == 202
    model.train()
    state = torch.random.get_rng_state()
    assert validation.split_loss(model, tokens, "cpu", "float32") == pytest.approx(total / count, rel=1e-6)
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)


def test_bits_per_byte_of_a_uniform_guess_of_bytes_are_8() -> None:
    assert validation.bits_per_byte(math.log(256), 1001, 1000) == pytest.approx(8)
