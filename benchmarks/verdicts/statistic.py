"""States the tests of verdicts for many experiments at once, in numpy: an oracle that shares no code with the lab.

Arrays are [experiment, seed] for one number per seed and [experiment, arm, seed] for arms; NaN is a run without a
value. Every p is two-sided equivalent: twice a one-sided tail, so that 0.05 belongs to a 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

LOG_ALLOWANCE = 1.4
"""What the p of a t test on logs counts, since logs of exponential data are skewed."""
MARGIN_ALLOWANCE, EXTREME = 2.0, 0.1
"""What the p of a margin between shares counts where a rate is nearer than ``EXTREME`` to 0 or 1: skewed."""
LATTICE_ALLOWANCE, COARSE = 1.1, 0.04
"""What the p of a t test counts where values lie on a lattice whose rounding alone makes more than that share of the
variance: a few coarse values are no normal distribution."""
ROUNDING = 8 * 2.0**-23
"""Relative size of differences that float32 makes by itself."""


@dataclass(frozen=True)
class Scale:
    """The form of a metric's numbers, as its kind declares it."""

    form: Literal["real", "positive", "share", "yes_no"] = "real"
    items: int | None = None
    """What one seed's share is of."""
    lattice: float = 0.0
    """A step of which all values are multiples; 0 for continuous ones."""
    deterministic: bool = False
    nullable: bool = False
    """A run can succeed without it."""


class Statistic(Protocol):
    """One number per seed, tested against an edge."""

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge"; [experiment]."""

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge"; [experiment]."""

    def interval(self, level: float) -> tuple[Array, Array]:
        """Both ends; NaN where none is shown."""


class Student:
    """The t test (Student 1908) with a least variance, and the sign test where there is no spread."""

    def __init__(
        self,
        values: Array,
        least: Array | float = 0.0,
        *,
        noise: Array | float = 0.0,
        factor: Array | float = 1.0,
        floored: bool = False,
        certain: bool = False,
    ) -> None:
        """``floored``: the least variance also stands in for none at all; ``certain``: none means certainty."""
        used = ~np.isnan(values)
        self.n = used.sum(-1)
        count = np.maximum(self.n, 1)
        filled = np.where(used, values, 0.0)
        self.mean = filled.sum(-1) / count
        squares = np.where(used, (values - self.mean[:, None]) ** 2, 0.0).sum(-1)
        variance = np.maximum(squares / np.maximum(self.n - 1, 1), least)
        self.se = np.sqrt(variance / count)
        width = np.where(used, values, -np.inf).max(-1) - np.where(used, values, np.inf).min(-1)
        self.same = (width <= noise) & (not floored)
        self.factor, self.certain = factor, certain
        self._cdf: dict[float, Array] = {}

    def _tail(self, edge: float, sign: int) -> Array:
        if edge not in self._cdf:
            with np.errstate(divide="ignore", invalid="ignore"):
                self._cdf[edge] = special.stdtr(self.n - 1.0, (self.mean - edge) / self.se)
        found = 2 * self.factor * (self._cdf[edge] if sign > 0 else 1 - self._cdf[edge])
        if self.same.any():
            side = sign * (edge - self.mean)
            lone = np.where(side > 0, 0.0 if self.certain else 2.0 * 0.5**self.n, 1.0)
            found = np.where(self.same, lone, found)
        return np.where(self.n < 2, np.nan, np.minimum(found, 1.0))

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge"."""
        return self._tail(edge, 1)

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge"."""
        return self._tail(edge, -1)

    def interval(self, level: float) -> tuple[Array, Array]:
        """Both ends."""
        counts = np.maximum(np.arange(int(self.n.max()) + 1) - 1.0, 1)
        half = np.zeros_like(self.se)
        for factor in np.unique(self.factor):  # few values, each looked up
            wide = special.stdtrit(counts, 1 - (1 - level) / 2 / factor)
            half = np.where(self.factor == factor, wide[self.n] * self.se, half)
        hidden = (self.n < 2) | (self.same & (not self.certain))
        half = np.where(hidden, np.nan, np.where(self.same, 0.0, half))
        return self.mean - half, self.mean + half


