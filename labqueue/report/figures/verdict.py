"""The figure of one verdict: the arms seed by seed, and the estimate against what was claimed."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labqueue.domain.declarations import Metrics, Quantity
from labqueue.domain.measured import averageable, exponential
from labqueue.report.figures import marks_and_axes, style
from labqueue.report.figures.style import Plot
from labqueue.report.statistics import intervals
from labqueue.report.statistics.evidence import Evidence
from labqueue.report.statistics.verdicts import Judgement

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ARMS_SHOWN = 12

APART = ("exploratory", "withdrawn")
"""Verdicts that are no decision: told in grey."""

SEEDS_AT, MEAN_AT, ITEMS_AT = 0.3, 0.72, 0.62
"""Heights in the panel of the tested quantity, from 0 to 1."""

SEED_SIZE, SEED_WIDE, SEED_HIGH, SEED_ROWS = 6, 0.034, 0.047, 5
"""Of the seeds' circles there: diameter in points, how wide and how high that is as a share of the panel, and rows on
each side of the middle one."""

LOST_FROM = marks_and_axes.LOG_FROM / 3
"""As ``marks.LOG_FROM``, where some of the arms count as lost. Assumption."""


def verdict_plot(judgement: Judgement, known: Metrics) -> Plot | None:
    """Two panels; None where no seed has a value, since an empty frame says less than the sentence does."""
    evidence = judgement.evidence
    if evidence is None or not any(map(math.isfinite, evidence.sample.values())):
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _arms(left, evidence, known[evidence.metric])
    _estimate(right, evidence)
    verdict = judgement.verdict
    colour = style.GREY if verdict.verdict in APART else style.INK
    paired = ", paired by seed" if len(evidence.arms) > 1 else ""
    title = f"{verdict.id}: {verdict.verdict} (n = {verdict.n} seeds{paired})"
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", color=colour)
    caption = (
        "Left: every seed (pale, joined where they are paired) and the mean of each arm. Right: the tested quantity, "
        f"one circle per seed, its {'typical seed' if evidence.typical else 'mean'} and {_intervals_said(evidence)}; "
        f"the shaded side is what was claimed. The interval is that of other seeds on {evidence.fixed}"
        f"{', dotted that of other items too' if _of_other_items(evidence) else ''}."
    )
    if evidence.lost and len(evidence.arms) > 1:
        caption += " Hollow on the left: diverged by the rule of the curve, and so counted as lost."
    svg, png = style.save(figure)
    return Plot(f"verdict_{verdict.id}", verdict.claim, caption, svg, png, "verdicts", verdict.id)


def _intervals_said(evidence: Evidence) -> str:
    """The intervals drawn, in words."""
    exact = {"yes_no": "exact ", "share": ""}.get(evidence.scale.form, "")
    plain = f"{exact}95 % interval"
    if evidence.comparisons > 1:
        plain += f" for all {evidence.comparisons} comparisons together"
    if evidence.deciding_level is None or evidence.deciding_level <= 1 - intervals.ALPHA:
        return plain
    return f"{plain}, thin the one that decides ({100 * evidence.deciding_level:.4g} %, after all corrections)"


def _arms(axes: Axes, evidence: Evidence, metric: Quantity) -> None:
    names = list(evidence.arms)
    if len(names) == 1:
        axes.set_ylabel(evidence.measure or metric.label())
        _seeds(axes, evidence, names[0])
        return
    at = evidence.positions if evidence.positions and len(evidence.positions) == len(names) else None
    places = at or [float(i) for i in range(len(names))]
    log = at is not None and intervals.log_axis(at)
    seeds_here = sorted(set.intersection(*(set(evidence.arms[name]) for name in names)))
    for number, seed in enumerate(seeds_here):
        heights = [evidence.arms[name][seed] for name in names]
        # Beside each other where the arms have no place of their own: seeds that agree would hide each other.
        beside = 0.0 if at else 0.05 * (number - (len(seeds_here) - 1) / 2) * min(1.0, 6 / len(seeds_here))
        here = [place + beside for place in places]
        axes.plot(here, heights, "-", color=style.GREY, lw=0.9, zorder=2)
        seeds = [(x, y, seed in evidence.lost.get(n, ())) for x, y, n in zip(here, heights, names, strict=True)]
        marks_and_axes.dots(axes, seeds, "o", colour=style.GREY, alpha=1.0, size=3.5)
    means = [math.fsum(evidence.arms[name].values()) / len(evidence.arms[name]) for name in names]
    axes.plot(places, means, ls="-" if at else "none", color=style.COLOURS[0], lw=1.6, zorder=3)
    for x, y, name in zip(places, means, names, strict=True):
        face = "white" if evidence.lost.get(name) else style.COLOURS[0]
        axes.plot([x], [y], "D", color=style.COLOURS[0], mfc=face, ms=6, zorder=3)
    _height(axes, evidence, metric)
    if at:
        style.place(axes, at, at, log=log, labels=[style.short(value) for value in at])
        axes.set_xlabel(f"{evidence.axis}{' (log scale)' if log else ''}")
        return
    axes.set_xlim(-0.6, len(names) - 0.4)
    if len(names) <= ARMS_SHOWN:
        wide = max(8, 44 // len(names))
        axes.set_xticks(places, ["\n".join(textwrap.wrap(n, wide, max_lines=3, placeholder="…")) for n in names])


def _height(axes: Axes, evidence: Evidence, metric: Quantity) -> None:
    """A log scale where the arms are as far apart as ``marks.LOG_FROM`` says, or lost ones a third as far: they have no
    part in the test, and where they end at 2 a difference of 0.06 is no line."""
    values = evidence.values()
    low, high = min(values), max(values)
    most = math.inf if evidence.measure else metric.bounds[1]
    log = low > 0 and high >= (LOST_FROM if evidence.lost else marks_and_axes.LOG_FROM) * low and most == math.inf
    if log:
        room = exponential(0.06 * (math.log(high) - math.log(low)))  # high / low itself may leave the floats
        marks_and_axes.scale(axes, "y", (low / room, high * room, True))
    measure = f"{evidence.measure}{' (log scale)' if log else ''}" if evidence.measure else ""
    axes.set_ylabel(measure or metric.label(log=log))


def _seeds(axes: Axes, evidence: Evidence, name: str) -> None:
    """One arm alone: every seed beside the bound."""
    values = evidence.arms[name]
    axes.plot(range(len(values)), list(values.values()), "o", color=style.COLOURS[0], ms=6)
    for edge in (evidence.region.low, evidence.region.high):
        if math.isfinite(edge):
            bound = exponential(edge) if evidence.log else edge  # the values are drawn as they were measured
            axes.axhline(bound, color=style.COLOURS[0], lw=1, ls="--")
    if len(values) <= 2 * ARMS_SHOWN:
        axes.set_xticks(range(len(values)), [str(seed) for seed in values])
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_xlabel("seed")


def _estimate(axes: Axes, evidence: Evidence) -> None:
    values = [value for value in evidence.sample.values() if math.isfinite(value)]
    mean = math.fsum(values) / len(values)
    plain = deciding = (mean, mean)
    if evidence.statistic is not None:
        plain = evidence.statistic.interval(1 - intervals.ALPHA / evidence.comparisons) or plain
        level = evidence.deciding_level
        deciding = plain if level is None else evidence.statistic.interval(level) or plain
    # A ratio whose interval leaves what an axis can hold is drawn as its logarithm.
    ends = (*plain, *deciding)
    ratio = evidence.log and all(averageable(exponential(edge)) for edge in ends)
    shown = exponential if ratio else (lambda value: value)
    edges = [edge for edge in (evidence.region.low, evidence.region.high) if math.isfinite(edge)]
    places = [shown(value) for value in values]
    for (low, high), width, cap in ((deciding, 0.9, 7), (plain, 1.9, 4)):
        around = [[shown(mean) - shown(low)], [shown(high) - shown(mean)]]
        axes.errorbar(
            [shown(mean)], [MEAN_AT], xerr=around, fmt="D", color=style.INK, ms=7, capsize=cap, lw=width, zorder=3
        )
    others = _of_other_items(evidence)
    if others:
        axes.plot(others, [ITEMS_AT] * 2, ":|", color=style.INK, lw=1.3, ms=6)
    _limits(axes, [*places, *map(shown, ends), *map(shown, edges), *others])
    left, right = axes.get_xlim()
    rows = marks_and_axes.swarm(places, SEED_WIDE * (right - left), SEED_ROWS)
    heights = [SEEDS_AT + SEED_HIGH * row for row in rows]
    axes.plot(places, heights, "o", mfc="white", mec=style.COLOURS[0], ms=SEED_SIZE)
    low_edge = shown(evidence.region.low) if math.isfinite(evidence.region.low) else left
    high_edge = shown(evidence.region.high) if math.isfinite(evidence.region.high) else right
    axes.axvspan(low_edge, high_edge, color=style.COLOURS[5], alpha=0.22, lw=0, zorder=0)
    for edge in edges:
        axes.axvline(shown(edge), color=style.COLOURS[0], lw=1, ls="--", zorder=1)
    axes.set_ylim(0, 1)
    axes.set_yticks([SEEDS_AT, MEAN_AT], ["seeds", "typical" if evidence.typical else "mean"])
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    quantity = evidence.tested or evidence.quantity
    if evidence.log and not ratio:
        quantity = f"natural logarithm of {quantity}"
    wrapped = textwrap.wrap(quantity, 46, max_lines=3, placeholder="…")
    axes.set_xlabel("\n".join(wrapped), fontsize=9)
    axes.set_title(f"claimed: {evidence.claimed}", fontsize=9.5, loc="left")


def _of_other_items(evidence: Evidence) -> list[float]:
    """The ends of the interval of other items; none where the panel is about another quantity than the estimate."""
    return [] if evidence.item_ci is None or evidence.tested else evidence.item_ci


def _limits(axes: Axes, values: Sequence[float]) -> None:
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    axes.set_xlim(low - room, high + room)
