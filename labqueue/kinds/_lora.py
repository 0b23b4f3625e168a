"""The adapter of a fine-tuning run, as parameters. No kind itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from labqueue.domain import kind


class Lora(kind.Params):
    """The adapter."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of each update; at most the smallest dimension of the layers that get one."""
    alpha: float = Field(default=32, gt=0)
    """Numerator of the update's scale."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of adapter inputs dropped in training."""
    scaling: Literal["standard", "rslora", "constant"] = "standard"
    """``standard``: alpha/rank; ``rslora``: alpha/sqrt(rank); ``constant``: alpha/16 at every rank."""
    dora: bool = False
    """Learns each output's magnitude apart from its direction (DoRA): more time and memory a step."""
    targets: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | Literal["all-linear"] = "all-linear"
    """Layers that get one: ``all-linear``, or names such as ``q_proj``."""
