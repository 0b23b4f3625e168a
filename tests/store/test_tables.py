"""The database itself refuses what cannot be, whoever writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from labqueue.store.db import Database
from tests.store.factories import claimed, executed, results_store, submitted

IMPOSSIBLE_RUNS = {
    "an unknown state": "state = 'lost'",
    "an unknown outcome": "state = 'finished', finished_at = 1, outcome = 'fine'",
    "finished without an outcome": "state = 'finished', finished_at = 1",
    "finished without an end": "state = 'finished', outcome = 'failed'",
    "an outcome while queued": "outcome = 'failed'",
    "an end while queued": "finished_at = 1",
    "running without a claim": "state = 'running'",
    "running without a start": "state = 'running', attempt = 1",
    "success without an attempt": "state = 'finished', outcome = 'succeeded', finished_at = 1",
    "no seed": "seed = NULL",
    "no job": "job_id = NULL",
    "a job that does not exist": "job_id = 99",
}

IMPOSSIBLE_ATTEMPTS = {
    "an unknown ending": "outcome = 'fine', finished_at = 1",
    "an end without an outcome": "finished_at = 1",
    "an outcome without an end": "outcome = 'failed'",
    "a worker that does not exist": "worker_id = 99",
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    opened = results_store(tmp_path)
    yield opened
    opened.close()


def raw(db: Database, statement: str) -> Any:
    with db.write() as connection:
        return connection.execute(text(statement))


@pytest.mark.parametrize("what", IMPOSSIBLE_RUNS)
def test_an_impossible_run_is_refused(db: Database, what: str) -> None:
    submitted(db)
    with pytest.raises(IntegrityError):
        raw(db, f"UPDATE runs SET {IMPOSSIBLE_RUNS[what]} WHERE id = 1")
    with db.read() as connection:
        assert connection.execute(text("SELECT state, outcome, attempt, seed FROM runs")).one() == (
            "queued",
            None,
            0,
            0,
        )


@pytest.mark.parametrize("what", IMPOSSIBLE_ATTEMPTS)
def test_an_impossible_attempt_is_refused(db: Database, what: str) -> None:
    submitted(db)
    claimed(db)
    with pytest.raises(IntegrityError):
        raw(db, f"UPDATE attempts SET {IMPOSSIBLE_ATTEMPTS[what]} WHERE run_id = 1")


def test_two_attempts_of_one_run_cannot_be_open_at_once(db: Database) -> None:
    submitted(db)
    claimed(db)
    columns = "run_id, started_at, worker_id, lease, boot_id, log"
    with pytest.raises(IntegrityError):
        raw(db, f"INSERT INTO attempts (number, {columns}) SELECT 2, {columns} FROM attempts")


def test_what_a_run_has_left_cannot_lose_its_run(db: Database) -> None:
    submitted(db)
    executed(db, points=[("value", 1, 1.0)])
    with pytest.raises(IntegrityError):
        raw(db, "DELETE FROM runs")
    with pytest.raises(IntegrityError):
        raw(db, "DELETE FROM jobs")


def test_ids_are_never_used_again(db: Database) -> None:
    submitted(db, points=[{"steps": 1}])
    raw(db, "DELETE FROM job_runs")
    raw(db, "DELETE FROM runs")
    assert submitted(db, points=[{"steps": 2}]).runs == [2]
