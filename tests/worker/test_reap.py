"""Who tells how an attempt ended: its own process, and its worker only where that could not."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from labqueue.attempt import exit_codes
from labqueue.domain.state import Ending
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts
from labqueue.store.runs.attempts import Claim, Fenced
from labqueue.worker import reap
from labqueue.worker.child_process import Child
from tests.store.factories import claimed, executed, results_store, submitted


def settled(db: Database, claim: Claim, status: int, folder: Path) -> None:
    """What the worker does once the process of an attempt has ended with a status."""
    process = subprocess.Popen(["true"])
    child = Child(process, folder / "log", os.pidfd_open(process.pid), "mark")
    child.log.touch()
    assert child.wait(os.pipe()[0], 30.0) == 0
    reap.settle(db, claim, child, status, oom_kills_before=None, device="cpu", grace_s=1.0)


@pytest.mark.parametrize("ending", ["succeeded", "failed", "diverged"])
def test_an_ending_that_the_process_has_told_is_left_alone_without_an_exception(tmp_path: Path, ending: str) -> None:
    db = results_store(tmp_path)
    submitted(db)
    claim = executed(db, ending, reason="its own words")
    before = read.run(db, claim.run_id)
    assert not attempts.under_way(db, claim.ref)
    settled(db, claim, 0, tmp_path)
    assert read.run(db, claim.run_id) == before
    with pytest.raises(Fenced):
        attempts.renew(db, claim.ref)


def test_a_process_that_told_nothing_is_told_of_by_its_exit_status(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    told = {0: "failed", 3: "crashed", exit_codes.STOPPED: "interrupted", exit_codes.BUSY: "interrupted",
            exit_codes.DISK_FULL: "disk_full"}  # fmt: skip
    for status, ending in told.items():
        submitted(db, force=True)
        claim = claimed(db)
        settled(db, claim, status, tmp_path)
        attempt = read.run(db, claim.run_id).attempts[-1]
        assert (attempt.number, attempt.outcome) == (claim.attempt, ending), status


def test_every_exit_status_has_one_meaning() -> None:
    codes = [value for name, value in vars(exit_codes).items() if name.isupper()]
    assert len(set(codes)) == len(codes)
    assert all(64 <= code < 126 for code in codes), "above Python's own, below a shell's"


def test_a_crash_says_how_often_it_was_tried_of_its_run_and_not_of_its_attempt(tmp_path: Path) -> None:
    from labqueue.attempt import retry_policy

    db = results_store(tmp_path)
    submitted(db)
    for number in (1, 2, 3):
        with db.write() as connection:
            connection.exec_driver_sql("UPDATE runs SET not_before = NULL")
        retry_policy.conclude(db, claimed(db), Ending.CRASHED, "died")
        run = read.run(db, 1)
        assert [attempt.reason for attempt in run.attempts] == ["died"] * number
    assert (run.outcome, run.reason) == ("crashed", "died (attempt 3 of 3)")
