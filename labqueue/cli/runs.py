"""``labqueue runs``, ``show``, ``metrics``, ``logs``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from textwrap import indent

import click

from labqueue.cli.common import dump, json_option, known_database, nothing_yet, open_database, root_option, settings
from labqueue.cli.render import DASH, cell, duration, echo, progress, table, varied
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.text import settled
from labqueue.domain.values import MAX_INTEGER
from labqueue.domain.views import AttemptView, RunView

THROTTLED_SHARE = 0.05
"""A card that was slowed down for more of a run than this is worth a warning. Assumption."""

_LIMIT = click.IntRange(1, MAX_INTEGER)
_RUN = click.argument("run", type=click.IntRange(min=1), metavar="RUN")


@click.command()
@click.argument("target", required=False)
@click.option("--limit", type=_LIMIT, default=1000, show_default=True, help="The newest so many.")
@root_option
@json_option
def runs(target: str | None, limit: int, own_root: str | None, as_json: bool) -> None:
    """Runs, newest first: all, or those of an experiment."""
    from labqueue.store.queries import read

    if target is not None:
        views = read.find(open_database(own_root), target)[::-1][:limit]
    elif (db := known_database(own_root)) is not None:
        views = read.recent(db, limit)
    else:
        views = []
    if as_json:
        dump({"schema": 1, "runs": views})
        return
    if not views:
        echo(nothing_yet(own_root))
        return
    rows = [
        [v.id, v.experiment, varied(v.varied), v.seed, v.outcome or v.state, duration(v.wall_s), v.finished_at]
        for v in views
    ]
    table(["run", "experiment", "varied", "seed", "state", "took", "finished"], rows)


@click.command()
@_RUN
@root_option
@json_option
def show(run: int, own_root: str | None, as_json: bool) -> None:
    """One run with everything known of it."""
    from labqueue.store.queries import read

    view = read.run(open_database(own_root), run)
    if as_json:
        dump(view)
        return
    _facts(view)
    if view.metrics:
        from labqueue.report import declarations

        known = declarations.of(view.kind).metrics
        rows = [
            [known[name].label(), known[name].better, m.first, m.last, m.last_step, m.min, m.min_step, m.max, m.points]
            for name, m in view.metrics.items()
        ]
        table(["metric", "better", "first", "last", "at step", "min", "at step", "max", "points"], rows)
    if view.attempts:
        columns = ["attempt", "ended", "started", "resumed from", "last step", "changed", "reason"]
        attempts = [
            [
                a.number,
                a.outcome or "running",
                a.started_at,
                a.resumed_from_step,
                f"{a.last_phase} {a.last_step}" if a.last_phase else a.last_step,
                ", ".join(a.adjusted["tried"]) if a.adjusted else None,
                a.reason,
            ]
            for a in view.attempts
        ]
        table(columns, attempts)
        for attempt in view.attempts:
            if attempt.patch is not None:
                echo(
                    f"attempt {attempt.number}: ran changes that are not in commit {str(attempt.commit)[:12]}; "
                    f"in a clone of it: git apply {attempt.patch}"
                )
            _warmth(attempt)
    if view.artifacts:
        table(["artifact", "type", "path", "bytes"], [[a.name, a.type, a.path, a.bytes] for a in view.artifacts])
    _samples(view)
    for event in view.history:
        echo(f"{event.at}  {event.text}")
    for note in view.notes:
        echo(f"note: {note}")


def _samples(view: RunView) -> None:
    """What the run wrote at its last step that has samples; how it got there is in its report."""
    if not view.samples:
        return
    last = max(sample.step for sample in view.samples)
    steps = len({sample.step for sample in view.samples})
    earlier = f"; those of {steps - 1} earlier steps are in its report and in --json" if steps > 1 else ""
    echo(f"samples of step {last}{earlier}:")
    for sample in view.samples:
        if sample.step == last:
            echo(f"  {cell(sample.prompt)!r} goes on:")
            echo(indent(sample.text, "    "))


def _warmth(attempt: AttemptView) -> None:
    """The card of an attempt and how warm it was, where there was anything, and a warning when it was slowed down."""
    found = attempt.telemetry or {}
    if not found and attempt.card is None:
        return
    warm, power, clocks, slowed = (found.get(name) for name in ("temperature_c", "power_w", "sm_mhz", "throttled"))
    words = [
        f"{attempt.device} is {attempt.card['name']} ({attempt.card.get('uuid', DASH)})" if attempt.card else None,
        f"up to {cell(warm['max'])} °C (mean {cell(warm['mean'])})" if warm else None,
        f"up to {cell(power['max'])} W" if power else None,
        f"clock {cell(clocks['min'])} to {cell(clocks['max'])} MHz" if clocks else None,
        f"slowed down {slowed['share']:.0%} of the time" if slowed else None,
    ]
    echo(f"attempt {attempt.number}: {', '.join(filter(None, words))}")
    if slowed and slowed["share"] > THROTTLED_SHARE:
        why = ", ".join(f"{reason} {share:.0%}" for reason, share in slowed["reasons"].items())
        echo(
            f"warning: the card was slowed down during attempt {attempt.number} ({why}): "
            "compare no speeds with it, and look at its cooling and power limit"
        )


def _facts(view: RunView) -> None:
    state = view.outcome or view.state
    echo(f"run {view.id} of {view.experiment} (job {view.job}, kind {view.kind}): {state}")
    if view.reason:
        echo(f"  reason       {view.reason}")
    if view.waiting:
        echo(f"  waits for    {view.waiting.code}: {view.waiting.text}")
    echo(f"  profile      {view.profile}, device {view.device}, seed {view.seed}, priority {view.priority}")
    echo(f"  varied       {json.dumps(view.varied, ensure_ascii=False)}")
    echo(f"  params       {json.dumps(view.params, ensure_ascii=False)}")
    far = progress(view.progress) if view.progress else DASH
    echo(f"  progress     {far}, wall time {duration(view.wall_s)}, left {duration(view.eta_s)}")
    memory = f"peak {cell(view.peak_memory_gib)} GiB, estimated {cell(view.estimated_memory_gib)} GiB"
    echo(f"  memory       {memory}, context {cell(view.context_gib)} GiB")
    dirty = " and changes or files that are not in it" if view.dirty else ""
    echo(f"  code         commit {view.commit or DASH}{dirty}")


@click.command()
@_RUN
@click.argument("name")
@click.option("--points", type=click.IntRange(min=5), help="At most so many points; spikes and gaps are kept.")
@root_option
@json_option
def metrics(run: int, name: str, points: int | None, own_root: str | None, as_json: bool) -> None:
    """One metric's whole series."""
    from labqueue.domain.downsample import thin
    from labqueue.store.queries import read

    db = open_database(own_root)
    read.run(db, run)
    known = read.metric_names(db, run)
    if name not in known:
        raise LabError(f"run {run} has no metric {name!r}: {nearest(name, known)}")
    series = read.series(db, run, name)
    if points is not None:
        series = thin(series, points)
    if as_json:
        dump(series)
        return
    for step, value in series:
        echo(f"{step}\t{'' if value is None else repr(value)}")


