"""States the rule of verdicts for many experiments at once, in numpy: an oracle that shares no code with the lab.

Arrays are [experiment, seed] for one number per seed and [experiment, arm, seed] for arms; NaN is a run without a
value. Every p is two-sided equivalent: twice a one-sided tail, so that 0.05 belongs to a 95 % interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

ALPHA = 0.05
LOG_ALLOWANCE = 1.4
"""What the p of a t test on logs counts, since logs of exponential data are skewed."""
QUIET = 0.2
"""Standard deviation of logs up to which a positive metric is symmetric enough for a claim about a difference."""
SHARES_OF_LOOKS = {1: (0.05,), 2: (0.01, 0.04), 3: (0.005, 0.015, 0.03)}
"""What each registered look spends of 5 %."""
ROUNDING = 8 * 2.0**-23
"""Relative size of differences that float32 makes by itself."""

Region = tuple[float, float]


@dataclass(frozen=True)
class Scale:
    """The form of a metric's numbers, as its kind declares it."""

    form: Literal["real", "positive", "share", "yes_no"] = "real"
    items: int | None = None
    """What one seed's share is of."""
    lattice: float = 0.0
    """A step of which all values are multiples; 0 for continuous ones."""
    deterministic: bool = False


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
        factor: float = 1.0,
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
        return self._tail(edge, 1)

    def above(self, edge: float) -> Array:
        return self._tail(edge, -1)

    def interval(self, level: float) -> tuple[Array, Array]:
        counts = np.arange(int(self.n.max()) + 1)
        wide = special.stdtrit(np.maximum(counts - 1.0, 1), 1 - (1 - level) / 2 / self.factor)
        half = wide[self.n] * self.se
        hidden = (self.n < 2) | (self.same & (not self.certain))
        half = np.where(hidden, np.nan, np.where(self.same, 0.0, half))
        return self.mean - half, self.mean + half


class Rate:
    """So many yes of so many: the exact binomial test, with the interval of Clopper and Pearson (1934)."""

    def __init__(self, yes: Array, of: Array) -> None:
        self.yes, self.of = np.asarray(yes, float), np.broadcast_to(np.asarray(of, float), np.shape(yes))

    def below(self, edge: float) -> Array:
        return np.minimum(1.0, 2 * at_most(self.yes, self.of, edge))

    def above(self, edge: float) -> Array:
        return np.minimum(1.0, 2 * at_most(self.of - self.yes, self.of, 1 - edge))

    def interval(self, level: float) -> tuple[Array, Array]:
        return clopper_pearson(self.yes, self.of, level)


class Signs:
    """The sign test of "below 0" against "above 0"; zeros say nothing."""

    def __init__(self, values: Array, arms: Array | None = None) -> None:
        self.down, self.up = (values < -1e-12).sum(-1), (values > 1e-12).sum(-1)
        self.n, self.arms = (~np.isnan(values)).sum(-1), arms

    def below(self, edge: float) -> Array:
        return self._p(self.up)

    def above(self, edge: float) -> Array:
        return self._p(self.down)

    def _p(self, against: Array) -> Array:
        found = np.minimum(1.0, 2 * at_most(against, self.down + self.up, 0.5))
        return np.where(self.n < 2, np.nan, found)

    def interval(self, level: float) -> tuple[Array, Array]:
        """Of the difference of two rates: what two intervals at half the error allow."""
        if self.arms is None or self.arms.shape[1] != 2:
            return np.full(len(self.n), np.nan), np.full(len(self.n), np.nan)
        (low_a, high_a), (low_b, high_b) = (
            clopper_pearson(np.nansum(self.arms[:, arm], -1), self.n, 1 - (1 - level) / 2) for arm in (0, 1)
        )
        return low_a - high_b, high_a - low_b


