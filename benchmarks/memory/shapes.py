"""Names of models' shapes in the memory benchmark, and random checkpoints of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ALIASES = {
    "qwen2.5-7b": "qwen2.5-7b-instruct",
    "qwen2.5-1.5b": "qwen2.5-1.5b-instruct",
    "llama-3.2-3b": "llama-3.2-3b-instruct",
    "llama-3.2-1b": "llama-3.2-1b-instruct",
    "smollm2-135m": "smollm2-135m-instruct",
    "tiny": "random-tiny",
}
"""Names of shapes here, and the models whose shape they are."""


def make(folder: Path, name: str) -> None:
    """Writes ``folder/name``: a random bfloat16 checkpoint of that shape, with a byte tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from labqueue.llm.models import shapes, tiny

    shape = shapes.shape_of(ALIASES[name])
    tokenizer = AutoTokenizer.from_pretrained(tiny.folder())
    figures: dict[str, Any] = {
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "max_position_embeddings": shape.max_position,
        "tie_word_embeddings": shape.tied,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        if shape.architecture == "qwen2":
            model: Any = Qwen2ForCausalLM(Qwen2Config(**figures))
        else:
            model = LlamaForCausalLM(LlamaConfig(head_dim=shape.head_dim, **figures))
    aside = folder / f".{name}"
    model.save_pretrained(aside, max_shard_size="5GB")  # as on the hub
    tokenizer.save_pretrained(aside)
    aside.rename(folder / name)  # ``measure`` waits for the name: shapes can be made while others are measured
