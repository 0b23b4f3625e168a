"""Figures of a metric over one key of a sweep, and over its points where no key orders them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labqueue.domain.declarations import Quantity
from labqueue.report.figures import marks_and_axes, style
from labqueue.report.figures.style import Plot, slug
from labqueue.report.figures.sweep_points import (
    Cell,
    Point,
    cell,
    grouped,
    levels,
    lost_words,
    names,
    pairing_said,
    seeds_said,
    wrapped,
)
from labqueue.report.statistics import intervals
from labqueue.report.statistics.pairing import exact, is_number, text

NAMED = 24
"""Sweep points that one figure can name."""


@dataclass(frozen=True)
class Line:
    """One group of sweep points along an axis, a cell per level."""

    name: str
    cells: list[Cell]


def over_key(metric: Quantity, key: str, others: Sequence[str], points: Sequence[Point]) -> Plot | None:
    """The last value of a metric over a key, a line per combination of ``others`` (averaged over the rest and, where
    they are more than the colours, over all); None without a value."""
    values = levels(key, points)
    lines = _lines(metric, key, values, others, points)
    pooled = len(lines) > len(style.COLOURS)
    if pooled:
        lines = _lines(metric, key, values, [], points)
    cells = [each for line in lines for each in line.cells]
    found = marks_and_axes.reach(cells, edge=any(each.lost for each in cells), bounds=metric.bounds)
    if found is None:
        return None
    from matplotlib.figure import Figure

    numeric = all(is_number(level) for level in values)
    log = numeric and intervals.log_axis(values)
    places = [float(level) for level in values] if numeric else [float(i) for i in range(len(values))]
    figure = Figure(figsize=(6.6, 3.9), layout="constrained")
    axes = figure.add_subplot()
    marks_and_axes.scale(axes, "y", found)
    for number, line in enumerate(lines):
        _draw(axes, line, places, number, len(lines), log=log, joined=numeric)
    style.place(axes, values, places, log=log, labels=[style.short(level) for level in values])
    axes.set_xlabel(f"{key}{' (log scale)' if log else ''}")
    axes.set_ylabel(metric.label(log=found[2]))
    style.note(axes, _count(cells))
    if len(lines) > 1 and any(line.name for line in lines):
        figure.legend(loc="outside right upper", title=text(", ".join(others), 34), alignment="left")
    averaged = f", averaged over {', '.join(others)} within each seed" if pooled else ""
    caption = (
        f"Last {metric.name} over {key}: one pale mark per seed{averaged}; {'joined' if numeric else 'large'} marks "
        f"are means over seeds, bars their 95 % intervals (none with one seed).{pairing_said(cells)}{lost_words(cells)}"
        f"{marks_and_axes.clipped(cells, found)}"
    )
    svg, png = style.save(figure)
    name = f"{slug(metric.name)}_over_{slug(key)}"
    return Plot(name, f"{metric.name} over {key}", caption, svg, png, "axes", metrics=(metric.name,))


def over_points(metric: Quantity, keys: Sequence[str], points: Sequence[Point]) -> Plot | None:
    """The last value of a metric at each of a few sweep points, by name; None without a value."""
    cells = [cell(point.runs, metric) for point in points]
    found = marks_and_axes.reach(cells, edge=any(each.lost for each in cells), bounds=metric.bounds)
    if found is None:
        return None
    from matplotlib.figure import Figure

    labels = names([{key: point.varied[key] for key in keys if key in point.varied} for point in points])
    figure = Figure(figsize=(6.6, 1.1 + 0.42 * len(points)), layout="constrained")
    axes = figure.add_subplot()
    marks_and_axes.scale(axes, "x", found)
    for place, each in enumerate(cells):
        _across(axes, float(place), each)
    axes.set_yticks(range(len(points)), [wrapped(label) for label in labels])
    axes.set_ylim(len(points) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(metric.label(log=found[2]))
    style.note(axes, _count(cells))
    caption = (
        f"Last {metric.name} at each sweep point: one pale mark per seed, the mean and its 95 % interval (none with "
        f"one seed).{pairing_said(cells)}{lost_words(cells)}{marks_and_axes.clipped(cells, found)}"
    )
    svg, png = style.save(figure)
    return Plot(
        f"{slug(metric.name)}_points",
        f"{metric.name} by sweep point",
        caption,
        svg,
        png,
        "axes",
        metrics=(metric.name,),
    )


def scattered(metric: Quantity, keys: Sequence[str], points: Sequence[Point]) -> Plot | None:
    """The last value of a metric at many sweep points over each of up to four keys; None without a value."""
    cells = [cell(point.runs, metric) for point in points]
    found = marks_and_axes.reach(
        [Cell({0: each.mean}) for each in cells if each.values],
        edge=any(each.lost for each in cells),
        bounds=metric.bounds,
    )
    if found is None:
        return None
    from matplotlib.figure import Figure

    shown = list(keys)[:4]
    figure = Figure(figsize=(min(9.6, 1.2 + 2.7 * len(shown)), 3.2), layout="constrained")
    for number, axes in enumerate(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]):
        key = shown[number]
        here = [(point, each) for point, each in zip(points, cells, strict=True) if key in point.varied]
        values = levels(key, [point for point, _ in here])
        numeric = all(is_number(level) for level in values)
        at = {exact(level): float(level) if numeric else float(i) for i, level in enumerate(values)}
        filled = [(at[exact(p.at(key))], each.mean, bool(each.diverged)) for p, each in here if each.values]
        marks_and_axes.dots(axes, filled, "o", colour=style.COLOURS[0], alpha=0.6, size=4)
        lost = [(at[exact(p.at(key))], each) for p, each in here if each.lost]
        marks_and_axes.at_edge(axes, lost, colour=style.COLOURS[1])
        if numeric and intervals.log_axis(values):
            axes.set_xscale("log")
            style.plain_ticks(axes.xaxis)
            axes.tick_params(axis="x", rotation=30)
        elif not numeric and len(values) <= 8:
            axes.set_xticks(range(len(values)), [style.short(level, 12) for level in values], rotation=30)
            axes.set_xlim(-0.6, len(values) - 0.4)
        axes.set_xlabel(key)
        marks_and_axes.scale(axes, "y", found)
        if not number:
            axes.set_ylabel(metric.label(log=found[2]))
    caption = (
        f"Last {metric.name} of every sweep point, the mean over its seeds, over each key. {seeds_said(cells)}."
        f"{lost_words(cells)}"
    )
    svg, png = style.save(figure)
    return Plot(
        f"{slug(metric.name)}_scattered",
        f"{metric.name} over each key",
        caption,
        svg,
        png,
        "axes",
        metrics=(metric.name,),
    )


def _count(cells: Sequence[Cell]) -> str:
    """What stands in the figure itself: it may be shown without its caption."""
    bars = ["bars: 95 %, not paired"] if any(each.ends is not None for each in cells) else []
    return "\n".join([seeds_said(cells), *bars])


def _lines(metric: Quantity, key: str, values: list[Any], others: Sequence[str], points: Sequence[Point]) -> list[Line]:
    groups = list(grouped(others, points).values())
    labels = names([{o: group[0].varied[o] for o in others if o in group[0].varied} for group in groups])
    index = {exact(level): place for place, level in enumerate(values)}
    lines = []
    for label, group in zip(labels, groups, strict=True):
        runs: list[list[Any]] = [[] for _ in values]
        for point in group:
            if key in point.varied:
                runs[index[exact(point.at(key))]] += point.runs
        lines.append(Line(label, [cell(members, metric) for members in runs]))
    return lines


def _draw(axes: Any, line: Line, places: Sequence[float], number: int, total: int, *, log: bool, joined: bool) -> None:
    width = (math.log10(max(places) / min(places)) if log else max(places) - min(places)) or 1.0
    gap = 0.013 * width if joined else min(0.1, 0.6 / total)
    shift = (number - (total - 1) / 2) * gap
    here = [place * 10**shift if log else place + shift for place in places]
    beside = [x / 10 ** (0.008 * width) if log else x - 0.008 * width for x in here]
    marks_and_axes.line(
        axes,
        here,
        line.cells,
        colour=style.COLOURS[number],
        marker=style.MARKERS[number],
        dash="-" if joined else "",
        beside=beside,
        name=line.name or None,
    )


def _across(axes: Any, place: float, cell: Cell) -> None:
    """One sweep point on its own row, values to the right."""
    colour = style.COLOURS[0]
    seeds = [(found, place + 0.2, seed in cell.diverged) for seed, found in cell.values.items()]
    marks_and_axes.dots(axes, seeds, "o", colour=colour, alpha=0.45, size=3.8)
    if cell.values:
        face = "white" if cell.diverged else colour
        axes.errorbar(
            [cell.mean],
            [place],
            xerr=[[cell.below], [cell.above]],
            fmt="D",
            color=colour,
            mfc=face,
            ms=5.5,
            elinewidth=1.3,
            capsize=3,
        )
    elif not cell.lost:
        words = "no value" if cell.silent else "not finished"
        axes.text(0.02, place, words, transform=axes.get_yaxis_transform(), va="center", color="#666666", fontsize=8.5)
    marks_and_axes.at_edge(axes, [(place, cell)], colour=style.COLOURS[1], across=True)
