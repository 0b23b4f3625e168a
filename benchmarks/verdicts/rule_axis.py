"""States the rule of verdicts over the values of an axis, and of steps at which a metric crosses a value, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.verdicts.rule import (
    ALPHA,
    Outcome,
    Region,
    choose,
    outcome,
    pairs_of,
    refusal,
    refuse,
    too_skewed,
)
from benchmarks.verdicts.statistic import Array, Flags, Rate, Scale, statistic

BEATEN_FROM = 3
"""Seeds below which no arm is beaten for having lost all of them."""
CROSSES_FROM = 5
"""Seeds below which ``crosses`` is refused."""


def trend(values: Array, places: Sequence[float], scale: Scale, *, rises: bool) -> Outcome:
    """One least-squares slope per seed over ``places`` (logs of base 10 on a log-like axis) against 0."""
    values, blocked = refusal(values, scale)
    x = np.asarray(places, float)
    x = np.log10(x) if x.min() > 0 and x.max() >= 10 * x.min() * (1 - 1e-12) else x
    weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    region = (0.0, np.inf) if rises else (-np.inf, 0.0)
    found = outcome(statistic(values, list(weights), scale, logs=scale.form == "positive"), region, blocked)
    # Of what is tested: means of logs of a positive metric.
    steps = np.diff(_means(np.log(values) if scale.form == "positive" else values), axis=1)
    steps = np.where(np.abs(steps) <= 1e-12, 0.0, steps)
    falling, rising = (2 * (steps < 0).sum(1) > len(x) - 1), (2 * (steps > 0).sum(1) > len(x) - 1)
    found.vetoes = (falling, rising) if rises else (rising, falling)
    return found


def flat(values: Array, tolerance: float, scale: Scale) -> Outcome:
    """Every pair of arms within the tolerance of each other: all must be inside, one outside refutes (Bonferroni)."""
    if scale.form == "yes_no":
        return refuse(values)
    values, blocked = refusal(values, scale)
    if scale.form == "positive":
        blocked = blocked | too_skewed(values)
    pairs = pairs_of(values.shape[1])
    level = 1 - ALPHA / len(pairs)
    found = [
        outcome(
            statistic(values[:, [right, left]], [1.0, -1.0], scale, margin=True),
            (-tolerance, tolerance),
            blocked,
            level,
        )
        for left, right in pairs
    ]
    means = _means(values)
    widest = np.argmax(np.abs(np.stack([means[:, right] - means[:, left] for left, right in pairs])), axis=0)
    low, high = (
        np.take_along_axis(np.stack(side), widest[None], 0)[0]
        for side in ([one.low for one in found], [one.high for one in found])
    )
    chosen = np.asarray(pairs)[widest]
    return Outcome(
        np.max([one.inside for one in found], axis=0),
        np.minimum(1.0, len(pairs) * np.min([one.outside for one in found], axis=0)),
        blocked | np.isnan(found[0].inside),
        low,
        high,
        pair=(chosen[:, 1], chosen[:, 0]),
    )


def optimum(values: Array, claimed: Sequence[int], scale: Scale, *, low: bool, lost: Flags | None = None) -> Outcome:
    """One of the ``claimed`` arms beats every other arm, or another arm beats all claimed ones.

    A winner must win every comparison (largest p); which one was seen in the data (times the number of candidates).
    ``lost`` [experiment, arm, seed] are seeds in which an arm counts as lost although it has a number: such an arm
    beats none, and is tested on its other seeds.
    """
    values, blocked = refusal(values, scale)
    arms = values.shape[1]
    others = [arm for arm in range(arms) if arm not in claimed]
    marks = np.zeros(values.shape, bool) if lost is None else lost
    never, gone = np.asarray(marks.any(-1)), np.asarray(marks.all(-1))
    level = 1 - ALPHA / (len(claimed) * len(others))
    wins: dict[tuple[int, int], Array] = {}
    ends: dict[tuple[int, int], tuple[Array, Array]] = {}
    for one in claimed:
        for other in others:
            pair = values[:, [one, other]]
            test = statistic(pair, [1.0, -1.0], scale, logs=scale.form == "positive")
            for winner, loser in ((one, other), (other, one)):
                if lost is not None:
                    left = np.where(marks[:, [loser]], np.nan, pair)
                    test = statistic(left, [1.0, -1.0], scale, logs=scale.form == "positive")
                p = test.below(0.0) if (winner == one) == low else test.above(0.0)
                wins[winner, loser] = np.where(gone[:, loser], 0.0, np.where(np.isnan(p), 1.0, p))
                ends[winner, loser] = test.interval(level)
    inside, at_in = _side(wins, claimed, others, never, len(claimed))
    outside, at_out = _side(wins, others, claimed, never, len(others))
    alive = ~gone
    blocked = blocked | ~alive[:, list(claimed)].any(1) | ~alive[:, others].any(1)
    blocked |= never[:, list(claimed)].all(1) & never[:, others].all(1)
    blocked |= gone.any(1) & (values.shape[-1] < BEATEN_FROM)
    win = np.where((outside < inside)[:, None], at_out, at_in)  # [experiment, (winner, loser)]
    bounds = np.full((2, len(values)), np.nan)
    for (winner, loser), (a, b) in ends.items():
        here = (win[:, 0] == winner) & (win[:, 1] == loser) & ~blocked
        bounds[0], bounds[1] = np.where(here, a, bounds[0]), np.where(here, b, bounds[1])
    return Outcome(inside, outside, blocked | (values.shape[-1] < 2), bounds[0], bounds[1])


def _side(
    wins: dict[tuple[int, int], Array], winners: Sequence[int], losers: Sequence[int], never: Flags, tries: int
) -> tuple[Array, Array]:
    """The p of "one of the winners beats all losers", and the match that decides it; [experiment], [experiment, 2]."""
    fields = np.stack([np.stack([wins[winner, loser] for loser in losers]) for winner in winners])
    hardest = fields.argmax(1)  # [winner, experiment]
    worst = np.where(never[:, list(winners)].T, 1.0, fields.max(1))
    best = worst.argmin(0)
    deciding = np.stack([np.asarray(winners)[best], np.asarray(losers)[hardest[best, np.arange(len(best))]]], -1)
    return np.minimum(1.0, tries * worst.min(0)), deciding


def crosses(steps: Array, before: float) -> Outcome:
    """Whether the value is reached before a step; ``steps`` is [experiment, seed], inf is never and NaN missing."""
    n = steps.shape[-1]
    if n < CROSSES_FROM:
        return refuse(steps)
    missing = np.isnan(steps)
    yes = (np.nan_to_num(steps, nan=np.inf) < before).sum(-1)
    least, most = Rate(yes, np.full(len(yes), n)), Rate(yes + missing.sum(-1), np.full(len(yes), n))
    nothing = np.full(len(steps), np.nan)
    by_sign = Outcome(least.above(0.5), most.below(0.5), np.zeros(len(steps), bool), nothing, nothing)
    reached = np.asarray(np.isfinite(steps).all(-1))
    times = np.where(reached[:, None] & np.isfinite(steps), steps, 1.0)[:, None]
    region: Region = (-np.inf, float(np.log(before)))
    by_t = outcome(statistic(times, [1.0], Scale("positive"), logs=True), region)
    return choose(reached, by_t, by_sign)


def _means(values: Array) -> Array:
    """The mean of each arm over the seeds that it has; [experiment, arm]."""
    used = ~np.isnan(values)
    return np.asarray(np.where(used, values, 0.0).sum(-1) / np.maximum(used.sum(-1), 1))
