"""Compare, threshold and crosses: evidence on claims about named arms. Claims over an axis are in ``axis_claims``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from labqueue.domain.declarations import Metrics
from labqueue.domain.measured import averageable
from labqueue.domain.spec.predictions import Compare, Crosses, Prediction, Threshold
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report import declarations
from labqueue.report.statistics import axis_claims, intervals
from labqueue.report.statistics.evidence import NULLABLE_FROM, Evidence
from labqueue.report.statistics.exact_tests import Signs
from labqueue.report.statistics.intervals import Region
from labqueue.report.statistics.pairing import (
    Panel,
    Reading,
    SeriesReader,
    apart,
    chosen,
    collect,
    items_of,
    label,
    metric_name,
    read,
)
from labqueue.report.statistics.scales import Scale, too_skewed

Arms = Mapping[str, Sequence[Reading]]


def gather(
    prediction: Prediction,
    experiment: ExperimentView,
    runs: Sequence[RunView],
    series: SeriesReader,
    metrics: Metrics,
) -> Evidence:
    """The evidence on one prediction from the runs of one profile; ``metrics`` are what their kind declares."""
    found = _gathered(prediction, experiment, runs, series, metrics)
    found.ask_other_items(declarations.of(experiment.kind).artifacts, series)
    return found


def _gathered(
    prediction: Prediction,
    experiment: ExperimentView,
    runs: Sequence[RunView],
    series: SeriesReader,
    metrics: Metrics,
) -> Evidence:
    test = prediction.test
    if isinstance(test, Compare):
        return _compare(test, experiment.axes, runs, series, metrics)
    if isinstance(test, Threshold):
        return _threshold(test, experiment.axes, runs, series, metrics)
    if isinstance(test, Crosses):
        return _crosses(test, experiment.axes, runs, series)
    return axis_claims.gather(test, experiment.axes, runs, series, metrics)


def _compare(
    test: Compare, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader, metrics: Metrics
) -> Evidence:
    one, other, both = apart(test.a, test.b)
    names = (f"a: {one}", f"b: {other}")
    arms = {
        name: [read(run, test.metric, test.at, series) for run in chosen(runs, where)]
        for name, where in zip(names, (test.a, test.b), strict=True)
    }
    ratio = test.ratio_below or test.ratio_above
    if test.within is not None:
        region, claimed = Region(-test.within, test.within), f"between {-test.within:g} and {test.within:g}"
    elif ratio:
        region, claimed = _bounds(test.ratio_below, test.ratio_above)
    else:
        region, claimed = _bounds(test.difference_below, test.difference_above)
    quantity = f"{metric_name(test.metric, test.at)} of {one} {{}} {other}{both}"
    items = items_of(metrics[test.metric], [reading.run for found in arms.values() for reading in found])

    def make(filled: Arms) -> tuple[Evidence, Panel]:
        panel = collect(filled, {*test.a, *test.b}, axes)
        found = Evidence(test.metric, quantity.format("divided by" if ratio else "minus"), claimed, region)
        found.take(panel)
        found.measure_by(metrics[test.metric], panel, items)
        if not panel.seeds:
            return found, panel
        a, b = (panel.pairs[name] for name in names)
        if ratio:
            _ratio(found, a, b, ratio)
            return found, panel
        one_arm, other_arm = (panel.values[name] for name in names)
        if found.scale.form == "positive" and region.distance(0.0) == 0.0:
            # Which of two positive numbers is smaller does not depend on the scale; that of logs is the less skewed.
            found.quantity, found.claimed = quantity.format("divided by"), f"{claimed.split()[0]} 1"
            _log_ratio(found, a, b)
            return found, panel
        found.margin = region.distance(0.0) != 0.0
        _refuse_margin(found, {name: panel.values[name] for name in names})
        found.contrast = dict(zip(names, (1.0, -1.0), strict=True))
        found.fill({seed: one_arm[seed] - other_arm[seed] for seed in panel.seeds}, [(1.0, one_arm), (-1.0, other_arm)])
        return found, panel

    return _with_extremes(make, arms, [dict(zip(names, ends, strict=True)) for ends in ((0.0, 1.0), (1.0, 0.0))])


def _refuse_margin(found: Evidence, arms: Mapping[str, Mapping[int, float]]) -> None:
    """A margin says nothing about yes and no, and too much about positive numbers whose seeds are far apart."""
    if found.scale.form == "yes_no" and found.margin:
        found.block(f"{found.metric} is 0 or 1 in every run, of which a claim with a margin says nothing")
    elif found.scale.form == "positive" and found.margin and (spread := too_skewed(arms.values())) is not None:
        found.bare = True
        found.block(
            f"{found.metric} differs between seeds by a factor of {math.exp(spread):.2g}, too skewed for a claim about "
            "a difference: state it as a ratio"
        )


def _with_extremes(
    make: Callable[[Arms], tuple[Evidence, Panel]], arms: Arms, fills: Sequence[Mapping[str, float]]
) -> Evidence:
    """Where the metric has a least and a largest value, runs without a number count as either: a verdict that both
    leave standing does not depend on them. Of other metrics such runs block it."""
    found, panel = make(arms)
    if panel.pending or not panel.lost_runs or found.scale.form not in ("share", "yes_no"):
        return found
    lost = panel.lost_runs
    tries = [
        make({
            name: [Reading(r.run, fill[name]) if r.run.id in lost else r for r in readings]
            for name, readings in arms.items()
        })[0]
        for fill in fills
    ]  # fmt: skip
    shown = max(tries, key=lambda one: min(one.p_inside, one.p_outside))
    shown.p_inside = max(one.p_inside for one in tries)
    shown.p_outside = _outside_on_one_side(tries)
    shown.blocked = next((one.blocked for one in tries if one.blocked), "")
    listed = "; ".join(panel.lost[:3]) + (f" and {len(panel.lost) - 3} more" if len(panel.lost) > 3 else "")
    shown.remarks.append(
        f"{listed}: each counts as the least and as the largest value in turn, the less clear is shown"
    )
    return shown


def _outside_on_one_side(tries: Sequence[Evidence]) -> float:
    """p of "outside" where several samples must agree: beyond the same edge, since what lies between may be inside."""
    statistics = [one.statistic for one in tries]
    known = [statistic for statistic in statistics if statistic is not None]
    if len(known) < len(tries):
        return 1.0
    region = tries[0].region
    sides = []
    if math.isfinite(region.low):
        sides.append(max(statistic.p_below(region.low) for statistic in known))
    if math.isfinite(region.high):
        sides.append(max(statistic.p_above(region.high) for statistic in known))
    return min(1.0, 2 * min(sides))


def _ratio(found: Evidence, a: Mapping[int, list[float]], b: Mapping[int, list[float]], bound: float) -> None:
    below = math.isfinite(found.region.high)
    lowest_b = min(min(values) for values in b.values())
    lowest = min(lowest_b, *(min(values) for values in a.values()))
    if found.scale.form == "yes_no":
        found.block(f"{found.metric} is 0 or 1 in every run, of which a claim with a margin says nothing")
    if lowest > 0 and found.scale.form in ("real", "positive"):
        edge = math.log(bound)
        found.region = Region(high=edge) if below else Region(low=edge)
        _log_ratio(found, a, b)
        return
    if lowest_b <= 0 and (found.scale.form != "share" or not any(map(math.fsum, b.values()))):
        found.block(f"a ratio needs values above 0 in b; its smallest is {lowest_b:g}")
        return
    found.margin = bound != 1
    # a/b < r is a − r·b < 0 where b > 0: needs no logarithm of a zero.
    found.region = Region(high=0.0) if below else Region(low=0.0)
    tops, bottoms = ({seed: math.fsum(values) / len(values) for seed, values in arm.items()} for arm in (a, b))
    found.fill({seed: tops[seed] - bound * bottoms[seed] for seed in tops}, [(1.0, tops), (-bound, bottoms)])
    found.estimate, found.ci = math.fsum(tops.values()) / math.fsum(bottoms.values()), None
    if found.n > 1:
        found.estimate, found.ci = intervals.ratio_of_means(list(tops.values()), list(bottoms.values()))
    found.contrast, found.of_ratio = dict(zip(found.arms, (1.0, -1.0), strict=True)), True
    found.tested = f"a − {bound:g}·b"
    found.remarks.append("ratio of means, since some values of a are not above 0" if lowest <= 0 else "ratio of means")


def _log_ratio(found: Evidence, a: Mapping[int, list[float]], b: Mapping[int, list[float]]) -> None:
    """Sets the evidence from log(a) − log(b), meaned over sweep points within each seed."""
    found.log, found.typical, found.resolution = True, True, intervals.FLOAT32_ROUNDING
    logs = [{seed: _mean_log(values) for seed, values in arm.items()} for arm in (a, b)]
    found.fill({seed: logs[0][seed] - logs[1][seed] for seed in a}, [(1.0, logs[0]), (-1.0, logs[1])])


def _mean_log(values: Sequence[float]) -> float:
    return math.fsum(map(math.log, values)) / len(values)


def _threshold(
    test: Threshold, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader, metrics: Metrics
) -> Evidence:
    name = label(test.where)
    readings = [read(run, test.metric, test.at, series) for run in chosen(runs, test.where)]
    quantity = f"{metric_name(test.metric, test.at)} of {name}"
    if test.relative_to == "first":
        readings = [_relative(reading, test.metric) for reading in readings]
        quantity = f"{metric_name(test.metric, test.at)} of {name} divided by its first value"
    bound = test.below if test.below is not None else test.above
    assert bound is not None
    region, claimed = _bounds(test.below, test.above)
    items = items_of(metrics[test.metric], [reading.run for reading in readings])

    def make(filled: Arms) -> tuple[Evidence, Panel]:
        found = Evidence(test.metric, quantity, claimed, region)
        if test.relative_to:
            found.measure = f"{test.metric} / its first value"
        panel = collect(filled, set(test.where), axes)
        found.take(panel)
        found.measure_by(metrics[test.metric], panel, items, relative=test.relative_to is not None)
        values = panel.values[name]
        if not values:
            return found, panel
        if found.scale.form == "positive" and bound > 0:
            found.log, found.typical, found.resolution = True, True, intervals.FLOAT32_ROUNDING
            edge = math.log(bound)
            found.region = Region(high=edge) if test.below is not None else Region(low=edge)
            logs = {seed: _mean_log(each) for seed, each in panel.pairs[name].items()}
            found.fill(logs, [(1.0, logs)])
        else:
            found.contrast = {name: 1.0}
            found.fill(dict(values), [(1.0, values)])
        return found, panel

    return _with_extremes(make, {name: readings}, [{name: 0.0}, {name: 1.0}])


def _relative(reading: Reading, metric: str) -> Reading:
    if reading.value is None:
        return reading
    known = reading.run.metrics.get(metric)
    first = None if known is None else known.first  # what the lab measures of a run has a last value only
    if not first:
        why = "null" if first is None else "0"
        return Reading(reading.run, None, f"cannot be related to its first {metric}, which is {why}")
    ratio = reading.value / first
    if not averageable(ratio):
        return Reading(reading.run, None, f"has a {metric} of {first:.4g} at first, too small to be related to")
    return Reading(reading.run, ratio)


def _crosses(test: Crosses, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader) -> Evidence:
    """Every seed that got there: its step, on logs, against the step claimed. Else: in time or not, by signs."""
    name = label(test.where)
    readings = [_crossing(run, test, series) for run in chosen(runs, test.where)]
    bound = f"{test.below:g} or below" if test.below is not None else f"{test.above:g} or above"
    what = f"first step at which {test.metric} of {name} is {bound}"

    def make(filled: Arms) -> tuple[Evidence, Panel]:
        found = Evidence(
            test.metric, what, f"before step {test.before}", Region(high=float(test.before)), measure="step"
        )
        panel = collect(filled, set(test.where), axes)
        found.take(panel)
        found.typical, found.scale = True, Scale("yes_no")
        _fill_crossing(found, panel, name, test.before)
        return found, panel

    return _with_extremes(make, {name: readings}, [{name: NEVER}, {name: 0.0}])


NEVER = 1e99
"""Stands for the step of a run that ended and had not got there, larger than every step; never shown."""


def _fill_crossing(found: Evidence, panel: Panel, name: str, before: int) -> None:
    steps = {
        seed: math.inf if max(values) >= NEVER else math.fsum(values) / len(values)
        for seed, values in panel.pairs.get(name, {}).items()
    }
    never = [seed for seed, step in steps.items() if step == math.inf]
    found.arms = {name: {seed: step for seed, step in steps.items() if seed not in never}}
    if not steps:
        return
    found.resolution = 0.0  # steps are whole numbers
    if not never and min(steps.values()) > 0:
        found.log, found.region = True, Region(high=math.log(before))
        logs = {seed: math.log(step) for seed, step in steps.items()}
        found.scale = Scale("positive")
        found.fill(logs, [(1.0, logs)])
        found.scale = Scale("yes_no")
    else:
        found.sample = dict(steps)
        late = sum(step >= before for step in steps.values())
        signs = Signs(len(steps) - late, late, len(steps), late in (0, len(steps)), centre=float(before))
        found.statistic = signs
        found.p_inside = intervals.p_inside(signs, found.region)
        found.p_outside = intervals.p_outside(signs, found.region)
        found.remarks.append(f"{len(steps) - late} of {len(steps)} seeds got there in time, {len(never)} never")
    if len(steps) < NULLABLE_FROM:
        found.block(
            f"a crossing needs {NULLABLE_FROM} seeds, here are {len(steps)}: with fewer, seeds that never get there "
            "could be missed"
        )


def _crossing(run: RunView, test: Crosses, series: SeriesReader) -> Reading:
    down = test.below is not None
    bound = test.below if test.below is not None else test.above
    assert bound is not None
    if run.outcome is None:
        return Reading(run, None, f"is {run.state}")
    known = run.metrics.get(test.metric)
    best = None if known is None else known.min if down else known.max
    if best is not None and ((best <= bound) if down else (best >= bound)):
        for step, value in series.series(run.id, test.metric):
            if value is not None and ((value <= bound) if down else (value >= bound)):
                return Reading(run, float(step))
    summary = read(run, test.metric, "min" if down else "max", series)
    return summary if summary.value is None else Reading(run, NEVER)


def _bounds(below: float | None, above: float | None) -> tuple[Region, str]:
    if below is not None:
        return Region(high=below), f"below {below:g}"
    assert above is not None
    return Region(low=above), f"above {above:g}"