@click.command()
@_RUN
@click.option("--follow", "-f", is_flag=True, help="Keep printing until the run has finished.")
@click.option("--attempt", type=click.IntRange(min=1), help="Which attempt; default the newest.")
@root_option
@json_option
def logs(run: int, follow: bool, attempt: int | None, own_root: str | None, as_json: bool) -> None:
    """What a run printed."""
    from labqueue.store.queries import read

    db = open_database(own_root)
    view = read.run(db, run)
    while follow and not view.attempts and view.state != "finished":
        time.sleep(0.25)
        view = read.run(db, run)
    chosen = [a for a in view.attempts if attempt in (None, a.number)]
    if not chosen:
        have = f"it has {len(view.attempts)}" if view.attempts else "it has not started yet"
        raise LabError(f"run {run} has no attempt {attempt or 1}: {have}")
    path = settings(own_root).root / str(chosen[-1].log)
    if as_json:
        text = path.read_bytes().decode(errors="replace") if path.exists() else ""
        dump({"schema": 1, "run": run, "attempt": chosen[-1].number, "text": text})
        return
    if not path.exists() and chosen[-1].finished_at is not None:
        echo(f"the log of attempt {chosen[-1].number} is gone: `labqueue gc` removes old ones", err=True)
    reader = _LogReader(path)
    reader.print_new()
    while follow and read.run(db, run).state == "running":
        time.sleep(0.25)
        reader.print_new()
    if follow:
        reader.print_new()
    reader.print_rest()


class _LogReader:
    """Prints a growing log line by line, each as a terminal leaves it: of a progress bar its last state."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def print_new(self) -> None:
        """Prints the lines that were completed since the last look."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            # A log that was cut is shorter than what was already printed.
            file.seek(min(self._at, os.fstat(file.fileno()).st_size))
            lines, ended, self._rest = (self._rest + file.read()).rpartition(b"\n")
            self._at = file.tell()
        if ended:
            echo(settled(lines.decode(errors="replace")))

    def print_rest(self) -> None:
        """Prints the last line, which no newline ended."""
        if rest := settled(self._rest.decode(errors="replace")):
            echo(rest)
