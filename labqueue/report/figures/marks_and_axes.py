"""Draws seeds, means, intervals and lost runs, and sets the range of an axis. Knows no experiment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from labqueue.report.figures import style
from labqueue.report.figures.sweep_points import Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_FROM = 10
"""A metric whose largest value is this many times its smallest is drawn on a log scale, unless it has an upper bound:
where diverged runs end at 2 nats/token, 0.2 and 0.3 are one line on a linear one. Assumption."""

FLAT = 1e-13
"""A margin below this share of the values is lost to rounding: the mean of three equal seeds may not be theirs."""

EDGE = 0.975
"""Where on the axis of values runs without a value stand, as a share of its length."""


def line(
    axes: Axes,
    places: Sequence[float],
    cells: Sequence[Cell],
    *,
    colour: Any,
    marker: str,
    dash: str = "-",
    beside: Sequence[float],
    name: str | None = None,
) -> None:
    """Seeds pale and just ``beside`` (or the bar hides them), means joined with their 95 % intervals.

    ``dash`` "" leaves the means unjoined. A mean is hollow where one of its seeds diverged; runs without a value stand
    at the upper edge.
    """
    seeds = [(x, value, seed in each.diverged) for x, each in zip(beside, cells, strict=True)
             for seed, value in each.values.items()]  # fmt: skip
    dots(axes, seeds, marker, colour=colour, alpha=0.45, size=3.6)
    filled = [(x, cell) for x, cell in zip(places, cells, strict=True) if cell.values]
    axes.errorbar(
        [x for x, _ in filled],
        [cell.mean for _, cell in filled],
        yerr=[[cell.below for _, cell in filled], [cell.above for _, cell in filled]],
        fmt=f"{marker}{dash}",
        color=colour,
        ms=5.5,
        lw=1.4,
        elinewidth=1.2,
        capsize=2.5,
        label=name,
    )
    axes.plot(
        [x for x, cell in filled if cell.diverged],
        [cell.mean for _, cell in filled if cell.diverged],
        marker,
        color=colour,
        mfc="white",
        ms=5.5,
        zorder=4,
    )
    lost = [(x, cell) for x, cell in zip(places, cells, strict=True) if cell.lost]
    at_edge(axes, lost, colour=colour)


def swarm(places: Sequence[float], wide: float, rows: int) -> list[int]:
    """Rows (0, 1, −1, 2, …) on which marks do not hide each other, the nearest to the middle that is free.

    Args:
        places: where the marks stand along the axis.
        wide: how far apart two marks of one row must be, in the axis' unit.
        rows: rows on each side of the middle; with more marks at one place some are hidden after all.
    """
    order = [0, *(side * row for row in range(1, rows + 1) for side in (1, -1))]
    taken: dict[int, list[float]] = {row: [] for row in order}
    found = [0] * len(places)
    for at in sorted(range(len(places)), key=lambda at: places[at]):
        free = (row for row in order if all(abs(places[at] - other) >= wide for other in taken[row]))
        found[at] = next(free, order[at % len(order)])
        taken[found[at]].append(places[at])
    return found


def dots(
    axes: Axes, found: Sequence[tuple[float, float, bool]], marker: str, *, colour: Any, alpha: float, size: float
) -> None:
    """Marks at (x, y), hollow where the third is true."""
    for hollow in (False, True):
        chosen = [(x, y) for x, y, is_hollow in found if is_hollow is hollow]
        if chosen:
            xs, ys = zip(*chosen, strict=True)
            face = "none" if hollow else colour
            axes.plot(xs, ys, marker, color=colour, alpha=alpha, ms=size, mfc=face, mew=0.8)


def at_edge(axes: Axes, lost: Sequence[tuple[float, Cell]], *, colour: Any, across: bool = False) -> None:
    """Runs without a value at the upper end of the axis of values: a triangle for diverged, a cross for the rest.

    Args:
        axes: to draw on.
        lost: places on the other axis, with their cells.
        colour: of the marks.
        across: values run to the right rather than up.
    """
    for shape, diverged in (("^", True), ("x", False)):
        places = [place for place, cell in lost if any((outcome == "diverged") is diverged for outcome in cell.lost)]
        ends = [EDGE] * len(places)
        xs, ys = (ends, places) if across else (places, ends)
        frame = axes.get_yaxis_transform() if across else axes.get_xaxis_transform()
        if places:
            axes.plot(xs, ys, shape, color=colour, mfc="none", ms=7, mew=1.4, transform=frame)


def reach(
    cells: Sequence[Cell], *, edge: bool = False, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float, bool] | None:
    """From where to where an axis of values goes, and whether it is logarithmic; None without a value.

    Every seed is inside. An interval reaches out by the range of the seeds at most: with two seeds it is 12.7 standard
    errors on each side, and would press what was measured into a line.

    Args:
        cells: all marks of the figure.
        edge: whether room is needed at the upper end for runs without a value.
        bounds: between which values the metric can lie; no interval makes the frame larger than that.
    """
    seeds = [value for cell in cells for value in cell.values.values()]
    if not seeds:
        return None
    low, high = min(seeds), max(seeds)
    bars = [(cell.low, cell.high) for cell in cells if cell.values]
    log = low > 0 and high >= LOG_FROM * low and bounds[1] == math.inf
    if log:
        # An interval that reaches zero has no lower end on this scale; its bar leaves the frame.
        bottom = max(min((b for b, _ in bars if b > 0), default=low), low / 3)
        bottom, top = math.log10(min(low, bottom)), math.log10(max(high, min(max(t for _, t in bars), 3 * high)))
    else:
        wide = (high - low) or abs(high) * 0.1 or 1.0
        bottom = min(low, max(min(b for b, _ in bars), low - wide))
        top = max(high, min(max(t for _, t in bars), high + wide))
        bottom, top = min(low, max(bottom, bounds[0])), max(high, min(top, bounds[1]))
    room = 0.06 * (top - bottom)
    if room <= FLAT * max(abs(low), abs(high)):
        room = 0.05 * abs(high) or 0.5
    bottom, top = bottom - room, top + room * (2.5 if edge else 1)
    if not log:
        return bottom, top, False
    # An interval may reach further than a float64, which spans 308 decades each way.
    return 10 ** max(bottom, -323.0), 10 ** min(top, 308.0), True


def scale(axes: Axes, which: str, found: tuple[float, float, bool] | None) -> None:
    """Applies what ``reach`` found to the axis ``x`` or ``y``."""
    if found is None:
        return
    low, high, log = found
    axis = axes.xaxis if which == "x" else axes.yaxis
    if log:
        (axes.set_xscale if which == "x" else axes.set_yscale)("log", nonpositive="clip")
        style.plain_ticks(axis)
        from matplotlib.ticker import LogLocator

        if high < 1000 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)


def clipped(cells: Sequence[Cell], found: tuple[float, float, bool] | None) -> str:
    """Says that an interval goes on beyond the frame, where one does; with a space before it."""
    if found is None:
        return ""
    low, high, _ = found
    beyond = any(cell.values and not (low <= cell.low and cell.high <= high) for cell in cells)
    return " A bar without an end goes on beyond the frame." if beyond else ""
