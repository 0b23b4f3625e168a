"""The configurations that the ledger is fitted to, and the others that it is judged by. Disjoint; most useful first."""

from __future__ import annotations

import itertools
from typing import Any

Config = dict[str, Any]


def _of(which: str, backend: str, shape: str, batch: int, sequence: int, rank: int, **more: Any) -> Config:
    return {
        "set": which, "backend": backend, "shape": shape, "batch": batch, "sequence": sequence, "rank": rank, **more
    }  # fmt: skip


BACKENDS = ("hf", "unsloth")
WHOLE = {"method": "full"}
MOMENTS = "adamw_8bit"


def _fitting(backend: str) -> list[Config]:
    def of(*args: Any, **more: Any) -> Config:
        return _of("fit", backend, *args, **more)

    both = [
        of("llama-3.2-1b", 2, 1024, 16, checkpointing=False, trace=True),
        of("qwen2.5-7b", 2, 1024, 16, trace=True),
        of("llama-3.2-1b", 1, 8192, 16),
        of("qwen2.5-7b", 1, 4096, 64),
        of("smollm2-135m", 4, 512, 16),
        of("smollm2-135m", 4, 1024, 64, checkpointing=False),
        of("qwen2.5-7b", 1, 512, 8, checkpointing=False),
        of("llama-3.2-1b", 2, 512, 128, quantization="none"),
    ]
    if backend == "hf":
        return both
    return [
        *both,
        of("qwen2.5-7b", 1, 512, 16),
        of("llama-3.2-1b", 8, 1024, 8),
        of("qwen2.5-7b", 1, 1024, 64, optimizer=MOMENTS),
        of("llama-3.2-1b", 1, 512, 16, checkpointing=False),
        of("qwen2.5-7b", 1, 1024, 16, sees_whole_card=True),
    ]


def _held_out(backend: str) -> list[Config]:
    def of(*args: Any, **more: Any) -> Config:
        return _of("held-out", backend, *args, **more)

    return [
        of("llama-3.2-3b", 2, 1024, 16),
        of("qwen2.5-1.5b", 4, 1024, 32),
        of("qwen2.5-7b", 1, 2048, 16),
        of("llama-3.2-3b", 1, 512, 128),
        of("qwen2.5-1.5b", 1, 1024, 16, checkpointing=False),
        of("qwen2.5-7b", 4, 1024, 16),
        of("llama-3.2-3b", 4, 2048, 32),
        of("llama-3.2-3b", 1, 512, 16, checkpointing=False),
        of("qwen2.5-7b", 2, 2048, 64),
        of("qwen2.5-1.5b", 2, 512, 128, quantization="none"),
        of("llama-3.2-3b", 1, 8192, 16),
        of("qwen2.5-7b", 2, 512, 128, optimizer=MOMENTS),
        of("llama-3.2-1b", 1, 2048, 32, checkpointing=False),
        of("qwen2.5-7b", 1, 8192, 32),
        of("smollm2-135m", 8, 1024, 16),
        # What does not fit in 14.5 GiB, so that the verdict is judged too.
        of("qwen2.5-7b", 2, 2048, 16, checkpointing=False),
        of("llama-3.2-3b", 4, 2048, 16, checkpointing=False),
    ]


LONG = {"hf": (15_360, 16_384, 17_408, 18_432, 19_456, 20_480), "unsloth": (24_576, 28_672, 30_720, 32_768)}
"""Sequences among which the longest that trains is looked for; Qwen2.5-7B has positions for 32,768 tokens."""


def _long(backend: str) -> list[Config]:
    return [_of("held-out", backend, "qwen2.5-7b", 1, length, 16, longest=True) for length in LONG[backend]]


def _whole() -> list[Config]:
    return [
        _of("fit", "hf", "smollm2-135m", 4, 512, 16, quantization="none", params=WHOLE),
        _of("held-out", "hf", "smollm2-135m", 8, 1024, 16, quantization="none", params=WHOLE),
        _of("held-out", "hf", "smollm2-135m", 2, 512, 16, quantization="none", checkpointing=False, params=WHOLE),
    ]


def _in_turn(*lists: list[Config]) -> list[Config]:
    return [config for row in itertools.zip_longest(*lists) for config in row if config is not None]


def grid() -> list[Config]:
    """All of them: both backends in turn, those that tell most first."""
    fitting = _in_turn(*map(_fitting, BACKENDS))
    held_out = _in_turn(*map(_held_out, BACKENDS))
    return [*fitting[:12], *held_out[:18], *fitting[12:], *held_out[18:], *_in_turn(*map(_long, BACKENDS)), *_whole()]
