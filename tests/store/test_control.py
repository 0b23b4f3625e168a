"""What a person asks of the queue, and what a run waits for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.domain.state import Outcome
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.queries.outlook import Prospect, prospect
from labqueue.store.runs import attempts, control
from labqueue.store.workspace import archive
from tests.store.factories import ANY_OUTCOME, claimed, executed, needing, results_store, submitted, worker


def nothing_to_claim(db: Database) -> bool:
    return attempts.claim(db, device="cpu", worker_id=worker(db)) is None


def waits_for(db: Database, run_id: int) -> str | None:
    waiting = read.run(db, run_id).waiting
    return None if waiting is None else str(waiting.code)


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return results_store(tmp_path)


@pytest.mark.parametrize("target", ["1", "drill", "queue"])
def test_what_is_paused_waits_until_it_is_resumed(db: Database, target: str) -> None:
    submitted(db)
    held, asked = control.pause(db, target, None)
    assert (held, asked) == ([1], [])
    assert nothing_to_claim(db)
    assert waits_for(db, 1) == "paused"
    assert prospect(db, "cpu") is Prospect.STUCK, "only a person ends it"
    assert control.resume(db, target) == [1]
    assert waits_for(db, 1) is None
    assert claimed(db).run_id == 1


@pytest.mark.parametrize("target", ["1", "drill", "queue"])
def test_a_pause_for_a_time_ends_by_itself(db: Database, target: str) -> None:
    submitted(db)
    control.pause(db, target, 3600)
    assert nothing_to_claim(db)
    assert prospect(db, "cpu") is Prospect.LATER
    control.pause(db, target, -1.0)
    assert waits_for(db, 1) is None
    assert claimed(db).run_id == 1


def test_pausing_one_experiment_leaves_the_others(db: Database) -> None:
    submitted(db, "one")
    submitted(db, "two")
    control.pause(db, "one", None)
    assert claimed(db).experiment == "two"
    assert nothing_to_claim(db)


def test_runs_submitted_into_a_paused_experiment_wait_too(db: Database) -> None:
    submitted(db, points=[{"steps": 1}])
    control.pause(db, "drill", None)
    late = submitted(db, points=[{"steps": 2}])
    assert waits_for(db, late.runs[0]) == "paused"


def test_a_running_run_is_asked_and_decides_itself_when_to_stop(db: Database) -> None:
    submitted(db)
    got = claimed(db)
    assert control.pause(db, "1", None) == ([], [1])
    assert read.asked(db, got.ref).stop == "pause"
    control.resume(db, "1")
    assert read.asked(db, got.ref).stop is None
    assert control.cancel(db, "1") == ([], [1])
    assert read.asked(db, got.ref).stop == "cancel"
    assert read.run(db, 1).state == "running"


def test_cancelling_a_group_ends_what_waits_and_asks_what_runs_and_leaves_what_is_done(db: Database) -> None:
    submitted(db, points=[{"steps": at} for at in (1, 2, 3)])
    executed(db, "succeeded")
    claimed(db)
    assert control.cancel(db, "drill") == ([3], [2])
    assert [view.outcome for view in read.runs(db, [1, 2, 3])] == ["succeeded", None, "cancelled"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_retry_reopens_any_finished_run_but_a_succeeded_one(db: Database, outcome: Outcome) -> None:
    submitted(db)
    executed(db, outcome)
    if outcome is Outcome.SUCCEEDED:
        with pytest.raises(LabError, match="--force"):
            control.retry(db, "1")
        assert control.retry(db, "drill") == []
        assert read.run(db, 1).outcome == "succeeded"
    else:
        assert control.retry(db, "1") == [1]
        assert (read.run(db, 1).state, read.run(db, 1).outcome) == ("queued", None)
        assert claimed(db).attempt == 2


def test_retry_of_what_failed_leaves_what_a_person_cancelled(db: Database) -> None:
    submitted(db, points=[{"steps": 1}, {"steps": 2}])
    executed(db, "failed")
    control.cancel(db, "2")
    assert control.retry(db, "queue", failed_only=True) == [1]
    assert control.retry(db, "queue") == [2]


def test_priorities_can_be_changed_until_a_run_has_finished(db: Database) -> None:
    submitted(db, points=[{"steps": 1}, {"steps": 2}])
    assert control.prioritize(db, "2", 9) == ([2], [])
    assert [view.id for view in read.status(db).queued] == [2, 1], "the queue is shown in its order"
    assert executed(db).run_id == 2
    assert control.prioritize(db, "drill", 5) == ([1], [])


ACCEPTED = ["failed", "diverged"]


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("accept", [[], ACCEPTED, ANY_OUTCOME], ids=["strict", "accepting", "after"])
def test_a_dependent_becomes_eligible_exactly_when_its_needs_say(db: Database, outcome: Outcome, accept: Any) -> None:
    submitted(db, "first")
    (second,) = submitted(db, "second", needs=needing(db, "first", accept)).runs
    assert waits_for(db, second) == "needs"
    executed(db, outcome)
    satisfied = outcome in ("succeeded", "pruned") or accept is ANY_OUTCOME or outcome in accept
    assert (waits_for(db, second) is None) == satisfied
    assert prospect(db, "cpu") is (Prospect.LATER if satisfied else Prospect.STUCK)
    if not satisfied:
        waiting = read.run(db, second).waiting
        assert waiting is not None
        assert f"ended {outcome}" in waiting.text
        assert "labqueue retry 1" in waiting.text
        assert nothing_to_claim(db)
        control.retry(db, "1")
        executed(db, "succeeded")
    assert claimed(db).run_id == second


def test_release_frees_a_run_from_its_needs(db: Database) -> None:
    submitted(db, "first")
    (second,) = submitted(db, "second", needs=needing(db, "first", [])).runs
    executed(db, "failed")
    assert control.release(db, "second") == [second]
    assert claimed(db).run_id == second


def test_a_released_run_that_is_retried_does_not_wait_for_its_needs_again(db: Database) -> None:
    submitted(db, "first")
    (second,) = submitted(db, "second", needs=needing(db, "first", [])).runs
    executed(db, "failed")
    control.release(db, "second")
    executed(db, "failed")
    for word in (str(second), "second", "queue"):
        control.retry(db, word)
        assert waits_for(db, second) is None
        control.cancel(db, "queue")


def test_what_is_archived_is_not_retried_until_it_is_restored(db: Database) -> None:
    submitted(db, "old", [{"steps": 1}, {"steps": 2}])
    submitted(db, "new")
    for outcome in ("succeeded", "failed", "failed"):
        executed(db, outcome)
    archive.archive(db, ["old"])
    for word in ("2", "old"):
        with pytest.raises(LabError, match=r"experiment 'old'.* archived: `labqueue restore old`"):
            control.retry(db, word)
    with pytest.raises(LabError, match="--force"):
        control.retry(db, "1")
    assert control.retry(db, "queue", failed_only=True) == [3], "the rest of the queue has nothing to do with it"
    assert [view.state for view in read.runs(db, [1, 2, 3])] == ["finished", "finished", "queued"]
    archive.restore(db, ["old"])
    assert control.retry(db, "2") == [2]


def test_a_need_can_be_of_some_runs_only(db: Database) -> None:
    submitted(db, "first", [{"steps": 1}, {"steps": 2}])
    (second,) = submitted(db, "second", needs=needing(db, "first", [], {"steps": 1})).runs
    executed(db, "succeeded")
    assert waits_for(db, second) is None


def test_a_need_is_frozen_to_the_job_that_was_newest(db: Database) -> None:
    submitted(db, "first", [{"steps": 1}])
    (second,) = submitted(db, "second", needs=needing(db, "first", [])).runs
    submitted(db, "first", [{"steps": 2}])
    executed(db, "succeeded")
    assert waits_for(db, second) is None, "the later job is none of its business"


def test_a_chain_of_needs_that_ended_badly_is_stuck_and_one_that_runs_is_not(db: Database) -> None:
    submitted(db, "first")
    submitted(db, "second", needs=needing(db, "first", []))
    submitted(db, "third", needs=needing(db, "second", []))
    claimed(db)
    assert prospect(db, "cpu") is Prospect.LATER
    control.cancel(db, "second")
    assert waits_for(db, 3) == "needs"


def test_an_empty_queue_has_nothing_to_wait_for(db: Database) -> None:
    assert prospect(db, "cpu") is Prospect.EMPTY
    submitted(db, device="cuda")
    assert prospect(db, "cpu") is Prospect.EMPTY
    assert prospect(db, "cuda") is Prospect.LATER
