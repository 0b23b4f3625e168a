"""Trials in the results store: recorded once, read back whole, ended and opened again."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from labqueue.domain.trials import TrialState
from labqueue.store import trials
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import read
from labqueue.store.queries.outlook import Prospect, prospect
from labqueue.store.runs import control, search_state
from labqueue.store.runs.search_state import ALL_RECORDED, CANCELLED
from labqueue.store.workspace import archive
from tests.store.factories import needing, results_store, runs_at, submitted
from tests.store.searching import carried_out, searched

FIRST = [{"distance": 1.0}, {"distance": -1.0}]


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return results_store(tmp_path)


def study(db: Database, job: int) -> trials.Study:
    found = trials.study(db, job)
    assert found is not None
    return found


def drained(db: Database, ending: str = "succeeded", value: float = 1.0) -> None:
    while read.status(db).queued:
        carried_out(db, [(1, value)], ending)


def test_trials_are_read_back_in_the_order_of_their_proposal_with_their_last_values(db: Database) -> None:
    job = searched(db, FIRST, trials=5, seeds=(3, 4)).job
    carried_out(db, [(1, 9.0), (2, 1.0)])
    carried_out(db, [(1, 9.0), (2, 2.0)])
    first, second = study(db, job).trials
    assert (first.point, first.value) == (FIRST[0], 1.5)
    assert [(run.seed, run.last, run.last_step) for run in first.runs] == [(3, 1.0, 2), (4, 2.0, 2)]
    assert (second.point, second.state) == (FIRST[1], TrialState.OPEN)


def test_of_two_who_propose_the_same_trial_one_records_it(db: Database) -> None:
    job = searched(db, FIRST, trials=4).job
    drained(db)
    others = [create_or_migrate(db.path) for _ in range(4)]
    ready = threading.Barrier(4)
    answers: list[list[int] | None] = []

    def try_it(other: Database, distance: float) -> None:
        ready.wait()
        answers.append(trials.record(other, job, 2, runs_at({"distance": distance})))

    threads = [threading.Thread(target=try_it, args=(other, at / 10)) for at, other in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer is None for answer in answers) == [False, True, True, True]
    assert len(study(db, job).trials) == 3


def test_a_trial_is_due_when_nothing_of_its_search_is_queued_and_nothing_holds_it(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    assert trials.due(db, "cpu") == []
    drained(db)
    assert [switch.job for switch in trials.due(db, "cpu")] == [job]
    assert trials.due(db, "cuda") == []
    control.pause(db, "searched", None)
    assert trials.due(db, "cpu") == []
    control.resume(db, "searched")
    control.pause(db, "queue", None)
    assert trials.due(db, "cpu") == []
    control.resume(db, "queue")
    assert trials.record(db, job, 2, runs_at({"distance": 0.5})) is not None
    drained(db)
    assert trials.due(db, "cpu") == [], "all three are recorded"
    assert study(db, job).switch.ended == ALL_RECORDED


def test_a_recorded_trial_has_the_priority_that_a_person_gave_the_search(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    control.prioritize(db, "searched", 7)
    drained(db)
    (run,) = trials.record(db, job, 2, runs_at({"distance": 0.5})) or []
    assert read.run(db, run).priority == 7


@pytest.mark.parametrize("way", ["named", "needed by what is submitted", "needed by what is named"])
def test_the_priority_of_a_search_between_two_trials_is_that_of_its_next_one(db: Database, way: str) -> None:
    job = searched(db, FIRST, trials=3).job
    drained(db)
    if way == "named":
        control.prioritize(db, "searched", 7)
    else:
        priority = 7 if way == "needed by what is submitted" else 0
        submitted(db, "dependent", needs=needing(db, "searched", accept=[]), priority=priority)
        control.prioritize(db, "dependent", 7)
    (run,) = trials.record(db, job, 2, runs_at({"distance": 0.5})) or []
    assert read.run(db, run).priority == 7


def test_a_search_that_is_not_complete_is_not_done_for_what_needs_it(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    submitted(db, "dependent", needs=needing(db, "searched", accept=[]))
    while (run := read.status(db).queued[0]).experiment == "searched":
        carried_out(db, [(1, 1.0)])
    assert run.waiting is not None
    assert run.waiting.text == "the search of searched has 2 of 3 trials"
    assert prospect(db, "cpu") is Prospect.LATER
    trials.record(db, job, 2, runs_at({"distance": 0.5}))
    carried_out(db, [(1, 1.0)], "pruned")
    (run,) = read.status(db).queued
    assert run.waiting is None


def test_a_draining_worker_waits_for_a_search_unless_a_person_holds_it(db: Database) -> None:
    searched(db, FIRST, trials=3)
    drained(db)
    assert prospect(db, "cpu") is Prospect.LATER
    assert prospect(db, "cuda") is Prospect.EMPTY
    control.pause(db, "searched", 3600)
    assert prospect(db, "cpu") is Prospect.LATER
    control.pause(db, "searched", None)
    assert prospect(db, "cpu") is Prospect.STUCK


def test_the_time_left_counts_the_runs_that_are_still_to_be_proposed(db: Database) -> None:
    searched(db, FIRST, trials=5, seeds=(0, 1))
    drained(db)
    status = read.status(db)
    wall_s = [view.wall_s or 0.0 for view in read.find(db, "searched")]
    assert [(s.recorded, s.trials, s.to_come) for s in status.searches] == [(2, 5, 6)]
    assert status.eta_s == pytest.approx(6 * sum(wall_s) / len(wall_s))


def test_a_pruned_run_ends_the_seeds_of_its_trial_that_have_not_begun_and_no_other(db: Database) -> None:
    searched(db, FIRST, trials=3, seeds=(0, 1, 2))
    pruned = carried_out(db, [(1, 9.0)], "pruned")
    ids = search_state.settle_siblings(db, pruned.run_id)
    views = {view.id: view for view in read.find(db, "searched")}
    assert [views[run].varied for run in ids] == [FIRST[0]] * 2
    assert all(views[run].outcome == "pruned" for run in ids)
    assert all(f"pruned with run {pruned.run_id}" in (views[run].reason or "") for run in ids)
    assert [view.state for view in views.values() if view.varied == FIRST[1]] == ["queued"] * 3


def test_a_cancelled_experiment_proposes_no_more_and_retry_opens_its_search_again(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    control.cancel(db, "searched")
    assert study(db, job).switch.ended == CANCELLED
    assert prospect(db, "cpu") is Prospect.EMPTY
    assert read.status(db).searches == []
    control.retry(db, "searched")
    assert study(db, job).switch.ended is None
    drained(db)
    assert [switch.job for switch in trials.due(db, "cpu")] == [job]


def test_retrying_the_queue_opens_no_search_of_an_archived_experiment(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    other = searched(db, FIRST, trials=3, name="other").job
    control.cancel(db, "queue")
    archive.archive(db, ["searched"])
    control.retry(db, "queue")
    assert [study(db, each).switch.ended for each in (job, other)] == [CANCELLED, None]


def test_an_ended_search_leaves_nothing_queued_and_opens_again_as_it_was(db: Database) -> None:
    job = searched(db, FIRST, trials=3).job
    carried_out(db, [(1, 1.0)], "pruned")
    trials.end(db, job, "converged", "nothing better in 2 trials")
    left = read.find(db, "searched")[1]
    assert (left.outcome, left.reason) == ("pruned", "the search ended before its turn: nothing better in 2 trials")
    assert trials.record(db, job, 2, runs_at({"distance": 0.5})) is None
    trials.reopen(db, job)
    assert [view.state for view in read.find(db, "searched")] == ["finished", "queued"], "only what had not begun"
    assert study(db, job).switch.ended is None
