"""``submit --run``: a worker drains the queue while this process shows how far it is and how long it will take."""

from __future__ import annotations

import contextlib
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from labqueue.cli.render import duration, echo, progress, varied

if TYPE_CHECKING:
    from rich.console import Console

    from labqueue.domain.views import RunView
    from labqueue.settings import Settings
    from labqueue.store.db import Database
    from labqueue.submission.plan import Plan

LOOK_S = 0.5
"""Between looks at the results store."""

TOLD_S = 30.0
"""Between two lines of progress where there is no terminal to draw on."""

LAST_LINES = 20
"""What is kept of the worker's words, for when it cannot go on."""

READ_S = 5.0
"""How long its last words are waited for once it has ended. Assumption: they are in the pipe already."""


def drain_and_report(
    settings: Settings, plans: list[Plan], expected_s: Mapping[int, float | None], *, quiet: bool
) -> int:
    """Drains the queue with a worker process of its own, then prints the reports; returns the worker's status.

    ``expected_s`` are the runs that are to be executed, with the seconds that each is predicted to take.
    """
    from labqueue.store.db import open_existing

    if not quiet and expected_s:
        echo(announced(expected_s), err=True)
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
            _show(db, worker, {planned.job.experiment for planned in plans}, expected_s)
    except KeyboardInterrupt:
        echo("stopping: the running attempt checkpoints and is queued again …", err=True)
        worker.send_signal(signal.SIGTERM)
        worker.wait()
        raise
    finally:
        db.close()
    reader.join(READ_S)
    # 0 and 1 are of the runs, which tell it themselves; whatever else ended the worker only it can tell.
    if worker.returncode not in (0, 1):
        echo("".join(said), err=True, nl=False)
    if not quiet:
        for planned in plans:
            subprocess.run(
                [sys.executable, "-m", "labqueue", "report", planned.job.experiment, "--root", str(settings.root)],
                check=False,
            )
    return int(worker.returncode)


def announced(expected_s: Mapping[int, float | None]) -> str:
    """How long the runs will take, before the first of them begins."""
    known = [seconds for seconds in expected_s.values() if seconds is not None]
    runs = "1 run" if len(expected_s) == 1 else f"{len(expected_s)} runs"
    if len(known) < len(expected_s):
        return f"{runs} to execute; how long they take is known once the first has ended"
    each = f", {duration(statistics.fmean(known))} each" if len(known) > 1 else ""
    return f"{runs} to execute: about {duration(sum(known))} on this computer{each}"


def left_s(views: Sequence[RunView], expected_s: Mapping[int, float | None]) -> float | None:
    """Seconds until all of ``views`` have ended: as predicted, at the pace of those that have succeeded here or of the
    one that computes; None where a run is of unknown length."""
    took = [(v.id, v.wall_s) for v in views if v.id in expected_s and v.outcome == "succeeded" and v.wall_s is not None]
    if not took:  # how far the first is says something of this hour, too
        running = [v for v in views if v.state == "running" and not (v.progress and v.progress.phase)]
        took = [(v.id, (v.wall_s or 0.0) + v.eta_s) for v in running if v.eta_s is not None]
    pace = _pace([seconds / known for run, seconds in took if (known := expected_s.get(run))])
    typical = statistics.fmean(seconds for _, seconds in took) if took else None
    left = 0.0
    for view in views:
        if view.state == "finished":
            continue
        known = expected_s.get(view.id)
        whole = typical if known is None else known * pace
        by_steps = view.eta_s if view.state == "running" else None
        if whole is None and by_steps is None:
            return None
        rest = max(0.0, (whole or 0.0) - (view.wall_s or 0.0))
        # Steps know nothing of what comes after the last of them, and a whole run's time nothing of this one's pace.
        left += max(rest, by_steps or 0.0)
    return left


def _pace(ratios: Sequence[float]) -> float:
    """How many times as long as predicted runs take: the lower median, and of the first alone halfway to it."""
    # The first run alone reads the libraries from the disk, converts the model, and imports nothing ahead: it took
    # 142 s where the five behind it took 82 s, and they are the ones that are waited for.
    return statistics.median_low(ratios) if len(ratios) > 1 else (1.0 + ratios[0]) / 2 if ratios else 1.0


