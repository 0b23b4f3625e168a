"""Chooses the figures of an experiment: verdicts, curves, metrics over what was varied. Reads no database."""

from __future__ import annotations

from collections.abc import Sequence

from labqueue.domain.declarations import Metrics, Quantity
from labqueue.domain.views import ExperimentView
from labqueue.report.figures import style
from labqueue.report.figures.heatmap import heatmap
from labqueue.report.figures.metric_order import named, worth_a_figure
from labqueue.report.figures.over_axis import NAMED, over_key, over_points, scattered
from labqueue.report.figures.over_steps import curves
from labqueue.report.figures.style import Plot
from labqueue.report.figures.sweep_points import Point, along, full_grid, levels, numeric, points_of, varied
from labqueue.report.statistics.pairing import SeriesReader
from labqueue.report.statistics.verdicts import Judgement, counted

METRICS_SHOWN = 6
"""Metrics with figures of their own; those of predictions first. The others stand in the tables."""

AXES_FIGURES = 24
"""Figures over what was varied in one report; a page with more is not read. Assumption."""

HEATMAP_LEVELS = 40


def figures(
    experiment: ExperimentView, judged: Sequence[Judgement], series: SeriesReader, known: Metrics
) -> list[Plot]:
    """All figures of a report: one per verdict that has data, those the spec asks for, axes, curves; each section in
    its order.

    ``known`` is what the experiment's kind declares of its metrics.
    """
    runs, _ = counted(experiment)
    with style.look():
        return of_last_values(experiment, judged, known) + [
            plot
            for metric in worth_a_figure(experiment, known, METRICS_SHOWN)
            for plot in curves(known[metric], runs, experiment.axes, series)
        ]


def of_last_values(experiment: ExperimentView, judged: Sequence[Judgement], known: Metrics) -> list[Plot]:
    """The figures of a report that need no curve of a run."""
    from labqueue.report.figures.metric_pair import asked
    from labqueue.report.figures.verdict import verdict_plot

    runs, _ = counted(experiment)
    points = points_of(runs)
    shown = worth_a_figure(experiment, known, METRICS_SHOWN)
    claimed = set(named(experiment)) or set(shown[:1])
    with style.look():
        found = [verdict_plot(judgement, known) for judgement in judged]
        plots = [plot for plot in found if plot is not None]
        plots += asked(experiment, points, known)
        over: list[Plot] = []
        for metric in shown:
            over += over_axes(known[metric], points, experiment.axes, pairs=metric in claimed)[
                : AXES_FIGURES - len(over)
            ]
    return plots + over


def over_axes(metric: Quantity, points: Sequence[Point], axes: Sequence[str], *, pairs: bool = True) -> list[Plot]:
    """The last value of a metric over what was varied.

    A full grid: over each numeric key with a line per combination of the others (over every key, where that would be
    more lines than colours or no key has three levels), and with ``pairs`` heatmaps of two keys. Other sweeps, whose
    keys move together: one figure, over the numeric key that joins most points, else by sweep point.
    """
    keys = varied(axes, points)
    if not keys:
        return []
    if not full_grid(keys, points):
        line = along(keys, points)
        if line:
            plots = [over_key(metric, *line, points)]
        elif len(points) <= NAMED:
            plots = [over_points(metric, keys, points)]
        else:
            plots = [scattered(metric, keys, points)]
        return [plot for plot in plots if plot is not None]
    long = [key for key in keys if numeric(key, points)]
    lines = {key: len(points) / len(levels(key, points)) for key in keys}
    chosen = long if long and all(lines[key] <= len(style.COLOURS) for key in long) else keys
    plots = [over_key(metric, key, [other for other in keys if other != key], points) for key in chosen[:4]]
    if pairs:
        counts = {key: len(levels(key, points)) for key in keys}
        grids = [key for key in keys if counts[key] <= HEATMAP_LEVELS]
        both = [(a, b) for i, a in enumerate(grids) for b in grids[i + 1 :] if max(counts[a], counts[b]) > 2]
        plots += [heatmap(metric, a, b, points, keys) for a, b in both[:3]]
    return [plot for plot in plots if plot is not None]
