"""Compares how often a true effect is found with an exact paired t test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.verdicts import rule
from benchmarks.verdicts.data import LAWS, Law, law
from benchmarks.verdicts.rule import ALPHA
from benchmarks.verdicts.statistic import Array

NEAR = 0.03
"""How far the power on normal data may lie from the exact one."""
EFFECTS = (0.7, 1.4, 2.8)
"""In standard deviations of the differences."""
SIZES = (3, 4, 5, 6, 7, 8)


@dataclass(frozen=True)
class Power:
    """How often "a is below b" is supported where it is true."""

    data: str
    effect: float
    n: int
    times: int
    found: float
    exact: float | None
    """Of a t test on normal data; None for other data."""

    @property
    def missed(self) -> bool:
        """Whether it is farther from the exact power than the bound and chance (99 %) allow."""
        if self.exact is None:
            return False
        chance = 2.58 * math.sqrt(self.exact * (1 - self.exact) / self.times)
        return abs(self.found - self.exact) > NEAR + chance


def exact(effect: float, n: int) -> float:
    """Power of a two-sided paired t test on the side of the effect (noncentral t; Cohen 1988, chapter 2)."""
    return float(stats.nct.sf(stats.t.ppf(1 - ALPHA / 2, n - 1), n - 1, effect * math.sqrt(n)))


def normal(times: int) -> list[Power]:
    """Normal data with common seed luck."""
    one, found = law("normal, seed luck"), []
    rng = np.random.default_rng([20261201, 2])
    for effect in EFFECTS:
        values = one.draw(rng, times, max(SIZES), [-effect * math.sqrt(2), 0.0])
        found += [Power(one.name, effect, n, times, _supported(one, values[..., :n]), exact(effect, n)) for n in SIZES]
    return found


def others(times: int) -> list[Power]:
    """Every other law, at a difference of places of twice the spread, or of 0.3 in a rate of 0.9."""
    rng, found = np.random.default_rng([20261201, 3]), []
    for one in LAWS:
        better = one.middle * math.exp(-2 * one.spread) if one.scale.form == "positive" else one.middle - 2 * one.spread
        places = [max(one.middle - 0.3, 0.02), one.middle] if one.rates else [better, one.middle]
        values = one.draw(rng, times, max(SIZES), places)
        found += [Power(one.name, math.nan, n, times, _supported(one, values[..., :n]), None) for n in SIZES]
    return found


def _supported(one: Law, values: Array) -> float:
    return float((rule.decide([rule.compare(values, one.scale, region=(-math.inf, 0.0))])[0] > 0).mean())
