"""Intervals and tests over seeds. Knows nothing of runs, predictions or files.

The unit of replication is the seed: every function takes one number per seed. Decisions are made at ``ALPHA`` with
two-sided 95 % t intervals: a claim about a mean is supported when the whole interval lies inside the claimed region
and refuted when the whole interval lies outside it. At an effect exactly on the region's edge that happens 5 % of the
time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

ALPHA = 0.05
"""Two-sided level of every interval, and what a single look at an experiment may spend."""

FLOAT32_ROUNDING = 8 * 2.0**-23
"""Relative size of a difference that summing in float32 can make by itself. Assumption: a few last places."""


FLOAT64_ROUNDING = 2.0**-44
"""The same of a few operations in float64."""


@dataclass(frozen=True)
class Region:
    """The open interval of values that a claim allows."""

    low: float = -math.inf
    high: float = math.inf

    def distance(self, value: float) -> float:
        """How far a value is from the nearest finite edge, in the value's unit."""
        return min(abs(value - edge) for edge in (self.low, self.high) if math.isfinite(edge))


@dataclass(frozen=True)
class Sample:
    """Mean of one number per seed, with its standard error. ``n`` counts seeds."""

    mean: float
    se: float
    n: int
    identical: bool
    """Every seed gave the same value."""

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        """Student's t interval of the mean: mean ± t(n − 1) · se (Student 1908)."""
        from scipy.special import stdtrit

        half = float(stdtrit(self.n - 1, 0.5 + level / 2)) * self.se if self.se else 0.0
        return self.mean - half, self.mean + half

    def p_below(self, bound: float) -> float:
        """One-sided p of "the mean is at or above bound": small when the mean is clearly below."""
        from scipy.special import stdtr

        if not self.se:
            return 0.5 if on_bound(self.mean, bound) else float(self.mean > bound)
        return float(stdtr(self.n - 1, (self.mean - bound) / self.se))

    def p_above(self, bound: float) -> float:
        """One-sided p of "the mean is at or below bound": small when the mean is clearly above."""
        return replace(self, mean=-self.mean).p_below(-bound)


def on_bound(mean: float, bound: float) -> bool:
    """Tells whether seeds that do not vary lie on the bound: how their sum or their logs round must not decide."""
    return math.isclose(mean, bound, rel_tol=FLOAT64_ROUNDING, abs_tol=FLOAT64_ROUNDING)


class Tails(Protocol):
    """What has one-sided p values."""

    def p_below(self, bound: float) -> float:
        """One-sided p of "it is at or above bound"."""
        ...

    def p_above(self, bound: float) -> float:
        """One-sided p of "it is at or below bound"."""
        ...


def resolution(values: Sequence[float]) -> float:
    """The smallest difference between such values that is more than float32 rounding, in their unit."""
    return FLOAT32_ROUNDING * max((abs(value) for value in values), default=0.0)


def quantum(values: Sequence[float]) -> float:
    """The step of a metric that can take few values only (accuracy over 20 items: 0.05); 0 when none is seen.

    Greatest common divisor of the gaps between the values, by Euclid's algorithm with a tolerance. Larger than the
    true step when few values are known, never smaller.
    """
    distinct = sorted(set(values))
    if len(distinct) < 2:
        return 0.0
    # Remainders below float32 rounding are zero; a step below a thousandth of the range is how a continuous metric
    # looks. Assumptions.
    zero, least = resolution(distinct), 1e-3 * (distinct[-1] - distinct[0])
    step = 0.0
    for low, high in itertools.pairwise(distinct):
        a, b = high - low, step
        while b > zero:
            a, b = b, abs(math.remainder(a, b))
        step = a
        if step <= least:
            return 0.0
    return step


def sample(values: Sequence[float], *, least: float = 0.0) -> Sample:
    """Summarises one number per seed.

    Args:
        values: one per seed, at least two, all finite.
        least: the variance of one value that is known from elsewhere to be there (rounding to a lattice, the binomial
            spread of a share): two seeds that agree by chance cannot pass for certainty.

    Raises:
        ValueError: fewer than two values, or one that is not finite.
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds needs at least two values, got {n}; run more seeds")
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"values must be finite, got {list(values)}; leave out what was not measured")
    identical = max(values) == min(values)
    mean = values[0] if identical else math.fsum(values) / n  # a tenth of ten equal numbers can be another number
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Sample(mean, math.sqrt(max(variance, least) / n), n, identical)


def p_inside(of: Tails, region: Region) -> float:
    """Two-sided-equivalent p for "the mean is in the region": at most ALPHA exactly when the 95 % interval is inside.

    With two finite edges this is the two one-sided tests of equivalence (Schuirmann 1987), each at ALPHA / 2.
    """
    tails = [of.p_above(region.low)] if math.isfinite(region.low) else []
    tails += [of.p_below(region.high)] if math.isfinite(region.high) else []
    return min(1.0, 2 * max(tails))


def p_outside(of: Tails, region: Region) -> float:
    """The same for "the mean is outside the region": at most ALPHA exactly when the 95 % interval is outside."""
    tails = [of.p_below(region.low)] if math.isfinite(region.low) else []
    tails += [of.p_above(region.high)] if math.isfinite(region.high) else []
    return min(1.0, 2 * min(tails))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's (1979) step-down adjusted p values; None (nothing could be tested) is not part of the family."""
    order = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    floor = 0.0
    for rank, (p, i) in enumerate(order):
        floor = max(floor, min(1.0, p * (len(order) - rank)))
        adjusted[i] = floor
    return adjusted


def log_axis(values: Sequence[float]) -> bool:
    """Whether an axis is read on a log scale: all positive and spanning at least one decade."""
    return bool(values) and min(values) > 0 and max(values) >= 10 * min(values) * (1 - 1e-12)


def slope_weights(x: Sequence[float]) -> list[float]:
    """The weights of the values at ``x`` in their least-squares slope: per decade when the axis is log-like, else per
    unit of x.

    Raises:
        ValueError: fewer than two different x.
    """
    places = [math.log10(value) for value in x] if log_axis(x) else list(x)
    middle = math.fsum(places) / len(places)
    width = math.fsum((place - middle) ** 2 for place in places)
    if not width:
        raise ValueError(f"a slope needs two different values of the axis, got {sorted(set(x))}")
    return [(place - middle) / width for place in places]


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of y over x, with the unit of ``slope_weights``.

    Raises:
        ValueError: fewer than two different x.
    """
    return math.fsum(weight * value for weight, value in zip(slope_weights(x), y, strict=True))


def ratio_of_means(a: Sequence[float], b: Sequence[float]) -> tuple[float, list[float] | None]:
    """mean(a) / mean(b) over pairs, with Fieller's (1954) 95 % interval; None where that is unbounded.

    For values that may be zero; where all are positive, logs are better.
    """
    from scipy.special import stdtrit

    n = len(a)
    ma, mb = math.fsum(a) / n, math.fsum(b) / n
    t2 = float(stdtrit(n - 1, 1 - ALPHA / 2)) ** 2 / n / (n - 1)
    saa = math.fsum((x - ma) ** 2 for x in a) * t2
    sbb = math.fsum((y - mb) ** 2 for y in b) * t2
    sab = math.fsum((x - ma) * (y - mb) for x, y in zip(a, b, strict=True)) * t2
    scale, cross = mb**2 - sbb, ma * mb - sab
    inner = cross**2 - scale * (ma**2 - saa)
    if scale <= 0 or inner < 0:
        return ma / mb, None
    return ma / mb, [(cross - math.sqrt(inner)) / scale, (cross + math.sqrt(inner)) / scale]
