"""Sections on what runs left beside their metrics: summaries of their curves, samples as they went, and their
artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labqueue.domain.declarations import ArtifactUse, Metrics, Quantity
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.declarations import Declarations
from labqueue.report.document.blocks import Block, Bullets, Heading, Paragraph, Rows
from labqueue.report.document.formatting import ids, number, point, size
from labqueue.report.figures.sweep_points import points_of
from labqueue.report.statistics.pairing import last_value, text
from labqueue.report.statistics.verdicts import counted

if TYPE_CHECKING:
    from labqueue.domain.artifacts import Table

POINTS_SHOWN = 60

SAMPLED_POINTS = 12
"""Sweep points whose samples a report shows, each of its first seed that has some."""

SAMPLED_STEPS = 5
"""Of a run, the first and the last among them."""

SAMPLE_CELL = 1_000
"""Characters of a sample shown before it is cut."""


def curve_summaries(
    experiment: ExperimentView, declared: Declarations, tables: Mapping[tuple[int, str], Table]
) -> list[Block]:
    """What the curves show, by the metrics of each artifact that is declared a curve summary: a line per sweep point
    over its seeds; nothing where no run has one of them.

    ``tables`` are artifacts by run id and name; the words of the first seed that has one are shown.
    """
    found: list[Block] = []
    for name, use in declared.artifacts.items():
        if use.use == "curve_summary":
            here = {run_id: table for (run_id, artifact), table in tables.items() if artifact == name}
            found += _summary(experiment, declared.metrics, name, use, here)
    return [Heading("What the curves show"), *found] if found else []


def _summary(
    experiment: ExperimentView, known: Metrics, artifact: str, use: ArtifactUse, tables: Mapping[int, Table]
) -> list[Block]:
    runs, _ = counted(experiment)
    metrics = [known[name] for name in use.metrics if any(last_value(run, name) is not None for run in runs)]
    points = [
        point_
        for point_ in points_of(runs)
        if any(last_value(run, metric.name) is not None for run in point_.runs for metric in metrics)
    ]
    if not points:
        return []
    words = {run_id: said for run_id, table in tables.items() if (said := _cell(table, use.row))}
    columns = ["sweep point", "seeds", *map(_head, metrics), *([str(use.row)] if words else [])]
    rows = []
    for point_ in points[:POINTS_SHOWN]:
        done = [run for run in point_.runs if run.outcome == "succeeded"]
        row = [point(point_.runs[0]), str(len(done)), *(_over_seeds(done, metric) for metric in metrics)]
        first = next((run for run in point_.runs if run.id in words), None)
        rows.append([*row, *([f"{words[first.id]} (seed {first.seed})" if first else "—"] if words else [])])
    note = (
        f"Read by the rules that stand in each run's artifact {artifact}; lowest to highest over seeds, a dash where "
        "the rule cannot say, and of how many seeds it is where some have none."
    )
    if len(points) > POINTS_SHOWN:
        note += f" The first {POINTS_SHOWN} of {len(points)} sweep points; all are in runs.csv."
    return [Rows(columns, rows), Paragraph(note)]


def _yes_or_no(metric: Quantity) -> bool:
    return metric.metric is not None and metric.metric.scale == "yes_no"


def _head(metric: Quantity) -> str:
    return metric.name if _yes_or_no(metric) else metric.label()


def _over_seeds(runs: Sequence[RunView], metric: Quantity) -> str:
    values = [last for run in runs if (last := last_value(run, metric.name)) is not None]
    if not values:
        return "—"
    some = "" if len(values) == len(runs) else f" ({len(values)} of {len(runs)})"
    if _yes_or_no(metric):
        yes = sum(last > 0.5 for last in values)
        return f"{('yes' if yes else 'no')}{some}" if yes in (0, len(values)) else f"{yes} of {len(values)}"
    low, high = number(min(values)), number(max(values))
    return f"{low}{some}" if low == high else f"{low} to {high}{some}"


def _cell(table: Table, feature: str | None) -> str | None:
    """The value of a feature in a table of features and values; None where it is no text."""
    for row in table.rows:
        if row and row[0] == feature and len(row) > 1 and isinstance(row[1], str):
            return row[1]
    return None


def samples_by_step(experiment: ExperimentView) -> list[Block]:
    """What models wrote as training went, a table per sweep point; nothing where no run has samples."""
    runs, _ = counted(experiment)
    sampled = [run for each in points_of(runs) if (run := next((run for run in each.runs if run.samples), None))]
    blocks: list[Block] = [Heading("Samples as it went")] if sampled else []
    for run in sampled[:SAMPLED_POINTS]:
        steps = sorted({sample.step for sample in run.samples})
        last = len(steps) - 1
        shown = {steps[round(at * last / (SAMPLED_STEPS - 1))] for at in range(SAMPLED_STEPS)}
        rows = [
            [str(sample.step), text(sample.prompt, SAMPLE_CELL), text(sample.text, SAMPLE_CELL)]
            for sample in run.samples
            if sample.step in shown
        ]
        named = f": {point(run)}" if run.varied else ""
        blocks += [Heading(f"run {run.id}{named}", 3), Rows(["step", "prompt", "goes on"], rows)]
        if len(steps) > len(shown):
            blocks.append(Paragraph(f"{len(shown)} of {len(steps)} steps; all are in report.json."))
    if len(sampled) > SAMPLED_POINTS:
        blocks.append(Paragraph(f"The first {SAMPLED_POINTS} of {len(sampled)} sweep points; all are in report.json."))
    return blocks


def artifacts(experiment: ExperimentView) -> list[Block]:
    """Which artifacts lie where, a line for all runs that left the same."""
    groups: dict[tuple[tuple[str, str], ...], list[RunView]] = {}
    for run in experiment.runs:
        if run.artifacts:
            groups.setdefault(tuple((each.name, each.type) for each in run.artifacts), []).append(run)
    if not groups:
        return []
    items = []
    for kinds, runs in groups.items():
        listed = ", ".join(f"{name} ({kind})" if kind in ("model", "file") else name for name, kind in kinds)
        much = size(sum(each.bytes for run in runs for each in run.artifacts))
        items.append(f"run{'s' * (len(runs) > 1)} {ids(runs)}: {listed}; {much}")
    where = f"In outputs/{experiment.experiment}/RUN/; labqueue show RUN gives paths and hashes."
    return [Heading("Artifacts"), Paragraph(where), Bullets(items)]
