"""When an experiment may be looked at, and what each look may spend. Judges nothing.

Seeds that are added after earlier ones have finished make a new look at the same question: an experiment that is looked
at again until it decides is decided by chance more often than 5 % of the time. Looks that the spec registers beforehand
share these 5 % between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.statistics.intervals import ALPHA

SHARES: dict[int, tuple[float, ...]] = {1: (ALPHA,), 2: (0.01, 0.04), 3: (0.005, 0.015, 0.03)}
"""Number of registered looks → what each spends. They add up to ``ALPHA`` (Bonferroni), and the last, with most seeds,
has most of it, as in O'Brien and Fleming (1979)."""


@dataclass(frozen=True)
class Look:
    """One look: the seeds that it sees, and the level at which it decides."""

    seeds: frozenset[int]
    number: int
    """From 1."""
    alpha: float
    registered: bool = True
    """False for seeds that were added after a look which no registration foresaw: it decides nothing."""


def looks(experiment: ExperimentView, runs: Sequence[RunView]) -> list[Look]:
    """The looks that the runs' seeds allow by now, in order; empty while there are fewer seeds than the first needs.

    Without registered looks the seeds of the first look are those that were submitted before any run had finished, and
    at least two: one seed decides nothing, so that seeing it is no look.
    """
    here = {run.seed for run in runs}
    groups = [[seed for seed in found.seeds if seed in here] for found in experiment.found_looks]
    known = [seed for group in groups for seed in group]
    rest = [seed for seed in sorted(here) if seed not in known]
    if not groups:
        groups, rest = [rest], []
    groups[-1] += rest
    order = [seed for group in groups for seed in group]
    if experiment.looks:
        spent = SHARES[len(experiment.looks)]
        return [
            Look(frozenset(order[:size]), number, alpha)
            for number, (size, alpha) in enumerate(zip(experiment.looks, spent, strict=True), 1)
            if size <= len(order)
        ]
    found: list[Look] = []
    seen: list[int] = []
    for group in groups:
        seen += group
        if group and (len(seen) > 1 or group is groups[-1]):
            found.append(Look(frozenset(seen), len(found) + 1, ALPHA, registered=not found))
    return found
