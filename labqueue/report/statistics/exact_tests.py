"""Exact tests and intervals for counts, and for values that do not vary: no normal distribution is assumed.

Each class answers what ``intervals.Sample`` answers: one-sided p values against a bound, and an interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from labqueue.report.statistics.intervals import on_bound


class Statistic(Protocol):
    """What a verdict asks of the numbers of its seeds."""

    @property
    def n(self) -> int:
        """Number of seeds."""
        ...

    @property
    def identical(self) -> bool:
        """Every seed gave the same value."""
        ...

    def p_below(self, bound: float) -> float:
        """One-sided p of "it is at or above bound": small when it is clearly below."""
        ...

    def p_above(self, bound: float) -> float:
        """One-sided p of "it is at or below bound": small when it is clearly above."""
        ...

    def interval(self, level: float, /) -> tuple[float, float] | None:
        """Two-sided interval that covers the truth in at least ``level`` of experiments; None where there is none."""
        ...


def at_most(k: int, n: int, rate: float) -> float:
    """P(X ≤ k) of a binomial count X of n."""
    from scipy.special import bdtr

    rate = min(1.0, max(0.0, rate))
    return 1.0 if k >= n else float(bdtr(k, n, rate))


def at_least(k: int, n: int, rate: float) -> float:
    """P(X ≥ k) of a binomial count X of n."""
    from scipy.special import bdtrc

    rate = min(1.0, max(0.0, rate))
    return 1.0 if k <= 0 else float(bdtrc(k - 1, n, rate))


def clopper_pearson(k: int, n: int, level: float) -> tuple[float, float]:
    """Exact interval of a rate after k of n (Clopper and Pearson 1934)."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - tail))
    return low, high


@dataclass(frozen=True)
class Rate:
    """``k`` of ``items`` answers are yes, ``items`` over all seeds together: exact binomial."""

    k: int
    items: int
    n: int

    @property
    def identical(self) -> bool:
        """All are yes, or none."""
        return self.k in (0, self.items)

    def p_below(self, bound: float) -> float:
        """See ``Statistic``."""
        return at_most(self.k, self.items, bound)

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        return at_least(self.k, self.items, bound)

    def interval(self, level: float) -> tuple[float, float]:
        """See ``Statistic``."""
        return clopper_pearson(self.k, self.items, level)


@dataclass(frozen=True)
class Signs:
    """Seeds by the side of ``centre`` on which they are: the exact sign test of the typical seed (the median).

    Of yes/no pairs this is McNemar's exact test. It knows no bound but ``centre``.
    """

    below: int
    above: int
    n: int
    identical: bool
    centre: float = 0.0
    rates: tuple[tuple[float, Rate], ...] = ()
    """Weight and rate of each arm: bounds of their weighted sum make the interval."""

    def p_below(self, bound: float) -> float:
        """See ``Statistic``."""
        return at_most(self.above, self.below + self.above, 0.5) if bound == self.centre else 1.0

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        return at_most(self.below, self.below + self.above, 0.5) if bound == self.centre else 1.0

    def interval(self, level: float) -> tuple[float, float] | None:
        """Of the weighted sum of the rates, each rate's own exact interval at a level that all hold together
        (Bonferroni); None where no rates are known."""
        if not self.rates:
            return None
        each = 1 - (1 - level) / len(self.rates)
        ends = [(weight, rate.interval(each)) for weight, rate in self.rates]
        low = sum(weight * (edges[0] if weight > 0 else edges[1]) for weight, edges in ends)
        high = sum(weight * (edges[1] if weight > 0 else edges[0]) for weight, edges in ends)
        return low, high


@dataclass(frozen=True)
class Unvarying:
    """The same value in every seed. With ``certain`` (a kind declares the metric deterministic) that is the truth;
    else n seeds on one side of a bound are what a sign test says of them, and no interval is known."""

    mean: float
    n: int
    certain: bool
    identical: bool = True

    def p_below(self, bound: float) -> float:
        """See ``Statistic``."""
        if on_bound(self.mean, bound):
            return 0.5
        if self.mean > bound:
            return 1.0
        return 0.0 if self.certain else 0.5**self.n

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        if on_bound(self.mean, bound):
            return 0.5
        if self.mean < bound:
            return 1.0
        return 0.0 if self.certain else 0.5**self.n

    def interval(self, _level: float) -> tuple[float, float] | None:
        """See ``Statistic``."""
        return (self.mean, self.mean) if self.certain else None


@dataclass(frozen=True)
class Counted:
    """A statistic whose p counts ``times``, for what its test does not allow for by itself."""

    of: Statistic
    times: float

    @property
    def n(self) -> int:
        """See ``Statistic``."""
        return self.of.n

    @property
    def identical(self) -> bool:
        """See ``Statistic``."""
        return self.of.identical

    def p_below(self, bound: float) -> float:
        """See ``Statistic``."""
        return min(1.0, self.times * self.of.p_below(bound))

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        return min(1.0, self.times * self.of.p_above(bound))

    def interval(self, level: float) -> tuple[float, float] | None:
        """As much wider as p is larger, so that it leaves a bound out exactly when p says so."""
        return self.of.interval(1 - (1 - level) / self.times)


@dataclass(frozen=True)
class Strictest:
    """Several statistics of the same numbers of which each must agree: largest p, hull of the intervals."""

    parts: tuple[Statistic, ...]
    bounds: tuple[float, float] = (-math.inf, math.inf)
    """Between which the truth lies, whatever a part's interval says."""

    @property
    def n(self) -> int:
        """See ``Statistic``."""
        return self.parts[0].n

    @property
    def identical(self) -> bool:
        """See ``Statistic``."""
        return self.parts[0].identical

    def p_below(self, bound: float) -> float:
        """See ``Statistic``."""
        return max(part.p_below(bound) for part in self.parts)

    def p_above(self, bound: float) -> float:
        """See ``Statistic``."""
        return max(part.p_above(bound) for part in self.parts)

    def interval(self, level: float) -> tuple[float, float] | None:
        """See ``Statistic``."""
        found = hull(part.interval(level) for part in self.parts)
        if found is None:
            return None
        least, most = self.bounds
        return max(least, found[0]), min(most, found[1])


def hull(intervals: Iterable[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The smallest interval that holds all of them; None where one is not known."""
    known = list(intervals)
    if any(each is None for each in known):
        return None
    ends = [each for each in known if each is not None]
    return min(low for low, _ in ends), max(high for _, high in ends)
