"""Tiny random models of the architectures that can be looked into."""

from __future__ import annotations

from typing import Any

import torch
import transformers

VOCABULARY = 99


def made(name: str, **changes: Any) -> Any:
    """A model by the name of its config's class without ``Config``: two layers of width 32, SDPA where it has that."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**{**COMMON, **SPECIAL.get(name, {}), **changes})
    config._attn_implementation = "eager" if name in PAST_THE_INTERFACE else "sdpa"
    return getattr(transformers, CLASSES.get(name, f"{name}ForCausalLM"))(config).eval()


COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "Llama": {"num_key_value_heads": 2},
    "Qwen2": {"num_key_value_heads": 2},
    "Qwen3": {"num_key_value_heads": 2, "head_dim": 8},
    "Mistral": {"num_key_value_heads": 2, "sliding_window": 4},
    "Gemma2": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4, "attn_logit_softcapping": 5.0},
    "Gemma3Text": {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 4},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "OPT": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "Olmo2": {"num_key_value_heads": 2},
}
CLASSES = {"GPT2": "GPT2LMHeadModel", "Gemma3Text": "Gemma3ForCausalLM"}
OBSERVED = ("Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3Text", "GPT2", "GPTNeoX", "Phi", "Olmo2", "OPT")
PAST_THE_INTERFACE = ("GPTJ", "Bloom", "Falcon", "Mpt")
