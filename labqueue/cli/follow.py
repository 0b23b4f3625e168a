"""``submit --run``: a worker drains the queue while this process shows how far it is."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.render import duration, varied

if TYPE_CHECKING:
    from labqueue.execution.plan import Plan
    from labqueue.settings import Settings
    from labqueue.store.db import Database

LOOK_S = 0.5

LAST_LINES = 20
"""What is kept of the worker's words, for when it cannot go on."""

READ_S = 5.0
"""How long its last words are waited for once it has ended. Assumption: they are in the pipe already."""


def drain_and_report(settings: Settings, plans: list[Plan], *, quiet: bool) -> int:
    """Drains the queue with a worker process of its own, then prints the reports; returns the worker's status."""
    from labqueue.store.db import open_existing

    device = "cpu" if all(planned.job.device == "cpu" for planned in plans) else "auto"
    command = [sys.executable, "-m", "labqueue", "worker", "--drain", "--device", device, "--root", str(settings.root)]
    worker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace")
    said: deque[str] = deque(maxlen=LAST_LINES)
    # Read all the while: a worker whose pipe is full stands still.
    reader = threading.Thread(target=said.extend, args=(worker.stderr,), name="worker's words", daemon=True)
    reader.start()
    db = open_existing(settings.database)
    assert db is not None, "it was just written"
    try:
        if quiet:
            worker.wait()
        else:
            _show(db, worker, {planned.job.experiment for planned in plans})
    except KeyboardInterrupt:
        click.echo("stopping: the running attempt checkpoints and is queued again …", err=True)
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        raise
    finally:
        db.close()
    reader.join(READ_S)
    # 0 and 1 are of the runs, which tell it themselves; whatever else ended the worker only it can tell.
    if worker.returncode not in (0, 1):
        click.echo("".join(said), err=True, nl=False)
    if not quiet:
        for planned in plans:
            subprocess.run(
                [sys.executable, "-m", "labqueue", "report", planned.job.experiment, "--root", str(settings.root)],
                check=False,
            )
    return int(worker.returncode)


def _show(db: Database, worker: subprocess.Popen[str], experiments: set[str]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(highlight=False, stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        everything = bars.add_task("all runs", total=None, words="")
        current = bars.add_task("", total=None, words="", visible=False)
        told: set[int] = set()
        while worker.poll() is None:
            _update(db, bars, everything, current, told, experiments)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(LOOK_S)
        _update(db, bars, everything, current, told, experiments)


def _update(db: Database, bars: Any, everything: Any, current: Any, told: set[int], experiments: set[str]) -> None:
    from labqueue.store import read

    status = read.status(db)
    views = [view for name in experiments for view in read.find(db, name)]
    ended = [view for view in views if view.state == "finished"]
    for view in ended:
        if view.id not in told:
            told.add(view.id)
            if view.finished_at and _recent(view.finished_at):
                words = f"run {view.id} ({view.experiment}, {varied(view.varied)}, seed {view.seed})"
                bars.console.print(f"{words}: {view.outcome} in {duration(view.wall_s)}", markup=False)
    left = f"{len(ended)}/{len(views)}, {duration(status.eta_s)} left" if status.eta_s else f"{len(ended)}/{len(views)}"
    bars.update(everything, total=len(views), completed=len(ended), words=left)
    if status.running:
        view = status.running[0]
        done, total = (view.progress.done, view.progress.total) if view.progress else (0, None)
        words = f"step {done}/{total}" if total else "starting"
        name = f"run {view.id}: {varied(view.varied)} seed {view.seed}"
        bars.update(current, visible=True, description=name, total=total, completed=done, words=words)
    else:
        bars.update(current, visible=False)


_STARTED = time.time()


def _recent(finished_at: str) -> bool:
    import datetime

    return datetime.datetime.fromisoformat(finished_at).timestamp() >= _STARTED
