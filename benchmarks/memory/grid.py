"""The configurations that the estimate is fitted to and those that it is judged by. Disjoint; most useful first."""

from __future__ import annotations

import itertools
from typing import Any

from benchmarks.memory.rows import PLAN, small
from benchmarks.memory.shapes import ALIASES

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


LONG = {
    "hf": (13_824, 15_360, 16_896, 17_280, 17_792, 18_176, 18_688, 19_200),
    "unsloth": (24_576, 25_600, 26_112, 26_624, 27_648, 28_160, 28_672, 29_696, 30_720),
}
"""Sequences among which the longest that trains is looked for; Qwen2.5-7B has positions for 32,768 tokens."""


def _long(backend: str) -> list[Config]:
    return [_of("held-out", backend, "qwen2.5-7b", 1, length, 16) for length in LONG[backend]]


def _whole() -> list[Config]:
    return [
        _of("fit", "hf", "smollm2-135m", 4, 512, 16, quantization="none", params=WHOLE),
        _of("held-out", "hf", "smollm2-135m", 8, 1024, 16, quantization="none", params=WHOLE),
        _of("held-out", "hf", "smollm2-135m", 2, 512, 16, quantization="none", checkpointing=False, params=WHOLE),
    ]


def _dora() -> list[Config]:
    def of(shape: str, batch: int, sequence: int, rank: int, **more: Any) -> Config:
        adapter = {"rank": rank, "alpha": 32, "dora": True}
        return _of("held-out", "hf", shape, batch, sequence, rank, params={"lora": adapter}, **more)

    return [
        of("llama-3.2-1b", 2, 1024, 16),
        of("smollm2-135m", 4, 512, 32, quantization="none"),
        of("qwen2.5-7b", 1, 1024, 16),
    ]


def _large_card() -> list[Config]:
    """Unsloth on a card that has room for more than the cap: 32,768 tokens did not fit."""
    return [
        _of("held-out", "unsloth", "qwen2.5-7b", *each, 16, sees_whole_card=True) for each in ((4, 1024), (1, 32_768))
    ]


def _in_turn(*lists: list[Config]) -> list[Config]:
    return [config for row in itertools.zip_longest(*lists) for config in row if config is not None]


def grid() -> list[Config]:
    """All of them: both backends in turn, those that tell most first."""
    fitting = _in_turn(*map(_fitting, BACKENDS))
    held_out = _in_turn(*map(_held_out, BACKENDS))
    rest = [*_in_turn(*map(_long, BACKENDS)), *_whole(), *_dora(), *_large_card()]
    return [*fitting[:12], *held_out[:18], *fitting[12:], *held_out[18:], *rest]


def missing(rows: list[Config]) -> list[Config]:
    """Those that ``rows`` (``rows.read``) lack, the longest sequences first: they take the longest."""
    from labqueue.llm.models.shapes import shape_of

    def named(row: Config) -> tuple[Any, ...]:
        # What Unsloth is shown of the card decides something only where an embedding of its own can be moved.
        alike = row["backend"] == "hf" or shape_of(ALIASES[row["shape"]]).tied
        return tuple(row[key] for key in PLAN if not (alike and key in ("card_gib", "allowed_gib")))

    known = {named(row) for row in rows}
    shown = {False: {"card_gib": 15.5, "allowed_gib": 14.5}, True: {"card_gib": 139.8, "allowed_gib": 14.5}}
    found = []
    for config in grid():
        as_measured = config | {"cap_gib": 14.5, "outcome": ""} | shown[config.get("sees_whole_card", False)]
        if named(small(as_measured)) not in known:
            found.append(config)
    return sorted(found, key=lambda config: -config["sequence"] if config["sequence"] > 16_384 else 0)
