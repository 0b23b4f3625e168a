"""States the rule of verdicts about named arms, and how claims and looks are decided together, in numpy.

Written from the rule's statement: nothing of ``labqueue.report.statistics`` is imported. Shapes as in ``statistic``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks.verdicts.statistic import Array, Flags, Scale, Statistic, filled, share, statistic

ALPHA = 0.05
QUIET, SURE = 0.3, 0.9
"""Standard deviation of logs up to which a positive metric is symmetric enough for a claim about a margin, and how sure
that must be."""
NULLABLE_FROM = 5
"""Seeds below which a claim about a metric that a run can succeed without is refused."""
SHARES_OF_LOOKS = {1: (0.05,), 2: (0.01, 0.04), 3: (0.005, 0.015, 0.03)}
"""What each registered look spends of 5 %."""

Region = tuple[float, float]
"""The open interval of values that a claim allows."""


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


def refusal(values: Array, scale: Scale) -> tuple[Array, Flags]:
    """The arms without the seeds that all of them lost, and where a loss in some arms only blocks the verdict, or too
    few seeds are left for a metric that can be missing."""
    lost = np.isnan(values)
    every = lost.all(1) if values.shape[1] > 1 else np.zeros(lost[:, 0].shape, bool)
    few = scale.nullable & ((~lost.any(1)).sum(-1) < NULLABLE_FROM)
    return values, np.asarray((lost.any(1) & ~every).any(-1) | few)


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
    below, above = (np.where(blocked, np.nan, end) for end in test.interval(level))
    return Outcome(ins, out, blocked, below, above)


def choose(where: Flags, one: Outcome, other: Outcome) -> Outcome:
    """The first outcome where the flag says so, else the second."""
    return Outcome(
        np.where(where, one.inside, other.inside),
        np.where(where, one.outside, other.outside),
        np.where(where, one.refused, other.refused),
        np.where(where, one.low, other.low),
        np.where(where, one.high, other.high),
    )


def refuse(values: Array) -> Outcome:
    """No verdict in any experiment."""
    nothing = np.full(len(values), np.nan)
    return Outcome(nothing, nothing, np.ones(len(values), bool), nothing, nothing)


# ---- claims about named arms


def threshold(values: Array, region: Region, scale: Scale) -> Outcome:
    """One arm against a bound; ``values`` is [experiment, 1, seed]."""
    edge = _edge(region)
    if scale.form in ("share", "yes_no"):

        def test(full: Array) -> Statistic:
            return share(full, scale.items, edge) if scale.items else statistic(full, [1.0], scale)

        return outcome(filled(values, [[0.0], [1.0]], test), region)
    values, blocked = refusal(values, scale)
    if scale.form == "positive" and edge > 0:
        return outcome(statistic(values, [1.0], scale, logs=True), _moved(region, float(np.log(edge))), blocked)
    return outcome(statistic(values, [1.0], scale), region, blocked)


def compare(values: Array, scale: Scale, *, region: Region | None = None, ratio: Region | None = None) -> Outcome:
    """Two arms paired by seed: their difference in ``region``, or the ratio of a to b in ``ratio``."""
    if scale.form in ("share", "yes_no"):
        return _compare_rates(values, scale, region, ratio)
    values, blocked = refusal(values, scale)
    found = _compare_numbers(values, scale, region, ratio)
    found.refused = found.refused | blocked
    found.low, found.high = np.where(blocked, np.nan, found.low), np.where(blocked, np.nan, found.high)
    return found


def _compare_rates(values: Array, scale: Scale, region: Region | None, ratio: Region | None) -> Outcome:
    about_zero = region is not None and _about_zero(region)
    if scale.form == "yes_no" and not about_zero:
        return refuse(values)
    weights = [1.0, -1.0] if ratio is None else [1.0, -_edge(ratio)]
    margin = (ratio is not None and _edge(ratio) != 1.0) or (not about_zero and ratio is None)
    test = filled(values, [[0.0, 1.0], [1.0, 0.0]], lambda full: statistic(full, weights, scale, margin=margin))
    if ratio is None:
        assert region is not None
        return outcome(test, region)
    return _without_interval(outcome(test, _moved(ratio, 0.0)))


def _compare_numbers(values: Array, scale: Scale, region: Region | None, ratio: Region | None) -> Outcome:
    if ratio is not None:
        edge = _edge(ratio)
        plain = _without_interval(outcome(statistic(values, [1.0, -edge], scale), _moved(ratio, 0.0)))
        whole = np.asarray((np.isnan(values) | (values > 0)).all((1, 2)))
        tame = np.where(whole[:, None, None], values, 1.0)
        by_logs = outcome(statistic(tame, [1.0, -1.0], scale, logs=True), _moved(ratio, float(np.log(edge))))
        found = choose(whole, by_logs, plain)
        found.refused = found.refused | ~(np.isnan(values[:, 1]) | (values[:, 1] > 0)).all(-1)  # a ratio to nothing
        return found
    assert region is not None
    if scale.form == "positive":
        if _about_zero(region):
            return outcome(statistic(values, [1.0, -1.0], scale, logs=True), region)
        return outcome(statistic(values, [1.0, -1.0], scale), region, too_skewed(values))
    return outcome(statistic(values, [1.0, -1.0], scale), region)


def _about_zero(region: Region) -> bool:
    return 0.0 in region and bool(np.isinf(region).any())


def _edge(region: Region) -> float:
    return region[1] if np.isfinite(region[1]) else region[0]


def _moved(region: Region, edge: float) -> Region:
    """A one-sided region with another edge."""
    return (-np.inf, edge) if np.isfinite(region[1]) else (edge, np.inf)


def _without_interval(found: Outcome) -> Outcome:
    """That of a − r·b is in another unit than the ratio."""
    found.low, found.high = np.full(len(found.low), np.nan), np.full(len(found.low), np.nan)
    return found


def too_skewed(values: Array) -> Flags:
    """Where the upper limit of the standard deviation of an arm's logs over seeds is above ``QUIET``."""
    logs = np.log(values)
    used = ~np.isnan(logs)
    n = np.maximum(used.sum(-1, keepdims=True), 2)
    middle = np.where(used, logs, 0).sum(-1, keepdims=True) / n
    squares = np.where(used, (logs - middle) ** 2, 0).sum(-1)
    least = special.chdtri(np.arange(n.max()) + 0.0, SURE)  # by degrees of freedom
    return np.asarray((squares > QUIET**2 * least[n[..., 0] - 1]).any(-1))


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
