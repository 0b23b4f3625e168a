"""Sweep points: their runs, their names, and whether they make a full grid. Draws nothing."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from labqueue.domain.declarations import DIVERGED, Quantity
from labqueue.domain.views import RunView
from labqueue.report.figures import style
from labqueue.report.statistics.pairing import MISSING, exact, is_number, last_value
from labqueue.report.statistics.scales import interval_of_mean

LOST = ("diverged", "out_of_memory", "failed", "crashed", "timed_out")
"""Endings without a result that a figure must not be silent about."""


class Placed(Protocol):
    """Something that stands at a sweep point."""

    def at(self, key: str) -> Any:
        """Its value of a key, MISSING where it has none."""
        ...


@dataclass(frozen=True)
class Cell:
    """What one mark stands for: a value per seed, which of them diverged by rule, and what left no value at all."""

    values: dict[int, float]
    diverged: frozenset[int] = frozenset()
    """Seeds whose run ended with numbers, but with the metric ``diverged`` at 1."""
    lost: tuple[str, ...] = ()
    """Outcomes of the runs without a value."""
    silent: int = 0
    """Succeeded runs that have no value of this metric."""
    ends: tuple[float, float] | None = None
    """The 95 % interval of the mean; None where there is none, as with one seed."""

    @property
    def mean(self) -> float:
        """The mean over seeds; there must be one."""
        return math.fsum(self.values.values()) / len(self.values)

    @property
    def low(self) -> float:
        """The lower end of the interval; the mean where there is none."""
        return self.mean if self.ends is None else self.ends[0]

    @property
    def high(self) -> float:
        """The upper end of the interval; the mean where there is none."""
        return self.mean if self.ends is None else self.ends[1]

    @property
    def below(self) -> float:
        """How far the interval reaches below the mean."""
        return max(0.0, self.mean - self.low)

    @property
    def above(self) -> float:
        """How far the interval reaches above the mean."""
        return max(0.0, self.high - self.mean)


@dataclass(frozen=True)
class Point:
    """One sweep point with the runs of its seeds."""

    varied: Mapping[str, Any]
    runs: list[RunView]

    def at(self, key: str) -> Any:
        """The value of a key here, MISSING where the point does not name it."""
        return self.varied.get(key, MISSING)


def points_of(runs: Sequence[RunView]) -> list[Point]:
    """The sweep points of runs, in the order in which they were queued."""
    found: dict[str, Point] = {}
    for run in runs:
        found.setdefault(exact(run.varied), Point(run.varied, [])).runs.append(run)
    return list(found.values())


def cell(runs: Sequence[RunView], metric: Quantity, seeds: Collection[int] | None = None) -> Cell:
    """The last values of a metric, the mean within each seed; of these ``seeds`` alone, where they are given."""
    values: dict[int, list[float]] = {}
    for run in runs:
        last = last_value(run, metric.name)
        if last is not None and (seeds is None or run.seed in seeds):
            values.setdefault(run.seed, []).append(last)
    means = {seed: math.fsum(found) / len(found) for seed, found in values.items()}
    return Cell(
        means,
        frozenset(run.seed for run in runs if run.outcome == "succeeded" and (last_value(run, DIVERGED) or 0) > 0.5),
        tuple(run.outcome for run in runs if run.outcome in LOST),
        sum(run.outcome == "succeeded" and last_value(run, metric.name) is None for run in runs),
        interval_of_mean(metric, means, runs),
    )


def levels(key: str, points: Sequence[Point]) -> list[Any]:
    """The different values of a key, numbers in order, others as they come."""
    found = {exact(point.at(key)): point.at(key) for point in points if point.at(key) is not MISSING}
    numeric = all(is_number(level) for level in found.values())
    return sorted(found.values()) if numeric else list(found.values())


def varied(axes: Sequence[str], points: Sequence[Placed]) -> list[str]:
    """The keys in which the points differ, in the order of the axes."""
    return [key for key in axes if len({exact(point.at(key)) for point in points}) > 1]


def full_grid(keys: Sequence[str], points: Sequence[Placed]) -> bool:
    """Whether the points are every combination of the keys' values."""
    return len(points) == math.prod(len({exact(point.at(key)) for point in points}) for key in keys)


def numeric(key: str, points: Sequence[Point], least: int = 3) -> bool:
    """Whether every point gives a key as a number, with at least so many levels."""
    found = levels(key, points)
    return len(found) >= least and all(is_number(point.at(key)) for point in points)