class Rate:
    """So many yes of so many: the exact binomial test, with the interval of Clopper and Pearson (1934)."""

    def __init__(self, yes: Array, of: Array) -> None:
        self.yes, self.of = np.asarray(yes, float), np.broadcast_to(np.asarray(of, float), np.shape(yes))

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge"."""
        return np.minimum(1.0, 2 * at_most(self.yes, self.of, edge))

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge"."""
        return np.minimum(1.0, 2 * at_most(self.of - self.yes, self.of, 1 - edge))

    def interval(self, level: float) -> tuple[Array, Array]:
        """Both ends."""
        return clopper_pearson(self.yes, self.of, level)


class Logits:
    """The t test on logits of shares, in the unit of shares: of the typical seed."""

    def __init__(self, shares: Array, items: int) -> None:
        yes = np.rint(shares * items)
        logits = np.log((yes + 0.5) / (items - yes + 0.5))
        # Next to no least variance: the other two tests are there for seeds that agree.
        self.t = Student(logits, 1e-18, floored=True)

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge"."""
        return self.t.below(float(special.logit(edge)))

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge"."""
        return self.t.above(float(special.logit(edge)))

    def interval(self, level: float) -> tuple[Array, Array]:
        """Both ends."""
        low, high = self.t.interval(level)
        return special.expit(low), special.expit(high)


class Signs:
    """The sign test of "below 0" against "above 0"; zeros say nothing."""

    def __init__(self, values: Array, arms: Array | None = None) -> None:
        self.down, self.up = (values < -1e-12).sum(-1), (values > 1e-12).sum(-1)
        used = ~np.isnan(values)
        self.n, self.arms = used.sum(-1), None if arms is None else np.where(used[:, None], arms, 0.0)

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge", which is 0."""
        assert edge == 0
        return self._p(self.up)

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge", which is 0."""
        assert edge == 0
        return self._p(self.down)

    def _p(self, against: Array) -> Array:
        found = np.minimum(1.0, 2 * at_most(against, self.down + self.up, 0.5))
        return np.where(self.n < 2, np.nan, found)

    def interval(self, level: float) -> tuple[Array, Array]:
        """Of the difference of two rates: what two intervals at half the error allow."""
        if self.arms is None or self.arms.shape[1] != 2:
            return np.full(len(self.n), np.nan), np.full(len(self.n), np.nan)
        (low_a, high_a), (low_b, high_b) = (
            clopper_pearson(self.arms[:, arm].sum(-1), self.n, 1 - (1 - level) / 2) for arm in (0, 1)
        )
        return low_a - high_b, high_a - low_b


class Strictest:
    """Two tests of one thing: the larger p counts, and the interval is the hull of both."""

    def __init__(self, *parts: Statistic) -> None:
        self.parts = parts

    def below(self, edge: float) -> Array:
        """The p of "it is below the edge"."""
        return reduce(np.maximum, (part.below(edge) for part in self.parts))

    def above(self, edge: float) -> Array:
        """The p of "it is above the edge"."""
        return reduce(np.maximum, (part.above(edge) for part in self.parts))

    def interval(self, level: float) -> tuple[Array, Array]:
        """Both ends."""
        lows, highs = zip(*(part.interval(level) for part in self.parts), strict=True)
        return reduce(np.minimum, lows), reduce(np.maximum, highs)


def at_most(k: Array, n: Array, p: float) -> Array:
    """Binomial probability of k or fewer of n."""
    some, all_, back = _looked_up(k, n)
    found = special.bdtr(some, np.maximum(all_, 1).astype(np.int64), min(max(p, 0.0), 1.0))
    return np.asarray(np.where(all_ > 0, found, 1.0)[back])


