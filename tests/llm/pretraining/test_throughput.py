"""FLOPs a token are nanoGPT's count, peaks are found by a driver's name, and a peak is measured."""

from __future__ import annotations

import pytest
import torch

from labqueue.llm.pretraining import memory, presets, train_step
from labqueue.llm.pretraining.throughput import flops_a_token, measured_peak_tflops, sold_peak_tflops


@pytest.mark.parametrize("name", ["gpt2-0.8m", "gpt2-10.7m", "gpt2-124m"])
def test_flops_a_token_are_nanogpts(name: str) -> None:
    """``estimate_mfu`` of its model.py: N is without positions; norms, which it counts, are no product."""
    config = presets.find(name).config
    number = config.parameters - config.context * config.width
    theirs = 6 * number + 12 * config.layers * config.width * config.context
    assert flops_a_token(config) == pytest.approx(theirs, rel=2e-3)


def test_flops_a_token_are_those_that_torch_counts() -> None:
    """Of products alone, forward and backward, by torch's own counter; a masked half of attention counts as a whole."""
    from torch.utils.flop_counter import FlopCounterMode

    from labqueue.llm.pretraining.gpt import GPT

    config = presets.find("modern-0.9m").config
    model = GPT(config)
    x = torch.zeros(2, config.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.logits(model(x, manual=True)).sum().backward()
    assert counter.get_total_flops() / x.numel() == pytest.approx(flops_a_token(config), rel=0.01)


@pytest.mark.parametrize(
    ("card", "peak"),
    [
        ("NVIDIA GeForce RTX 5060 Ti", 47.4),
        ("NVIDIA GeForce RTX 4070", 58.3),
        ("NVIDIA GeForce RTX 4070 Ti", 80.2),
        ("NVIDIA A100-SXM4-40GB", 312.0),
        ("NVIDIA H200", 989.4),
        ("Tesla T4", 65.1),
        ("NVIDIA GeForce GT 1030", None),
    ],
)
def test_a_cards_stated_peak_is_found_by_its_drivers_name(card: str, peak: float | None) -> None:
    assert sold_peak_tflops(card) == peak


def test_a_peak_is_measured_without_touching_the_runs_random_numbers() -> None:
    state = torch.random.get_rng_state()
    assert 1e-4 < measured_peak_tflops("cpu", "float32") < 100
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_estimate_cuts_logits_as_the_step_does() -> None:
    assert (memory.PLAIN_LOGITS, memory.LOGITS_SHARE) == (train_step.PLAIN_LOGITS, train_step.LOGITS_SHARE)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_recomputing_and_smaller_micro_batches_take_less_memory(name: str) -> None:
    from dataclasses import replace

    preset = presets.find(name)
    whole, recomputed, half = (
        sum(memory.estimate(preset.config, recipe, recompute=recompute).values())
        for recipe, recompute in (
            (preset.recipe, False),
            (preset.recipe, True),
            (replace(preset.recipe, batch=preset.recipe.batch // 2), False),
        )
    )
    assert recomputed < whole
    assert half < whole
    assert whole < 14.5, "a card sold as 16 GB, less what the system and the context take"
