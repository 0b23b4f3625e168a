"""The architectures that the lab trains: by which names and in which shapes the weights of a config stand. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.types import Json, JsonMapping

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mistral": "MistralForCausalLM",
    "gpt2": "GPT2LMHeadModel",
}
"""What the lab can train, by ``model_type``: causal language models whose linear layers' names are known."""

HEAD = "lm_head.weight"

PLAIN = "gpt.json"
"""In place of config.json beside the weights of a pretrained model that no class of transformers computes."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Names:
    """How the weights of an architecture may be named."""

    prefix: str
    """What a file may leave out, having been saved without the head."""
    embedding: str
    tied: bool
    """Whether the head is the embedding's matrix: one of the two is enough."""


def check(config: Path, name: str) -> Json:
    """A ``config.json``, once it is that of a model the lab can train.

    Raises:
        LabError: it is not; the message names its architecture and what there is instead.
    """
    values = read_config(config, name)
    given = values.get("architectures") or [ARCHITECTURES.get(values.get("model_type", ""))]
    found = [str(one) for one in given if one]
    if len(found) != 1 or found[0] not in ARCHITECTURES.values():
        what = (
            f"is a {', '.join(found)}" if found else f"has model_type {values.get('model_type')!r} in its config.json"
        )
        raise LabError(
            f"model {name!r} {what}, which the lab cannot train; it trains {', '.join(ARCHITECTURES.values())}. "
            "Nothing of its weights was read. `labqueue models` lists models that work",
            key="model",
        )
    return values


def no_class(name: str, ablations: Iterable[str]) -> str:
    """Why no kind but the one that pretrained it can use a model with switches for ablations."""
    return (
        f"{name} has no Hugging Face class: it was pretrained with {', '.join(ablations)}, which no class of "
        "transformers computes. Its weights are kept for the comparison alone; pretrain without, to use it elsewhere"
    )


def ablations(folder: Path) -> list[str]:
    """The switches of a model that was kept as plain weights; what stands for them where its file does not say."""
    try:
        return [str(name) for name in json.loads((folder / PLAIN).read_text())["ablations"]]
    except (OSError, ValueError, KeyError, TypeError):
        return ["switches for ablations"]


def read_config(path: Path, name: str) -> Json:
    """A ``config.json``.

    Raises:
        LabError: it is none.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LabError(f"config.json of model {name!r} cannot be read: {error}", file=str(path), key="model") from error
    return values if isinstance(values, dict) else {}


def count(config: JsonMapping, key: str, path: Path, default: int | None = None) -> int:
    """A figure of a config.

    Raises:
        LabError: it is no whole number above 0.
    """
    value = config.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise LabError(f"{path}: {key} is {value!r}, a whole number above 0 is needed", key="model")
    return value


def names(config: JsonMapping) -> Names:
    """How the weights may be named, by a config's ``model_type`` and ``tie_word_embeddings``."""
    gpt2 = config.get("model_type") == "gpt2"
    embedding = "transformer.wte.weight" if gpt2 else "model.embed_tokens.weight"
    return Names("transformer." if gpt2 else "model.", embedding, bool(config.get("tie_word_embeddings", gpt2)))


def expected(config: JsonMapping, path: Path) -> Shapes:
    """Every weight that a model of this config has, by name, with its shape; a tied head under both names.

    The architectures are those of ``ARCHITECTURES``; a test holds this to what transformers builds.

    Raises:
        LabError: an architecture that is not known, or a figure that is missing.
    """
    kind = config.get("model_type")
    if kind == "gpt2":
        return _gpt2(config, path)
    if kind not in ("llama", "mistral", "qwen2", "qwen3"):
        raise LabError(f"{path}: model_type {kind!r} is none that the lab trains", key="model")
    hidden, inner = count(config, "hidden_size", path), count(config, "intermediate_size", path)
    heads = count(config, "num_attention_heads", path)
    wide = count(config, "head_dim", path, 128 if kind == "qwen3" else max(1, hidden // heads))
    query, key = heads * wide, count(config, "num_key_value_heads", path, heads) * wide
    linear = {
        "self_attn.q_proj": (query, hidden),
        "self_attn.k_proj": (key, hidden),
        "self_attn.v_proj": (key, hidden),
        "self_attn.o_proj": (hidden, query),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    biased = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"} if kind == "qwen2" else set()
    if kind in ("llama", "qwen3") and config.get("attention_bias"):
        biased |= {name for name in linear if name.startswith("self_attn")}
    if kind == "llama" and config.get("mlp_bias"):
        biased |= {name for name in linear if name.startswith("mlp")}
    block: Shapes = {f"{name}.weight": shape for name, shape in linear.items()}
    block |= {f"{name}.bias": linear[name][:1] for name in biased}
    block |= {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    if kind == "qwen3":
        block |= {"self_attn.q_norm.weight": (wide,), "self_attn.k_norm.weight": (wide,)}
    vocabulary = (count(config, "vocab_size", path), hidden)
    whole: Shapes = {"model.embed_tokens.weight": vocabulary, "model.norm.weight": (hidden,), HEAD: vocabulary}
    for layer in range(count(config, "num_hidden_layers", path)):
        whole |= {f"model.layers.{layer}.{name}": shape for name, shape in block.items()}
    return whole


def _gpt2(config: JsonMapping, path: Path) -> Shapes:
    """Of GPT-2, whose linear layers keep their weights as ``[inputs, outputs]``."""
    hidden = count(config, "n_embd", path)
    inner = count(config, "n_inner", path, 4 * hidden)
    vocabulary = (count(config, "vocab_size", path), hidden)
    whole: Shapes = {
        "transformer.wte.weight": vocabulary,
        "transformer.wpe.weight": (count(config, "n_positions", path), hidden),
        HEAD: vocabulary,
    }
    linear = {
        "attn.c_attn": (hidden, 3 * hidden),
        "attn.c_proj": (hidden, hidden),
        "mlp.c_fc": (hidden, inner),
        "mlp.c_proj": (inner, hidden),
    }
    norms = ["transformer.ln_f"]
    for layer in range(count(config, "n_layer", path)):
        for name, shape in linear.items():
            whole[f"transformer.h.{layer}.{name}.weight"] = shape
            whole[f"transformer.h.{layer}.{name}.bias"] = shape[1:]
        norms += [f"transformer.h.{layer}.ln_1", f"transformer.h.{layer}.ln_2"]
    return whole | {f"{norm}.{part}": (hidden,) for norm in norms for part in ("weight", "bias")}
