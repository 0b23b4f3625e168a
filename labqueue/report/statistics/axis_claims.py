"""Trend and best_at: evidence on claims over the values of one axis."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labqueue.domain.declarations import DIVERGED, Metrics, Quantity
from labqueue.domain.spec.predictions import BestAt, Trend
from labqueue.domain.views import RunView
from labqueue.report.statistics import intervals
from labqueue.report.statistics.evidence import Evidence
from labqueue.report.statistics.intervals import Region
from labqueue.report.statistics.pairing import (
    Panel,
    Reading,
    SeriesReader,
    chosen,
    collect,
    effective,
    exact,
    is_number,
    items_of,
    label,
    last_value,
    metric_name,
    read,
    text,
)
from labqueue.report.statistics.scales import too_skewed

Axis = dict[str, tuple[Any, list[Reading]]]
"""Label → (axis value, readings), in the order of the axis."""

BEATEN_FROM = 3
"""Seeds from which a value that diverged in all of them is beaten without a test. Two seeds both diverge by chance too
often: of two values that tie one was called the best in up to 6.0 % of simulated experiments
(``python -m benchmarks.verdicts``)."""


@dataclass(frozen=True)
class _Match:
    """One value of the axis against another: how sure it is that ``winner`` is the better one."""

    winner: str
    loser: str
    sample: dict[int, float]
    """Claimed minus other, in the seeds in which ``loser`` did not diverge."""
    p: float
    lead: float
    """By how much the winner is ahead in the mean; negative where it is behind."""


@dataclass(frozen=True)
class _Side:
    """The one of ``tries`` values that comes nearest to beating every opponent; its least clear match comes first."""

    matches: list[_Match]
    tries: int

    @property
    def p(self) -> float:
        """All matches must be won, so the largest p counts; which value it is was seen in the data (Bonferroni)."""
        return min(1.0, self.tries * self.matches[0].p)

    def said(self, kind: str) -> list[str]:
        """In words: which match decides, and how its p becomes that of the claim."""
        one, k = self.matches[0], len(self.matches)
        parts = [f"this is the least clear of the {k} comparisons of {one.winner}"] if k > 1 else []
        if self.tries > 1 and 0 < one.p < 1:
            subject = f"its own p of {one.p:.4g}" if parts else f"the own p of this comparison, {one.p:.4g},"
            parts.append(f"{subject} counts {self.tries} times, once for each {kind} value")
        return [", and ".join(parts)] if parts else []


def gather(
    test: Trend | BestAt, axes: Sequence[str], runs: Sequence[RunView], series: SeriesReader, metrics: Metrics
) -> Evidence:
    """The evidence on a claim over one axis; ``metrics`` are what the kind of the runs declares."""
    arms = _axis(test, runs, series)
    metric = metrics[test.metric]
    if isinstance(test, BestAt):
        return _best_at(test, arms, axes, metric)
    if test.shape in ("minimum_inside", "maximum_inside"):
        return _optimum_inside(test, arms, axes, metric)
    return _trend(test, arms, axes, metric)


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


def _measured(found: Evidence, metric: Quantity, panel: Panel, arms: Axis) -> None:
    runs = [reading.run for _, readings in arms.values() for reading in readings]
    found.measure_by(metric, panel, items_of(metric, runs))


def _tested_values(panel: Panel, *, logs: bool) -> dict[str, dict[int, float]]:
    """Arm → seed → the value, or the mean over sweep points of its logs."""
    if not logs:
        return panel.values
    return {
        name: {seed: math.fsum(map(math.log, values)) / len(values) for seed, values in arm.items()}
        for name, arm in panel.pairs.items()
    }


def _trend(test: Trend, arms: Axis, axes: Sequence[str], metric: Quantity) -> Evidence:
    x = [value for value, _ in arms.values()]
    numeric = len(x) > 1 and all(is_number(value) for value in x)
    per = f"per decade of {test.over}" if numeric and intervals.log_axis(x) else f"per unit of {test.over}"
    among = f" among {label(test.where)}" if test.where else ""
    region, claimed = (Region(low=0.0), "above 0") if test.shape == "rises" else (Region(high=0.0), "below 0")
    found = Evidence(test.metric, "", claimed, region)
    if not numeric:
        return _no_axis(found, test.over, x, 2)
    found.axis, found.positions = test.over, [float(value) for value in x]
    panel = collect({name: readings for name, (_, readings) in arms.items()}, {test.over, *test.where}, axes)
    found.take(panel)
    _measured(found, metric, panel, arms)
    if test.shape == "flat":
        assert test.tolerance is not None
        _flat(found, panel, test.tolerance, f"{metric_name(test.metric, test.at)}{among}")
        return found
    logs = found.scale.form == "positive"
    what = f"natural logarithm of {metric_name(test.metric, test.at)}" if logs else metric_name(test.metric, test.at)
    found.quantity = f"least-squares slope of the {what} {per}{among}"
    found.typical = logs
    weights = dict(zip(arms, intervals.slope_weights(found.positions), strict=True))
    values = _tested_values(panel, logs=logs)
    if logs:
        found.resolution = intervals.FLOAT32_ROUNDING
    found.resolution *= max(map(abs, weights.values()))
    found.contrast = weights
    sample = {seed: math.fsum(weights[name] * values[name][seed] for name in arms) for seed in panel.seeds}
    found.fill(sample, [(weights[name], values[name]) for name in arms], logs=logs)
    if sample:
        _along_the_axis(found, [math.fsum(values[name].values()) for name in arms])
    return found


def _along_the_axis(found: Evidence, sums: Sequence[float]) -> None:
    """Blocks a verdict on a slope that most neighbours on the axis go against: a slope is an average of steps, and one
    long step can outweigh all others."""
    rounding = intervals.resolution(sums)
    steps = [0.0 if abs(right - left) <= rounding else right - left for left, right in itertools.pairwise(sums)]
    if not min(steps) < 0 < max(steps):
        return
    found.remarks.append("the means do not move in one direction all along the axis")
    rises = found.estimate is not None and found.estimate > 0
    against = sum(step < 0 if rises else step > 0 for step in steps)
    if 2 * against > len(steps):
        found.block(
            f"the slope {'rises' if rises else 'falls'}, but the means go the other way between {against} of the "
            f"{len(steps)} neighbouring values"
        )


def _flat(found: Evidence, panel: Panel, tolerance: float, metric: str) -> None:
    """Every pair of axis values must be equivalent, so that a valley does not pass for flat.

    Supporting needs all pairs, hence no correction (an intersection–union test, Berger 1982); refuting needs one, hence
    Bonferroni. The widest pair is the one shown, with an interval that holds for all pairs together.
    """
    found.region, found.claimed = Region(-tolerance, tolerance), f"between {-tolerance:g} and {tolerance:g}"
    if found.scale.form == "yes_no":
        found.block(f"{found.metric} is 0 or 1 in every run, of which a claim with a margin says nothing")
    elif found.scale.form == "positive" and (spread := too_skewed(panel.values.values())) is not None:
        found.bare = True
        found.block(
            f"{found.metric} differs between seeds by a factor of {math.exp(spread):.2g}, too skewed for a claim about "
            "a difference"
        )
    names = list(panel.values)
    pairs = list(itertools.combinations(names, 2))
    samples = [_minus(panel.values, right, left, panel.seeds) for left, right in pairs]
    widest = max(range(len(pairs)), key=lambda at: abs(math.fsum(samples[at].values())))
    left, right = pairs[widest]
    found.quantity = f"{metric} of {right} minus {left}, the largest change"
    found.comparisons, found.margin = len(pairs), True
    parts = [[(1.0, panel.values[right]), (-1.0, panel.values[left])] for left, right in pairs]
    found.contrast = {right: 1.0, left: -1.0}
    found.fill(samples[widest], parts[widest])
    if found.n > 1:
        tests = [found.scale.of_sum(one, part, margin=True) for one, part in zip(samples, parts, strict=True)]
        found.p_inside = max(intervals.p_inside(test, found.region) for test in tests)
        found.p_outside = min(1.0, len(tests) * min(intervals.p_outside(test, found.region) for test in tests))


def _optimum_inside(test: Trend, arms: Axis, axes: Sequence[str], metric: Quantity) -> Evidence:
    x = [value for value, _ in arms.values()]
    found = Evidence(test.metric, "", "", Region(high=0.0))
    if len(x) < 3 or not all(is_number(value) for value in x):
        return _no_axis(found, test.over, x, 3)
    found.axis = test.over
    low = test.shape == "minimum_inside"
    _duel(found, test, arms, set(list(arms)[1:-1]), axes, metric, low=low)
    return found


def _best_at(test: BestAt, arms: Axis, axes: Sequence[str], metric: Quantity) -> Evidence:
    found = Evidence(test.metric, "", "", Region(high=0.0))
    favoured = {name for name, (value, _) in arms.items() if any(exact(value) == exact(cell) for cell in test.values)}
    unknown = [cell for cell in test.values if not any(exact(value) == exact(cell) for value, _ in arms.values())]
    if unknown:
        found.block(f"no run has {test.over}={text(unknown[0])}")
    if all(is_number(value) for value, _ in arms.values()):
        found.axis = test.over
    _duel(found, test, arms, favoured, axes, metric, low=test.direction == "min")
    return found


def _duel(
    found: Evidence,
    test: Trend | BestAt,
    arms: Axis,
    favoured: set[str],
    axes: Sequence[str],
    metric: Quantity,
    *,
    low: bool,
) -> None:
    """Whether one of ``favoured`` beats every other value of the axis, or another beats all favoured ones.

    "Beats all" needs every comparison (no correction: an intersection–union test, Berger 1982); "one of k" is chosen
    after looking (Bonferroni times k). Estimate, interval and sample are those of the comparison that decides p.

    Diverged is an outcome, never the best. A value at which every result diverged is beaten without a test. For
    ``best_at`` a run whose metric ``diverged`` is 1 has lost its seed, too: a value that lost a seed beats none,
    and is tested on its other seeds when it is to be beaten. Those seeds are a valid sample of the runs that do not
    diverge, and leaving the lost ones out favours the value that lost them.
    """
    best_at = isinstance(test, BestAt)
    # A claim about divergence itself is about the numbers 0 and 1.
    rule = best_at and test.metric != DIVERGED
    fallen = {
        name: {reading.run.id: reading.run.seed for reading in readings if rule and _by_rule(reading)}
        for name, (_, readings) in arms.items()
    }
    beaten = [
        name
        for name, (_, readings) in arms.items()
        if (fallen[name] or any(reading.diverged for reading in readings))
        and all(reading.value is None or reading.run.id in fallen[name] for reading in readings)
    ]
    seeds = {reading.run.seed for _, readings in arms.values() for reading in readings}
    if beaten and len(seeds) < BEATEN_FROM:
        found.block(
            f"{', '.join(beaten)} diverged in every seed, here {len(seeds)}: a value is beaten without a test from "
            f"{BEATEN_FROM} seeds on"
        )
    broken = [name for name in beaten if any(reading.diverged for reading in arms[name][1])]
    left = {name: pair for name, pair in arms.items() if name not in broken}
    if found.axis:
        found.positions = [float(value) for value, _ in left.values()]
    if broken:
        lost = [f"{name} diverged (run {next(r.run.id for r in arms[name][1] if r.diverged)})" for name in broken]
        found.remarks.append(f"{'; '.join(lost)}: counted as worse than every number")
    found.lost = {name: set(fallen[name].values()) for name in left if fallen[name]}
    found.remarks += _by_rule_said(found.lost, beaten)
    good = [name for name in left if name in favoured and name not in beaten]
    rest = [name for name in left if name not in favoured and name not in beaten]
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
    _measured(found, metric, panel, left)
    if not panel.seeds:
        return
    found.log = found.typical = found.scale.form == "positive"
    if found.log:
        found.resolution = intervals.FLOAT32_ROUNDING
    values = _tested_values(panel, logs=found.log)
    found.comparisons = len(good) * len(rest)
    # Values that lost everywhere were tried as well: leaving them out of the count would be choosing by the data.
    tried = arms if best_at else left
    claims = sum(name in favoured for name in tried)

    def match(winner: str, loser: str) -> _Match:
        return _match(found, values, panel.seeds, (winner, loser), claimed=winner in favoured, low=low)

    inside = _side(found, good, rest, claims, match)
    outside = _side(found, rest, good, len(tried) - claims, match)
    side = outside if inside is None or (outside and outside.p < inside.p) else inside
    if side is None:
        found.block("every value diverged in some seed, so none can be the best")
        return
    one, kind = side.matches[0], "claimed" if side is inside else "other"
    pair = (one.winner, one.loser) if side is inside else (one.loser, one.winner)
    between = " divided by " if found.log else " minus "
    found.quantity = f"{metric_name(test.metric, test.at)} of {between.join(pair)}"
    if found.log:
        found.claimed = "below 1" if low else "above 1"
    found.contrast = {pair[0]: 1.0, pair[1]: -1.0}
    found.fill(one.sample, [(1.0, values[pair[0]]), (-1.0, values[pair[1]])])
    found.p_inside, found.p_outside = inside.p if inside else 1.0, outside.p if outside else 1.0
    if found.n > 1:
        found.remarks = side.said(kind) + found.remarks
    elif len(panel.seeds) > 1:
        found.block(f"{one.loser} has {found.n} of two seeds in which it did not diverge")


def _side(
    found: Evidence, winners: list[str], losers: list[str], tries: int, match: Callable[[str, str], _Match]
) -> _Side | None:
    """The winner that is nearest to beating all losers; None where each lost a seed, which leaves none to be best."""
    fields = [
        sorted((match(winner, loser) for loser in losers), key=lambda one: (-one.p, one.lead))
        for winner in winners
        if winner not in found.lost
    ]
    return _Side(min(fields, key=lambda field: (field[0].p, -field[0].lead)), tries) if fields else None


def _match(
    found: Evidence,
    values: Mapping[str, Mapping[int, float]],
    all_seeds: Sequence[int],
    pair: tuple[str, str],
    *,
    claimed: bool,
    low: bool,
) -> _Match:
    winner, loser = pair
    seeds = [seed for seed in all_seeds if seed not in found.lost.get(loser, ())]
    one, other = pair if claimed else (loser, winner)
    sample = _minus(values, one, other, seeds)
    mean = math.fsum(sample.values()) / max(len(sample), 1)
    lead = -mean if claimed == low else mean
    # What the metric does not resolve is no win, however alike the seeds are.
    if len(sample) < 2 or abs(mean) <= found.resolution:
        return _Match(winner, loser, sample, 1.0, lead)
    of = found.scale.of_sum(sample, [(1.0, values[one]), (-1.0, values[other])], logs=found.log)
    p = intervals.p_inside(of, found.region) if claimed else intervals.p_outside(of, found.region)
    return _Match(winner, loser, sample, p, lead)


def _minus(values: Mapping[str, Mapping[int, float]], one: str, other: str, seeds: Sequence[int]) -> dict[int, float]:
    return {seed: values[one][seed] - values[other][seed] for seed in seeds}


def _by_rule(reading: Reading) -> bool:
    """Whether a run ended with numbers, but has diverged by the rule of its curve."""
    return (last_value(reading.run, DIVERGED) or 0.0) > 0.5


def _by_rule_said(lost: dict[str, set[int]], beaten: Sequence[str]) -> list[str]:
    rule, said = "diverged by the rule of the curve in", []
    if everywhere := [name for name in lost if name in beaten]:
        said.append(f"{', '.join(everywhere)} {rule} every seed: beaten without a test")
    for name in (name for name in lost if name not in beaten):
        seeds = f"seed{'s' * (len(lost[name]) > 1)} {', '.join(map(str, sorted(lost[name])))}"
        said.append(f"{name} {rule} {seeds}: lost there, compared in its other seeds, and never the best")
    return said


def _no_axis(found: Evidence, over: str, x: list[Any], needed: int) -> Evidence:
    odd = next((value for value in x if not is_number(value)), None)
    found.blocked = (
        f"{over} is not a numeric axis: it has the value {text(odd)}"
        if odd is not None
        else f"{over} has {len(x)} value{'s' * (len(x) != 1)} in these runs; this claim needs at least {needed}"
    )
    return found
