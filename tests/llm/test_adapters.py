"""Laws of adapters: what they start from, by how much they are scaled, and that what is saved is what was trained."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data.generated import tasks
from labqueue.llm.evaluation import generate
from labqueue.llm.models import adapter_folder, load
from labqueue.llm.training.checkpoint import trainable
from labqueue.llm.training.lora import check_targets, counts, held_config, lora_layers
from tests.llm.conftest import RECIPE, Bench

Build = Callable[..., Bench]

KINDS: tuple[dict[str, Any], ...] = (
    {"scaling": "standard"},
    {"scaling": "rslora"},
    {"scaling": "constant", "rank": 3},
)


def logits(model: Any, row: dict[str, list[int]]) -> Any:
    import torch

    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([row["input_ids"]])).logits


@pytest.mark.parametrize(("quantization", "dtype"), [("none", "float32"), ("4bit", "bfloat16")])
def test_an_untrained_adapter_equals_its_base_exactly(bench: Build, quantization: str, dtype: str) -> None:
    import torch

    for lora in KINDS:
        made = bench(quantization=quantization, dtype=dtype, dropout=0.1, lora=lora)
        base = load.load_model("random-tiny", quantization=quantization, dtype=dtype)  # type: ignore[arg-type]  # listed
        assert torch.equal(logits(made.adapted, made.rows[0]), logits(base.model, made.rows[0])), lora
        assert any(value.abs().max() > 0 for name, value in trainable(made.adapted).items() if "lora_A" in name)


def test_an_untrained_dora_equals_its_base_but_for_rounding(bench: Build) -> None:
    made = bench(lora={"dora": True})
    base = load.load_model("random-tiny", quantization="none", dtype="float32")
    assert (logits(made.adapted, made.rows[0]) - logits(base.model, made.rows[0])).abs().max() < 1e-5
    assert any("magnitude" in name for name in trainable(made.adapted))


def test_each_scaling_has_its_own_scale_at_each_rank(bench: Build) -> None:
    for rank in (1, 4, 9):
        for scaling, scale in (("standard", 8 / rank), ("rslora", 8 / math.sqrt(rank)), ("constant", 0.5)):
            held = held_config(bench(lora={"rank": rank, "scaling": scaling}).adapted)
            assert held["scale"] == [pytest.approx(scale, rel=1e-12)], (rank, scaling)


@pytest.mark.parametrize("quantization", ["none", "4bit"])
def test_a_reloaded_adapter_equals_the_trained_model_in_logits_and_in_what_it_writes(
    bench: Build, tmp_path: Path, quantization: str
) -> None:
    import torch

    rows = tasks.generated("chain_sum", train_items=24, held_out_items=5, options={"max_terms": 3}).held_out
    for number, lora in enumerate((*KINDS, {"dora": True})):
        made = bench(dataclasses.replace(RECIPE, learning_rate=0.05), quantization=quantization, lora=lora)
        before = logits(made.adapted, made.rows[0])
        made.trainer.train()
        folder = tmp_path / str(number)
        adapter_folder.save(made.adapted, folder, made.loaded)
        fresh = load.load_model("random-tiny", quantization=quantization, dtype="float32")  # type: ignore[arg-type]  # listed
        again = adapter_folder.load(fresh, folder)
        trained = logits(made.adapted, made.rows[0])
        assert not torch.equal(trained, before), "nothing was trained"
        assert torch.equal(logits(again, made.rows[0]), trained), lora
        written = [generate.answers(model, fresh.tokenizer, rows, max_new_tokens=6) for model in (again, made.adapted)]
        assert written[0] == written[1]
        assert not trainable(again)


def test_a_saved_adapter_names_no_folder_of_this_machine(bench: Build, tmp_path: Path) -> None:
    made = bench()
    adapter_folder.save(made.adapted, tmp_path / "adapter", made.loaded)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "random-tiny"
    assert str(made.loaded.folder) == made.loaded.model.config._name_or_path
    for file in (tmp_path / "adapter").iterdir():
        assert str(made.loaded.folder).encode() not in file.read_bytes(), file.name


def test_a_folder_that_holds_no_adapter_of_the_model_is_refused(bench: Build, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    made = bench()
    with pytest.raises(LabError, match="holds no adapter"):
        adapter_folder.load(made.loaded, tmp_path)
    adapter_folder.save(made.adapted, tmp_path, made.loaded)
    fresh = load.load_model("random-tiny", quantization="none", dtype="float32")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    narrow = LlamaConfig(vocab_size=259, **sizes)
    with pytest.raises(LabError, match="does not fit random-tiny"):
        adapter_folder.load(dataclasses.replace(fresh, model=LlamaForCausalLM(narrow)), tmp_path)


@pytest.mark.parametrize(
    ("lora", "reason"),
    [
        ({"targets": ("q_prj",)}, r"names 'q_prj', which fits no layer of random-tiny: did you mean 'q_proj'\?"),
        ({"targets": ("q_proj", "zz")}, r"names 'zz', which fits no layer .* known: down_proj, gate_proj"),
        ({"targets": ("mlp",)}, "names 'mlp', which is no linear layer of random-tiny"),
        ({"targets": ("lm_head",)}, "names 'lm_head', which is no linear layer of random-tiny that takes an adapter"),
        ({"rank": 33}, r"rank 33 is above the smallest dimension of model.layers.0.*k_proj \(32 x 64\).*Use 32"),
        ({"rank": 65, "targets": ("q_proj",)}, r"q_proj \(64 x 64\).*Use 64 at most"),
    ],
)
def test_targets_and_ranks_that_fit_no_layer_are_refused(bench: Build, lora: dict[str, Any], reason: str) -> None:
    with pytest.raises(LabError, match=reason):
        bench(lora=lora)


def test_targets_by_name_and_by_path_get_an_adapter_and_no_others(bench: Build) -> None:
    made = bench(lora={"targets": ("v_proj", "layers.1.mlp.up_proj"), "rank": 32})
    named = [name for name, _ in lora_layers(made.adapted)]
    assert named == [
        "model.layers.0.self_attn.v_proj", "model.layers.1.self_attn.v_proj", "model.layers.1.mlp.up_proj",
    ]  # fmt: skip
    base = load.load_model("random-tiny", quantization="none", dtype="float32")
    assert named == check_targets(base, ("v_proj", "layers.1.mlp.up_proj"), 32)


def test_full_fine_tuning_trains_every_weight_in_fp32_and_nothing_in_4_bit(bench: Build) -> None:
    made = bench(full=True, dtype="bfloat16")
    trainable_count, every = counts(made.adapted)
    assert trainable_count == every == sum(value.numel() for value in made.loaded.model.parameters())
    assert held_config(made.adapted) == {"method": "full", "dtype": ["torch.float32"]}
    with pytest.raises(LabError, match="quantization: none"):
        bench(full=True, quantization="4bit")


def test_a_loras_share_is_counted_by_its_shapes(bench: Build) -> None:
    made = bench(quantization="4bit", dtype="bfloat16", lora={"rank": 3, "targets": ("q_proj", "down_proj")})
    trained, every = counts(made.adapted)
    assert trained == 2 * (3 * (64 + 64) + 3 * (128 + 64))
    plain = load.load_model("random-tiny", quantization="none", dtype="float32").model
    assert every == trained + sum(value.numel() for value in plain.parameters())
