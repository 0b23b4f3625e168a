"""Shapes: counts against real models, figures from a config.json alone, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.models import shapes
from labqueue.llm.models.catalogue import CATALOGUE

CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 96,
    "intermediate_size": 200,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def folder(tmp_path: Path, **changed: Any) -> str:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    return str(tmp_path)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_catalogue_model_has_a_shape_with_its_number_of_parameters(name: str) -> None:
    parameters = CATALOGUE[name].parameters
    found = shapes.shape_of(name).parameters
    assert parameters is None or found == parameters


@pytest.mark.parametrize(
    "changed",
    [{}, {"tie_word_embeddings": False}, {"model_type": "llama", "head_dim": 32}, {"model_type": "mistral"}],
    ids=str,
)
def test_counts_are_those_of_the_model_that_transformers_makes(tmp_path: Path, changed: dict[str, Any]) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    name = folder(tmp_path, **changed)
    shape = shapes.shape_of(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name))
    sizes = {key: value.numel() for key, value in model.named_parameters()}
    assert shape.parameters == sum(sizes.values())
    assert shape.norm_parameters == sum(size for key, size in sizes.items() if "norm" in key)
    assert shape.bias_parameters == sum(size for key, size in sizes.items() if key.endswith("bias"))
    assert shape.linear_parameters == sum(size for key, size in sizes.items() if key.endswith("proj.weight"))
    for targets, dora in (("all-linear", False), (("q_proj", "down_proj"), False), (("k_proj",), True)):
        chosen = targets if isinstance(targets, str) else list(targets)
        with torch.device("meta"):
            fresh = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name))
            asked = LoraConfig(task_type="CAUSAL_LM", r=7, target_modules=chosen, use_dora=dora)
            adapted = get_peft_model(fresh, asked)
        assert shape.lora_parameters(7, targets, dora=dora) == adapted.get_nb_trainable_parameters()[0]


def test_a_folder_needs_no_weights(tmp_path: Path) -> None:
    found = shapes.shape_of(folder(tmp_path))
    assert (found.heads, found.kv_heads, found.head_dim, found.max_position) == (6, 2, 16, 2048)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "mamba"}, "'mamba'"),
        ({"model_type": None}, "None"),
        ({"hidden_size": None}, "hidden_size is None"),
        ({"num_hidden_layers": "3"}, "num_hidden_layers is '3'"),
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"attention_bias": True, "model_type": "llama"}, "biases"),
    ],
)
def test_a_config_that_says_too_little_is_refused(tmp_path: Path, changed: dict[str, Any], named: str) -> None:
    with pytest.raises(LabError, match=named):
        shapes.shape_of(folder(tmp_path, **changed))


@pytest.mark.parametrize("text", ["", "[]", "{", "\x80"])
def test_a_config_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LabError, match="config"):
        shapes.shape_of(str(tmp_path))


def test_a_rank_above_the_tightest_matrix_names_it(tmp_path: Path) -> None:
    shape = shapes.shape_of(folder(tmp_path))
    assert shape.lora_parameters(32) > 0
    with pytest.raises(LabError, match=r"rank 33 is not between 1 and 32, the smaller side of k_proj \(32 x 96\)"):
        shape.lora_parameters(33)
    assert shape.lora_parameters(96, ("q_proj",)) > 0
