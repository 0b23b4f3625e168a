"""Backups: made while others write, whole or not at all, and named with the way back when the database is lost."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from labqueue.domain.errors import LabError, WorkFailed
from labqueue.store import backup
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import read
from tests.store.factories import executed, results_store, submitted

DAY_S = 86_400.0


@pytest.fixture
def db(tmp_path: Path) -> Database:
    db = results_store(tmp_path)
    submitted(db, points=[{"steps": at} for at in range(1, 6)])
    executed(db, "succeeded", [("value", 1, 1.0)])
    return db


def copies(db: Database) -> list[Path]:
    return sorted((db.path.parent / "outputs" / "backups").glob("*"))


def age(copy: Path, seconds: float) -> None:
    at = copy.stat().st_mtime - seconds
    os.utime(copy, (at, at))


def finished(path: Path) -> int:
    """How many runs of a database file have finished, read past the lab."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    (n,) = connection.execute("SELECT count(*) FROM runs WHERE state = 'finished'").fetchone()
    connection.close()
    return int(n)


def damage(path: Path) -> None:
    """Overwrites every page but the first."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


def test_a_daily_copy_is_made_once_a_day_and_holds_what_was_committed(db: Database) -> None:
    copy = backup.daily(db.path)
    assert copies(db) == [copy]
    assert copy is not None
    assert finished(copy) == 1
    executed(db)
    assert backup.daily(db.path) is None
    age(copy, DAY_S + 1)
    second = backup.daily(db.path)
    assert second is not None
    assert finished(second) == 2


def test_the_newest_three_daily_copies_are_kept_and_those_of_migrations_all(db: Database) -> None:
    migrated = backup.take(db.path, "v1")
    made = []
    for _ in range(5):
        for copy in copies(db):
            age(copy, DAY_S + 1)
        copy = backup.daily(db.path)
        assert copy is not None
        # Five days in one second: a name holds its second.
        made.append(copy.rename(copy.with_name(f"results-daily-{len(made)}.db")))
    assert copies(db) == sorted([*made[-3:], migrated])


def test_a_copy_from_the_future_does_not_stop_the_next(db: Database) -> None:
    copy = backup.daily(db.path)
    assert copy is not None
    age(copy.rename(copy.with_name("results-daily-20990101T000000Z.db")), -10 * DAY_S)
    assert backup.daily(db.path) is not None


def test_before_the_first_attempt_there_is_nothing_to_back_up(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    assert backup.daily(db.path) is None
    assert not (tmp_path / "outputs" / "backups").exists()


def test_a_copy_made_while_others_write_is_one_whole_picture(db: Database) -> None:
    stop = threading.Event()

    def write() -> None:
        other = create_or_migrate(db.path)
        number = 0
        while not stop.is_set():
            number += 1
            submitted(other, f"more_{number}", [{"steps": at} for at in range(1, 51)])
        other.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        made = [backup.take(db.path, str(number)) for number in range(5)]
    finally:
        stop.set()
        writer.join()
    for copy in made:
        assert finished(copy) == 1
        connection = sqlite3.connect(copy)
        (runs,) = connection.execute("SELECT count(*) FROM runs").fetchone()
        connection.close()
        assert runs % 50 == 5, "submissions of 50 are in it whole or not at all"


def test_a_corrupt_database_is_never_kept_as_a_backup_and_removes_none(db: Database) -> None:
    good = backup.daily(db.path)
    assert good is not None
    age(good, DAY_S + 1)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    connection = sqlite3.connect(db.path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'series'").fetchone()
    connection.close()
    with db.path.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xa5" * 4096)
    with pytest.raises(WorkFailed, match="corrupt") as refused:
        backup.daily(db.path)
    assert good.name in refused.value.message
    assert copies(db) == [good]


def test_a_lost_database_comes_back_by_the_words_of_its_own_refusal(db: Database) -> None:
    good = backup.take(db.path, "daily")
    age(good, 3 * DAY_S)
    executed(db)
    bad = backup.take(db.path, "v1")
    damage(bad)
    db.close()
    os.truncate(db.path, db.path.stat().st_size // 2)
    with pytest.raises(LabError, match="truncated") as refused:
        create_or_migrate(db.path)
    assert type(refused.value) is LabError, "exit status 2"
    message = refused.value.message
    assert good.name in message
    assert bad.name not in message
    command = message[message.index("mkdir") :]
    assert {"mv", "cp"} < set(shlex.split(command))
    subprocess.run(command, shell=True, check=True, cwd=db.path.parent)
    again = create_or_migrate(db.path)
    assert [view.outcome for view in read.runs(again, [1, 2])] == ["succeeded", None]
    assert executed(again).run_id == 2


def test_when_no_backup_is_sound_the_refusal_says_so(db: Database) -> None:
    damage(backup.take(db.path, "daily"))
    db.close()
    db.path.write_bytes(b"not a database" * 500)
    with pytest.raises(LabError, match="none of the 1 backups"):
        create_or_migrate(db.path)
