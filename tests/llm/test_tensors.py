"""Weights are those of their config: what is missing, strange or of another shape is refused before anything trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures, catalogue, load, tensors, tiny

SIZES: dict[str, Any] = {
    "vocab_size": 259,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
CONFIGS: list[dict[str, Any]] = [
    SIZES | {"model_type": "llama"},
    SIZES | {"model_type": "llama", "tie_word_embeddings": True, "head_dim": 8},
    SIZES | {"model_type": "llama", "attention_bias": True, "mlp_bias": True},
    SIZES | {"model_type": "mistral", "head_dim": 32},
    SIZES | {"model_type": "qwen2", "tie_word_embeddings": True},
    SIZES | {"model_type": "qwen3", "head_dim": 32},
    SIZES | {"model_type": "qwen3", "attention_bias": True},
    {"model_type": "gpt2", "vocab_size": 259, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    {
        "model_type": "gpt2",
        "vocab_size": 259,
        "n_embd": 32,
        "n_layer": 1,
        "n_head": 2,
        "n_positions": 64,
        "n_inner": 48,
    },
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config["model_type"]))
def test_the_weights_expected_of_a_config_are_those_of_the_model_that_transformers_builds(
    config: dict[str, Any],
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = dict(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    built = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert architectures.expected(config, Path("config.json")) == built
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    known = architectures.names(config)
    assert known.tied == tied
    assert model.get_submodule(known.embedding.removesuffix(".weight")) is model.get_input_embeddings()
    assert known.prefix == f"{model.base_model_prefix}."


Weights = dict[str, Any]


def changed(
    folder: Path, weights: Callable[[Weights], Weights] = lambda same: same, config: dict[str, Any] | None = None
) -> Path:
    """A copy of the tiny model in a folder, with other weights or another config."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny.folder(), folder)
    values = {name: value.contiguous() for name, value in weights(load_file(folder / "model.safetensors")).items()}
    save_file(values, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (config or {})))
    return folder


def renamed(prefix: str) -> Callable[[Weights], Weights]:
    return lambda weights: {prefix + name: value for name, value in weights.items()}


def without(*names: str) -> Callable[[Weights], Weights]:
    return lambda weights: {name: value for name, value in weights.items() if name not in names}


def plus(name: str, *shape: int, dtype: str = "float32") -> Callable[[Weights], Weights]:
    import torch

    return lambda weights: weights | {name: torch.ones(*shape, dtype=getattr(torch, dtype))}


EMBEDDING = "model.embed_tokens.weight"

