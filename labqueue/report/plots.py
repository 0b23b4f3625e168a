"""Figures of an experiment: curves with seed bands, metrics over axes, heatmaps. Judges nothing, reads no database."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labqueue.domain.views import ExperimentView, RunView
from labqueue.report import stats, style
from labqueue.report.arms import MISSING, SeriesReader, effective, exact, is_number, text
from labqueue.report.curves import curves
from labqueue.report.sections import metric_names
from labqueue.report.style import Plot
from labqueue.report.verdicts import Judgement, counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS_SHOWN = 6
"""Metrics with figures of their own; those of predictions first. The others stand in the tables."""


def figures(experiment: ExperimentView, judged: Sequence[Judgement], series: SeriesReader) -> list[Plot]:
    """All figures of a report, in its order: one per verdict that has data, curves, axes, heatmaps."""
    from labqueue.report.verdict_plots import verdict_plot

    runs, _ = counted(experiment)
    done = [run for run in runs if run.outcome == "succeeded"]
    with style.look():
        found = [verdict_plot(judgement) for judgement in judged]
        plots = [plot for plot in found if plot is not None]
        for metric in metric_names(experiment)[:METRICS_SHOWN]:
            plots += curves(metric, runs, experiment.axes, series)
            plots += over_axes(metric, done, experiment.axes)
    return plots


@dataclass(frozen=True)
class Line:
    """One group of runs along an axis: ``values[position]`` are the per-seed means at one axis value."""

    name: str
    values: list[list[float]]


def over_axes(metric: str, runs: Sequence[RunView], axes: Sequence[str]) -> list[Plot]:
    """The last value of a metric over each varied key, and over the first pairs of keys as heatmaps."""
    usable = [run for run in runs if (last := run.metrics.get(metric)) is not None and last.last is not None]
    varied = {key: _values(key, usable) for key in axes}
    varied = {key: values for key, values in varied.items() if len(values) > 1}
    plots = [_over_axis(metric, key, usable, varied) for key in list(varied)[:4]]
    grids = [key for key, values in varied.items() if len(values) <= 40]
    pairs = [(a, b) for i, a in enumerate(grids) for b in grids[i + 1 :]]
    return plots + [_heatmap(metric, a, b, usable, varied) for a, b in pairs[:3]]


def _over_axis(metric: str, key: str, runs: Sequence[RunView], varied: Mapping[str, list[Any]]) -> Plot:
    from matplotlib.figure import Figure

    values = varied[key]
    numeric = all(is_number(value) for value in values)
    log = numeric and stats.log_axis(values)
    positions = [float(value) for value in values] if numeric else [float(i) for i in range(len(values))]
    others = [other for other in varied if other != key]
    lines = _lines(metric, key, values, runs, others)
    pooled = len(lines) > len(style.COLOURS)
    if pooled:
        lines = _lines(metric, key, values, runs, [])
    figure = Figure(figsize=(6.6, 3.9), layout="constrained")
    axes = figure.add_subplot()
    for i, line in enumerate(lines):
        _draw_line(axes, line, positions, i, len(lines), log=log, joined=numeric)
    style.place(axes, values, positions, log=log, labels=[style.short(value) for value in values])
    axes.set_xlabel(f"{key}{' (log scale)' if log else ''}")
    axes.set_ylabel(style.with_unit(metric))
    if len(lines) > 1 or lines[0].name:
        figure.legend(loc="outside right upper", title=text(", ".join(others), 34), alignment="left")
    averaged = f", averaged over {', '.join(others)} within each seed" if pooled else ""
    caption = (
        f"Last {metric} over {key}: one pale mark per seed{averaged}; joined marks are means over seeds, bars their "
        "95 % t intervals (none with one seed)."
    )
    svg, png = style.save(figure)
    return Plot(f"{slug(metric)}_over_{slug(key)}", f"{metric} over {key}", caption, svg, png, "axes")


def _draw_line(
    axes: Axes, line: Line, positions: list[float], number: int, total: int, *, log: bool, joined: bool
) -> None:
    colour, marker = style.COLOURS[number], style.MARKERS[number]
    width = (math.log10(max(positions) / min(positions)) if log else max(positions) - min(positions)) or 1.0
    gap = 0.013 * width if joined else min(0.1, 0.6 / total)
    shift = (number - (total - 1) / 2) * gap
    here = [place * 10**shift if log else place + shift for place in positions]
    # Seeds stand just left of their mean, or the bar hides them.
    beside = [x / 10 ** (0.008 * width) if log else x - 0.008 * width for x in here]
    xs = [x for x, values in zip(beside, line.values, strict=True) for _ in values]
    axes.plot(xs, [y for values in line.values for y in values], marker, color=colour, alpha=0.45, ms=3.6, mec="none")
    filled = [(x, values) for x, values in zip(here, line.values, strict=True) if values]
    means = [math.fsum(values) / len(values) for _, values in filled]
    halves = []
    for _, values in filled:
        low, high = stats.sample(values).interval() if len(values) > 1 else (0.0, 0.0)
        halves.append((high - low) / 2)
    axes.errorbar(
        [x for x, _ in filled],
        means,
        yerr=halves,
        fmt=f"{marker}-" if joined else marker,
        color=colour,
        ms=5.5,
        lw=1.4,
        elinewidth=1.2,
        capsize=2.5,
        label=line.name or None,
    )


def _lines(metric: str, key: str, values: list[Any], runs: Sequence[RunView], others: Sequence[str]) -> list[Line]:
    groups: dict[str, tuple[str, list[RunView]]] = {}
    for run in runs:
        parts = [effective(run, other) for other in others]
        groups.setdefault(exact([exact(part) for part in parts]), (", ".join(text(p, 16) for p in parts), []))[
            1
        ].append(run)
    lines = []
    for name, members in groups.values():
        cells: list[dict[int, list[float]]] = [{} for _ in values]
        index = {exact(value): i for i, value in enumerate(values)}
        for run in members:
            last = run.metrics[metric].last
            assert last is not None
            cells[index[exact(effective(run, key))]].setdefault(run.seed, []).append(last)
        lines.append(Line(name, [[math.fsum(v) / len(v) for v in cell.values()] for cell in cells]))
    return lines


def _heatmap(metric: str, x: str, y: str, runs: Sequence[RunView], varied: Mapping[str, list[Any]]) -> Plot:
    import numpy as np
    from matplotlib.figure import Figure

    columns, rows = varied[x], varied[y]
    cells: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        last = run.metrics[metric].last
        assert last is not None
        cells.setdefault((exact(effective(run, y)), exact(effective(run, x))), []).append(last)
    grid = np.full((len(rows), len(columns)), np.nan)  # [row, column]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            found = cells.get((exact(row), exact(column)))
            if found:
                grid[i, j] = math.fsum(found) / len(found)
    figure = Figure(figsize=(2.6 + 0.62 * min(len(columns), 12), 1.7 + 0.46 * min(len(rows), 12)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False)
    axes.set_facecolor("#EFEFEF")
    picture = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    for ticks, labels in ((axes.set_xticks, columns), (axes.set_yticks, rows)):
        every = max(1, math.ceil(len(labels) / 12))
        ticks(range(0, len(labels), every), [style.short(value, 14) for value in labels[::every]])
    if max(len(style.short(value, 14)) for value in columns) > 6:
        axes.tick_params(axis="x", rotation=35)
    if grid.size <= 100:
        _write_cells(axes, grid)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.colorbar(picture, ax=axes, label=style.with_unit(metric))
    rest = [key for key in varied if key not in (x, y)]
    over = f"seeds and {', '.join(rest)}" if rest else "seeds"
    caption = f"Last {metric} for each {x} and {y}, mean over {over}. Grey: no finished run."
    svg, png = style.save(figure)
    return Plot(f"{slug(metric)}_{slug(x)}_{slug(y)}", f"{metric} over {x} and {y}", caption, svg, png, "axes")


def _write_cells(axes: Axes, grid: Any) -> None:
    import numpy as np

    low, high = np.nanmin(grid), np.nanmax(grid)
    for (i, j), value in np.ndenumerate(grid):
        if math.isnan(value):
            axes.text(j, i, "–", ha="center", va="center", color="#666666")
        else:
            dark = (value - low) < 0.6 * (high - low)
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=8.5, color="white" if dark else "black")


def _values(key: str, runs: Sequence[RunView]) -> list[Any]:
    """The different values of a key, numbers in order, others by their text."""
    found = {exact(value): value for run in runs if (value := effective(run, key)) is not MISSING}
    if all(is_number(value) for value in found.values()):
        return sorted(found.values())
    return sorted(found.values(), key=lambda value: text(value, 200))


def slug(name: str) -> str:
    """A file name from any name: letters, digits, dot and dash; at most 60 characters."""
    return re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII)[:60] or "_"
