"""A trained GPT as a folder that transformers loads without custom code, with its tokenizer; or as plain weights.

``AutoModelForCausalLM`` and ``AutoTokenizer`` open what ``save`` leaves: GPT-2's, Llama's or Qwen 3's class computes
the same from the same weights. Ablation-only models have no such class: ``gpt.json`` and plain weights, no config.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures
from labqueue.llm.pretraining.config import GPTConfig
from labqueue.llm.pretraining.gpt import GPT, LAYER_NORM_EPSILON, RMS_NORM_EPSILON
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from labqueue.llm.types import CausalModel

WEIGHTS, CONFIG = "model.safetensors", "config.json"

_GPT2 = {
    "attention_norm.weight": "ln_1.weight",
    "attention.qkv.weight": "attn.c_attn.weight",
    "attention.projection.weight": "attn.c_proj.weight",
    "mlp_norm.weight": "ln_2.weight",
    "mlp.up.weight": "mlp.c_fc.weight",
    "mlp.projection.weight": "mlp.c_proj.weight",
}

_LLAMA = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "attention.projection.weight": "self_attn.o_proj.weight",
    "mlp_norm.weight": "post_attention_layernorm.weight",
    "mlp.gate.weight": "mlp.gate_proj.weight",
    "mlp.up.weight": "mlp.up_proj.weight",
    "mlp.projection.weight": "mlp.down_proj.weight",
}

_ENDS = {
    "gpt2": {
        "embedding.weight": "transformer.wte.weight",
        "positions.weight": "transformer.wpe.weight",
        "norm.weight": "transformer.ln_f.weight",
        "head.weight": "lm_head.weight",
    },
    "llama": {
        "embedding.weight": "model.embed_tokens.weight",
        "norm.weight": "model.norm.weight",
        "head.weight": "lm_head.weight",
    },
}


def config_json(config: GPTConfig) -> Json:
    """The config.json under which transformers computes what ``GPT`` computes.

    Raises:
        LabError: the model has switches that no class of transformers has.
    """
    if config.class_name is None:
        raise LabError(architectures.no_class("this model", config.ablations))
    common = {
        "architectures": [config.class_name],
        "vocab_size": config.vocabulary,
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "dtype": "float32",
    }
    if config.family == "gpt2":
        return common | {
            "model_type": "gpt2",
            "n_positions": config.context,
            "n_embd": config.width,
            "n_layer": config.layers,
            "n_head": config.heads,
            "n_inner": config.inner,
            "activation_function": "gelu",
            "layer_norm_epsilon": LAYER_NORM_EPSILON,
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": config.dropout,
        }
    return common | {
        "model_type": "qwen3" if config.qk_norm else "llama",
        "max_position_embeddings": config.context,
        "hidden_size": config.width,
        "intermediate_size": config.inner,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.groups,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": RMS_NORM_EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_base},
        "attention_bias": False,
    }


def weights(model: GPT) -> dict[str, Tensor]:
    """The weights by the names of the model's class in transformers, fp32, on the CPU.

    GPT-2's class keeps its matrices transposed (Conv1D) and has biases, which are zero here.
    """
    gpt2 = model.config.family == "gpt2"
    names, stem = (_GPT2, "transformer.h") if gpt2 else (_LLAMA, "model.layers")
    found: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        value = weight.detach().float().cpu()
        if not name.startswith("blocks."):
            found[_ENDS[model.config.family][name]] = value
            continue
        _, layer, rest = name.split(".", 2)
        found[f"{stem}.{layer}.{names[rest]}"] = value.t() if gpt2 and value.dim() == 2 else value
    if gpt2:
        for name in [name for name in found if "wte" not in name and "wpe" not in name and name != "lm_head.weight"]:
            bias = name.removesuffix("weight") + "bias"
            found[bias] = torch.zeros(found[name].shape[-1])
    return {name: value.contiguous() for name, value in found.items()}


def in_memory(model: GPT) -> CausalModel:
    """The same model as transformers' class, fp32, with eager attention, on its device; training draws on as it was.

    Raises:
        LabError: the model has switches that no class of transformers has.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    known = config_json(model.config)
    config = AutoConfig.for_model(**known)
    with torch.random.fork_rng(devices=[]):  # its own weights are drawn before they are replaced
        made = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    missing, unknown = made.load_state_dict(weights(model), strict=False)
    tied = set(made.state_dict()) & {"lm_head.weight"} if model.config.tied else set()
    if unknown or set(missing) - tied:
        raise LabError(f"{model.config.class_name} does not take the model's weights: {sorted(missing) or unknown}")
    made.tie_weights()
    return cast("CausalModel", made.to(next(model.parameters()).device).eval())


def save(model: GPT, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a model with its tokenizer into an empty folder."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config = model.config
    if config.class_name is None:
        plain = {name: weight.detach().float().cpu().contiguous() for name, weight in model.named_parameters()}
        save_file(plain, folder / WEIGHTS)
        about = {"config": asdict(config), "ablations": list(config.ablations)}
        (folder / architectures.PLAIN).write_text(json.dumps(about, indent=2) + "\n")
    else:
        save_file(weights(model), folder / WEIGHTS, metadata={"format": "pt"})
        (folder / CONFIG).write_text(json.dumps(config_json(config), indent=2) + "\n")
    tokenizer.save_pretrained(str(folder))


def load_plain(folder: Path) -> GPT:
    """An ablation-only model back from its folder."""
    from safetensors.torch import load_file

    about = json.loads((folder / architectures.PLAIN).read_text())
    model = GPT(GPTConfig(**about["config"]))
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model
