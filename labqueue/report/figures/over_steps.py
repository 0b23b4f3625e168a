"""A metric over steps: mean and range over seeds for every sweep point, legible from one run to a thousand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labqueue.domain.declarations import Quantity
from labqueue.domain.measured import averageable
from labqueue.domain.views import RunView
from labqueue.report.figures import style
from labqueue.report.figures.style import Plot
from labqueue.report.figures.sweep_points import full_grid, names, varied, wrapped
from labqueue.report.statistics import intervals
from labqueue.report.statistics.pairing import MISSING, SeriesReader, exact, is_number, text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 400
"""Buckets of a drawn line; each keeps its lowest and highest value, so that a spike survives."""

PANELS, COLOURS, PICKED, GREYS = 9, 8, 6, 200

BY_POINT = "sweep point"


@dataclass(frozen=True)
class Arm:
    """The runs of one sweep point: a line per seed, and their mean where all seeds have a value."""

    point: dict[str, Any]
    lines: list[tuple[list[int], list[float]]]

    def at(self, key: str) -> Any:
        """The value of a key here, MISSING where the point does not name it."""
        return self.point.get(key, MISSING)

    @property
    def last(self) -> float:
        """Mean of the seeds' last values."""
        return math.fsum(values[-1] for _, values in self.lines) / len(self.lines)


def curves(metric: Quantity, runs: Sequence[RunView], axes: Sequence[str], series: SeriesReader) -> list[Plot]:
    """One figure of the metric over steps; none when no run has two points of it."""
    arms = _arms(metric.name, runs, axes, series)
    if not arms:
        return []
    keys = varied(axes, arms)
    if len(keys) > 1 and len(arms) <= PICKED and not full_grid(keys, arms):
        # Keys that move together: a colour per sweep point says more than a panel per value.
        arms = [Arm({BY_POINT: name}, arm.lines) for name, arm in zip(_names(arms, keys), arms, strict=True)]
        return [_panels(metric, arms, BY_POINT, [])]
    colour, facets = _plan(arms, keys)
    if colour is None and len(arms) > COLOURS:
        return [_picked(metric, arms, keys)]
    return [_panels(metric, arms, colour, facets)]


def _names(arms: Sequence[Arm], keys: Sequence[str]) -> list[str]:
    return names([{key: arm.at(key) for key in keys if arm.at(key) is not MISSING} for arm in arms])


def _arms(metric: str, runs: Sequence[RunView], axes: Sequence[str], series: SeriesReader) -> list[Arm]:
    found: dict[str, Arm] = {}
    for run in runs:
        known = run.metrics.get(metric)
        if known is None or known.points < 2:
            continue
        points = [(step, value) for step, value in series.series(run.id, metric) if value is not None]
        points = [(step, value) for step, value in points if averageable(value)]
        if not points:
            continue
        point = {key: run.varied.get(key, MISSING) for key in axes}
        arm = found.setdefault(exact({key: exact(value) for key, value in point.items()}), Arm(point, []))
        arm.lines.append(([step for step, _ in points], [value for _, value in points]))
    return list(found.values())


def _plan(arms: Sequence[Arm], keys: Sequence[str]) -> tuple[str | None, list[str]]:
    """The key told by colour and the keys told by panel; (None, []) where that cannot be made legible."""
    counts = {key: len({exact(arm.point[key]) for arm in arms}) for key in keys}
    for key in sorted(keys, key=lambda key: (not _numeric(key, arms), -counts[key])):
        rest = [other for other in keys if other != key]
        panels = len({exact([exact(arm.point[other]) for other in rest]) for arm in arms})
        if counts[key] <= COLOURS and panels <= PANELS:
            return key, rest
    return None, []


def _numeric(key: str, arms: Sequence[Arm]) -> bool:
    return all(is_number(arm.at(key)) for arm in arms)


