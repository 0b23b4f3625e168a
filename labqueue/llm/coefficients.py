"""The fitted numbers of the memory ledger, in one place.

Refitted by ``python benchmarks/memory.py fit ROWS.jsonl`` from measured runs; ``SOURCE`` says from which.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "not fitted yet: constants of docs/log.md's 7B runs"


@dataclass(frozen=True)
class Coefficients:
    """Of one backend."""

    constant_bytes: float
    """What every run holds beside its items: cuBLAS' workspace, rotary tables, small tensors rounded up."""
    fragmentation: float
    """Reserved but unused, as a share of what comes and goes in a step."""
    layer: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Unsloth: bytes a token of (hidden, query, key, intermediate) while a block is recomputed and differentiated."""
    saved: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Unsloth: the same, kept of each block without checkpointing."""
    buffers: float = 0.0
    """Unsloth: dequantised copies of the largest matrix that exist at once."""


FITTED = {
    "hf": Coefficients(constant_bytes=0.10 * 2**30, fragmentation=0.03),
    "unsloth": Coefficients(
        constant_bytes=0.10 * 2**30,
        fragmentation=0.05,
        layer=(12.0, 4.0, 4.0, 9.0),
        saved=(8.0, 4.0, 4.0, 4.0),
        buffers=2.0,
    ),
}
