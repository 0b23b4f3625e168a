"""``labqueue report``."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import TYPE_CHECKING

import click

from labqueue.cli.common import (
    dump,
    echo_json,
    json_option,
    known_database,
    nothing_yet,
    open_database,
    root_option,
    settings,
)
from labqueue.cli.render import duration, echo, table, varied
from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.domain.views import ExperimentView
    from labqueue.report.document.report import Report, Sample
    from labqueue.store.db import Database

SAMPLES_SHOWN = 3
"""Runs whose samples a report shows in full."""

METRICS_SHOWN = 4
"""Metrics that a terminal has room for."""


@click.command()
@click.argument("experiment", required=False)
@root_option
@click.option("--csv", "as_csv", is_flag=True, help="One row per run, on standard output.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The document as Markdown, on standard output.")
@click.option("--html", "as_html", is_flag=True, help="The document as one HTML file, on standard output.")
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Write all formats and plots there.")
@click.option("--archived", is_flag=True, help="With no name: list what is archived instead.")
@json_option
def report(
    experiment: str | None,
    own_root: str | None,
    as_csv: bool,
    as_markdown: bool,
    as_html: bool,
    output: Path | None,
    archived: bool,
    as_json: bool,
) -> None:
    """Tables, plots and verdicts of one experiment; with no name, one line per experiment.

    Without a format it writes all of them, with plots, to outputs/EXPERIMENT/report/ and prints a summary.
    """
    if as_csv + as_markdown + as_html + as_json > 1:
        raise LabError("choose one of --json, --csv, --markdown, --html; --output DIR writes them all")
    if experiment is None:
        _list(own_root, archived, as_json)
        return
    db = open_database(own_root)
    root = settings(own_root).root
    plots = as_html or not (as_csv or as_markdown or as_json) or output is not None
    composed = _compose(db, root, experiment, plots)
    if output is not None:
        wrote = _write(output, composed)
        if not (as_json or as_csv or as_markdown or as_html):
            echo(wrote)
    if as_json:
        echo_json(composed.json().rstrip())
    elif as_csv:
        echo(composed.csv(), nl=False)
    elif as_markdown:
        echo(composed.markdown(), nl=False)
    elif as_html:
        echo(composed.html(), nl=False)
    elif output is None:
        # Written first: the summary's reader may leave early (`| head`).
        wrote = _write(settings(own_root).experiment(experiment) / "report", composed, if_possible=True)
        _summary(composed)
        echo(wrote)


def _list(own_root: str | None, archived: bool, as_json: bool) -> None:
    from labqueue.store.queries import read

    db = known_database(own_root)
    rows = read.experiments(db, archived=archived) if db is not None else []
    if as_json:
        dump({"schema": 1, "experiments": rows})
        return
    if db is None:
        echo(nothing_yet(own_root))
        return
    columns = ["experiment", "track", "kind", "jobs", "runs", "queued", "running", "finished", "last submitted"]
    table(
        columns,
        [
            [
                row.experiment,
                row.track,
                row.kind,
                row.jobs,
                row.runs,
                row.queued,
                row.running,
                ", ".join(f"{n} {outcome}" for outcome, n in sorted(row.finished.items())),
                row.last_at,
            ]
            for row in rows
        ],
    )


def _compose(db: Database, root: Path, name: str, plots: bool) -> Report:
    from labqueue.report.document.report import compose, read_learnings
    from labqueue.store.queries import experiment

    view = experiment.experiment(db, name)
    learnings = read_learnings(root / "outputs" / name)
    samples = _samples(view, root)
    return compose(view, experiment.Series(db), learnings=learnings, samples=samples, plots=plots)


def _samples(view: ExperimentView, root: Path) -> list[Sample]:
    """The tables that a report shows: samples of the first runs, and a curve summary of each sweep point."""
    from pydantic import ValidationError

    from labqueue.domain.artifacts import Table
    from labqueue.domain.canonical import canonical
    from labqueue.report import declarations
    from labqueue.report.document.artifacts import POINTS_SHOWN
    from labqueue.report.document.report import Sample

    limits = {"samples": SAMPLES_SHOWN, "curve_summary": POINTS_SHOWN}
    uses = {name: use.use for name, use in declarations.of(view.kind).artifacts.items() if use.use in limits}
    left = {name: limits[use] for name, use in uses.items()}
    found: list[Sample] = []
    read: set[str] = set()
    for run in view.runs:
        for artifact in run.artifacts:
            point = f"{artifact.name} {canonical(run.varied)}"
            once = uses.get(artifact.name) != "curve_summary" or point not in read  # of a sweep point, the first seed's
            if artifact.type == "table" and left.get(artifact.name, 0) and once:
                left[artifact.name] -= 1
                read.add(point)
                path = root / artifact.path
                # What is no table (damaged, or made elsewhere) is not shown; its hash tells.
                with contextlib.suppress(FileNotFoundError, ValidationError):
                    found.append(Sample(run.id, artifact.name, Table.model_validate_json(path.read_bytes())))
    return found


def _write(directory: Path, composed: Report, *, if_possible: bool = False) -> str:
    """Writes all formats and returns what to say of it; ``if_possible``: a place only to be read is no error."""
    from labqueue.report.document.report import write

    try:
        written = write(directory, composed)
    except OSError as error:
        if if_possible and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            return f"no files were written: {directory} is only there to be read; --output DIR writes them elsewhere"
        raise LabError(f"cannot write the report to {directory}: {error.strerror}; choose another --output") from error
    return f"wrote {len(written)} files to {directory}: open {directory / 'report.html'}"


def _summary(composed: Report) -> None:
    from labqueue.report.document.verdicts import COLOURS, registered, tested_first
    from labqueue.report.figures.metric_order import metric_names

    view = composed.experiment
    click.secho(view.experiment, bold=True)
    if view.hypothesis:
        echo(f"hypothesis: {' '.join(view.hypothesis.split())}")
    for verdict in tested_first(composed.verdicts):
        click.secho(f"  {verdict.verdict:<13}", fg=COLOURS[verdict.verdict], nl=False)
        echo(f"{verdict.claim} — {verdict.why}")
        if verdict.registration is not None:
            echo(f"{'':15}{registered(verdict.registration)}")
    known = composed.declared.metrics
    names = metric_names(view, known)[:METRICS_SHOWN]
    rows = [
        [
            run.id,
            varied(run.varied),
            run.seed,
            run.outcome or run.state,
            *(run.metrics[name].last if name in run.metrics else None for name in names),
            duration(run.wall_s),
            run.peak_memory_gib,
        ]
        for run in view.runs
    ]
    table(["run", "varied", "seed", "outcome", *(known[name].label() for name in names), "wall time", "peak GiB"], rows)
    for words in view.left_out:
        echo(f"left out: {words}")
