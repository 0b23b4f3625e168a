"""From runs to one number per seed and arm: choosing, pairing and balancing. Judges nothing.

An *arm* is what a prediction names (``a``, ``b``, one value of an axis). A *point* is a combination of every other
varied key. Only values at the same point and seed are compared; then points are averaged within the seed, so that n
counts seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from labqueue.domain.declarations import DIVERGED, OF_EVERY_RUN, Quantity
from labqueue.domain.measured import averageable
from labqueue.domain.text import one_line
from labqueue.domain.views import RunView
from labqueue.report import declarations

MISSING = object()


class SeriesReader(Protocol):
    """Reads what a run left where its summary is not enough."""

    def series(self, run_id: int, metric: str) -> list[tuple[int, float | None]]:
        """All (step, value) of a metric, by step; None is "not measured". Empty when it was never recorded."""
        ...

    def table(self, run: RunView, artifact: str) -> tuple[Sequence[str], Sequence[Sequence[Any]]] | None:
        """Columns and rows of a table artifact of a run; None where it is not here, or is no table."""
        ...


@dataclass(frozen=True)
class Reading:
    """One run's number for a test, or why there is none."""

    run: RunView
    value: float | None
    problem: str = ""

    @property
    def diverged(self) -> bool:
        """Whether the number is missing because the run left the finite numbers."""
        return self.run.outcome == "diverged"

    @property
    def pending(self) -> bool:
        """Whether the run has yet to end."""
        return self.run.outcome is None

    @property
    def missing(self) -> bool:
        """Whether the run has ended and left no number."""
        return self.value is None and not self.pending


@dataclass
class Panel:
    """Balanced values: ``values[arm][seed]``, each the mean over ``points`` sweep points; every arm has every seed."""

    values: dict[str, dict[int, float]]
    points: int = 1
    pairs: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """Before the mean: the value at each point, in the same order in every arm."""
    problems: list[str] = field(default_factory=list)
    """In words: what was not used, and why."""
    absent: list[str] = field(default_factory=list)
    """Arms without a single value."""
    lost: list[str] = field(default_factory=list)
    """In words: runs that ended without a number where the same point and seed of another arm has one, or where there
    is no other arm. What is left is a biased sample."""
    lost_runs: set[int] = field(default_factory=set)
    """The ids of these runs."""
    pending: int = 0
    """Runs that have yet to end."""
    readings: dict[str, dict[int, list[Reading]]] = field(default_factory=dict)
    """Arm → seed → what its values were made of."""

    @property
    def seeds(self) -> list[int]:
        """Seeds that every arm has at every point used."""
        return list(next(iter(self.values.values()), {}))


def last_value(run: RunView, metric: str) -> float | None:
    """The last value of a succeeded run, of the lab's own where its kind recorded none; None where it is no number that
    can be averaged."""
    if run.outcome != "succeeded":
        return None
    known = run.metrics.get(metric)
    last = lab_value(run, metric) if known is None else known.last
    return last if averageable(last) else None


def effective(run: RunView, key: str) -> Any:
    """The value of a dotted key in a run: varied, or as it stands in the parameters; MISSING where it has none."""
    if key in run.varied:
        return run.varied[key]
    value: Any = run.params
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return MISSING
        value = value[part]
    return value


