"""Copies of ``results.db`` in ``outputs/backups``: made while it is in use, checked, and found again in need.

A copy is believed once its integrity has been checked and it has been synced and renamed. It is one file that needs
no ``-wal`` beside it.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from labqueue.domain.errors import LabError, WorkFailed
from labqueue.settings import Settings
from labqueue.store.address import uri
from labqueue.store.sqlite import SQLITE
from labqueue.system import clock, files

BACKUPS = Settings(Path()).backups

EVERY_S = 24 * 3600.0
"""A daily copy is made when the newest is older than this."""

LOOK_S = 600.0
"""Between looks at whether a daily copy is due."""

KEEP = 3
"""Daily copies that are kept. Those that were made before a migration are never removed."""

SPARE = 1.2
"""Free space without which no copy is begun, as a multiple of the database's size. Assumption."""


def take(path: Path, word: str) -> Path:
    """Copies a database while others may use it (SQLite's online backup), and returns the copy's path.

    Raises:
        WorkFailed: the disk is full, or the copy is not sound, as the database itself then is not.
    """
    folder = path.parent / BACKUPS
    folder.mkdir(parents=True, exist_ok=True)
    stamp = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    target = folder / f"{path.stem}-{word}-{stamp}.db"
    aside = folder / f".{target.stem}-{os.getpid()}.partial"
    aside.unlink(missing_ok=True)
    try:
        _copy(path, aside)
        fault = _fault(aside)
        if fault is not None:
            raise WorkFailed(f"{path} is corrupt ({fault}) and was not backed up. {cure(path)}", file=str(path))
        files.sync(aside)
        aside.rename(target)
        for above in (folder, folder.parent, path.parent):
            files.sync(above)
    except SQLITE.OperationalError as error:
        raise WorkFailed(f"{path} could not be backed up: {error}", file=str(path)) from error
    except SQLITE.DatabaseError as error:
        raise WorkFailed(f"{path} is corrupt ({error}) and was not backed up. {cure(path)}", file=str(path)) from error
    finally:
        aside.unlink(missing_ok=True)
    return target


def daily(path: Path) -> Path | None:
    """Makes a copy when the newest daily one is a day old, and removes all but the newest three; None when none is due.

    When none is due this costs one listing of a folder. None is made before the first attempt of a run either (there is
    nothing to lose), or when the disk has no room for it.

    Raises:
        WorkFailed: it could not be made; what was copied before is kept.
    """
    made = _newest_first(path, "daily-")
    # One from the future is the wall clock's doing and proves nothing.
    if made and 0 <= clock.now() - made[0].stat().st_mtime < EVERY_S:
        return None
    if not path.exists() or not _attempted(path) or shutil.disk_usage(path.parent).free < SPARE * path.stat().st_size:
        return None
    for left in (path.parent / BACKUPS).glob(f".{path.stem}-*.partial"):
        if clock.now() - left.stat().st_mtime > EVERY_S:
            left.unlink(missing_ok=True)
    copy = take(path, "daily")
    for old in made[KEEP - 1 :]:
        old.unlink(missing_ok=True)
    return copy


def keep(path: Path, say: Callable[[str], None]) -> None:
    """Makes daily copies for as long as the process lives, in a thread that ends with it. Says once what went wrong."""
    said = ""
    while True:
        try:
            daily(path)
        except (LabError, OSError) as error:
            if str(error) != said:
                said = str(error)
                say(said)
        time.sleep(LOOK_S)


def cure(path: Path) -> str:
    """What to do about a database that cannot be used: the newest sound backup and how to put it in its place."""
    made = _newest_first(path, "")
    good = next((copy for copy in made if _fault(copy) is None), None)
    name = path.name
    if good is None:
        seen = f"none of the {len(made)} backups under {BACKUPS} is sound" if made else f"no backup is under {BACKUPS}"
        return f"Move {name}* away to start with an empty one: {seen}."
    taken = clock.iso(good.stat().st_mtime)
    return (
        f"The newest sound backup is of {taken}; in {path.parent}, with no worker running: "
        f"mkdir broken && mv {name}* broken/ && cp {good.relative_to(path.parent)} {name}"
    )


def _newest_first(path: Path, word: str) -> list[Path]:
    found = (path.parent / BACKUPS).glob(f"{path.stem}-{word}*.db")
    return sorted(found, key=lambda copy: copy.stat().st_mtime, reverse=True)


def _attempted(path: Path) -> bool:
    try:
        with contextlib.closing(SQLITE.connect(uri(path, "ro"), uri=True)) as connection:
            return connection.execute("SELECT 1 FROM attempts LIMIT 1").fetchone() is not None
    except SQLITE.DatabaseError as error:
        raise WorkFailed(f"{path} could not be read to be backed up: {error}", file=str(path)) from error


def _copy(path: Path, aside: Path) -> None:
    with (
        contextlib.closing(SQLITE.connect(uri(path, "rw"), uri=True)) as source,
        contextlib.closing(SQLITE.connect(str(aside))) as copy,
    ):
        source.backup(copy)
        # Out of WAL, so that the one file is all of it.
        copy.execute("PRAGMA journal_mode = DELETE")


def _fault(copy: Path) -> str | None:
    """What is wrong with a copy, in SQLite's words; None when it is sound. Changes nothing beside it."""
    try:
        with contextlib.closing(SQLITE.connect(f"{uri(copy, 'ro')}&immutable=1", uri=True)) as connection:
            said = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
            connection.execute("SELECT 1 FROM sqlite_master LIMIT 1")
    except SQLITE.DatabaseError as error:
        return str(error)
    return None if said == "ok" else said.splitlines()[-1]
