"""A metric over two keys of a full grid, as colours and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labqueue.domain.declarations import Quantity
from labqueue.domain.views import RunView
from labqueue.report.figures import style
from labqueue.report.figures.style import Plot, slug
from labqueue.report.figures.sweep_points import Cell, Point, cell, levels, seeds_said
from labqueue.report.statistics.pairing import exact

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heatmap(metric: Quantity, x: str, y: str, points: Sequence[Point], keys: Sequence[str]) -> Plot | None:
    """The last value of a metric for each pair of values, the mean over seeds and the other keys; None without one."""
    import numpy as np
    from matplotlib.figure import Figure

    columns, rows = levels(x, points), levels(y, points)
    runs: dict[tuple[str, str], list[RunView]] = {}
    for point in points:
        runs.setdefault((exact(point.at(y)), exact(point.at(x))), []).extend(point.runs)
    cells = [[cell(runs.get((exact(row), exact(column)), []), metric) for column in columns] for row in rows]
    grid = np.array([[each.mean if each.values else math.nan for each in line] for line in cells])  # [row, column]
    if np.isnan(grid).all():
        return None
    figure = Figure(figsize=(2.6 + 0.62 * min(len(columns), 12), 1.7 + 0.46 * min(len(rows), 12)), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(visible=False)
    axes.set_facecolor("#EFEFEF")
    picture = axes.imshow(grid, cmap="viridis", aspect="auto", origin="lower")
    for ticks, labels in ((axes.set_xticks, columns), (axes.set_yticks, rows)):
        every = max(1, math.ceil(len(labels) / 12))
        ticks(range(0, len(labels), every), [style.short(level, 14) for level in labels[::every]])
    if max(len(style.short(level, 14)) for level in columns) > 6:
        axes.tick_params(axis="x", rotation=35)
    if grid.size <= 100:
        _write_cells(axes, grid, cells)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    figure.colorbar(picture, ax=axes, label=metric.label())
    rest = [key for key in keys if key not in (x, y)]
    over = f"seeds and {', '.join(rest)}" if rest else "seeds"
    broken = sum(outcome == "diverged" for line in cells for each in line for outcome in each.lost)
    said = seeds_said([each for line in cells for each in line])
    style.note(axes, said)
    caption = f"Last {metric.name} for each {x} and {y}, mean over {over}; {said}. Grey: no finished run."
    if broken:
        caption += f" {broken} runs diverged (div. stands in their cells) and are in no mean."
    svg, png = style.save(figure)
    name = f"{slug(metric.name)}_{slug(x)}_{slug(y)}"
    return Plot(name, f"{metric.name} over {x} and {y}", caption, svg, png, "axes", metrics=(metric.name,))


def _write_cells(axes: Axes, grid: Any, cells: Sequence[Sequence[Cell]]) -> None:
    import numpy as np

    low, high = np.nanmin(grid), np.nanmax(grid)
    for (i, j), value in np.ndenumerate(grid):
        broken = "diverged" in cells[i][j].lost
        if math.isnan(value):
            axes.text(j, i, "div." if broken else "–", ha="center", va="center", color="#666666", fontsize=8.5)
        else:
            dark = (value - low) < 0.6 * (high - low)
            shown = f"{value:.3g}\n+ div." if broken else f"{value:.3g}"
            axes.text(j, i, shown, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
