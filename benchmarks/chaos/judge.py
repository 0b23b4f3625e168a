"""The laws. A history is judged from the drill's side-effect file first; then the results store must agree with it.

Nothing of the lab is imported: what it should have stored is computed here again.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

try:
    import pysqlite3 as _newest

    sqlite: ModuleType = _newest
except ImportError:
    sqlite = sqlite3


@dataclass(frozen=True)
class Block:
    """Consecutive lines of one attempt of one run."""

    run: int
    attempt: int
    steps: tuple[int, ...]


def blocks(witness: Path) -> list[Block]:
    """The history in the order in which it happened: the file is only appended to, so no clock is asked."""
    found: list[tuple[int, int, list[int]]] = []
    for line in witness.read_text().splitlines() if witness.exists() else []:
        run, attempt, step, _ = line.split(" ")
        if not found or found[-1][:2] != (int(run), int(attempt)):
            found.append((int(run), int(attempt), []))
        found[-1][2].append(int(step))
    return [Block(run, attempt, tuple(steps)) for run, attempt, steps in found]


def history(witness: Path, *, steps: int, checkpoint_every: int, runs: set[int] | None = None) -> list[str]:
    """What the side-effect file alone says against the lab; empty when every law holds.

    One device, one run: the lines of an attempt stand together. Attempts follow each other. An attempt begins after
    the start, after a checkpoint, or where an earlier one was asked to stop; it leaves no step out; the last one
    reaches the end. ``runs``: which ones must be there.
    """
    broken: list[str] = []
    reached: dict[int, int] = {}
    stood: dict[int, set[int]] = {}
    newest: dict[int, int] = {}
    ended: dict[int, bool] = {}
    for block in blocks(witness):
        who = f"run {block.run} attempt {block.attempt}"
        if block.attempt <= newest.get(block.run, 0):
            broken.append(f"{who} works after attempt {newest[block.run]} has begun, or beside another run")
        newest[block.run] = max(block.attempt, newest.get(block.run, 0))
        first, last = block.steps[0], block.steps[-1]
        if block.steps != tuple(range(first, last + 1)):
            broken.append(f"{who} leaves steps out or repeats them: {block.steps}")
        if first > reached.get(block.run, 0) + 1:
            broken.append(f"{who} begins at step {first}, but only {reached.get(block.run, 0)} were ever reached")
        if (first - 1) % checkpoint_every and first - 1 not in stood.get(block.run, set()):
            broken.append(f"{who} begins at step {first}, where no checkpoint can have been")
        reached[block.run] = max(last, reached.get(block.run, 0))
        stood.setdefault(block.run, set()).add(last)
        ended[block.run] = last == steps
    for run in sorted(runs if runs is not None else set(reached)):
        if not ended.get(run, False):
            broken.append(f"run {run} was never brought to its end: {reached.get(run, 0)} of {steps} steps")
    return broken


@contextlib.contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a copy: opening the file itself would repair it, and what the lab finds must be what was left."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        for end in ("", "-wal", "-journal"):
            if Path(f"{database}{end}").exists():
                shutil.copyfile(f"{database}{end}", f"{copy}{end}")
        connection: sqlite3.Connection = sqlite.connect(copy)
        connection.row_factory = sqlite.Row
        try:
            yield connection
        finally:
            connection.close()


def whole(connection: sqlite3.Connection) -> list[str]:
    """Whether the file is a sound database (``PRAGMA integrity_check`` and ``foreign_key_check``)."""
    said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
    strangers = connection.execute("PRAGMA foreign_key_check").fetchall()
    return ([] if said == ["ok"] else [f"integrity_check: {said[:3]}"]) + [f"orphan row {tuple(r)}" for r in strangers]


def made(connection: sqlite3.Connection) -> bool:
    """Whether the tables are there."""
    return bool(connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'runs'").fetchone()[0])


def values(seed: int, steps: int) -> list[float]:
    """What a drill measures when nothing interrupts it: the definition in its documentation, computed again."""
    source = random.Random(seed)
    return [math.exp(-step / steps) + 0.01 * source.gauss(0.0, 1.0) for step in range(1, steps + 1)]


def results(root: Path, *, steps: int, runs: int, witness: Path | None = None) -> list[str]:
    """What the tables say after the last worker has gone: every run once, whole, and as if nothing had happened."""
    last = {block.run: block.attempt for block in blocks(witness or root / "witness.txt")}
    with opened(root / "results.db") as connection:
        broken = whole(connection)
        rows = connection.execute("SELECT * FROM runs ORDER BY id").fetchall()
        if len(rows) != runs:
            broken.append(f"{len(rows)} runs are recorded, {runs} were submitted")
        for run in rows:
            broken += _result(connection, run, steps, last.get(run["id"]))
        broken += believed(connection, root)
    return broken


def _result(connection: sqlite3.Connection, run: Any, steps: int, last: int | None) -> Iterator[str]:
    who = f"run {run['id']}"
    if (run["state"], run["outcome"]) != ("finished", "succeeded"):
        yield f"{who} is {run['state']} {run['outcome']}: {run['reason']}"
        return
    attempts = connection.execute("SELECT * FROM attempts WHERE run_id = ? ORDER BY number", (run["id"],)).fetchall()
    good = [row["number"] for row in attempts if row["outcome"] == "succeeded"]
    if good != [run["attempt"]] or (last is not None and last > run["attempt"]):
        yield f"{who}: attempts {good} succeeded, the last to work was {last}, the run's is {run['attempt']}"
    if [row["number"] for row in attempts] != list(range(1, run["attempt"] + 1)):
        yield f"{who}: attempts {[row['number'] for row in attempts]} are recorded, {run['attempt']} were made"
    said = connection.execute(
        "SELECT count(*) FROM events WHERE run_id = ? AND kind = 'succeeded'", (run["id"],)
    ).fetchone()[0]
    if said != 1:
        yield f"{who}: its success is in the history {said} times"
    points = connection.execute(
        "SELECT step, value FROM metrics JOIN series ON series.id = series_id WHERE run_id = ? AND name = 'value' "
        "ORDER BY step",
        (run["id"],),
    ).fetchall()
    if [row["step"] for row in points] != list(range(1, steps + 1)):
        yield f"{who}: its series has steps {[row['step'] for row in points]}"
    elif [row["value"] for row in points] != values(run["seed"], steps):
        yield f"{who}: its series is not that of an uninterrupted run"


def believed(connection: sqlite3.Connection, root: Path) -> Iterator[str]:
    """Every artifact and checkpoint that is recorded stands on the disk, whole."""
    for table, name in (("artifacts", "name"), ("checkpoints", "step")):
        for row in connection.execute(f"SELECT * FROM {table}").fetchall():
            path = root / row["path"]
            what = f"{table[:-1]} {row[name]} of run {row['run_id']}"
            if not path.exists():
                yield f"{what} is recorded, but {row['path']} is not there"
            elif sha256(path) != row["sha256"]:
                yield f"{what} is recorded, but {row['path']} has other content"


def after_the_crash(root: Path) -> list[str]:
    """Soundness and files of a workspace whose processes have all just died."""
    if not (root / "results.db").exists():
        return []
    with opened(root / "results.db") as connection:
        broken = whole(connection) + (list(believed(connection, root)) if made(connection) else [])
    return [f"after the crash, {words}" for words in broken]


def sha256(path: Path) -> str:
    """As the lab documents it: of a folder, that of its sorted ``relative path, file hash`` lines."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    names = sorted(
        (Path(parent) / name).relative_to(path).as_posix() for parent, _, files in os.walk(path) for name in files
    )
    return hashlib.sha256("".join(f"{name}\0{sha256(path / name)}\n" for name in names).encode()).hexdigest()