class Strictest:
    """Two tests of one thing: the larger p counts, and the interval is the hull of both."""

    def __init__(self, *parts: Statistic) -> None:
        self.parts = parts

    def below(self, edge: float) -> Array:
        return reduce(np.maximum, (part.below(edge) for part in self.parts))

    def above(self, edge: float) -> Array:
        return reduce(np.maximum, (part.above(edge) for part in self.parts))

    def interval(self, level: float) -> tuple[Array, Array]:
        lows, highs = zip(*(part.interval(level) for part in self.parts), strict=True)
        return reduce(np.minimum, lows), reduce(np.maximum, highs)


@dataclass
class Outcome:
    """What the data say of one claim, before any correction; all [experiment]."""

    inside: Array
    outside: Array
    refused: Flags
    low: Array
    high: Array
    vetoes: tuple[Flags, Flags] | None = None
    """Where "supported" and where "refuted" may not be said."""
    pair: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    """Which two arms the interval is of, where that depends on the data."""

    @property
    def p(self) -> Array:
        """The smaller p; NaN where nothing could be tested."""
        return np.where(self.refused, np.nan, np.minimum(self.inside, self.outside))


def at_most(k: Array, n: Array, p: float) -> Array:
    """Binomial probability of k or fewer of n."""
    return np.where(n > 0, special.bdtr(k, np.maximum(n, 1), min(max(p, 0.0), 1.0)), 1.0)


def clopper_pearson(k: Array, n: Array, level: float) -> tuple[Array, Array]:
    """The exact interval of a rate, looked up once for each k and n."""
    yes, of = np.asarray(k, np.int64), np.broadcast_to(np.asarray(n, np.int64), np.shape(k))
    base = int(of.max(initial=0)) + 1
    code = of * base + yes
    seen = np.flatnonzero(np.bincount(code))
    all_, some = seen // base, seen % base
    tail = (1 - level) / 2
    table = np.zeros((2, int(code.max()) + 1))
    low = special.betaincinv(np.maximum(some, 1e-9), all_ - some + 1, tail)
    high = special.betaincinv(some + 1, np.maximum(all_ - some, 1e-9), 1 - tail)
    table[0, seen], table[1, seen] = np.where(some > 0, low, 0.0), np.where(some < all_, high, 1.0)
    return table[0, code], table[1, code]


def statistic(arms: Array, weights: Sequence[float], scale: Scale, *, logs: bool = False) -> Statistic:
    """The test of the weighted sum of arms, one number per seed; of their logs with ``logs``."""
    w = np.asarray(weights, float)
    values = np.einsum("k,skn->sn", w, np.log(arms) if logs else arms)
    noise = ROUNDING * (1.0 if logs else np.nanmax(np.abs(arms), axis=(1, 2), initial=0.0) * np.abs(w).sum())
    if scale.form == "yes_no":
        if len(w) == 1:
            return Rate(np.nansum(arms[:, 0], -1), (~np.isnan(values)).sum(-1))
        return Signs(values, arms)
    if scale.form == "share":
        assert scale.items is not None
        least = (w**2 * share_variance(arms, scale.items)).sum(-1)
        by_t = Student(values, least, floored=True)
        if len(w) > 1:
            return by_t
        n = (~np.isnan(values)).sum(-1)
        return Strictest(by_t, Rate(np.rint(np.nansum(arms[:, 0], -1) * scale.items), n * scale.items))
    if logs:
        return Student(values, noise=noise, factor=LOG_ALLOWANCE, certain=scale.deterministic)
    floor = lattice_step(arms, scale.lattice) ** 2 / 12 * (w**2).sum() if scale.lattice else 0.0
    return Student(values, floor, noise=noise, certain=scale.deterministic)


def share_variance(arms: Array, items: int) -> Array:
    """The binomial variance of one seed's share at the rate (K + ½)/(M + 1); [experiment, arm]."""
    n = (~np.isnan(arms)).sum(-1)
    rate = (np.nansum(arms, -1) * items + 0.5) / (n * items + 1)
    return rate * (1 - rate) / items