def _panels(metric: Quantity, arms: Sequence[Arm], colour: str | None, facets: Sequence[str]) -> Plot:
    from matplotlib.figure import Figure

    found: dict[str, list[Arm]] = {}
    for arm in arms:
        found.setdefault(exact([exact(arm.point[key]) for key in facets]), []).append(arm)
    titles = _names([members[0] for members in found.values()], facets)
    groups = dict(zip(titles, found.values(), strict=True))
    columns = min(3, len(groups)) if len(groups) != 4 else 2
    rows = math.ceil(len(groups) / columns)
    size = (8.0 if colour == BY_POINT else 6.6, 3.9) if len(groups) == 1 else (1.4 + 2.6 * columns, 0.7 + 2.2 * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    paint = _paint(colour, arms)
    for number, (title, members) in enumerate(groups.items()):
        axes = grid[number // columns][number % columns]
        if title:
            axes.set_title(title.replace(" · ", "\n") if len(title) > 26 else title, fontsize=9)
        for arm in members:
            _draw(axes, arm, *paint[exact(arm.point[colour])] if colour else (style.COLOURS[0], "-"))
        _scale(axes, arms)
    for number in range(len(groups), rows * columns):
        grid[number // columns][number % columns].set_visible(False)
    figure.supxlabel("step", fontsize=10)
    figure.supylabel(metric.label(log=_log(arms)), fontsize=10)
    if colour:
        handles = [
            _handle(wrapped(value) if colour == BY_POINT else style.short(value, 20), *paint[exact(value)])
            for value in _ordered(colour, arms)
        ]
        figure.legend(handles=handles, loc="outside right upper", title=text(colour, 24), alignment="left")
    return _finish(metric, figure, arms, "")


def _picked(metric: Quantity, arms: Sequence[Arm], keys: Sequence[str]) -> Plot:
    """Too many sweep points to name: a few, evenly spaced by their last value, before the rest in grey."""
    from matplotlib.figure import Figure

    ranked = sorted(arms, key=lambda arm: arm.last)
    chosen = [ranked[round(i * (len(ranked) - 1) / (PICKED - 1))] for i in range(PICKED)]
    figure = Figure(figsize=(7.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for arm in ranked[:: math.ceil(len(ranked) / GREYS)]:
        axes.plot(*thin(*arm.lines[0], buckets=60), color=style.GREY, lw=0.6, alpha=0.35)
    handles = []
    for number, arm in enumerate(chosen):
        _draw(axes, arm, style.shades(PICKED)[number], "-")
        name = "\n".join(f"{key.rpartition('.')[2]}={style.short(arm.point[key], 16)}" for key in keys[:3])
        handles.append(_handle(name, style.shades(PICKED)[number], "-"))
    _scale(axes, arms)
    axes.set_xlabel("step")
    axes.set_ylabel(metric.label(log=_log(arms)))
    figure.legend(handles=handles[::-1], loc="outside right upper", fontsize=8, labelspacing=0.9, alignment="left")
    note = (
        f" {PICKED} of {len(arms)} sweep points in colour, evenly spaced by their last value; "
        "the rest in grey, one seed each."
    )
    return _finish(metric, figure, arms, note)


def _finish(metric: Quantity, figure: Any, arms: Sequence[Arm], note: str) -> Plot:
    seeds = {len(arm.lines) for arm in arms}
    bands = "line: mean over seeds, band: lowest to highest seed" if max(seeds) > 1 else "one seed, so no band"
    count = f"{min(seeds)}–{max(seeds)}" if len(seeds) > 1 else str(max(seeds))
    caption = f"{metric.name} over steps; {bands} (seeds per sweep point: {count}).{note}"
    svg, png = style.save(figure)
    name = f"{style.slug(metric.name)}_curves"
    return Plot(name, f"{metric.name} over steps", caption, svg, png, "curves", metrics=(metric.name,))


def _paint(colour: str | None, arms: Sequence[Arm]) -> dict[str, tuple[Any, str]]:
    if colour is None:
        return {}
    values = _ordered(colour, arms)
    tones = style.shades(len(values)) if _numeric(colour, arms) and len(values) > 2 else style.COLOURS
    dashes = ("-", "--", "-.", ":")
    return {exact(value): (tones[i], dashes[i % 4]) for i, value in enumerate(values)}


def _ordered(key: str, arms: Sequence[Arm]) -> list[Any]:
    values = {exact(arm.point[key]): arm.point[key] for arm in arms}
    if _numeric(key, arms):
        return sorted(values.values())
    return list(values.values())


def _draw(axes: Axes, arm: Arm, colour: Any, dash: str) -> None:
    steps, mean, low, high = _band(arm)
    if not steps:  # seeds were measured at different steps: no mean can be had
        for line in arm.lines:
            axes.plot(*thin(*line), color=colour, ls=dash, lw=1)
        return
    if len(arm.lines) > 1:
        every = max(1, len(steps) // POINTS)
        axes.fill_between(steps[::every], low[::every], high[::every], color=colour, alpha=0.18, lw=0)
    marker = "o" if len(steps) <= 12 else None
    axes.plot(*thin(steps, mean), color=colour, ls=dash, marker=marker, ms=3.2)
    for line in arm.lines:  # beyond the shortest seed, each alone
        if line[0][-1] > steps[-1]:
            start = sum(step <= steps[-1] for step in line[0]) - 1
            axes.plot(*thin(line[0][start:], line[1][start:]), color=colour, lw=0.8, alpha=0.6)


def _band(arm: Arm) -> tuple[list[int], list[float], list[float], list[float]]:
    """Mean, lowest and highest over seeds at the steps that every seed has."""
    tables = [dict(zip(*line, strict=True)) for line in arm.lines]
    steps = [step for step in tables[0] if all(step in table for table in tables)]
    values = [[table[step] for table in tables] for step in steps]
    mean = [math.fsum(row) / len(row) for row in values]
    return steps, mean, [min(row) for row in values], [max(row) for row in values]


def thin(steps: Sequence[int], values: Sequence[float], buckets: int = POINTS) -> tuple[list[int], list[float]]:
    """At most 2 · buckets + 2 points of a series: the lowest and highest of every bucket, in order of step."""
    if len(steps) <= 2 * buckets:
        return list(steps), list(values)
    keep: set[int] = {0, len(steps) - 1}
    size = len(steps) / buckets
    for bucket in range(buckets):
        inside = range(int(bucket * size), int((bucket + 1) * size))
        keep |= {min(inside, key=values.__getitem__), max(inside, key=values.__getitem__)}
    order = sorted(keep)
    return [steps[i] for i in order], [values[i] for i in order]


def _log(arms: Sequence[Arm]) -> bool:
    every = [value for arm in arms for _, values in arm.lines for value in values]
    # A metric that falls through two decades shows nothing on a linear scale. Assumption.
    return intervals.log_axis(every) and max(every) >= 100 * min(every)


def _scale(axes: Axes, arms: Sequence[Arm]) -> None:
    if _log(arms):
        axes.set_yscale("log")
        style.plain_ticks(axes.yaxis)
    axes.locator_params(axis="x", nbins=6, integer=True)


def _handle(name: str, colour: Any, dash: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, ls=dash, label=name)
