"""Opening, migrating, and surviving other processes."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from labqueue.domain.errors import LabError
from labqueue.store import migrations
from labqueue.store.db import Database, create_or_migrate, open_existing
from labqueue.store.queries import read
from labqueue.store.sqlite import library
from labqueue.store.tables import SCHEMA_VERSION
from tests.store.factories import results_store, submitted


def schema(path: Path) -> dict[str, str]:
    """Every object of a database file, its SQL without layout."""
    connection = sqlite3.connect(path)
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {name: "".join(sql.split()).replace('"', "") for name, sql in found}


def old(path: Path) -> None:
    """An empty database of version 0 that is not an empty file."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE unrelated (x)")
    connection.execute("DROP TABLE unrelated")
    connection.commit()
    connection.close()


def test_the_migrations_make_the_same_schema_as_the_tables(tmp_path: Path) -> None:
    made = results_store(tmp_path / "made")
    made.close()
    migrated = tmp_path / "results.db"
    old(migrated)
    migrations.upgrade(migrated, 0)
    ours, theirs = schema(made.path), schema(migrated)
    ours.pop("alembic_version"), theirs.pop("alembic_version")
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name
    opened = open_existing(migrated)
    assert opened is not None
    assert submitted(opened).runs == [1]


def test_a_migration_is_preceded_by_a_backup(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    old(path)
    migrations.upgrade(path, 0)
    (backup,) = (tmp_path / "outputs" / "backups").glob("*.db")
    connection = sqlite3.connect(backup)
    assert connection.execute("PRAGMA user_version").fetchone() == (0,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_looking_at_an_older_database_migrates_nothing_and_says_what_does(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    with db.write() as connection:
        connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION - 1}"))
    db.close()
    before = db.path.read_bytes()
    with pytest.raises(LabError, match="labqueue submit"):
        open_existing(db.path)
    assert db.path.read_bytes() == before


def test_there_is_nothing_to_open_in_an_empty_workspace(tmp_path: Path) -> None:
    assert open_existing(tmp_path / "results.db") is None
    assert list(tmp_path.iterdir()) == []


def test_a_commit_is_durable_and_foreign_keys_are_kept(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    pragmas = {}
    with db.engine.connect() as connection:
        for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout"):
            pragmas[name] = connection.execute(text(f"PRAGMA {name}")).scalar_one()
    assert pragmas["journal_mode"] == ("wal" if library()[2] else "delete")
    assert (pragmas["synchronous"], pragmas["foreign_keys"]) == (2, 1)
    assert pragmas["busy_timeout"] >= 5000


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    db = results_store(tmp_path)

    def half() -> None:
        with db.write() as connection:
            connection.execute(text("INSERT INTO experiments (name, created_at) VALUES ('x', 0)"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert read.experiments(db) == []


def test_a_reader_sees_one_picture_while_others_write(tmp_path: Path) -> None:
    db, other = results_store(tmp_path), results_store(tmp_path)
    with db.read() as connection:
        before = connection.execute(text("SELECT count(*) FROM runs")).scalar_one()
        submitted(other)
        after = connection.execute(text("SELECT count(*) FROM runs")).scalar_one()
    assert (before, after) == (0, 0)
    with db.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM runs")).scalar_one() == 1


def test_writers_that_come_at_once_all_get_their_turn(tmp_path: Path) -> None:
    results_store(tmp_path).close()
    answers: list[Any] = []

    def submit(number: int) -> None:
        db: Database = create_or_migrate(tmp_path / "results.db")
        answers.extend(submitted(db, f"experiment_{number}", [{"steps": at} for at in range(1, 6)]).runs)
        db.close()

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list(range(1, 41))


def test_processes_that_make_the_database_at_once_all_find_it_whole(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from labqueue.store.db import create_or_migrate as make;"
        "sys.stdin.readline(); make(pathlib.Path(sys.argv[1])).close()"
    )
    path = tmp_path / "results.db"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, path], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        assert (process.wait(30), process.stderr.read() if process.stderr else "") == (0, "")
    assert open_existing(path) is not None
