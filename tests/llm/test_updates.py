"""What training added, measured against dense linear algebra that shares no code with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.llm.evaluation.weight_updates import Meter, Update
from labqueue.llm.models import adapter_folder, load
from labqueue.llm.training.lora import ALL_LINEAR, base_weight, lora_layers, shape
from tests.llm.conftest import RECIPE, Bench

Build = Callable[..., Bench]


def test_norms_and_ranks_of_known_spectra() -> None:
    flat = Update("model.layers.7.mlp.up_proj", (2.0,) * 9, weight_norm=12.0)
    assert (flat.block, flat.module) == (7, "up_proj")
    assert (flat.norm, flat.spectral_norm, flat.relative_norm) == (6.0, 2.0, 0.5)
    assert flat.stable_rank == pytest.approx(9)
    assert flat.effective_rank == pytest.approx(9)
    steep = Update("x", (2.0, 1.0, 1.0, 0.0), weight_norm=1.0)
    assert steep.stable_rank == pytest.approx(1.5)
    assert steep.effective_rank == pytest.approx(math.exp(1.5 * math.log(2)))
    nothing = Update("x", (0.0, 0.0), weight_norm=1.0)
    assert (nothing.norm, nothing.stable_rank, nothing.effective_rank) == (0.0, None, None)


def by_hand(layer: Any) -> Any:
    """Singular values of what a layer does with its adapter less what it does without, fed unit vectors, [values]."""
    import torch

    with torch.no_grad():
        unit = torch.eye(shape(layer)[1])
        layer.eval()
        update = layer(unit) - layer.base_layer(unit)  # [inputs, outputs]: each row is ΔW applied to a unit vector
        return torch.linalg.svdvals(update.double())


@pytest.mark.parametrize(
    "lora", [{"scaling": "rslora", "rank": 5}, {"scaling": "constant", "rank": 20}, {"dora": True}, {"quantized": True}]
)
def test_a_loras_singular_values_equal_those_of_the_dense_update(bench: Build, lora: dict[str, Any]) -> None:
    import torch

    lora = dict(lora)
    quantization = "4bit" if lora.pop("quantized", False) else "none"
    made = bench(dataclasses.replace(RECIPE, learning_rate=0.05), quantization=quantization, lora=lora)
    meter = Meter(made.adapted)
    zero = meter.measure()
    assert all(each.norm < 1e-5 * each.weight_norm for each in zero)
    made.trainer.train()
    found = {each.name: each for each in meter.measure()}
    layers = dict(lora_layers(made.adapted))
    assert found.keys() == layers.keys()
    for name, layer in layers.items():
        expected = by_hand(layer)
        mine = torch.tensor(found[name].singular, dtype=torch.float64)
        assert torch.allclose(mine, expected[: len(mine)], atol=2e-6 * float(expected[0]), rtol=1e-5), name
        assert found[name].norm == pytest.approx(float(expected.square().sum().sqrt()), rel=1e-5)
        assert 1 <= (found[name].stable_rank or 0) <= (found[name].effective_rank or 0) ** 2 <= len(mine) ** 2
        assert found[name].weight_norm == pytest.approx(float(base_weight(layer).norm()), rel=1e-5)


def test_a_full_fine_tunings_update_is_the_weights_less_those_it_began_with(bench: Build) -> None:
    import torch

    made = bench(full=True)
    meter = Meter(made.adapted)
    made.trainer.train()
    began = dict(load.load_model("random-tiny", quantization="none", dtype="float32").model.named_parameters())
    ended = dict(made.adapted.named_parameters())
    found = meter.measure()
    assert [each.module for each in found[:7]] == list(ALL_LINEAR)
    for each in found:
        update = (ended[f"{each.name}.weight"] - began[f"{each.name}.weight"]).detach().double()
        expected = torch.linalg.svdvals(update)
        assert each.norm == pytest.approx(float(update.norm()), rel=1e-6)
        assert torch.allclose(torch.tensor(each.singular, dtype=torch.float64), expected, atol=1e-7 * expected[0])


def test_measuring_changes_neither_weights_nor_random_numbers(bench: Build, tmp_path: Path) -> None:
    import torch

    made = bench(quantization="4bit", lora={"dora": True})
    adapter_folder.save(made.adapted, tmp_path / "before", made.loaded)
    state = torch.random.get_rng_state()
    Meter(made.adapted).measure()
    assert torch.equal(torch.random.get_rng_state(), state)
    adapter_folder.save(made.adapted, tmp_path / "after", made.loaded)
    name = "adapter_model.safetensors"
    assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()
