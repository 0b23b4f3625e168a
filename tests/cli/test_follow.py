"""``submit --run``: a worker of its own, followed to the end of the queue."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from labqueue.cli.follow import _left, announced, left_s
from labqueue.domain.views import ProgressView
from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab
from tests.report.factories import make_run

PIPE_BYTES = 65_536
"""What a pipe holds before its writer stands still: pipe(7)."""

SAYS_MUCH = f"""
from labqueue.domain import kind
class Params(kind.Params):
    pass
def run(params, rec):
    raise kind.UserError("a very long story " * {2 * PIPE_BYTES // 18})
"""


def test_a_worker_that_says_more_than_a_pipe_holds_is_followed_to_the_end(lab: Lab) -> None:
    site = lab.root / "site"
    site.mkdir()
    extra = own_kinds.install(site, {"says_much": SAYS_MUCH})
    spec = lab.text("name: much\nkind: says_much\nseeds: [0, 1]\n", "much")
    answer = lab.run("submit", spec, "--profile", "cpu", "--run", "--json", **extra)
    assert answer.code == 1, answer.err
    runs = [call(lab, "show", run, "--json").json for run in (1, 2)]
    assert [run["outcome"] for run in runs] == ["failed", "failed"]
    assert min(len(run["reason"]) for run in runs) > PIPE_BYTES, "the worker says the reason"


def test_what_kept_the_worker_from_starting_is_said(lab: Lab) -> None:
    worker = lab.start("worker", "--device", "cpu")
    try:
        assert worker.stderr is not None
        assert "worker ready" in worker.stderr.readline()
        answer = call(lab, "submit", lab.spec("drill"), "--profile", "cpu", "--run", "--json")
        assert answer.code == 4
        assert f"process id {worker.pid}" in answer.err
    finally:
        worker.kill()
        worker.communicate(timeout=30)


def test_a_pipe_is_told_how_far_it_is_and_of_every_run_that_ends(lab: Lab) -> None:
    path = lab.spec(params={"steps": 3, "step_s": 0}, seeds=[0, 1])
    answer = lab.run("submit", path, "--profile", "cpu", "--run")
    assert answer.code == 0, answer.err
    lines = answer.err.splitlines()
    assert lines[0] == "2 runs to execute; how long they take is known once the first has ended"
    assert re.match(r"[012]/2.*: ", lines[1])
    ended = [line for line in lines if re.match(r"run \d+ \(drill_test, seed \d\): succeeded in ", line)]
    assert len(ended) == 2, "nothing is varied"
    again = lab.run("submit", path, "--profile", "cpu", "--run")
    assert "to execute" not in again.err, "what is reused is not awaited"


def test_what_is_announced_is_the_sum_of_what_is_predicted() -> None:
    assert announced({1: 30.0, 2: 45.0, 3: 45.0}) == "3 runs to execute: about 2 min 00 s on this computer, 40.0 s each"
    assert announced({1: 30.0}) == "1 run to execute: about 30.0 s on this computer"
    assert "known once the first has ended" in announced({1: 30.0, 2: None})


def test_time_left_goes_by_what_was_predicted_at_the_pace_of_the_runs_that_went_before() -> None:
    expected: dict[int, float | None] = {1: 40.0, 2: 40.0, 3: 80.0}
    queued = [make_run(number, outcome=None) for number in (1, 2, 3)]
    assert left_s(queued, expected) == 160.0
    starting = replace(queued[0], state="running", wall_s=10.0)
    assert left_s([starting, *queued[1:]], expected) == 150.0
    computing = replace(starting, wall_s=30.0, eta_s=50.0, progress=ProgressView(3, 12))
    assert left_s([computing, *queued[1:]], expected) == 50.0 + 1.5 * 120.0, "twice as slow, half of which is believed"
    ended = make_run(1, wall_s=80.0)
    assert left_s([ended, *queued[1:]], expected) == 1.5 * 120.0
    running = replace(computing, id=2, wall_s=20.0, eta_s=10.0)
    assert left_s([ended, running, queued[2]], expected) == 40.0 + 1.5 * 80.0
    assert left_s([ended], expected) == 0.0


def test_a_first_run_that_reads_everything_from_the_disk_does_not_count_for_those_behind_it() -> None:
    """As measured: the first 142 s, the others 82, of 80 predicted."""
    expected: dict[int, float | None] = dict.fromkeys(range(1, 7), 80.0)
    walls = [142.0, 82.0, 82.0, 83.0, 81.0, 82.0]
    for done in range(7):
        ended = [make_run(run, wall_s=walls[run - 1]) for run in range(1, done + 1)]
        queued = [make_run(run, outcome=None) for run in range(done + 1, 7)]
        left = left_s([*ended, *queued], expected)
        assert left is not None
        assert left <= 1.4 * sum(walls[done:])
        assert left >= 0.8 * sum(walls[done:])
        if done >= 2:
            assert left == pytest.approx(sum(walls[done:]), rel=0.05)


def test_time_left_of_runs_that_nobody_predicted_is_that_of_those_that_ended() -> None:
    queued = [make_run(number, outcome=None) for number in (1, 2, 3)]
    unknown: dict[int, float | None] = {1: None, 2: None, 3: None}
    assert left_s(queued, unknown) is None
    assert left_s(queued, {1: 40.0, 2: 40.0, 3: None}) is None
    ended = make_run(1, wall_s=70.0)
    assert left_s([ended, *queued[1:]], unknown) == 140.0


@pytest.mark.parametrize(
    ("left", "runs", "words"),
    [
        (90.0, 2, ", about 1 min 30 s left"),
        (0.0, 1, ", longer than predicted"),
        (0.0, 0, ""),
        (None, 2, ""),
    ],
)
def test_a_run_that_takes_longer_than_was_predicted_is_not_said_to_end_at_once(
    left: float | None, runs: int, words: str
) -> None:
    assert _left(left, runs) == words