def same(one: Any, other: Any) -> bool:
    """Whether two parameter values are the same point: 1 is 1.0, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-12)
    return bool(one == other)


def text(value: Any, limit: int = 40) -> str:
    """A parameter value as people read it, shortened in the middle past ``limit`` characters."""
    if value is MISSING:
        return "—"
    if isinstance(value, bool) or value is None:
        shown = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, float):
        shown = f"{value:g}"
    elif isinstance(value, str):
        shown = value
    else:
        shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = one_line(" ".join(shown.split()))
    if len(shown) <= limit:
        return shown
    return f"{shown[: limit // 2]}…{shown[-(limit // 2 - 1) :]}"


def exact(value: Any) -> str:
    """A parameter value as a key: equal for values that are the same point, different for all others."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}"
    return "—" if value is MISSING else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def is_number(value: Any) -> bool:
    """Whether a parameter value has a place on a numeric axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def label(where: Mapping[str, Any]) -> str:
    """``net.depth=16, net.act=relu``; "all runs" for an empty choice."""
    return ", ".join(f"{key}={text(value)}" for key, value in where.items()) or "all runs"


def apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str, str]:
    """Two choices by what tells them apart, and what they have in common in words of its own, which may be empty:
    ``("depth=2", "depth=4", " (rate=0.01)")``."""
    common = {key for key, value in a.items() if key in b and same(value, b[key])}
    if len(common) in (len(a), len(b)):  # one of them would have no name left
        return label(a), label(b), ""
    one, other, both = (
        {key: value for key, value in where.items() if (key in common) is shared}
        for where, shared in ((a, False), (b, False), (a, True))
    )
    return label(one), label(other), f" ({label(both)})" if both else ""


def metric_name(metric: str, at: int | str) -> str:
    """``value``, ``value at step 40``, ``first value``."""
    return metric if at == "last" else f"{metric} at step {at}" if isinstance(at, int) else f"{at} {metric}"


def chosen(runs: Sequence[RunView], where: Mapping[str, Any]) -> list[RunView]:
    """The runs whose keys have the values of ``where``."""
    return [run for run in runs if all(same(effective(run, key), value) for key, value in where.items())]


def read(run: RunView, metric: str, at: int | str, series: SeriesReader) -> Reading:
    """The value of a metric at a step, or ``first``, ``last``, ``min``, ``max``; no series is read needlessly."""
    if metric == DIVERGED and run.outcome == "diverged":  # a number that was not finite: the answer, not a lost run
        return Reading(run, 1.0)
    problem = unusable(run)
    if problem:
        return Reading(run, None, problem)
    known = run.metrics.get(metric)
    if known is None or not known.points:
        own = lab_value(run, metric) if at == "last" else None
        return Reading(run, own, "" if own is not None else f"recorded no {metric}")
    if isinstance(at, str):
        value = {"first": known.first, "last": known.last, "min": known.min, "max": known.max}[at]
        where = f"its {at} {metric} is null"
    elif at == known.last_step:
        value, where = known.last, f"{metric} at step {at} is null"
    elif at > known.last_step:
        return Reading(run, None, f"{metric} ends at step {known.last_step}, before step {at}")
    else:
        points = dict(series.series(run.id, metric))
        if at not in points:
            near = min(points, key=lambda step: abs(step - at), default=None)
            return Reading(run, None, f"{metric} has no value at step {at}; the nearest is step {near}")
        value, where = points[at], f"{metric} at step {at} is null"
    if value is None or not math.isfinite(value):
        return Reading(run, None, where)
    if not averageable(value):
        return Reading(run, None, f"has a {metric} of {value:.4g}, too large to be averaged")
    return Reading(run, value)


def items_of(metric: Quantity, runs: Iterable[RunView]) -> int | None:
    """How many items a share is of in these runs, the fewest where they differ; None where its kind does not say."""
    key = None if metric.metric is None else metric.metric.items
    if key is None:
        return None
    counts = [
        run.metrics[key].last if key in run.metrics else _parameter(run, key, metric.member)
        for run in runs
        if run.outcome is not None
    ]
    whole = [int(count) for count in counts if isinstance(count, int | float) and is_number(count) and count >= 1]
    return min(whole) if whole and len(whole) == len(counts) else None


def _parameter(run: RunView, key: str, member: str) -> Any:
    """A parameter by its dotted key, in which ``*`` is the entry of a list that is called ``member``."""
    listed, star, rest = key.partition(".*.")
    if not star:
        return effective(run, key)
    entries = effective(run, listed)
    named = [entry for entry in entries if entry.get("name") == member] if isinstance(entries, list) else []
    return named[0].get(rest, MISSING) if named else MISSING


def lab_value(run: RunView, metric: str) -> float | None:
    """What the lab itself knows of a run under a metric's name (``OF_EVERY_RUN``); None where it knows nothing."""
    if metric not in OF_EVERY_RUN:
        return None
    found = len(run.attempts) if metric == "attempts" else getattr(run, metric)
    return float(found) if averageable(found) else None


def unusable(run: RunView) -> str:
    """Why a run has no result to judge; empty for a succeeded one."""
    if run.outcome == "succeeded":
        return ""
    return run.outcome.replace("_", " ") if run.outcome else f"is {run.state}"


