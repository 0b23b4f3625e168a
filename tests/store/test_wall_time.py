"""How long a run has worked: measured on the boot clock, whatever the wall clock, the worker and the machine do."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from labqueue.domain.state import Ending
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts, control
from labqueue.system import clock
from tests.store.factories import claimed, results_store, submitted

DAY_S = 86_400.0


@dataclass
class Time:
    """The machine's three clocks."""

    wall_s: float = 1_800_000_000.0
    boot_s: float = 5_000.0
    boot: str = "first-boot"

    def passes(self, seconds: float) -> None:
        self.wall_s += seconds
        self.boot_s += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(clock, "now", lambda: time.wall_s)
    monkeypatch.setattr(clock, "boot_s", lambda: time.boot_s)
    monkeypatch.setattr(clock, "boot_id", lambda: time.boot)
    return time


@pytest.fixture
def db(tmp_path: Path) -> Database:
    db = results_store(tmp_path)
    submitted(db)
    return db


def worked(db: Database, time: Time, seconds: float) -> attempts.Claim:
    """Claims the run and renews its lease every four seconds, as a worker does."""
    got = claimed(db)
    for _ in range(int(seconds // 4)):
        time.passes(4.0)
        attempts.renew(db, got.ref)
    time.passes(seconds % 4)
    return got


def wall_s(db: Database) -> float | None:
    return read.run(db, 1).wall_s


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
@pytest.mark.parametrize("ending", [Ending.SUCCEEDED, Ending.INTERRUPTED])
def test_a_jump_of_the_wall_clock_is_not_worked_time(db: Database, time: Time, jump_s: float, ending: Ending) -> None:
    got = worked(db, time, 30.0)
    time.wall_s += jump_s
    assert wall_s(db) == pytest.approx(30.0), "while it runs"
    time.passes(3.0)
    attempts.renew(db, got.ref)
    time.wall_s += jump_s
    time.passes(2.0)
    if ending is Ending.SUCCEEDED:
        attempts.end(db, got.ref, ending, None)
    else:
        attempts.interrupt(db, got.ref, "the worker was stopped", asked=True)
    assert wall_s(db) == pytest.approx(35.0)


def test_what_was_worked_before_a_power_cut_counts_up_to_the_last_renewal(db: Database, time: Time) -> None:
    got = worked(db, time, 42.5)
    time.boot, time.boot_s = "second-boot", 9.0
    time.wall_s += 8 * 3600
    assert wall_s(db) == pytest.approx(40.0)
    attempts.interrupt(db, got.ref, "the machine went down")
    assert wall_s(db) == pytest.approx(40.0)
    again = worked(db, time, 10.0)
    attempts.end(db, again.ref, Ending.SUCCEEDED, None)
    assert wall_s(db) == pytest.approx(50.0)


def test_the_night_between_a_workers_death_and_the_next_worker_is_not_worked_time(db: Database, time: Time) -> None:
    got = worked(db, time, 12.0)
    time.passes(8 * 3600)
    attempts.interrupt(db, got.ref, "its worker died")
    assert wall_s(db) == pytest.approx(12.0)


def test_a_child_that_ends_under_a_frozen_worker_has_worked_all_the_while(db: Database, time: Time) -> None:
    got = worked(db, time, 12.0)
    attempts.attempt_fields(db, got.ref, pid=os.getpid())
    time.passes(3600)
    attempts.end(db, got.ref, Ending.FAILED, "by itself")
    assert wall_s(db) == pytest.approx(3612.0)


def test_every_attempt_adds_to_the_run_and_waiting_does_not(db: Database, time: Time) -> None:
    assert wall_s(db) is None, "never started is not 0 s"
    first = worked(db, time, 10.0)
    attempts.end(db, first.ref, Ending.CRASHED, "died", requeue={})
    time.passes(500.0)
    second = worked(db, time, 6.0)
    attempts.end(db, second.ref, Ending.FAILED, "why")
    time.passes(500.0)
    control.retry(db, "1")
    assert wall_s(db) == pytest.approx(16.0)
