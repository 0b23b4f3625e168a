"""The sections of a report, in their order. Knows no output format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labqueue.domain.declarations import Metrics, Quantity
from labqueue.domain.measured import averageable
from labqueue.domain.views import ExperimentView, RunView, SearchResult, VerdictView
from labqueue.report.declarations import Declarations
from labqueue.report.document.artifacts import artifacts, curve_summaries, samples_by_step
from labqueue.report.document.blocks import Block, Bullets, Figure, Heading, Paragraph, Prose, Rows
from labqueue.report.document.costs import memory_and_time
from labqueue.report.document.export import varied_keys
from labqueue.report.document.formatting import duration, ids, number, point, spans
from labqueue.report.document.verdicts import tested_first, verdict_blocks
from labqueue.report.figures.metric_order import metric_names
from labqueue.report.figures.style import Plot
from labqueue.report.statistics.pairing import MISSING, effective, exact, label, text
from labqueue.report.statistics.scales import interval_of_mean
from labqueue.report.statistics.verdicts import counted

if TYPE_CHECKING:
    from labqueue.domain.artifacts import Table

METRIC_COLUMNS = 8
"""Metrics in the table of runs; all of them are in the CSV and the JSON."""

TEXT_CELL = 2_000
"""Characters of a sample shown before it is cut."""


def sections(
    experiment: ExperimentView,
    verdicts: Sequence[VerdictView],
    plots: Sequence[Plot],
    learnings: str | None,
    samples: Sequence[tuple[int, str, Table]],
    declared: Declarations,
) -> list[Block]:
    """All blocks of a report, verdicts first. ``samples`` are the artifacts that it shows: run id, name and table."""
    known = declared.metrics
    tables = {(run_id, name): table for run_id, name, table in samples}
    return [
        *_registered(experiment),
        *verdict_blocks(experiment, verdicts, plots),
        *_searched(experiment.search),
        *_runs(experiment, known),
        *_figures("One metric against another", "asked", plots),
        *_figures("Curves", "curves", plots),
        *curve_summaries(experiment, declared, tables),
        *_figures("Over what was varied", "axes", plots),
        *_without_figure(experiment, plots, known),
        *_samples([each for each in samples if (use := declared.artifacts.get(each[1])) and use.use == "samples"]),
        *samples_by_step(experiment),
        *_failures(experiment),
        *_left_out(experiment, declared),
        *memory_and_time(experiment),
        *artifacts(experiment),
        *_provenance(experiment, declared),
        *_results(experiment, verdicts, known),
        Heading("LEARNINGS"),
        Prose(learnings) if learnings and learnings.strip() else _no_learnings(experiment),
    ]


def _registered(experiment: ExperimentView) -> list[Block]:
    outcomes = Counter(run.outcome or run.state for run in experiment.runs)
    counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in outcomes.most_common()) or "none yet"
    asked = f" · questions {', '.join(experiment.questions)}" if experiment.questions else ""
    return [
        Heading(experiment.experiment, 1),
        Paragraph(f"{experiment.kind} · {experiment.track} · profile {experiment.profile}{asked} · runs: {counts}"),
        Heading("Hypothesis"),
        Prose(experiment.hypothesis.strip() or "None was registered."),
        Heading("Methodology"),
        Prose(experiment.methodology.strip() or "None was registered."),
    ]


def _runs(experiment: ExperimentView, known: Metrics) -> list[Block]:
    if not experiment.runs:
        return [Heading("Runs"), Paragraph("No run has been recorded yet.")]
    keys = varied_keys(experiment.runs, experiment.axes)
    names = metric_names(experiment, known)
    shown = names[:METRIC_COLUMNS]
    mixed = len({run.profile for run in experiment.runs}) > 1
    columns = [
        "run",
        "seed",
        *keys,
        *(["profile"] if mixed else []),
        "outcome",
        *(known[name].label() for name in shown),
        "time",
    ]
    rows = [
        [
            str(run.id),
            str(run.seed),
            # What a point does not name is not its own: the rank of a full fine-tuning means nothing.
            *(text(run.varied.get(key, MISSING)) for key in keys),
            *([run.profile] if mixed else []),
            _outcome(run),
            *(number(run.metrics[name].last if name in run.metrics else None) for name in shown),
            duration(run.wall_s),
        ]
        for run in experiment.runs
    ]
    blocks: list[Block] = [Heading("Runs"), Rows(columns, rows)]
    if len(names) > len(shown):
        blocks.append(Paragraph(f"{len(names) - len(shown)} more metrics are in runs.csv and report.json."))
    return blocks


def _figures(title: str, section: str, plots: Sequence[Plot]) -> list[Block]:
    found: list[Block] = [Figure(plot) for plot in plots if plot.section == section]
    return [Heading(title), *found] if found else []


def _without_figure(experiment: ExperimentView, plots: Sequence[Plot], known: Metrics) -> list[Block]:
    shown = {metric for plot in plots for metric in plot.metrics}
    rest = [name for name in metric_names(experiment, known) if name not in shown]
    if not shown or not rest:
        return []
    why = "Without a figure, being costs, diagnostics, the same in every run, or further down the list"
    return [Paragraph(f"{why}: {', '.join(rest)}. Name a metric in a prediction or in plots to have one.")]


def _samples(samples: Sequence[tuple[int, str, Table]]) -> list[Block]:
    blocks: list[Block] = [Heading("Samples")] if samples else []
    for run_id, name, table in samples:
        rows = [[text(cell, TEXT_CELL) for cell in row] for row in table.rows]
        blocks += [Heading(f"run {run_id}: {name}", 3), Rows(table.columns, rows)]
    return blocks


def _failures(experiment: ExperimentView) -> list[Block]:
    broken = [run for run in experiment.runs if run.outcome not in (None, "succeeded")]
    if not broken:
        return []
    rows = [
        [
            str(run.id),
            str(run.seed),
            point(run),
            _outcome(run),
            text(run.reason, 300) if run.reason else "not recorded",
        ]
        for run in broken
    ]
    return [Heading("What failed and why"), Rows(["run", "seed", "sweep point", "outcome", "reason"], rows)]


def _left_out(experiment: ExperimentView, declared: Declarations) -> list[Block]:
    _, aside = counted(experiment)
    items = [*experiment.left_out, *([f"{aside}."] if aside else [])]
    waiting = [run for run in experiment.runs if run.state != "finished"]
    if waiting:
        items.append(f"{len(waiting)} runs are not finished: {ids(waiting)}.")
    if declared.lacks is not None:
        items.append(f"{declared.lacks}.")
    return [Heading("Left out"), Bullets(items)] if items else []


def _provenance(experiment: ExperimentView, declared: Declarations) -> list[Block]:
    groups: dict[tuple[str, str, str, str], list[RunView]] = {}
    for run in experiment.runs:
        unclean = {True: " + changes or files that are not in it", False: "", None: " (state of the tree unknown)"}
        commit = f"{run.commit[:12]}{unclean[run.dirty]}" if run.commit else "unknown"
        # On a GPU "auto": 16 bit, as the card has it.
        number_type = text(MISSING if declared.computed_in is None else effective(run, declared.computed_in))
        groups.setdefault((commit, run.profile, run.device, number_type), []).append(run)
    rows = [[*key, spans(runs)] for key, runs in groups.items()]
    note = (
        f"Job {experiment.job}, spec version {experiment.spec_version[:12]}. Each run's spec hash is in runs.csv, its "
        "attempts are in report.json."
    )
    blocks: list[Block] = [Heading("Provenance"), Paragraph(note)]
    if rows:
        blocks.append(Rows(["commit", "profile", "device", "computed in", "runs"], rows))
    adjusted = [
        f"run {run.id}, attempt {attempt.number}: adjusted {text(attempt.adjusted, 200)}"
        for run in experiment.runs
        for attempt in run.attempts
        if attempt.adjusted
    ]
    return [*blocks, Bullets(adjusted)] if adjusted else blocks


def _results(experiment: ExperimentView, verdicts: Sequence[VerdictView], known: Metrics) -> list[Block]:
    blocks: list[Block] = [Heading("RESULTS")]
    if verdicts:
        listed = [f"{verdict.verdict}: {verdict.claim} (n = {verdict.n})" for verdict in tested_first(verdicts)]
        blocks.append(Bullets(listed))
    runs, _ = counted(experiment)
    done = [run for run in runs if run.outcome == "succeeded"]
    names = [name for name in metric_names(experiment, known) if any(_last(run, name) is not None for run in done)]
    if not names:
        return [*blocks, Paragraph("No run has succeeded with a measured value yet, so there is no number to give.")]
    shown = names[:METRIC_COLUMNS]
    groups: dict[str, tuple[str, list[RunView]]] = {}
    for run in done:
        groups.setdefault(exact(run.varied), (point(run), []))[1].append(run)
    rows = [
        [name, str(len(members)), *(_mean(members, known[metric]) for metric in shown)]
        for name, members in groups.values()
    ]
    note = (
        "Last values: mean over seeds and its 95 % interval (docs/reports.md says of which kind); one seed has none, "
        "nor have seeds that agree by chance."
    )
    for direction in ("lower", "higher"):
        if better := [name for name in shown if known[name].better == direction]:
            note += f" {direction.capitalize()} is better: {', '.join(better)}."
    return [*blocks, Paragraph(note), Rows(["sweep point", "seeds", *(known[name].label() for name in shown)], rows)]


def _mean(runs: Sequence[RunView], metric: Quantity) -> str:
    values = {at: value for at, run in enumerate(runs) if (value := _last(run, metric.name)) is not None}
    if not values:
        return number(None)
    mean = math.fsum(values.values()) / len(values)
    found = interval_of_mean(metric, values, runs)
    ends = "" if found is None else f" [{number(found[0])}, {number(found[1])}]"
    short = "" if len(values) in (1, len(runs)) else f" (n = {len(values)})"
    return f"{number(mean)}{ends}{short}"


def _last(run: RunView, metric: str) -> float | None:
    known = run.metrics.get(metric)
    return known.last if known and averageable(known.last) else None


def _outcome(run: RunView) -> str:
    if run.outcome:
        return run.outcome.replace("_", " ")
    return f"{run.state} ({run.waiting.text})" if run.waiting else run.state


def _no_learnings(experiment: ExperimentView) -> Block:
    return Paragraph(
        f"Nothing written yet. Write outputs/{experiment.experiment}/learnings.md; it is shown here and kept."
    )


def _searched(search: SearchResult | None) -> list[Block]:
    """The section on a search; nothing where nothing was searched."""
    if search is None:
        return []
    goal = "lowest" if search.direction == "minimize" else "highest"
    pruner = "" if search.pruner == "none" else f", poor trials ended early ({search.pruner})"
    counts = ", ".join(f"{n} {name}" for name, n in search.trials.items() if n) or "none yet"
    state = f"It proposes no more: {search.ended}." if search.ended else "It goes on."
    blocks: list[Block] = [
        Heading("Search"),
        Paragraph(
            f"{search.sampler} for the {goal} {search.metric}{pruner}; of {search.planned} trials planned: {counts}. "
            f"{state}"
        ),
    ]
    if search.best is None:
        return [*blocks, Paragraph(f"No trial has a value of {search.metric} yet.")]
    best = search.best
    runs = ", ".join(map(str, best.runs))
    tried = search.trials.get("complete", 0)
    blocks.append(
        Paragraph(
            f"Best: trial {best.number} with {label(best.point)}: {search.metric} {best.value:.6g}, the mean over its "
            f"seeds (runs {runs}). It is the best of {tried}, so part of its lead is luck: run that point again with "
            "seeds that the search has not seen before you rely on the value. Pruned trials are not in means over "
            "sweep points; what is left is a selection of the better ones."
        )
    )
    return blocks