def _looked_up(k: Array, n: Array) -> tuple[Array, Array, NDArray[np.int64]]:
    """The different k and n, and for each experiment which of them it has: few, where experiments are many."""
    yes, of = np.asarray(k, np.int64), np.broadcast_to(np.asarray(n, np.int64), np.shape(k))
    base = int(of.max(initial=0)) + 1
    sizes = np.flatnonzero(np.bincount(of))
    rank = np.zeros(base, np.int64)
    rank[sizes] = np.arange(len(sizes))
    code = rank[of] * base + yes
    seen = np.flatnonzero(np.bincount(code))
    places = np.zeros(int(code.max(initial=0)) + 1, np.int64)
    places[seen] = np.arange(len(seen))
    return (seen % base).astype(float), sizes[seen // base].astype(float), places[code]


def clopper_pearson(k: Array, n: Array, level: float) -> tuple[Array, Array]:
    """The exact interval of a rate, looked up once for each k and n."""
    some, all_, back = _looked_up(k, n)
    tail = (1 - level) / 2
    low = special.betaincinv(np.maximum(some, 1e-9), all_ - some + 1, tail)
    high = special.betaincinv(some + 1, np.maximum(all_ - some, 1e-9), 1 - tail)
    return np.where(some > 0, low, 0.0)[back], np.where(some < all_, high, 1.0)[back]


def statistic(
    arms: Array, weights: Sequence[float], scale: Scale, *, logs: bool = False, margin: bool = False
) -> Statistic:
    """The test of the weighted sum of arms, one number per seed; of their logs with ``logs``.

    ``margin``: the claim allows arms to differ, so that skewness does not cancel between them.
    """
    w = np.asarray(weights, float)
    values = np.einsum("k,skn->sn", w, np.log(arms) if logs else arms)
    noise = ROUNDING * (1.0 if logs else np.nanmax(np.abs(arms), axis=(1, 2), initial=0.0) * np.abs(w).sum())
    if scale.form == "yes_no":
        if len(w) == 1:
            return Rate(np.nansum(arms[:, 0], -1), (~np.isnan(values)).sum(-1))
        return Signs(values, arms)
    if scale.form == "share":
        assert scale.items is not None
        rates, least = share_variance(arms, scale.items)
        odd = margin & (np.abs(rates - 0.5) > 0.5 - EXTREME).any(-1)
        ratio = LOG_ALLOWANCE if margin and (np.abs(w) != 1).any() else 1.0
        factor = np.where(odd, MARGIN_ALLOWANCE, ratio)
        return Student(values, (w**2 * least).sum(-1), floored=True, factor=factor)
    if logs:
        return Student(values, noise=noise, factor=LOG_ALLOWANCE, certain=scale.deterministic)
    if not scale.lattice:
        return Student(values, noise=noise, certain=scale.deterministic)
    floor = lattice_step(arms, scale.lattice) ** 2 / 12 * (w**2).sum()
    found = Student(values, floor, noise=noise, certain=scale.deterministic)
    found.factor = np.where(floor > COARSE * found.se**2 * found.n, LATTICE_ALLOWANCE, 1.0)
    return found


def share_variance(arms: Array, items: int) -> tuple[Array, Array]:
    """The rate (K + ½)/(M + 1) of each arm, and the binomial variance of one seed's share there; [experiment, arm]."""
    n = (~np.isnan(arms)).sum(-1)
    rate = (np.nansum(arms, -1) * items + 0.5) / (n * items + 1)
    return rate, rate * (1 - rate) / items


def share(arms: Array, items: int, edge: float) -> Statistic:
    """The test of one arm of shares against a bound: the strictest of three.

    Shares themselves see a few bad seeds, logits the typical one; at a ceiling logits are cut off and the shares guard
    them. The pooled binomial knows how few items there are.
    """
    n = (~np.isnan(arms[:, 0])).sum(-1)
    pooled = Rate(np.rint(np.nansum(arms[:, 0], -1) * items), n * items)
    by_t = statistic(arms, [1.0], Scale("share", items))
    return Strictest(Logits(arms[:, 0], items), by_t, pooled) if 0 < edge < 1 else pooled


def lattice_step(arms: Array, step: float) -> Array:
    """The step that the values seen have in common: a multiple of the true one; [experiment]."""
    flat = np.nan_to_num(np.rint(arms.reshape(len(arms), -1) / step), nan=0.0).astype(np.int64)
    return np.asarray(np.gcd.reduce(flat[:, 1:] - flat[:, :1], axis=1) * step)


def filled(values: Array, fills: Sequence[Sequence[float]], make: Callable[[Array], Statistic]) -> Statistic:
    """The statistic with missing values set to each of ``fills`` (one number per arm): at each edge, what stands must
    stand for all of them. Seeds that every arm lost stay out."""
    lost = np.isnan(values)
    every = lost.all(1, keepdims=True) if values.shape[1] > 1 else np.zeros_like(lost)
    some = lost & ~every
    if not some.any():
        return make(values)
    return Strictest(*(make(np.where(some, np.asarray(fill, float)[None, :, None], values)) for fill in fills))