def lattice_step(arms: Array, step: float) -> Array:
    """The step that the values seen have in common: a multiple of the true one; [experiment]."""
    flat = np.nan_to_num(np.rint(arms.reshape(len(arms), -1) / step), nan=0.0).astype(np.int64)
    return np.gcd.reduce(flat[:, 1:] - flat[:, :1], axis=1) * step


def refusal(values: Array) -> tuple[Array, Flags]:
    """The arms without the seeds that all of them lost, and where a loss in some arms only blocks the verdict."""
    lost = np.isnan(values)
    every = lost.all(1) if values.shape[1] > 1 else np.zeros(lost[:, 0].shape, bool)
    return values, (lost.any(1) & ~every).any(-1)


def outcome(test: Statistic, region: Region, refused: Flags | None = None, level: float = 1 - ALPHA) -> Outcome:
    """Tests a statistic against a region (two one-sided tests where it has two edges, Schuirmann 1987)."""
    low, high = region
    inside, outside = [], []
    if np.isfinite(high):
        inside.append(test.below(high))
        outside.append(test.above(high))
    if np.isfinite(low):
        inside.append(test.above(low))
        outside.append(test.below(low))
    ins, out = reduce(np.maximum, inside), reduce(np.minimum, outside)
    blocked = np.isnan(ins) if refused is None else refused | np.isnan(ins)
    ends = test.interval(level)
    return Outcome(ins, out, blocked, *(np.where(blocked, np.nan, end) for end in ends))


def extremes(values: Array, test: Callable[[Array], Outcome], fills: Sequence[Sequence[float]]) -> Outcome:
    """Sets missing values to each of ``fills`` (one number per arm); what stands must stand for all of them."""
    lost = np.isnan(values)
    every = lost.all(1, keepdims=True) if values.shape[1] > 1 else np.zeros_like(lost)
    some = lost & ~every
    if not some.any():
        return test(values)
    found = [test(np.where(some, np.asarray(fill, float)[None, :, None], values)) for fill in fills]
    return Outcome(
        reduce(np.maximum, (one.inside for one in found)),
        reduce(np.maximum, (one.outside for one in found)),
        reduce(np.logical_or, (one.refused for one in found)),
        reduce(np.minimum, (one.low for one in found)),
        reduce(np.maximum, (one.high for one in found)),
    )


def choose(where: Flags, one: Outcome, other: Outcome) -> Outcome:
    """The first outcome where the flag says so, else the second."""
    pick = [np.where(where, getattr(one, key), getattr(other, key)) for key in ("inside", "outside", "refused")]
    return Outcome(*pick, np.where(where, one.low, other.low), np.where(where, one.high, other.high))


def refuse(values: Array) -> Outcome:
    """No verdict in any experiment."""
    nothing = np.full(len(values), np.nan)
    return Outcome(nothing, nothing, np.ones(len(values), bool), nothing, nothing)


# ---- claims about named arms


def threshold(values: Array, region: Region, scale: Scale) -> Outcome:
    """One arm against a bound; ``values`` is [experiment, 1, seed]."""
    edge = region[1] if np.isfinite(region[1]) else region[0]
    if scale.form in ("share", "yes_no"):
        return extremes(values, lambda full: outcome(statistic(full, [1.0], scale), region), [[0.0], [1.0]])
    values, blocked = refusal(values)
    if scale.form == "positive" and edge > 0:
        edges = (np.log(region[0]) if region[0] > 0 else -np.inf, np.log(region[1]) if region[1] < np.inf else np.inf)
        return outcome(statistic(values, [1.0], scale, logs=True), edges, blocked)
    return outcome(statistic(values, [1.0], scale), region, blocked)


def compare(values: Array, scale: Scale, *, region: Region | None = None, ratio: Region | None = None) -> Outcome:
    """Two arms paired by seed: their difference in ``region``, or the ratio of a to b in ``ratio``."""
    if scale.form in ("share", "yes_no"):
        return extremes(values, lambda full: _compare(full, scale, region, ratio), [[0.0, 1.0], [1.0, 0.0]])
    values, blocked = refusal(values)
    found = _compare(values, scale, region, ratio)
    found.refused = found.refused | blocked
    found.low, found.high = np.where(blocked, np.nan, found.low), np.where(blocked, np.nan, found.high)
    return found


