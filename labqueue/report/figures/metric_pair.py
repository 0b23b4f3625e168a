"""Two metrics against each other, as a spec's ``plots`` ask: a mark per sweep point, joined along one numeric key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from labqueue.domain.declarations import Metrics
from labqueue.domain.views import ExperimentView
from labqueue.report.figures import label_placement, marks_and_axes, style
from labqueue.report.figures.style import Plot, slug
from labqueue.report.figures.sweep_points import (
    Cell,
    Point,
    cell,
    grouped,
    names,
    numeric,
    pairing_said,
    seeds_said,
    varied,
)
from labqueue.report.statistics.pairing import exact, is_number, label, same

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from labqueue.domain.spec.schema import MetricPair

DASHES = ("-", "--", "-.", ":")

MEAN, SEED = 6.0, 3.6
"""Diameters of the marks, in points."""

Drawn = tuple[Point, Cell, Cell]
"""A sweep point that has a mark, with its cells of x and of y."""


def asked(experiment: ExperimentView, points: Sequence[Point], known: Metrics) -> list[Plot]:
    """The figures that the registered spec asks for; one without data, or that cannot be read, is left out."""
    plots: list[Plot] = []
    seen: list[tuple[str, str]] = []
    for pair in pairs(experiment):
        plot = against(pair, points, experiment.axes, known)
        if plot is None or (asked_for := (plot.name, exact(pair.without))) in seen:
            continue
        alike = sum(name == plot.name for name, _ in seen)
        seen.append(asked_for)
        plots.append(replace(plot, name=f"{plot.name}_{alike + 1}") if alike else plot)
    return plots


def pairs(experiment: ExperimentView) -> list[MetricPair]:
    """What the spec asks for, without what cannot be read (an imported results store may hold anything)."""
    from pydantic import ValidationError

    from labqueue.domain.spec.schema import MetricPair

    found = []
    for stored in experiment.plots:
        try:
            found.append(MetricPair.parse(stored))
        except (ValidationError, TypeError):
            continue
    return found


def against(pair: MetricPair, points: Sequence[Point], axes_: Sequence[str], known: Metrics) -> Plot | None:
    """One figure of two metrics; None where no sweep point has both.

    Lines, names and colours are those of all points, so that a point left out changes nothing of the others.
    """
    keys = varied(axes_, points)
    key = _along(keys, points, pair.by)
    others = [other for other in keys if other != key]
    shown = [point for point in points if not any(_is_at(point, choice) for choice in pair.without)]
    cells = {id(point): _both(point, pair, known) for point in shown}
    filled = [pair_ for pair_ in cells.values() if pair_[0].values]
    if not filled:
        return None
    from matplotlib.figure import Figure

    reaches = [
        marks_and_axes.reach([found[side] for found in filled], bounds=known[metric].bounds)
        for side, metric in enumerate((pair.x, pair.y))
    ]
    figure = Figure(figsize=(7.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    marks_and_axes.scale(axes, "x", reaches[0])
    marks_and_axes.scale(axes, "y", reaches[1])
    groups = [_ordered(group, key) for group in grouped(others, points).values()]
    labels = names([{o: group[0].varied[o] for o in others if o in group[0].varied} for group in groups])
    drawn: list[tuple[list[Drawn], str]] = []
    for number, (group, name) in enumerate(zip(groups, labels, strict=True)):
        colour, place = _colour(group[0], pair.by, groups, number)
        here = [(point, *cells[id(point)]) for point in group if id(point) in cells and cells[id(point)][0].values]
        if here:
            look = {"colour": style.COLOURS[colour], "marker": style.MARKERS[number % 8], "dash": DASHES[place % 4]}
            _group(axes, here, name, **look)
            drawn.append((here, style.COLOURS[colour]))
    axes.set_xlabel(known[pair.x].label(log=_log(reaches[0])))
    axes.set_ylabel(known[pair.y].label(log=_log(reaches[1])))
    if len(groups) > 1 and len(groups) <= 12:
        figure.legend(loc="outside right upper")
    if pair.title:
        figure.suptitle(pair.title, fontsize=11, x=0.01, ha="left")
    style.note(axes, seeds_said([found[0] for found in filled]))
    if pair.better:
        axes.set_title(f"better: {pair.better.replace('-', ' ')}", fontsize=9, loc="right", color="#666666")
    written, left_out = _beside(figure, axes, drawn, key) if key else (0, 0)
    svg, png = style.save(figure)
    title = pair.title or f"{pair.y} against {pair.x}"
    said = (
        pairing_said([found[0] for found in filled]),
        _left_out(pair, points),
        _absent(shown, cells, keys),
        _beyond(filled, reaches),
    )
    caption = f"{_caption(pair, key, written, left_out)}{''.join(said)}"
    file = f"{slug(pair.y)}_against_{slug(pair.x)}{f'_by_{slug(pair.by)}' if pair.by else ''}"
    return Plot(file, title, caption, svg, png, "asked", metrics=(pair.x, pair.y))


def _along(keys: Sequence[str], points: Sequence[Point], by: str | None) -> str | None:
    """The numeric key that the marks are joined along: the one that leaves the fewest lines, other than ``by``."""
    found = [key for key in keys if key != by and numeric(key, points, least=2)]
    lines = {key: len(grouped([other for other in keys if other != key], points)) for key in found}
    best = min(found, key=lambda key: lines[key], default=None)
    return best if best is not None and lines[best] < len(points) else None


def _is_at(point: Point, choice: Mapping[str, Any]) -> bool:
    return all(same(point.at(key), value) for key, value in choice.items())


def _both(point: Point, pair: MetricPair, known: Metrics) -> tuple[Cell, Cell]:
    """The two cells of a point, of the seeds that have both metrics."""
    x, y = cell(point.runs, known[pair.x]), cell(point.runs, known[pair.y])
    shared = x.values.keys() & y.values.keys()
    return cell(point.runs, known[pair.x], shared), cell(point.runs, known[pair.y], shared)


def _ordered(group: Sequence[Point], key: str | None) -> list[Point]:
    return sorted(group, key=lambda point: point.at(key)) if key and all(key in p.varied for p in group) else [*group]


def _colour(point: Point, by: str | None, groups: Sequence[Sequence[Point]], number: int) -> tuple[int, int]:
    """The colour of a group, and how many groups before it have the same.

    Groups that share a value of ``by`` have the colour that the first of them has in the figures over a key.
    """
    if by is None:
        return number % len(style.COLOURS), number // len(style.COLOURS)
    values = [exact(group[0].at(by)) for group in groups]
    own = exact(point.at(by))
    colour = values.index(own) if len(groups) <= len(style.COLOURS) else list(dict.fromkeys(values)).index(own)
    return colour % len(style.COLOURS), values[:number].count(own)


def _group(axes: Any, here: Sequence[Drawn], name: str, **look: Any) -> None:
    colour, marker = look["colour"], look["marker"]
    seeds = [(x.values[s], y.values[s], s in x.diverged) for _, x, y in here for s in x.values]
    marks_and_axes.dots(axes, seeds, marker, colour=colour, alpha=0.4, size=SEED)
    axes.errorbar(
        [x.mean for _, x, _ in here],
        [y.mean for _, _, y in here],
        xerr=[[x.below for _, x, _ in here], [x.above for _, x, _ in here]],
        yerr=[[y.below for _, _, y in here], [y.above for _, _, y in here]],
        fmt=f"{marker}{look['dash']}",
        color=colour,
        ms=MEAN,
        lw=1.3,
        elinewidth=0.9,
        capsize=2,
        label=name or None,
    )
    hollow = [(x.mean, y.mean) for _, x, y in here if x.diverged]
    if hollow:
        axes.plot(*zip(*hollow, strict=True), marker, color=colour, mfc="white", ms=MEAN, zorder=4)


def _beside(figure: Figure, axes: Axes, drawn: Sequence[tuple[Sequence[Drawn], str]], key: str) -> tuple[int, int]:
    """Writes the values of ``key`` beside the large marks. Returns (written, left out for want of a free place)."""
    wanted, seen, lines = [], [], []
    for here, colour in drawn:
        means = [(x.mean, y.mean) for _, x, y in here]
        lines += list(pairwise(means))
        for (point, x, y), at in zip(here, means, strict=True):
            seen += [(*at, MEAN), *((x.values[seed], y.values[seed], SEED) for seed in x.values)]
            lines += [((x.low, at[1]), (x.high, at[1])), ((at[0], y.low), (at[0], y.high))]
            if is_number(point.at(key)):
                wanted.append(label_placement.Label(style.short(point.at(key)), at, MEAN, colour))
    left_out = label_placement.place(figure, axes, wanted, marks=seen, lines=lines)
    return len(wanted) - left_out, left_out


def _log(reach: tuple[float, float, bool] | None) -> bool:
    return reach is not None and reach[2]


def _caption(pair: MetricPair, key: str | None, written: int, left_out: int) -> str:
    joined = f", joined in the order of {key}" if key else ""
    if key and written:
        joined += f", which is written beside {'those that have room' if left_out else 'them'}"
    elif left_out:
        joined += ", for which there is no room beside them"
    colours = f" A colour is a {pair.by}." if pair.by else ""
    order = f" The order along each line is that of {key}, from its lowest value to its highest." if left_out else ""
    return (
        f"Last {pair.y} against last {pair.x}: pale marks are seeds; large marks the means of the sweep points over "
        f"seeds{joined}, with 95 % intervals both ways (none with one seed).{colours}{order}"
    )


def _left_out(pair: MetricPair, points: Sequence[Point]) -> str:
    """What the spec leaves out of this figure and the runs have, as a sentence with a space before it."""
    counts = [(label(choice), sum(_is_at(point, choice) for point in points)) for choice in pair.without]
    words = [f"{name}{f' ({count} sweep points)' if count > 1 else ''}" for name, count in counts if count]
    return f" Left out: {'; '.join(words)}." if words else ""


def _absent(points: Sequence[Point], cells: dict[int, tuple[Cell, Cell]], keys: Sequence[str]) -> str:
    labels = names([{key: point.varied[key] for key in keys if key in point.varied} for point in points])
    missing = []
    for point, name in zip(points, labels, strict=True):
        x, _ = cells[id(point)]
        if x.lost or not x.values:
            why = ", ".join(dict.fromkeys(outcome.replace("_", " ") for outcome in x.lost)) or "no value"
            missing.append(f"{name or 'the only point'} ({why}, {len(point.runs) - len(x.values)} runs)")
    hollow = " Hollow: diverged by the rule of the curve." if any(x.diverged for x, _ in cells.values()) else ""
    shown, more = missing[:6], len(missing) - 6
    listed = "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
    return f"{hollow} Without a mark: {listed}." if missing else hollow


def _beyond(filled: Sequence[tuple[Cell, Cell]], reaches: Sequence[tuple[float, float, bool] | None]) -> str:
    said = [marks_and_axes.clipped([found[side] for found in filled], reaches[side]) for side in (0, 1)]
    return said[0] or said[1]
