"""Compare, threshold and crosses: evidence on claims about named arms. Claims over an axis are in ``over_axis``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from labqueue.domain.measured import averageable
from labqueue.domain.spec.predictions import Compare, Crosses, Prediction, Threshold
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.statistics import axis_claims, intervals
from labqueue.report.statistics.evidence import Evidence
from labqueue.report.statistics.intervals import Region
from labqueue.report.statistics.pairing import Reading, SeriesReader, apart, chosen, collect, label, metric_name, read


def gather(
    prediction: Prediction, experiment: ExperimentView, runs: Sequence[RunView], series: SeriesReader
) -> Evidence:
    """The evidence on one prediction from the runs of one profile."""
    test = prediction.test
    if isinstance(test, Compare):
        return _compare(test, experiment.axes, runs, series)
    if isinstance(test, Threshold):
        return _threshold(test, experiment.axes, runs, series)
    if isinstance(test, Crosses):
        return _crosses(test, experiment.axes, runs, series)
    return axis_claims.gather(test, experiment.axes, runs, series)


def _compare(test: Compare, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader) -> Evidence:
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
    verb = "divided by" if ratio else "minus"
    quantity = f"{metric_name(test.metric, test.at)} of {one} {verb} {other}{both}"
    panel = collect(arms, {*test.a, *test.b}, axes)
    found = Evidence(test.metric, quantity, claimed, region)
    found.take(panel)
    if not panel.seeds:
        return found
    a, b = (panel.pairs[name] for name in names)
    if not ratio:
        found.fill({s: panel.values[names[0]][s] - panel.values[names[1]][s] for s in panel.seeds})
        return found
    _ratio(found, a, b, ratio)
    return found


def _ratio(found: Evidence, a: Mapping[int, list[float]], b: Mapping[int, list[float]], bound: float) -> None:
    below = math.isfinite(found.region.high)
    lowest_b = min(min(values) for values in b.values())
    lowest = min(lowest_b, *(min(values) for values in a.values()))
    if lowest > 0:
        found.log = True
        edge = math.log(bound)
        found.region = Region(high=edge) if below else Region(low=edge)
        logs = {
            seed: math.fsum(math.log(x) - math.log(y) for x, y in zip(a[seed], b[seed], strict=True)) / len(a[seed])
            for seed in a
        }
        found.resolution = intervals.FLOAT32_ROUNDING
        found.fill(logs)
        return
    if lowest_b <= 0:
        found.block(f"a ratio needs values above 0 in b; its smallest is {lowest_b:g}")
        return
    # a/b < r is a − r·b < 0 where b > 0: needs no logarithm of a zero.
    found.region = Region(high=0.0) if below else Region(low=0.0)
    means = {seed: (math.fsum(a[seed]) / len(a[seed]), math.fsum(b[seed]) / len(b[seed])) for seed in a}
    found.fill({seed: x - bound * y for seed, (x, y) in means.items()})
    tops, bottoms = [x for x, _ in means.values()], [y for _, y in means.values()]
    found.estimate, found.ci = math.fsum(tops) / math.fsum(bottoms), None
    if found.n > 1:
        found.estimate, found.ci = intervals.ratio_of_means(tops, bottoms)
    found.tested = f"a − {bound:g}·b"
    found.remarks.append("ratio of means, since some values of a are not above 0")


def _threshold(test: Threshold, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader) -> Evidence:
    name = label(test.where)
    readings = [read(run, test.metric, test.at, series) for run in chosen(runs, test.where)]
    quantity = f"{metric_name(test.metric, test.at)} of {name}"
    if test.relative_to == "first":
        readings = [_relative(reading, test.metric) for reading in readings]
        quantity = f"{metric_name(test.metric, test.at)} of {name} divided by its first value"
    region, claimed = _bounds(test.below, test.above)
    found = Evidence(test.metric, quantity, claimed, region)
    if test.relative_to:
        found.measure = f"{test.metric} / its first value"
    panel = collect({name: readings}, set(test.where), axes)
    found.take(panel)
    found.fill(panel.values[name])
    return found


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
    name = label(test.where)
    readings = [_crossing(run, test, series) for run in chosen(runs, test.where)]
    bound = f"{test.below:g} or below" if test.below is not None else f"{test.above:g} or above"
    found = Evidence(
        test.metric,
        f"first step at which {test.metric} of {name} is {bound}",
        f"before step {test.before}",
        Region(high=float(test.before)),
        measure="step",
    )
    panel = collect({name: readings}, set(test.where), axes)
    found.take(panel)
    found.resolution = 0.0  # steps are whole numbers
    found.fill(panel.values[name])
    if panel.censored:
        late = sum(reading.censored for reading in readings)
        found.remarks.append(f"{late} of {len(readings)} runs never got there; their last step stands in, as at least")
        # A lower bound on the step can refute "before", never support it.
        found.p_inside = 1.0
    return found


def _crossing(run: RunView, test: Crosses, series: SeriesReader) -> Reading:
    summary = read(run, test.metric, "min" if test.below is not None else "max", series)
    if summary.value is None:
        return summary
    down = test.below is not None
    bound = test.below if test.below is not None else test.above
    assert bound is not None
    last = run.metrics[test.metric].last_step
    if (summary.value <= bound) if down else (summary.value >= bound):
        for step, value in series.series(run.id, test.metric):
            if value is not None and ((value <= bound) if down else (value >= bound)):
                return Reading(run, float(step))
    if last < test.before:
        return Reading(run, None, f"ended at step {last}, before step {test.before}, and had not got there")
    return Reading(run, float(last), censored=True)


def _bounds(below: float | None, above: float | None) -> tuple[Region, str]:
    if below is not None:
        return Region(high=below), f"below {below:g}"
    assert above is not None
    return Region(low=above), f"above {above:g}"