def _compare(values: Array, scale: Scale, region: Region | None, ratio: Region | None) -> Outcome:
    if ratio is not None:
        edge = ratio[1] if np.isfinite(ratio[1]) else ratio[0]
        at = (lambda bound: (-np.inf, bound)) if np.isfinite(ratio[1]) else (lambda bound: (bound, np.inf))
        if scale.form == "yes_no":
            return refuse(values)
        plain = outcome(statistic(values, [1.0, -edge], scale), at(0.0))
        plain.low, plain.high = np.full(len(values), np.nan), np.full(len(values), np.nan)  # in another unit
        if scale.form == "share":
            return plain
        whole = (np.isnan(values) | (values > 0)).all((1, 2))
        tame = np.where(whole[:, None, None], values, 1.0)
        return choose(whole, outcome(statistic(tame, [1.0, -1.0], scale, logs=True), at(np.log(edge))), plain)
    assert region is not None
    about_zero = 0.0 in region and np.isinf(region).any()
    if scale.form == "yes_no" and not about_zero:
        return refuse(values)
    if scale.form == "positive":
        if about_zero:
            return outcome(statistic(values, [1.0, -1.0], scale, logs=True), region)
        return outcome(statistic(values, [1.0, -1.0], scale), region, too_skewed(values))
    return outcome(statistic(values, [1.0, -1.0], scale), region)


def too_skewed(values: Array) -> Flags:
    """Where an arm's logs have a standard deviation over seeds above ``QUIET``."""
    logs = np.log(values)
    used = ~np.isnan(logs)
    n = np.maximum(used.sum(-1, keepdims=True), 2)
    middle = np.where(used, logs, 0).sum(-1, keepdims=True) / n
    spread = np.sqrt(np.where(used, (logs - middle) ** 2, 0).sum(-1) / (n[..., 0] - 1))
    return (spread > QUIET).any(-1)


# ---- deciding


def holm(ps: Array) -> Array:
    """Holm's (1979) adjusted p values; [claim, experiment], NaN is no part of the family."""
    if len(ps) == 1:
        return np.minimum(1.0, ps)
    order = np.argsort(ps, axis=0)  # NaN last
    ranked = np.take_along_axis(ps, order, 0)
    tested = (~np.isnan(ps)).sum(0)
    steps = np.minimum(1.0, ranked * (tested - np.arange(len(ps))[:, None]))
    steps = np.where(np.isnan(ranked), np.nan, np.maximum.accumulate(np.nan_to_num(steps, nan=0.0), 0))
    adjusted = np.empty_like(ps)
    np.put_along_axis(adjusted, order, steps, 0)
    return adjusted


def decide(claims: Sequence[Outcome], spent: float = ALPHA) -> NDArray[np.int64]:
    """1 supported, -1 refuted, 0 inconclusive; [claim, experiment]. ``spent`` is the look's share of 5 %."""
    adjusted = holm(np.stack([claim.p for claim in claims]) * (ALPHA / spent))
    found = []
    for claim, p in zip(claims, adjusted, strict=True):
        verdict = np.where(claim.inside <= claim.outside, 1, -1)
        verdict = np.where(np.nan_to_num(p, nan=1.0) <= ALPHA, verdict, 0)
        if claim.vetoes is not None:
            up, down = claim.vetoes
            verdict = np.where(((verdict > 0) & up) | ((verdict < 0) & down), 0, verdict)
        found.append(verdict)
    return np.stack(found)


def first_decision(looks: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """What the first look that decides says stands."""
    return reduce(lambda before, now: np.where(before != 0, before, now), looks)


def pairs_of(count: int) -> list[tuple[int, int]]:
    """All pairs of arms."""
    return list(itertools.combinations(range(count), 2))