BROKEN: dict[str, tuple[Callable[[Weights], Weights], dict[str, Any], str]] = {
    "more layers than weights": (
        lambda same: same,
        {"num_hidden_layers": 3},
        r"of 30 tensors 9 are missing \(model\.layers\.2\.",
    ),
    "fewer layers than weights": (
        lambda same: same,
        {"num_hidden_layers": 1},
        r"9 are not the model's \(model\.layers\.1\.",
    ),
    "no head while untied": (lambda same: same, {"tie_word_embeddings": False}, r"1 are missing \(lm_head\.weight\)"),
    "neither embedding nor head": (without(EMBEDDING), {}, r"2 are missing \(model\.embed_tokens\.weight, lm_head"),
    "names of a wrapper": (
        renamed("base_model.model."),
        {},
        r"21 are missing .* 20 are not the model's .*Their names begin with 'base_model\.model\.': save the model",
    ),
    "an adapter beside its base": (
        plus("model.layers.0.mlp.up_proj.lora_A.default.weight", 4, 64),
        {},
        r"1 are not the model's \(model\.layers\.0\.mlp\.up_proj\.lora_A\.default\.weight\)\. They hold an adapter",
    ),
    "another shape": (plus("model.norm.weight", 32), {}, r"model\.norm\.weight is 32 F32, not 64\)"),
    "another width": (
        lambda same: same,
        {"intermediate_size": 96},
        r"6 are of another shape .*is 64 x 128 F32, not 64 x",
    ),
    "whole numbers": (plus("model.norm.weight", 64, dtype="int8"), {}, r"model\.norm\.weight is 64 I8, not 64\)"),
    "eight bits": (plus("model.norm.weight", 64, dtype="float8_e4m3fn"), {}, r"is 64 F8_E4M3, not 64\)"),
    "a head that differs from what it is tied to": (plus("lm_head.weight", 259, 64), {}, "lm_head.*, which differ"),
    "an architecture without a name": (lambda same: same, {"model_type": None}, "model_type None is none"),
    "a figure that is none": (lambda same: same, {"hidden_size": "64"}, "hidden_size is '64', a whole number"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_folder_whose_weights_are_not_those_of_its_config_is_refused_with_the_tensors_named(
    tmp_path: Path, broken: str
) -> None:
    weights, config, reason = BROKEN[broken]
    folder = changed(tmp_path / "model", weights, config)
    with pytest.raises(LabError, match=reason):
        catalogue.available(str(folder))


ALSO_GOOD: dict[str, Callable[[Weights], Weights]] = {
    "saved without the head": lambda weights: {name.removeprefix("model."): value for name, value in weights.items()},
    "old constants": plus("model.layers.0.self_attn.rotary_emb.inv_freq", 8),
    "a head that equals what it is tied to": lambda weights: weights | {"lm_head.weight": weights[EMBEDDING].clone()},
    "the head alone": lambda weights: without(EMBEDDING)(weights | {"lm_head.weight": weights[EMBEDDING].clone()}),
    "another float": lambda weights: {name: value.double() for name, value in weights.items()},
}


@pytest.mark.parametrize("good", ALSO_GOOD)
def test_a_folder_that_names_its_weights_in_another_usual_way_loads_as_the_same_model(
    tmp_path: Path, good: str
) -> None:
    import torch

    folder = changed(tmp_path / "model", ALSO_GOOD[good])
    found = load.load_model(str(folder), quantization="none", dtype="float32").model.state_dict()
    wanted = load.load_model("random-tiny", quantization="none", dtype="float32").model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_gpt2_as_its_makers_saved_it_loads_whole(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=259, **sizes))
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    weights = {name.removeprefix("transformer."): value for name, value in model.state_dict().items()}
    del weights["lm_head.weight"]
    constants = {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64) for layer in range(2)}
    save_file(weights | constants, tmp_path / "model.safetensors", metadata={"format": "pt"})
    for quantization in ("none", "4bit"):
        loaded = load.load_model(str(tmp_path), quantization=quantization, dtype="float32")  # type: ignore[arg-type]  # listed
        assert torch.equal(loaded.model.get_input_embeddings().weight, weights["wte.weight"])


def test_a_model_that_was_filled_with_random_weights_as_it_was_loaded_is_not_believed(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    for name, reason in (("more layers than weights", "model.layers.2"), ("no head while untied", "lm_head.weight")):
        weights, config, _ = BROKEN[name]
        folder = changed(tmp_path / name, weights, config)
        model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
        with pytest.raises(LabError, match=reason):
            tensors.check_info(info, name)
        with pytest.raises(LabError, match=reason):
            load.check_loaded(model, folder, name, "none")
    model, info = AutoModelForCausalLM.from_pretrained(tiny.folder(), output_loading_info=True)
    tensors.check_info(info, "tiny")
    load.check_loaded(model, tiny.folder(), "tiny", "none")
    with pytest.raises(LabError, match="asked for with quantization 4bit and its linear layers were loaded in 16 bit"):
        load.check_loaded(model, tiny.folder(), "tiny", "4bit")


def test_a_weight_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    folder = changed(tmp_path / "model")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(LabError, match=r"weight file model\.safetensors of .* cannot be read as safetensors"):
        catalogue.available(str(folder))


def test_weights_in_several_files_are_read_together_and_only_inside_their_folder(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = changed(tmp_path / "model")
    whole = load_file(folder / "model.safetensors")
    names = sorted(whole)
    for number, part in enumerate((names[:5], names[5:])):
        save_file({name: whole[name] for name in part}, folder / f"part-{number}.safetensors")
    index = folder / "model.safetensors.index.json"
    places = {name: f"part-{int(at >= 5)}.safetensors" for at, name in enumerate(names)}
    index.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(LabError, match="take one of the two out"):
        catalogue.available(str(folder))
    (folder / "model.safetensors").unlink()
    assert catalogue.available(str(folder))
    save_file({name: whole[name] for name in names[6:]}, folder / "part-1.safetensors")
    with pytest.raises(LabError, match=f"1 are missing .{names[5]}"):
        catalogue.available(str(folder))
    save_file({name: whole[name] for name in names[4:]}, folder / "part-1.safetensors")
    with pytest.raises(LabError, match=f"holds {names[4]}, which another file holds too"):
        catalogue.available(str(folder))
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../part.safetensors")}))
    with pytest.raises(LabError, match="is no index of weights"):
        catalogue.available(str(folder))
