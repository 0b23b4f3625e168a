"""The error of having asked these items: how far an estimate of shares may move with other items of their kind.

Every run of an experiment answers the same items, so that their choice is no part of how seeds differ: an interval over
seeds is conditional on the items. Seeds and items are two levels of sampling. Of items there are dozens, so they are
drawn again (a bootstrap, all answers of all runs to one item together); of seeds there are few, so theirs is the
interval that the verdict shows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from labqueue.domain.declarations import ArtifactUse
from labqueue.domain.measured import averageable
from labqueue.domain.views import RunView
from labqueue.report.statistics.pairing import SeriesReader

COLUMNS = ("metric", "step", "item", "score")
"""Of a table artifact whose use is ``item_scores``."""

DRAWS, SEED = 10_000, 20261201
"""Draws of the bootstrap, and where they begin: the same interval each time."""

Scores = Mapping[str, float]
"""Item → its score in one run, or its mean over several runs."""


def scores_of(
    run: RunView, metric: str, value: float, artifacts: Mapping[str, ArtifactUse], series: SeriesReader
) -> Scores | None:
    """The scores of the items whose mean is this value of a run's metric; None where the run left none."""
    for name, use in artifacts.items():
        table = series.table(run, name) if use.use == "item_scores" else None
        if table is None or tuple(table[0]) != COLUMNS:
            continue
        steps: dict[Any, dict[str, float]] = {}
        for row in table[1]:
            if len(row) == len(COLUMNS) and row[0] == metric and averageable(row[3]):
                steps.setdefault(row[1], {})[str(row[2])] = float(row[3])
        for found in steps.values():
            if math.isclose(math.fsum(found.values()) / len(found), value, rel_tol=0.0, abs_tol=1e-9):
                return found
    return None


def pooled(runs: Sequence[Scores]) -> Scores | None:
    """The mean score of each item over runs; None where they did not answer the same items, or none."""
    if not runs or any(one.keys() != runs[0].keys() for one in runs):
        return None
    return {item: math.fsum(one[item] for one in runs) / len(runs) for item in runs[0]}


def with_other_items(
    arms: Sequence[tuple[float, Scores]], estimate: float, over_seeds: Sequence[float], level: float, *, ratio: bool
) -> list[float] | None:
    """The interval of an estimate over further seeds and other items of their kind.

    Args:
        arms: weight and mean score of each item over the seeds, the same items in every arm; the estimate is the
            weighted sum of the arms' means, with ``ratio`` the first arm's mean divided by the second's.
        estimate: that number.
        over_seeds: its interval over further seeds on the same items.
        level: of both.
        ratio: see above.

    The two errors are put together as of independent parts, each side by itself (Zou and Donner 2008). What the answers
    add by themselves is in both, so that the interval is rather too wide. None where it is unbounded.
    """
    ends = _over_items(arms, level, ratio=ratio)
    if ends is None:
        return None
    low, high = (
        math.hypot(estimate - seed_end, estimate - item_end)
        for seed_end, item_end in zip(over_seeds, ends, strict=True)
    )
    least, most = (0.0, math.inf) if ratio else _reach([weight for weight, _ in arms])
    return [max(least, estimate - low), min(most, estimate + high)]


def _reach(weights: Sequence[float]) -> tuple[float, float]:
    """Between which values a weighted sum of shares lies."""
    return math.fsum(min(weight, 0.0) for weight in weights), math.fsum(max(weight, 0.0) for weight in weights)


def _over_items(arms: Sequence[tuple[float, Scores]], level: float, *, ratio: bool) -> tuple[float, float] | None:
    """Limits of the estimate over other items: a Bayesian bootstrap (Rubin 1981) of the items with one more that is as
    bad as an item can be for the lower limit, and as good for the upper one (Gaffke 2005). Of one arm that is right or
    wrong it is the exact interval of Clopper and Pearson; of items that agree it is not of width zero.
    """
    import numpy as np

    weights = [weight for weight, _ in arms]
    kinds = Counter(tuple(scores[item] for _, scores in arms) for item in arms[0][1])
    values = np.array(list(kinds), float)  # [kind of item, arm]
    rng = np.random.default_rng(SEED)
    # The weights of equal items add up: Dirichlet by gamma draws, their sum over each kind of item.
    drawn = rng.gamma(np.array(list(kinds.values()), float), size=(DRAWS, len(values)))  # [draw, kind of item]
    extra = rng.gamma(1.0, size=DRAWS)
    sums = drawn @ values  # [draw, arm]
    tail = (1 - level) / 2
    if ratio:
        with np.errstate(divide="ignore"):
            low = np.quantile(sums[:, 0] / (sums[:, 1] + extra), tail)
            high = np.quantile((sums[:, 0] + extra) / sums[:, 1], 1 - tail)
    else:
        least, most = _reach(weights)
        total = drawn.sum(1) + extra
        estimates = sums @ np.array(weights)
        low = np.quantile((estimates + extra * least) / total, tail)
        high = np.quantile((estimates + extra * most) / total, 1 - tail)
    return (float(low), float(high)) if np.isfinite(low) and np.isfinite(high) else None
