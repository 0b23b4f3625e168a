"""Describes what decides the memory of a fine-tuning run, and what of a card is left to it. No torch, no GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from labqueue.domain.errors import LabError, nearest

GIB = 2**30

BACKENDS = ("hf", "unsloth")
METHODS = ("lora", "full")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd")
QUANTIZATIONS = ("4bit", "none")

CARD_GIB = 15.5
"""Memory of the card that is assumed where none is known: what a "16 GB" card reports."""

CONTEXT_GIB = 0.61
"""A process's CUDA context with torch's and bitsandbytes' kernels: 0.604 GiB on an H200, driver 580 (docs/log.md)."""

SPARE_GIB = 0.39
"""Left of a card to the driver and a desktop: 15.5 GiB less a context and this is 14.5, the cap that stands for a 16 GB
card."""


@dataclass(frozen=True)
class Workload:
    """What of a fine-tuning run decides its memory.

    Raises:
        LabError: a value that is not among the known ones, or a count below 1.
    """

    backend: Literal["hf", "unsloth"] = "hf"
    sequence: int = 1024
    """Tokens of a row; rows are taken to fill it."""
    batch: int = 1
    """Rows of a micro-batch."""
    accumulation: int = 1
    method: Literal["lora", "full"] = "lora"
    rank: int = 16
    targets: str | tuple[str, ...] = "all-linear"
    dora: bool = False
    quantization: Literal["4bit", "none"] = "4bit"
    double: bool = True
    """Whether the scales of what is in 4 bit are quantised too: what the lab does, and most folders that came so."""
    plain_elements: int = 0
    """Elements of linear layers that a folder in 4 bit keeps in 16."""
    optimizer: str = "adamw"
    checkpointing: bool = True
    masked: bool = False
    """Whether attention needs a mask: rows of a batch differ in length, or several are packed into one."""
    card_gib: float = CARD_GIB
    """Memory of the card: Unsloth chooses its loss by it."""
    allowed_gib: float | None = None
    """What the process may allocate, where that is not what the card leaves it: Unsloth moves the embedding by it."""

    def __post_init__(self) -> None:
        known = {"backend": BACKENDS, "method": METHODS, "quantization": QUANTIZATIONS, "optimizer": OPTIMIZERS}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise LabError(f"{name} is {getattr(self, name)!r}: {nearest(getattr(self, name), choices)}", key=name)
        for name in ("sequence", "batch", "accumulation", "rank"):
            if getattr(self, name) < 1:
                raise LabError(f"{name} is {getattr(self, name)}, at least 1 is needed", key=name)
        if self.method == "full" and (self.backend == "unsloth" or self.quantization == "4bit"):
            raise LabError("full fine-tuning is done by backend hf with quantization none", key="method")

    @property
    def tokens(self) -> int:
        """Of a micro-batch."""
        return self.batch * self.sequence

    @property
    def may_allocate_gib(self) -> float:
        """``allowed_gib``, or what the card leaves to the allocator of one process."""
        return usable_gib(self.card_gib) if self.allowed_gib is None else self.allowed_gib


def usable_gib(card_gib: float, context_gib: float = CONTEXT_GIB) -> float:
    """What a card leaves to the allocator of one process: its memory less the context and a little for others."""
    return card_gib - context_gib - SPARE_GIB
