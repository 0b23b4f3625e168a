"""The circuit breaker: what would only repeat itself stops the queue, and what is a result does not."""

from __future__ import annotations

import pytest

from labqueue.store.queries.past_runs import Ended
from labqueue.worker.circuit_breaker import same_failure
from tests.conftest import Lab


def ended(run: int, outcome: str, reason: str = "died of signal SIGSEGV", *, final: bool = True) -> Ended:
    return Ended(run, outcome, reason, final)


def test_three_runs_that_fail_alike_break_it_whatever_numbers_and_paths_they_name() -> None:
    three = [ended(n, "failed", f"RuntimeError: step {n} of /tmp/{n}/x at 0x7f{n}") for n in (3, 2, 1)]
    assert "runs 1, 2, 3 failed alike" in (same_failure(three) or "")
    assert same_failure(three[:2]) is None


@pytest.mark.parametrize(
    "between",
    [
        ended(9, "succeeded"),
        ended(9, "diverged"),
        ended(9, "interrupted"),
        ended(9, "cancelled"),
        ended(9, "crashed", "died of exit status 3"),
        ended(9, "out_of_memory", "died of signal SIGSEGV", final=False),
    ],
)
def test_anything_else_between_them_means_that_they_are_not_in_a_row(between: Ended) -> None:
    crashes = [ended(n, "crashed") for n in (3, 2, 1)]
    assert same_failure(crashes) is not None
    for place in (0, 1, 2):
        assert same_failure([*crashes[:place], between, *crashes[place:]]) is None


def test_one_run_tried_three_times_is_one_failure() -> None:
    tries = [ended(7, "crashed", f"died of exit status 3 (attempt {n} of 3)") for n in (3, 2, 1)]
    assert same_failure(tries) is None


def test_a_queue_of_runs_that_all_fail_alike_is_paused_after_three(lab: Lab) -> None:
    spec = lab.spec(params={"fault": "raise"}, seeds=[0, 1, 2, 3, 4, 5])
    assert lab.run("submit", spec).code == 0
    assert lab.run("submit", lab.spec("good")).code == 0
    drained = lab.run("worker", "--drain")
    assert drained.code == 1
    assert "the queue is paused: runs 1, 2, 3 failed alike" in drained.err
    status = lab.run("status", "--json").json
    assert status["finished"] == {"failed": 3}
    assert {run["waiting"]["code"] for run in status["queued"]} == {"paused"}
    assert "failed alike" in status["queued"][0]["waiting"]["text"]
    assert lab.run("cancel", "drill_test").code == 0
    assert lab.run("resume", "queue").code == 0
    lab.run("worker", "--drain")
    assert lab.run("report", "good", "--json").json["runs"][0]["outcome"] == "succeeded"
