"""What runs left behind beside their metrics: how their curves read, and their artifacts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from labqueue.domain import loss_curve
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.document.blocks import Block, Bullets, Heading, Paragraph, Rows
from labqueue.report.document.formatting import ids, number, point, size
from labqueue.report.figures import style
from labqueue.report.figures.sweep_points import points_of
from labqueue.report.statistics.pairing import last_value
from labqueue.report.statistics.verdicts import counted

if TYPE_CHECKING:
    from labqueue.domain.artifacts import Table

READING = "curve_reading"
"""The artifact with a curve's phases in words."""

YES_OR_NO = ("diverged", "overfit")
POINTS_SHOWN = 60


def readings(experiment: ExperimentView, tables: Mapping[int, Table]) -> list[Block]:
    """What the curves show, a line per sweep point over its seeds; nothing where no run has a reading.

    ``tables`` are ``curve_reading`` artifacts by run id; the phases of the first seed that has one are shown.
    """
    runs, _ = counted(experiment)
    names = [name for name in loss_curve.MEASURED if any(last_value(run, name) is not None for run in runs)]
    points = [
        found
        for found in points_of(runs)
        if any(last_value(run, name) is not None for run in found.runs for name in names)
    ]
    if not points:
        return []
    words = {run_id: told for run_id, table in tables.items() if (told := _phases(table))}
    columns = ["sweep point", "seeds", *map(_head, names), *(["phases"] if words else [])]
    rows = []
    for found in points[:POINTS_SHOWN]:
        done = [run for run in found.runs if run.outcome == "succeeded"]
        row = [point(found.runs[0]), str(len(done)), *(_over_seeds(done, name) for name in names)]
        first = next((run for run in found.runs if run.id in words), None)
        rows.append([*row, *([f"{words[first.id]} (seed {first.seed})" if first else "—"] if words else [])])
    note = (
        "Read by the rules that stand in each run's artifact curve_reading; lowest to highest over seeds, a dash where "
        "the rule cannot say, and of how many seeds it is where some have none."
    )
    if len(points) > POINTS_SHOWN:
        note += f" The first {POINTS_SHOWN} of {len(points)} sweep points; all are in runs.csv."
    return [Heading("What the curves show"), Rows(columns, rows), Paragraph(note)]


def _head(name: str) -> str:
    return name if name in YES_OR_NO else style.with_unit(name)


def _over_seeds(runs: Sequence[RunView], name: str) -> str:
    values = [found for run in runs if (found := last_value(run, name)) is not None]
    if not values:
        return "—"
    some = "" if len(values) == len(runs) else f" ({len(values)} of {len(runs)})"
    if name in YES_OR_NO:
        yes = sum(found > 0.5 for found in values)
        return f"{('yes' if yes else 'no')}{some}" if yes in (0, len(values)) else f"{yes} of {len(values)}"
    low, high = number(min(values)), number(max(values))
    return f"{low}{some}" if low == high else f"{low} to {high}{some}"


def _phases(table: Table) -> str | None:
    """The line "phases" of a reading."""
    for row in table.rows:
        if row and row[0] == "phases" and len(row) > 1 and isinstance(row[1], str):
            return row[1]
    return None


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