def along(keys: Sequence[str], points: Sequence[Point]) -> tuple[str, list[str]] | None:
    """The numeric key that joins the points into the fewest lines, and the keys that tell the lines apart.

    A key that rises or falls with it all along (``sweep.zip``) tells nothing apart. None where lines would hold fewer
    than two points on average, or there would be more of them than colours.
    """
    best: tuple[int, str, list[str]] | None = None
    for key in keys:
        if not numeric(key, points):
            continue
        others = [other for other in keys if other != key and not _moves_with(other, key, points)]
        lines = len(grouped(others, points))
        if lines <= len(style.COLOURS) and 2 * lines <= len(points) and (best is None or lines < best[0]):
            best = lines, key, others
    return (best[1], best[2]) if best else None


def _moves_with(other: str, key: str, points: Sequence[Point]) -> bool:
    if not all(is_number(point.at(other)) for point in points):
        return False
    pairs = sorted({(point.at(key), point.at(other)) for point in points})
    follows = [second for _, second in pairs]
    alone = len({first for first, _ in pairs}) == len(pairs) == len(set(follows))
    return alone and follows in (sorted(follows), sorted(follows, reverse=True))


def grouped(keys: Sequence[str], points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by their values of some keys."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(exact([exact(point.at(key)) for key in keys]), []).append(point)
    return groups


def names(groups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Short names of points or groups: ``lora · rank 16 · warmup steps 10``; text stands without its key if it is
    clear. What is the same in all of them is left out; the names differ wherever the values do."""
    keys = list(dict.fromkeys(key for group in groups for key in group))
    keys = [key for key in keys if len({exact(group.get(key, MISSING)) for group in groups}) > 1]
    short = {key: key.rpartition(".")[2] for key in keys}
    twice = {name for name, count in Counter(short.values()).items() if count > 1}
    words = {key: (key if short[key] in twice else short[key]).replace("_", " ") for key in keys}
    texts = Counter(text for key in keys for text in {group[key] for group in groups if _plain(group.get(key))})
    made = []
    for group in groups:
        parts = []
        for key in keys:
            if key in group:
                bare = _plain(group[key]) and texts[group[key]] == 1
                shown = style.short(group[key])
                parts.append(shown if bare else f"{words[key]} {shown}")
        made.append(" · ".join(parts) or ("as in params" if keys else ""))
    repeated = Counter(made)
    seen: Counter[str] = Counter()
    for at, name in enumerate(made):
        if repeated[name] > 1:
            seen[name] += 1
            made[at] = f"{name} ({seen[name]})"
    return made


def wrapped(name: str) -> str:
    """Such a name on up to two lines, broken between its parts."""
    parts = " · ".join(part.replace(" ", "\u00a0") for part in name.split(" · "))
    return "\n".join(textwrap.wrap(parts, 36, max_lines=2, placeholder="…"))


def _plain(found: object) -> bool:
    return isinstance(found, str) and found not in ("none", "auto", "default")


def seeds_said(cells: Sequence[Cell]) -> str:
    """How many seeds the marks are of, and whether the same ones: ``n = 5 seeds, the same at every point``."""
    filled = [each for each in cells if each.values]
    counts = sorted({len(each.values) for each in filled}) or [0]
    n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    words = f"n = {n} seed{'s' * (n != '1')}"
    if len(filled) < 2:
        return words
    alike = all(each.values.keys() == filled[0].values.keys() for each in filled)
    return f"{words}, {'the same at every point' if alike else 'not the same everywhere'}"


def pairing_said(cells: Sequence[Cell]) -> str:
    """``seeds_said`` with what bars at several points do not show, as a sentence with a space before it."""
    if sum(bool(each.values) for each in cells) < 2 or all(each.ends is None for each in cells):
        return f" {seeds_said(cells)}."
    return (
        f" {seeds_said(cells)}; each bar is of one mean by itself. Verdicts pair the points by seed, so that a "
        "difference can be clearer there than the bars look."
    )


def lost_words(cells: Sequence[Cell]) -> str:
    """What the marks at the edge are, as a sentence with a space before it; empty where there are none."""
    counts = Counter(outcome.replace("_", " ") for each in cells for outcome in each.lost)
    listed = ", ".join(f"{count} {name}" for name, count in counts.items())
    edge = f" At the edge, no value: {listed} (triangle: diverged)." if counts else ""
    ruled = any(each.diverged and each.values for each in cells)
    hollow = " Hollow: diverged by the rule of the curve, though finite." if ruled else ""
    silent = sum(each.silent for each in cells)
    return edge + hollow + (f" {silent} succeeded runs have no value of it." if silent else "")
