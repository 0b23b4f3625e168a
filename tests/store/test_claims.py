"""Claims, leases and fencing: one owner at a time, and nothing from who no longer is."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.canonical import Canonical
from labqueue.domain.state import Ending, Waiting
from labqueue.domain.waiting import Reason
from labqueue.store.queries import read
from labqueue.store.runs import attempts, control, results
from labqueue.store.runs.attempts import MAX_STALLS, Candidate, Fenced, claim
from labqueue.system import clock
from tests.store.factories import claimed, executed, results_store, runs_at, submitted, worker


def test_the_highest_priority_is_claimed_first_then_the_oldest(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, "low", [{"steps": 1}, {"steps": 2}])
    submitted(db, "high", [{"steps": 3}], priority=5)
    submitted(db, "lowest", [{"steps": 4}], priority=-5)
    order = [executed(db).experiment for _ in range(4)]
    assert order == ["high", "low", "low", "lowest"]
    assert claim(db, device="cpu", worker_id=worker(db)) is None


def test_a_worker_claims_only_its_own_device(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, device="cuda")
    assert claim(db, device="cpu", worker_id=worker(db)) is None
    assert claimed(db, "cuda").run_id == 1


def test_workers_that_claim_at_once_never_get_the_same_run(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=[{"steps": at} for at in range(1, 41)])
    taken: list[int] = []

    def work() -> None:
        mine = results_store(tmp_path)
        number = worker(mine)
        while (got := claim(mine, device="cpu", worker_id=number)) is not None:
            taken.append(got.run_id)
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 41))


def test_every_write_of_an_attempt_that_lost_its_run_is_fenced_and_changes_nothing(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    stale = claimed(db)
    mine: dict[str, Any] = {"db": db, "ref": stale.ref}
    attempts.interrupt(**mine, reason="its worker died")
    current = claimed(db)
    assert current.attempt == stale.attempt + 1
    results.flush(db, current.ref, [("value", 1, 1.0)], results.Progress(1, 10, None), [])
    before = read.run(db, 1)
    file = {"path": "p", "sha256": "0", "bytes": 1}
    writes = {
        "a flush": lambda: results.flush(
            **mine,
            points=[("value", 1, 9.0)],
            progress=results.Progress(9, 9, None),
            notes=["n"],
            samples=[(1, "p", "t")],
        ),
        "an artifact": lambda: results.add_artifact(**mine, name="a", type="text", **file),
        "a checkpoint": lambda: results.add_checkpoint(**mine, step=5, points=[("value", 2, 9.0)], keep=2, **file),
        "a beginning": lambda: attempts.begin(**mine, resumed_from=None),
        "a renewal": lambda: attempts.renew(**mine),
        "its columns": lambda: attempts.attempt_fields(**mine, pid=1),
        "an end": lambda: attempts.end(**mine, ending=Ending.SUCCEEDED, reason=None),
        "an interruption": lambda: attempts.interrupt(**mine, reason="again"),
        "a look at requests": lambda: read.asked(**mine),
    }
    for act in writes.values():
        with pytest.raises(Fenced):
            act()
    after = read.run(db, 1)
    assert (after.metrics, after.progress, after.notes) == (before.metrics, before.progress, before.notes)
    assert (after.artifacts, after.attempts, after.state) == (before.artifacts, before.attempts, "running")
    assert after.samples == []
    assert read.checkpoints(db, 1) == []


def test_a_finished_run_takes_nothing_from_its_own_last_attempt(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    done = executed(db, "failed", reason="why")
    for act in (
        lambda: results.flush(db, done.ref, [("value", 9, 1.0)], None, []),
        lambda: attempts.end(db, done.ref, Ending.SUCCEEDED, None),
    ):
        with pytest.raises(Fenced):
            act()
    view = read.run(db, 1)
    assert (view.state, view.outcome, view.reason, view.metrics) == ("finished", "failed", "why", {})


def test_interruptions_count_as_a_crash_only_after_three_in_a_row_without_progress(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)

    def interrupted(done: int | None) -> bool:
        got = claimed(db)
        if done is not None:
            results.flush(db, got.ref, [], results.Progress(done, 100, None), [])
        return attempts.interrupt(db, got.ref, "its worker died")

    assert [interrupted(None) for _ in range(MAX_STALLS - 1)] == [False] * (MAX_STALLS - 1)
    assert interrupted(5) is False, "a new step: the count begins again"
    assert [interrupted(5) for _ in range(MAX_STALLS - 1)] == [False] * (MAX_STALLS - 1)
    assert interrupted(5) is True, "the same step again is no progress"
    view = read.run(db, 1)
    assert view.state == "running", "the caller ends it"
    assert {attempt.outcome for attempt in view.attempts} == {"interrupted", None}


def test_what_a_phase_counts_is_progress_against_the_same_phase_only(tmp_path: Path) -> None:
    """Bytes of a corpus are more than any number of steps, and say nothing of them."""
    db = results_store(tmp_path)
    submitted(db)

    def interrupted(done: int, phase: str | None) -> bool:
        got = claimed(db)
        results.flush(db, got.ref, [], results.Progress(done, 10**9, None, phase), [])
        return attempts.interrupt(db, got.ref, "its worker died")

    assert interrupted(10**6, "tokenizing") is False
    assert [interrupted(5, None) for _ in range(MAX_STALLS - 1)] == [False] * (MAX_STALLS - 1)
    assert interrupted(6, None) is False, "a new step: the count begins again"
    assert [interrupted(10**6, "tokenizing") for _ in range(MAX_STALLS - 1)] == [False] * (MAX_STALLS - 1)
    assert interrupted(10**6, "tokenizing") is True
    last = read.run(db, 1).attempts
    assert (last[0].last_step, last[0].last_phase) == (10**6, "tokenizing")
    assert (last[1].last_step, last[1].last_phase) == (5, None)


def test_an_interruption_that_a_person_asked_for_never_counts(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    for _ in range(MAX_STALLS * 2):
        got = claimed(db)
        assert attempts.interrupt(db, got.ref, "paused", asked=True) is False
    assert read.run(db, 1).state == "queued"
    assert claimed(db).attempts_used == 0


def test_a_backoff_makes_a_run_wait_and_says_so(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    got = claimed(db)
    later = {"not_before": str(clock.Deadline.after(60))}
    attempts.end(db, got.ref, Ending.CRASHED, "died", requeue=later)
    assert claim(db, device="cpu", worker_id=worker(db)) is None
    waiting = read.run(db, 1).waiting
    assert waiting is not None
    assert waiting.code == "backoff"
    assert "died" in waiting.text
    control.release(db, "1")
    assert claimed(db).run_id == 1


def test_what_a_worker_passes_over_keeps_the_reason(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    large = Canonical.of({"memory_gib": 99.0, "wall_minutes": None, "attempts": 3})
    ((first,), (second,)) = runs_at({"steps": 1}), runs_at({"steps": 2})
    submitted(db, runs=[first._replace(limits=large), second])

    facts = {"needed_gib": 99.0, "limit": True, "free_below_gib": 2.5, "where": "this machine"}

    def admit(run: Candidate) -> Reason | None:
        return Reason(Waiting.MEMORY, facts) if run.limits["memory_gib"] == 99.0 else None

    got = claim(db, device="cpu", worker_id=worker(db), admit=admit)
    assert got is not None
    assert got.params["steps"] == 2
    waiting = read.run(db, 1).waiting
    assert waiting is not None
    said = (
        "needs 99.0 GiB (limits.memory_gib) and less than 2.5 are free on this machine: something else holds the rest"
    )
    assert (waiting.code, waiting.text) == ("memory", said)


def test_a_resumed_attempt_forgets_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    first = claimed(db)
    points = [("value", step, float(step)) for step in range(1, 9)]
    results.flush(db, first.ref, points, results.Progress(8, 10, None), [])
    attempts.interrupt(db, first.ref, "its worker died")
    second = claimed(db)
    attempts.begin(db, second.ref, resumed_from=5)
    assert [step for step, _ in read.series(db, 1, "value")] == [1, 2, 3, 4, 5]
    assert read.run(db, 1).metrics["value"].last_step == 5
    assert read.run(db, 1).attempts[1].resumed_from_step == 5


def test_only_the_last_checkpoints_are_kept_and_none_of_a_success(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    got = claimed(db)
    removable: list[str] = []
    for step in (5, 10, 15):
        removable += results.add_checkpoint(
            db, got.ref, step=step, path=f"step-{step}", sha256="0", bytes=1, points=[], keep=2
        )
    assert [row.step for row in read.checkpoints(db, 1)] == [15, 10]
    assert removable == ["step-5"]
    attempts.end(db, got.ref, Ending.SUCCEEDED, None)
    assert read.checkpoints(db, 1) == []


def test_a_run_that_failed_keeps_its_history_through_a_retry(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db)
    executed(db, "failed", reason="first")
    assert control.retry(db, "1") == [1]
    executed(db, "succeeded")
    view = read.run(db, 1)
    assert (view.outcome, view.reason) == ("succeeded", None)
    assert [(attempt.number, attempt.outcome, attempt.reason) for attempt in view.attempts] == [
        (1, "failed", "first"),
        (2, "succeeded", None),
    ]
