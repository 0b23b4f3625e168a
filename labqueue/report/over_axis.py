"""Trend and best_at: evidence on claims over the values of one axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from labqueue.domain.predictions import BestAt, Trend
from labqueue.domain.views import RunView
from labqueue.report import stats
from labqueue.report.arms import (
    Panel,
    Reading,
    SeriesReader,
    chosen,
    collect,
    effective,
    exact,
    is_number,
    label,
    metric_name,
    read,
    text,
)
from labqueue.report.evidence import Evidence
from labqueue.report.stats import Region

Axis = dict[str, tuple[Any, list[Reading]]]
"""Label → (axis value, readings), in the order of the axis."""


def gather(test: Trend | BestAt, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader) -> Evidence:
    """The evidence on a claim over one axis."""
    arms = _axis(test, runs, series)
    if isinstance(test, BestAt):
        return _best_at(test, arms, axes)
    if test.shape in ("minimum_inside", "maximum_inside"):
        return _optimum_inside(test, arms, axes)
    return _trend(test, arms, axes)


def _axis(test: Trend | BestAt, runs: Sequence[RunView], series: SeriesReader) -> Axis:
    over = test.over
    found: Axis = {}
    for run in chosen(runs, test.where):
        if over in run.varied:
            value = effective(run, over)
            found.setdefault(exact(value), (value, []))[1].append(read(run, test.metric, test.at, series))
    numeric = all(is_number(value) for value, _ in found.values())
    ordered = sorted(found.values(), key=lambda pair: pair[0] if numeric else text(pair[0]))
    named: Axis = {}
    for value, readings in ordered:
        name = f"{over}={text(value)}"
        # Two values may look alike once they are shortened.
        named[name if name not in named else f"{name} ({len(named) + 1})"] = (value, readings)
    return named


def _trend(test: Trend, arms: Axis, axes: Sequence[str]) -> Evidence:
    x = [value for value, _ in arms.values()]
    numeric = len(x) > 1 and all(is_number(value) for value in x)
    per = f"per decade of {test.over}" if numeric and stats.log_axis(x) else f"per unit of {test.over}"
    among = f" among {label(test.where)}" if test.where else ""
    region, claimed = (Region(low=0.0), "above 0") if test.shape == "rises" else (Region(high=0.0), "below 0")
    found = Evidence(test.metric, f"slope of {metric_name(test.metric, test.at)} {per}{among}", claimed, region)
    if not numeric:
        return _no_axis(found, test.over, x, 2)
    found.axis, found.positions = test.over, [float(value) for value in x]
    panel = collect({name: readings for name, (_, readings) in arms.items()}, {test.over, *test.where}, axes)
    found.take(panel)
    if test.shape == "flat":
        assert test.tolerance is not None
        _flat(found, panel, test.tolerance, f"{metric_name(test.metric, test.at)}{among}")
        return found
    places = [math.log10(value) for value in x] if stats.log_axis(x) else x
    found.span = max(places) - min(places)
    found.resolution /= found.span
    by_seed = {seed: [panel.values[name][seed] for name in arms] for seed in panel.seeds}
    found.fill({seed: stats.slope(found.positions, values) for seed, values in by_seed.items()})
    if by_seed:
        means = [math.fsum(panel.values[name].values()) for name in arms]
        steps = [right - left for left, right in itertools.pairwise(means)]
        if min(steps) < 0 < max(steps):
            found.remarks.append("the means do not move in one direction all along the axis")
    return found


def _flat(found: Evidence, panel: Panel, tolerance: float, metric: str) -> None:
    """Every pair of axis values must be equivalent, so that a valley does not pass for flat.

    Supporting needs all pairs, hence no correction (an intersection–union test, Berger 1982); refuting needs one, hence
    Bonferroni. The widest pair is the one shown.
    """
    found.region, found.claimed = Region(-tolerance, tolerance), f"between {-tolerance:g} and {tolerance:g}"
    names = list(panel.values)
    pairs = [(left, right) for i, left in enumerate(names) for right in names[i + 1 :]]
    results = [
        (left, right, {seed: panel.values[right][seed] - panel.values[left][seed] for seed in panel.seeds})
        for left, right in pairs
    ]
    left, right, widest = max(results, key=lambda result: abs(math.fsum(result[2].values())))
    found.quantity = f"{metric} of {right} minus {left}, the largest change"
    found.fill(widest)
    if found.n > 1:
        tests = [found.summary(differences) for _, _, differences in results]
        found.p_inside = max(stats.p_inside(test, found.region) for test in tests)
        found.p_outside = min(1.0, len(tests) * min(stats.p_outside(test, found.region) for test in tests))


def _optimum_inside(test: Trend, arms: Axis, axes: Sequence[str]) -> Evidence:
    x = [value for value, _ in arms.values()]
    found = Evidence(test.metric, "", "", Region(high=0.0))
    if len(x) < 3 or not all(is_number(value) for value in x):
        return _no_axis(found, test.over, x, 3)
    found.axis = test.over
    low = test.shape == "minimum_inside"
    _duel(found, test, arms, set(list(arms)[1:-1]), axes, low=low)
    return found


def _best_at(test: BestAt, arms: Axis, axes: Sequence[str]) -> Evidence:
    found = Evidence(test.metric, "", "", Region(high=0.0))
    favoured = {name for name, (value, _) in arms.items() if any(exact(value) == exact(cell) for cell in test.values)}
    unknown = [cell for cell in test.values if not any(exact(value) == exact(cell) for value, _ in arms.values())]
    if unknown:
        found.block(f"no run has {test.over}={text(unknown[0])}")
    if all(is_number(value) for value, _ in arms.values()):
        found.axis = test.over
    _duel(found, test, arms, favoured, axes, low=test.direction == "min")
    return found


def _duel(
    found: Evidence,
    test: Trend | BestAt,
    arms: Axis,
    favoured: set[str],
    axes: Sequence[str],
    *,
    low: bool,
) -> None:
    """Whether the best of ``favoured`` beats every other value of the axis, or another beats all favoured ones.

    "Beats all" needs every comparison (no correction); "one of k" is chosen after looking (Bonferroni times k). A
    value at which every result diverged has lost: it is worse than any number.
    """
    broken = [
        name
        for name, (_, readings) in arms.items()
        if any(reading.diverged for reading in readings) and all(reading.value is None for reading in readings)
    ]
    lost = [f"{name} diverged (run {next(r.run.id for r in arms[name][1] if r.diverged)})" for name in broken]
    left = {name: pair for name, pair in arms.items() if name not in broken}
    if found.axis:
        found.positions = [float(value) for value, _ in left.values()]
    if lost:
        found.remarks.append(f"{'; '.join(lost)}: counted as worse than every number")
    good, rest = [name for name in left if name in favoured], [name for name in left if name not in favoured]
    found.claimed = "below 0" if low else "above 0"
    found.region = Region(high=0.0) if low else Region(low=0.0)
    found.quantity = f"{metric_name(test.metric, test.at)} of the best claimed value minus the best other"
    if not good or not rest:
        what = "all claimed values" if favoured and not good else "no claimed values" if not good else ""
        why = f"{what} diverged or are missing" if what else "no other value of the axis is left to compare with"
        found.block(why)
        return
    panel = collect({name: readings for name, (_, readings) in left.items()}, {test.over, *test.where}, axes)
    found.take(panel)
    if not panel.seeds:
        return
    means = {name: math.fsum(values.values()) for name, values in panel.values.items()}
    pick = min if low else max
    best, rival = pick(good, key=means.__getitem__), pick(rest, key=means.__getitem__)
    found.quantity = f"{metric_name(test.metric, test.at)} of {best} minus {rival}"
    found.fill(_minus(panel, best, rival))
    if found.n < 2:
        return
    tests = {(one, other): found.summary(_minus(panel, one, other)) for one in good for other in rest}
    wins = [max(stats.p_inside(tests[one, other], found.region) for other in rest) for one in good]
    losses = [max(stats.p_outside(tests[one, other], found.region) for one in good) for other in rest]
    found.p_inside = min(1.0, len(good) * min(wins))
    found.p_outside = min(1.0, len(rest) * min(losses))


def _minus(panel: Panel, one: str, other: str) -> dict[int, float]:
    return {seed: panel.values[one][seed] - panel.values[other][seed] for seed in panel.seeds}


def _no_axis(found: Evidence, over: str, x: list[Any], needed: int) -> Evidence:
    odd = next((value for value in x if not is_number(value)), None)
    found.blocked = (
        f"{over} is not a numeric axis: it has the value {text(odd)}"
        if odd is not None
        else f"{over} has {len(x)} value{'s' * (len(x) != 1)} in these runs; this claim needs at least {needed}"
    )
    return found
