"""Says which measured values can be averaged: every mean over seeds asks here."""

from __future__ import annotations

import math
from typing import TypeGuard

LARGEST = 1e100
"""Magnitude above which a value has no part in a mean. A float64 holds 1.8e308: sums over seeds overflow near it, and
the squares of deviations from half of that exponent on. Nothing that a model really measures comes near."""


def averageable(value: float | None) -> TypeGuard[float]:
    """Whether a value is a finite number that sums, squares and ratios over seeds can hold."""
    return value is not None and math.isfinite(value) and abs(value) <= LARGEST


def exponential(value: float) -> float:
    """``math.exp`` that answers infinity where a float64 ends, instead of raising."""
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
