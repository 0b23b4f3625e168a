"""The memory ledger: what a fine-tuning run will reserve on the GPU at most, item by item, before it is started.

Predicted is the peak of the CUDA allocator's reserved bytes of one run of the kind ``finetune``; the CUDA context is
apart. Every item is a count of bytes that follows from the model's shape and from which tensors the backend keeps
(``llm/footprint.py``); a few coefficients per backend, fitted to measured runs, are in ``llm/coefficients.py``. Needs
no torch and no GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from labqueue.domain.errors import LabError, nearest
from labqueue.llm import footprint
from labqueue.llm.coefficients import FITTED, Coefficients
from labqueue.llm.shapes import Shape

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

ITEMS = (
    "weights",
    "quantization_state",
    "embeddings",
    "adapters",
    "gradients",
    "optimizer",
    "activations",
    "logits",
    "dequantization",
    "padding_mask",
    "allocator",
)
"""Every item of a prediction, in the order in which it is shown."""


@dataclass(frozen=True)
class Plan:
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


@dataclass(frozen=True)
class Ledger:
    """A prediction. ``items_gib`` sums to ``total_gib``; ``context_gib`` is apart."""

    items_gib: Mapping[str, float]
    context_gib: float = CONTEXT_GIB

    @property
    def total_gib(self) -> float:
        """Peak of the allocator's reserved bytes."""
        return math.fsum(self.items_gib.values())


def predict(shape: Shape, plan: Plan, coefficients: Coefficients | None = None) -> Ledger:
    """Predicts the peak of a run: its loading or the largest moment of a step, with what the allocator adds.

    ``coefficients`` are the fitted ones of the plan's backend unless others are given (to fit them).

    Raises:
        LabError: a sequence beyond the model's longest, a rank above a matrix's smaller side, an unknown target.
    """
    if plan.sequence > shape.max_position:
        raise LabError(
            f"sequence {plan.sequence} is beyond the model's longest, {shape.max_position} tokens "
            "(max_position_embeddings)",
            key="max_length",
        )
    fitted = FITTED[plan.backend] if coefficients is None else coefficients
    peak = footprint.held(shape, plan)
    moment = max(footprint.moments(shape, plan), key=lambda items: math.fsum(items.values()))
    for name, size in moment.items():
        peak[name] = peak.get(name, 0.0) + size
    holes = fitted.fragmentation * math.fsum(moment.values())
    if plan.checkpointing:  # without, what is kept for the backward pass fills the hole that the tile leaves
        holes += fitted.tile * footprint.tile(shape, plan)
    loading = footprint.loading(shape, plan)
    if math.fsum(loading.values()) > math.fsum(peak.values()) + holes:
        peak, holes = loading, 0.0
    peak["allocator"] = fitted.constant_bytes + holes
    return Ledger({name: peak[name] / GIB for name in ITEMS if peak.get(name)})


def usable_gib(card_gib: float, context_gib: float = CONTEXT_GIB) -> float:
    """What a card leaves to the allocator of one process: its memory less the context and a little for others."""
    return card_gib - context_gib - SPARE_GIB


def longest(shape: Shape, plan: Plan, capacity_gib: float) -> int:
    """The longest sequence whose predicted total is within ``capacity_gib`` of allocator memory; 0 where none is."""
    low, high = 0, shape.max_position
    while low < high:
        middle = (low + high + 1) // 2
        if predict(shape, replace(plan, sequence=middle)).total_gib <= capacity_gib:
            low = middle
        else:
            high = middle - 1
    return low