class _Told:
    """What of the runs has been shown already."""

    def __init__(self, db: Database, experiments: set[str], expected_s: Mapping[int, float | None]) -> None:
        self._db, self._experiments, self._expected_s = db, experiments, expected_s
        self._ended: set[int] = set()
        self.running: RunView | None = None
        self.done = self.of = 0
        self.words = ""

    def look(self) -> list[str]:
        """Reads the results store; returns a line for each run that has ended since."""
        from labqueue.store.queries import read

        views = [view for name in self._experiments for view in read.find(self._db, name)]
        ended = [view for view in views if view.state == "finished"]
        lines = []
        for view in ended:
            if view.id not in self._ended:
                self._ended.add(view.id)
                if view.id in self._expected_s or (view.finished_at and _recent(view.finished_at)):
                    words = f"run {view.id} ({view.experiment}, {_point(view, ', ')})"
                    lines.append(f"{words}: {view.outcome} in {duration(view.wall_s)}")
        self.done, self.of = len(ended), len(views)
        left = left_s(views, self._expected_s)
        self.words = f"{self.done}/{self.of}" + _left(left, self.of - self.done)
        self.running = next((view for view in views if view.state == "running"), None)
        return lines

    def current(self) -> tuple[str, str, int, int | None]:
        """(run, how far it is, steps done, steps in all) of the run that computes."""
        view = self.running
        if view is None:
            return "", "starting the worker", 0, None
        done, total = (view.progress.done, view.progress.total) if view.progress else (0, None)
        words = progress(view.progress) if view.progress else "loading"
        return f"run {view.id}: {_point(view, ' ')}", words, done, total


def _point(view: RunView, between: str) -> str:
    """What of a run is its own: what is varied, where anything is, and its seed."""
    return between.join(filter(None, [varied(view.varied), f"seed {view.seed}"]))


def _left(seconds: float | None, runs: int) -> str:
    if seconds is None or not runs:
        return ""
    return f", about {duration(seconds)} left" if seconds >= 1.0 else ", longer than predicted"


def _show(
    db: Database, worker: subprocess.Popen[str], experiments: set[str], expected_s: Mapping[int, float | None]
) -> None:
    from rich.console import Console

    console = Console(highlight=False, stderr=True)
    told = _Told(db, experiments, expected_s)
    for finished in _bars(console, told, worker) if console.is_terminal else _lines(told, worker):
        console.print(finished, markup=False, soft_wrap=True)


def _lines(told: _Told, worker: subprocess.Popen[str]) -> Iterator[str]:
    """A line for each run that ends, and one of progress now and then."""
    said_at = time.monotonic() - TOLD_S
    while _goes_on(worker):
        yield from told.look()
        if time.monotonic() - said_at >= TOLD_S:
            said_at = time.monotonic()
            name, how, _, _ = told.current()
            yield f"{told.words}: {f'{name}, ' if name else ''}{how}"
    yield from told.look()


def _bars(console: Console, told: _Told, worker: subprocess.Popen[str]) -> Iterator[str]:
    """Two bars, of all runs and of the one that computes, and a line for each run that ends."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as drawn:
        everything, current = (drawn.add_task(name, total=None, words="") for name in ("all runs", ""))
        while _goes_on(worker):
            yield from told.look()
            name, how, done, total = told.current()
            drawn.update(everything, total=told.of, completed=told.done, words=told.words)
            drawn.update(current, description=name, total=total, completed=done, words=how)
        yield from told.look()


def _goes_on(worker: subprocess.Popen[str]) -> bool:
    """Waits a little; whether the worker is still there."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(LOOK_S)
    return worker.poll() is None


_STARTED = time.time()


def _recent(finished_at: str) -> bool:
    import datetime

    return datetime.datetime.fromisoformat(finished_at).timestamp() >= _STARTED
