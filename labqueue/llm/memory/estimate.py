"""The memory estimate: what a fine-tuning run will reserve on the GPU at most, item by item, before it is started.

Predicted is the peak of the CUDA allocator's reserved bytes of one run of the kind ``finetune``; the CUDA context is
apart. Every item is a count of bytes that follows from the model's shape and from which tensors the backend keeps
(``footprint``); a few coefficients per backend, fitted to measured runs, are in ``coefficients``. Needs no torch and no
GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from labqueue.domain.errors import LabError
from labqueue.llm.memory import footprint
from labqueue.llm.memory.coefficients import FITTED, Coefficients
from labqueue.llm.memory.workload import CONTEXT_GIB, GIB, Workload
from labqueue.llm.models.shapes import Shape

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
class Estimate:
    """A prediction. ``items_gib`` sums to ``total_gib``; ``context_gib`` is apart."""

    items_gib: Mapping[str, float]
    context_gib: float = CONTEXT_GIB

    @property
    def total_gib(self) -> float:
        """Peak of the allocator's reserved bytes."""
        return math.fsum(self.items_gib.values())


def predict(shape: Shape, plan: Workload, coefficients: Coefficients | None = None) -> Estimate:
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
    return Estimate({name: peak[name] / GIB for name in ITEMS if peak.get(name)})


def longest(shape: Shape, plan: Workload, capacity_gib: float) -> int:
    """The longest sequence whose predicted total is within ``capacity_gib`` of allocator memory; 0 where none is."""
    low, high = 0, shape.max_position
    while low < high:
        middle = (low + high + 1) // 2
        if predict(shape, replace(plan, sequence=middle)).total_gib <= capacity_gib:
            low = middle
        else:
            high = middle - 1
    return low