def collect(arms: Mapping[str, Sequence[Reading]], named: set[str], axes: Sequence[str]) -> Panel:
    """Pairs the readings of the arms by seed and by every varied key that no arm names, and balances them.

    A seed is used when it has every arm at every point that any seed has complete; with fewer than two such seeds,
    the points that all seeds share are used instead. A key that moves together with the named ones (``sweep.zip``)
    cannot be held fixed: it is not matched, and the panel says so.

    Args:
        arms: label → readings of all runs of that arm, finished or not.
        named: the keys by which arms were chosen.
        axes: all varied keys of the experiment.
    """
    panel = Panel({name: {} for name in arms})
    involved = [reading.run for readings in arms.values() for reading in readings]
    others = [key for key in axes if key not in named]
    tied = [key for key in others if len(arms) > 1 and _tied(key, named, involved)]
    if tied:
        panel.problems.append(f"{', '.join(tied)} changes together with {', '.join(sorted(named))}")
    matched = [key for key in others if key not in tied]
    # Runs computed in several types of number are not pooled without a word.
    keys = declarations.computed_in(run.kind for run in involved)
    types = sorted({str(type_) for run in involved for key in keys if (type_ := effective(run, key)) is not MISSING})
    if len(types) > 1 and not keys & named:
        panel.problems.append(f"runs computed in {' and in '.join(types)} are pooled")
    table: dict[str, dict[tuple[int, str], list[Reading]]] = {}
    for name, readings in arms.items():
        cells = table.setdefault(name, {})
        for reading in readings:
            at = json.dumps([exact(effective(reading.run, key)) for key in matched])
            cells.setdefault((reading.run.seed, at), []).append(reading)
        if not any(reading.value is not None for reading in readings):
            panel.absent.append(name)
    cells_of_all = sorted({cell for cells in table.values() for cell in cells})
    good: dict[tuple[int, str], dict[str, float]] = {}
    behind: dict[tuple[int, str], dict[str, list[Reading]]] = {}
    for cell in cells_of_all:
        here = {name: cells.get(cell, []) for name, cells in table.items()}
        panel.pending += sum(reading.pending for found in here.values() for reading in found)
        broken = {
            name: [r for r in found if r.missing] for name, found in here.items() if any(r.missing for r in found)
        }
        if broken and (len(here) == 1 or len(broken) < len(here)):
            panel.lost += [
                f"run {r.run.id} ({name}, seed {cell[0]}) {r.problem}" for name, found in broken.items() for r in found
            ]
            panel.lost_runs |= {reading.run.id for found in broken.values() for reading in found}
        for name, found in here.items():
            if not found and len(here) > 1 and arms[name]:
                panel.problems.append(f"seed {cell[0]} has no run of {name}{_point(matched, cell[1])}")
            panel.problems += [
                f"run {reading.run.id} ({name}, seed {cell[0]}) {reading.problem}"
                for reading in found
                if reading.missing
            ]
        values = {name: [r.value for r in found if r.value is not None] for name, found in here.items()}
        whole = all(len(values[name]) == len(found) and found for name, found in here.items())
        if whole:
            good[cell] = {name: math.fsum(found) / len(found) for name, found in values.items()}
            behind[cell] = here
    points = _balance(panel, good)
    for name in panel.values:
        panel.readings[name] = {
            seed: [reading for at in points for reading in behind[seed, at][name]] for seed in panel.values[name]
        }
    return panel


def _balance(panel: Panel, good: Mapping[tuple[int, str], Mapping[str, float]]) -> list[str]:
    """Sets the values of the seeds that are used; returns the sweep points."""
    by_seed: dict[int, set[str]] = {}
    for seed, at in good:
        by_seed.setdefault(seed, set()).add(at)
    points = set().union(*by_seed.values()) if by_seed else set()
    used = [seed for seed, have in by_seed.items() if have == points]
    if len(used) < 2:
        shared = set.intersection(*by_seed.values()) if by_seed else set()
        if shared:
            points, used = shared, list(by_seed)
    partial = sorted(set(by_seed) - set(used))
    if partial:
        listed = ", ".join(map(str, partial))
        panel.problems.append(f"seeds {listed} lack some of the {len(points)} sweep points and are not counted")
    panel.points = len(points)
    order = sorted(points)
    for name in panel.values:
        panel.pairs[name] = {seed: [good[seed, at][name] for at in order] for seed in sorted(used)}
        panel.values[name] = {seed: math.fsum(found) / len(order) for seed, found in panel.pairs[name].items()}
    return order


def _tied(key: str, named: set[str], runs: Sequence[RunView]) -> bool:
    seen: dict[str, set[str]] = {}
    for run in runs:
        chosen_by = json.dumps([exact(effective(run, name)) for name in sorted(named)])
        seen.setdefault(chosen_by, set()).add(exact(effective(run, key)))
    every = set().union(*seen.values()) if seen else set()
    return len(every) > 1 and all(len(values) == 1 for values in seen.values())


def _point(keys: Sequence[str], at: str) -> str:
    parts = zip(keys, json.loads(at), strict=True)
    listed = ", ".join(f"{key}={text(value)}" for key, value in parts)
    return f" at {listed}" if listed else ""
