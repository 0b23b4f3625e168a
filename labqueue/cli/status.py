"""``labqueue status`` and ``labqueue queue``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import click

from labqueue.cli.common import dump, json_option, known_database, nothing_yet, root_option
from labqueue.cli.render import DASH, duration, echo, table, varied
from labqueue.domain.views import RunView, StatusView, WaitingView

LONG_REASON = 60
"""Characters from which a reason that several runs share is said once, above them."""

SHOWN = 20
"""Waiting runs that ``status`` lists; ``queue`` lists all."""


@click.command()
@root_option
@json_option
def status(own_root: str | None, as_json: bool) -> None:
    """What runs, what waits, when all will be done."""
    view = _view(own_root)
    if as_json:
        dump(view)
        return
    if known_database(own_root) is None:
        echo(nothing_yet(own_root))
        return
    _banner(view)
    _running(view.running)
    _queued(view.queued[:SHOWN])
    if len(view.queued) > SHOWN:
        echo(f"… and {len(view.queued) - SHOWN} more: `labqueue queue` lists them")
    _searches(view)
    ended = ", ".join(f"{n} {outcome}" for outcome, n in sorted(view.finished.items())) or "none"
    echo(f"finished: {ended}")
    if view.running or view.queued or view.searches:
        echo(f"all done in: {duration(view.eta_s)}" + ("" if view.eta_s is not None else " (no similar run yet)"))


@click.command()
@root_option
@json_option
def queue(own_root: str | None, as_json: bool) -> None:
    """The queue in the order in which it will run."""
    view = _view(own_root)
    if as_json:
        dump({"schema": 1, "running": view.running, "queued": view.queued, "searches": view.searches})
        return
    if known_database(own_root) is None:
        echo(nothing_yet(own_root))
        return
    _banner(view)
    _running(view.running)
    _queued(view.queued)
    _searches(view)
    if not view.running and not view.queued:
        echo("the queue is empty")


def _searches(view: StatusView) -> None:
    for search in view.searches:
        words = f"{search.recorded} of {search.trials} trials recorded; {search.to_come} more runs will be proposed"
        echo(f"search of {search.experiment}: {words}")


def _view(own_root: str | None) -> StatusView:
    from labqueue.store.queries import read
    from labqueue.system import processes

    db = known_database(own_root)
    if db is None:
        return StatusView([], [], {}, None, None)
    place = db.place
    return read.status(db, lambda *identity: processes.lives(processes.Identity(*identity), place, wait_s=0))


def _banner(view: StatusView) -> None:
    if view.paused:
        click.secho(f"THE QUEUE IS PAUSED: {view.paused}. `labqueue resume queue` ends it.", fg="yellow", bold=True)
    alive = [worker for worker in view.workers if worker.alive]
    if alive:
        echo("workers: " + ", ".join(f"{w.device} (process {w.pid} on {w.host})" for w in alive))
    frozen = [worker for worker in view.workers if worker.frozen]
    for worker in frozen:
        click.secho(
            f"the worker on {worker.device} (process {worker.pid} on {worker.host}) does not answer, though it is "
            f"there: `kill -CONT {worker.pid}` wakes one that is stopped; another `labqueue worker` takes its place",
            fg="yellow",
        )
    if not alive and not frozen and (view.queued or view.running):
        click.secho("no worker is running: start one with `labqueue worker`", fg="yellow")


def _running(runs: list[RunView]) -> None:
    if not runs:
        return
    rows = [
        [
            run.id,
            run.experiment,
            varied(run.varied),
            run.seed,
            _progress(run),
            duration(run.wall_s),
            duration(run.eta_s),
        ]
        for run in runs
    ]
    table(["run", "experiment", "varied", "seed", "progress", "for", "left"], rows, "running")


def _queued(runs: list[RunView]) -> None:
    if not runs:
        return
    reasons = Counter(run.waiting for run in runs if run.waiting)
    common = {reason for reason, count in reasons.items() if count > 1 and len(reason.text) > LONG_REASON}
    for reason in common:
        echo(f"{reason.code}: {reason.text}")
    rows = [
        [
            run.id,
            run.experiment,
            varied(run.varied),
            run.seed,
            run.priority,
            _why(run, common),
        ]
        for run in runs
    ]
    table(["run", "experiment", "varied", "seed", "priority", "waits for"], rows, "queued")


def _why(run: RunView, common: Collection[WaitingView]) -> str:
    """Why a run waits; only the code of a long reason that has been said above the table."""
    if run.waiting is None:
        return "next"
    return run.waiting.code if run.waiting in common else f"{run.waiting.code}: {run.waiting.text}"


def _progress(run: RunView) -> str:
    if run.progress is None:
        return DASH
    phase = f"{run.progress.phase} " if run.progress.phase else ""
    return f"{phase}{run.progress.done}/{run.progress.total} ({100 * run.progress.done / run.progress.total:.0f} %)"
