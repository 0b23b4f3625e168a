"""When a loop may stop, and what it then says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.trials import Trial, TrialRun
from labqueue.search.stop_rules import Rules, Stop, stop, summary
from labqueue.store import trials
from labqueue.store.db import Database
from labqueue.store.runs.search_state import Switch
from labqueue.store.trials import Study
from tests.store.factories import results_store
from tests.store.searching import carried_out, searched

SPEC: dict[str, Any] = {
    "sweep": {"search": {"sampler": "random", "trials": 9, "metric": "loss", "space": {"a": {"uniform": [0, 1]}}}}
}
NEVER = Rules(budget_s=60)


def study(
    *values: float | None, ended: str | None = None, open_trials: int = 0, outcome: str = "succeeded", **search: Any
) -> Study:
    made = [
        Trial(at, {"a": at / 10}, (TrialRun(at, 0, "finished", outcome, value, 5),)) for at, value in enumerate(values)
    ]
    for at in range(len(made), len(made) + open_trials):
        made.append(Trial(at, {"a": at / 10}, (TrialRun(at, 0, "running", None, None, None),)))
    switch = Switch(1, "srch", "cpu", 9, 1, False, ended, "its words" if ended else None, len(made))
    given = {"direction": "minimize", **SPEC["sweep"]["search"], **search}
    return Study(switch, {"sweep": {"search": given}}, "cpu", made, frozenset())


def says(verdict: str | None) -> Callable[[], str | None]:
    return lambda: verdict


def test_a_search_that_goes_on_is_not_stopped() -> None:
    assert stop(study(3.0, 2.0), NEVER, says(None)) is None
    assert stop(study(3.0, 2.0, ended="all_recorded", open_trials=1), NEVER, says(None)) is None


@pytest.mark.parametrize(
    ("ended", "done"),
    [
        ("all_recorded", True),
        ("exhausted", True),
        ("metric_never_recorded", False),
        ("barren", False),  # as earlier versions stored it
        ("cancelled", False),
    ],
)
def test_a_search_that_has_ended_is_done_unless_it_was_given_up(ended: str, done: bool) -> None:
    found = stop(study(3.0, 2.0, ended=ended), NEVER, says(None))
    assert found is not None
    assert (found.code, found.done) == (ended, done)


def test_a_search_without_an_improvement_has_converged() -> None:
    rules = Rules(60, patience=3, min_improvement=0.25)
    assert stop(study(2.0, 1.9, 1.8, 1.75), rules, says(None)) is not None
    assert stop(study(2.0, 1.9, 1.8, 1.70), rules, says(None)) is None
    assert stop(study(2.0, 1.9, 1.8), rules, says(None)) is None
    found = stop(study(2.0, 1.9, 1.8, 1.75, open_trials=1), rules, says(None))
    assert found is not None
    assert (found.code, found.done) == ("converged", True)


def test_points_drawn_before_tpe_learns_are_no_sign_of_convergence() -> None:
    drawn = study(1.0, 2.0, 2.0, 2.0, 2.0, sampler="tpe")
    assert stop(drawn, Rules(60, patience=3), says(None)) is None
    learned = study(1.0, *[2.0] * 7, sampler="tpe")
    assert stop(learned, Rules(60, patience=3), says(None)) is not None


@pytest.mark.parametrize(("verdict", "ends"), [("supported", True), ("refuted", True), ("inconclusive", False)])
def test_a_prediction_that_is_decided_ends_the_loop(verdict: str, ends: bool) -> None:
    found = stop(study(3.0), Rules(60, prediction="p"), says(verdict))
    assert (found is not None) is ends
    if found is not None:
        assert (found.code, found.why, found.done) == ("decided", f"prediction p is {verdict}", True)


def test_a_verdict_that_nobody_asked_for_is_not_computed() -> None:
    def never() -> str:
        raise AssertionError("asked")

    assert stop(study(3.0), NEVER, never) is None


def test_a_search_without_any_value_is_not_done(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    job = searched(db, [{"distance": 1.0}, {"distance": 2.0}], trials=2).job
    for _ in range(2):
        carried_out(db, [], "failed")
    stopped, said = concluded(db, job)
    assert (stopped.done, said["done"]) == (False, False)
    assert said["search"].best is None
    assert "none of them has a value of loss" in said["stopped"]["why"]


def test_the_summary_names_the_best_point_and_counts_every_trial_once(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    submitted = searched(db, [{"distance": float(at)} for at in range(4)], trials=4)
    for value, ending in ((3.0, "succeeded"), (2.0, "succeeded"), (1.0, "pruned"), (2.5, "failed")):
        carried_out(db, [(1, value)], ending)
    stopped, said = concluded(db, submitted.job)
    assert (stopped.code, stopped.done) == ("all_recorded", True)
    best = said["search"].best
    assert (best.number, best.point, best.value, best.runs) == (1, {"distance": 1.0}, 2.0, [submitted.runs[1]])
    assert said["search"].trials == {"complete": 2, "pruned": 1, "failed": 1, "untried": 0, "open": 0}


def concluded(db: Database, job: int) -> tuple[Stop, dict[str, Any]]:
    found, result = trials.study(db, job), trials.result(db, job)
    assert found is not None
    assert result is not None
    stopped = stop(found, NEVER, says(None))
    assert stopped is not None
    return summary(result, stopped)
