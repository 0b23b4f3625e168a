"""What a pretraining run will reserve on a GPU, item by item, before it is started. Needs no torch and no GPU.

Every item is a count of bytes that follows from the shapes: which tensors of a compiled step are kept for the backward
pass was read from inductor's partition of the two families. Measured against the allocator by
``python -m benchmarks.pretraining memory``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labqueue.llm.pretraining.config import GPTConfig
    from labqueue.llm.pretraining.schedules import Recipe

GIB = 2**30

CARD_GIB = 15.5
"""Of a card sold as 16 GB, what it has."""

PLAIN_LOGITS, LOGITS_SHARE = 2**25, 1 / 16
"""As ``train_step`` has them."""

CONSTANT_GIB = 0.15
"""cuBLAS workspaces, tables, small tensors rounded up, the allocator's holes."""


def estimate(
    config: GPTConfig, recipe: Recipe, *, recompute: bool = False, card_gib: float = CARD_GIB, corpus_bytes: float = 0.0
) -> dict[str, float]:
    """Predicted peak of the allocator's reserved bytes by item, GiB."""
    parameters = float(config.parameters)
    by_muon = float(config.layers * config.block_matrices) if recipe.optimizer == "muon" else 0.0
    tokens = recipe.batch * config.context
    items = {
        "weights": 4.0 * parameters,
        "gradients": 4.0 * parameters,
        "optimizer": 8.0 * (parameters - by_muon) + 4.0 * by_muon,
        "activations": tokens * activations_a_token(config, recompute=recompute),
        "casts": 2.0 * (config.layers * config.block_matrices + config.vocabulary * config.width),
        "logits": _logits(config, tokens, card_gib),
        "update": 4.0 * parameters,  # the weights as they were, beside a step whose update is measured
        "corpus": corpus_bytes,
    }
    return {name: size / GIB for name, size in items.items() if size} | {"allocator": CONSTANT_GIB}


def activations_a_token(config: GPTConfig, *, recompute: bool) -> float:
    """Bytes that a micro-batch keeps for its backward pass, a token."""
    d, kv, f = config.width, config.kv_width, config.inner
    # Attention: fp32 stream, bf16 norm, q k v, output, the softmax's normaliser. MLP: stream, norm, inner tensors.
    attention = 4 * d + 2 * d + 2 * (d + 2 * kv) + 2 * d + 4 * config.heads
    if config.qk_norm:
        attention += 2 * (d + kv)
    block = attention + 4 * d + 2 * d + (6 if config.mlp == "swiglu" else 4) * f
    if config.dropout:
        block += 2 * d
    ends = 4 * d + 4 * d + 2 * d
    if recompute:
        return config.layers * 4.0 * d + block + ends
    return float(config.layers * block + ends)


def _logits(config: GPTConfig, tokens: int, card_gib: float) -> float:
    """bf16 logits with their gradient of a chunk, and the head's gradient in fp32 beside the embedding's."""
    whole = 4.0 * tokens * config.vocabulary
    if tokens * config.vocabulary <= PLAIN_LOGITS:
        return 2 * whole  # fp32 within the compiled loss
    return min(whole, LOGITS_SHARE * card_gib * GIB) + 8.0 * config.vocabulary * config.width
