"""Submissions: all or nothing, reused where nothing has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from labqueue.store.queries import experiment, read
from labqueue.store.runs import control
from labqueue.store.runs.jobs import add_jobs
from tests.store.factories import executed, job, results_store, submitted

POINTS = [{"steps": 1}, {"steps": 2}]


def test_runs_keep_their_order_and_belong_to_their_job(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    answer = submitted(db, points=POINTS, seeds=(7, 8))
    assert (answer.runs, answer.reused) == ([1, 2, 3, 4], [])
    views = read.runs(db, answer.runs)
    assert [(view.seed, view.varied["steps"]) for view in views] == [(7, 1), (7, 2), (8, 1), (8, 2)]
    assert {view.job for view in views} == {answer.job}


def test_what_has_succeeded_is_reused_and_only_that(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=[*POINTS, {"steps": 3}])
    executed(db, "succeeded")
    executed(db, "failed")
    again = submitted(db, points=[*POINTS, {"steps": 3}])
    assert (again.runs, again.reused) == ([1, 4, 5], [1])


@pytest.mark.parametrize("change", [{"force": True}, {"sources_hash": "t"}, {"packages_hash": "q"}, {"device": "cuda"}])
def test_a_success_is_not_reused_once_anything_that_decides_it_has_changed(tmp_path: Path, change: dict) -> None:
    db = results_store(tmp_path)
    submitted(db)
    executed(db, "succeeded")
    assert submitted(db, **change).reused == []


def test_another_experiments_success_is_not_reused(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, "one")
    executed(db, "succeeded")
    assert submitted(db, "two").reused == []


def test_several_jobs_are_recorded_together_or_not_at_all(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    needs = [{"experiment": "nowhere", "job": None, "where": {}, "accept": []}]
    with pytest.raises(KeyError):
        add_jobs(db, [job("one"), job("two", needs=needs)])
    assert read.experiments(db) == []
    assert submitted(db, "one").job == 1, "not even a number was used"


def test_a_report_takes_the_newest_success_of_each_point_and_says_what_it_left_out(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=POINTS)
    executed(db, "succeeded", points=[("value", 1, 1.0)])
    executed(db, "succeeded", points=[("value", 1, 2.0)])
    submitted(db, points=POINTS, force=True)
    executed(db, "succeeded", points=[("value", 1, 3.0)])
    executed(db, "failed")
    view = experiment.experiment(db, "drill")
    assert [run.id for run in view.runs] == [3, 2], "a success is not displaced by a later failure"
    assert any("seeds: 1 failed, 1 succeeded (" in words for words in view.left_out)


def test_runs_of_a_changed_spec_are_kept_apart(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=POINTS)
    executed(db, "succeeded")
    executed(db, "succeeded")
    submitted(db, points=[{"steps": 1, "step_s": 0.5}, {"steps": 2, "step_s": 0.5}])
    view = experiment.experiment(db, "drill")
    assert [run.id for run in view.runs] == [3, 4]
    assert any("2 runs of an earlier version" in words for words in view.left_out)


def test_more_seeds_of_the_same_spec_are_one_body_of_evidence(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=POINTS, seeds=(0,))
    executed(db, "succeeded")
    executed(db, "succeeded")
    answer = submitted(db, points=POINTS, seeds=(1, 2))
    assert (len(answer.runs), answer.reused) == (4, [])
    view = experiment.experiment(db, "drill")
    assert [(run.seed, run.varied["steps"]) for run in view.runs] == [(s, n) for s in (0, 1, 2) for n in (1, 2)]
    assert view.left_out == []


def test_ten_thousand_runs_are_recorded_with_one_commit(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    answer = submitted(db, points=[{"steps": at} for at in range(1, 10_001)])
    assert answer.runs == list(range(1, 10_001))
    assert len(read.status(db).queued) == 10_000


def test_a_run_cancelled_before_it_began_does_not_hide_one_that_ended_by_itself(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted(db, points=POINTS[:1])
    executed(db, "diverged", points=[("value", 1, 1.0)])
    again = submitted(db, points=POINTS[:1])
    control.cancel(db, str(again.runs[0]))
    assert [(run.id, run.outcome) for run in experiment.experiment(db, "drill").runs] == [(1, "diverged")]
