"""The fitted numbers of the memory estimate, in one place: what the allocator adds to what is counted.

Refitted by ``python -m benchmarks.memory fit ROWS``; ``SOURCE`` says from which runs (docs/memory.md).
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = (
    "python -m benchmarks.memory fit benchmarks/memory/rows.json: 32 runs of three shapes on one H200, driver"
    " 580.159.04, 2026-11-23; torch 2.11, transformers 5.17, trl 1.15, peft 0.21, bitsandbytes 0.50.2, unsloth"
    " 2026.10.9"
)


@dataclass(frozen=True)
class Coefficients:
    """Of one backend."""

    constant_bytes: float
    """What every run holds beside its items: two cuBLAS workspaces, rotary tables, small tensors rounded up."""
    fragmentation: float
    """Reserved but unused, as a share of what comes and goes in a step."""
    tile: float
    """With checkpointing: of the loss' tile, the share that later tensors do not use again."""


FITTED = {
    "hf": Coefficients(constant_bytes=0.092 * 2**30, fragmentation=0.0159, tile=0.9587),
    "unsloth": Coefficients(constant_bytes=0.0923 * 2**30, fragmentation=0.1141, tile=0.0),
}
