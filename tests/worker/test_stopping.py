"""A worker that is told to stop, or killed, or asked for its device: nothing is lost and nothing is done twice."""

from __future__ import annotations

import math
import os
import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.runs import attempts, results
from labqueue.system import processes
from labqueue.worker import reap
from labqueue.worker.child_process import prepare, start
from tests.commands import call
from tests.conftest import Lab, wait_until

STEPS = 30


def submitted(lab: Lab, name: str, **params: Any) -> int:
    """Submits one drill that takes a few seconds and keeps a witness file; returns its id."""
    params = {"steps": STEPS, "step_s": 0.03, "checkpoint_every": 5, "witness": str(lab.root / f"{name}.txt"), **params}
    answer = call(lab, "submit", lab.spec(name, params=params), "--profile", "cpu", "--json")
    assert answer.code == 0, answer.err
    (run,) = answer.json["runs"]
    return int(run)


def show(lab: Lab, run: int) -> dict[str, Any]:
    return call(lab, "show", run, "--json").json  # type: ignore[no-any-return]  # JSON


def executed(lab: Lab, name: str) -> list[tuple[int, int]]:
    """(attempt, step) of every step, as the drill itself wrote them down."""
    path = lab.root / f"{name}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(attempt), int(step)) for _, attempt, step, _ in (line.split() for line in lines)]


def until_step(lab: Lab, name: str, step: int) -> None:
    wait_until(lambda: any(done >= step for _, done in executed(lab, name)))


def until_state(lab: Lab, run: int, state: str) -> dict[str, Any]:
    """Waits by looking at the file itself, which costs the worker nothing, and returns the run as it is shown."""
    connection = sqlite3.connect(lab.settings.database)
    query = "SELECT state FROM runs WHERE id = ?"
    wait_until(lambda: connection.execute(query, (run,)).fetchone() == (state,))
    connection.close()
    return show(lab, run)


def assert_whole(lab: Lab, run: int) -> None:
    """Every step has exactly one value, and those of a run that was never interrupted."""
    source = random.Random(0)
    expected = [[s, math.exp(-s / STEPS) + 0.01 * source.gauss(0.0, 1.0)] for s in range(1, STEPS + 1)]
    assert call(lab, "metrics", run, "value", "--json").json == expected


def stop(worker: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    worker.send_signal(number)
    _, said = worker.communicate(timeout=30)
    return worker.returncode, said


def test_a_process_told_to_stop_before_it_has_read_what_it_is_to_do_leaves_its_run_queued(lab: Lab) -> None:
    run = submitted(lab, "drill")
    me = processes.myself()
    worker = results.register_worker(lab.db, device="cpu", host="here", pid=me.pid, pid_start=me.start)
    claim = attempts.claim(lab.db, device="cpu", worker_id=worker)
    assert claim is not None
    (lab.root / "locks").mkdir()
    waiting = prepare(lab.settings, None, lab.root / "locks" / "cpu.compute", "a_mark:")
    pid = waiting.process.pid
    wait_until(lambda: _catches(pid, signal.SIGTERM))
    os.kill(pid, signal.SIGSTOP)
    running = start(waiting, claim.ref, lab.root / "log.txt")
    running.end("shutdown", 30.0)
    os.kill(pid, signal.SIGCONT)
    reader, writer = os.pipe()
    status = running.wait(reader, 30.0)
    assert status is not None
    reap.settle(lab.db, claim, running, status, oom_kills_before=None, device="cpu", grace_s=30.0)
    os.close(reader)
    os.close(writer)
    view = show(lab, run)
    assert (view["state"], view["outcome"]) == ("queued", None), view["reason"]
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted"]


def _catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal of its own (proc(5), SigCgt)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def test_a_worker_told_to_stop_checkpoints_requeues_and_the_next_goes_on(lab: Lab) -> None:
    run = submitted(lab, "drill")
    worker = lab.start("worker", "--device", "cpu")
    until_step(lab, "drill", 8)
    code, said = stop(worker)
    assert (code, "Traceback" in said) == (0, False)
    view = show(lab, run)
    assert (view["state"], view["outcome"]) == ("queued", None)
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted"]
    stopped_at = view["attempts"][0]["last_step"]
    assert stopped_at >= 8

    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    view = show(lab, run)
    assert view["outcome"] == "succeeded"
    assert view["attempts"][1]["resumed_from_step"] == stopped_at
    assert Counter(step for _, step in executed(lab, "drill")) == Counter(range(1, STEPS + 1)), "no step twice"
    assert_whole(lab, run)


def test_a_worker_that_is_killed_loses_no_run_and_no_step(lab: Lab) -> None:
    run = submitted(lab, "drill")
    worker = lab.start("worker", "--device", "cpu")
    until_step(lab, "drill", 8)
    worker.kill()
    worker.communicate(timeout=30)
    answer = lab.run("worker", "--drain", "--device", "cpu", "--grace", "10")
    assert answer.code == 0, answer.err
    view = show(lab, run)
    assert view["outcome"] == "succeeded"
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted", "succeeded"]
    first, second = ([s for attempt, s in executed(lab, "drill") if attempt == n] for n in (1, 2))
    assert second[0] == view["attempts"][1]["resumed_from_step"] + 1
    assert set(first) | set(second) == set(range(1, STEPS + 1))
    assert_whole(lab, run)


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == parent:
                found.append(int(entry.name))
    return found


def test_a_killed_child_is_a_crash_that_is_tried_again(lab: Lab) -> None:
    run = submitted(lab, "drill")
    worker = lab.start("worker", "--drain", "--device", "cpu")
    until_step(lab, "drill", 8)
    pid = int((lab.root / "outputs" / "locks" / "cpu.compute").read_bytes().split(b'"pid": ')[1].split(b",")[0])
    assert pid in children(worker.pid)
    os.kill(pid, signal.SIGKILL)
    worker.communicate(timeout=60)
    assert worker.returncode == 0
    view = show(lab, run)
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["crashed", "succeeded"]
    assert "SIGKILL" in view["attempts"][0]["reason"]
    assert view["attempts"][1]["resumed_from_step"] in (5, 10, 15)
    assert_whole(lab, run)


def test_a_run_deaf_to_sigterm_is_killed_after_the_grace_period(lab: Lab) -> None:
    run = submitted(lab, "drill", steps=4000, fault="ignore_sigterm", fault_at=2)
    worker = lab.start("worker", "--device", "cpu", "--grace", "0.5")
    until_step(lab, "drill", 8)
    assert stop(worker)[0] == 0
    view = show(lab, run)
    assert view["state"] == "queued"
    assert "was killed" in view["attempts"][0]["reason"]
    steps = len(executed(lab, "drill"))
    assert not wait_for_more(lab, steps), "nothing computes any more"


def wait_for_more(lab: Lab, steps: int) -> bool:
    try:
        wait_until(lambda: len(executed(lab, "drill")) > steps, timeout_s=0.3)
    except AssertionError:
        return False
    return True


# One worker serves the rest of this file.


@pytest.fixture(scope="module")
def working(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, subprocess.Popen[str]]]:
    lab = Lab(tmp_path_factory.mktemp("working"))
    worker = lab.start("worker", "--device", "cpu", "--grace", "5")
    yield lab, worker
    code, said = stop(worker, signal.SIGINT)
    assert (code, "Traceback" in said) == (0, False), f"Ctrl-C ends it as SIGTERM does: {said}"


def test_a_running_run_can_be_cancelled(working: tuple[Lab, subprocess.Popen[str]]) -> None:
    lab, _ = working
    run = submitted(lab, "cancelled", steps=4000)
    until_step(lab, "cancelled", 3)
    assert call(lab, "cancel", run, "--json").json == {"schema": 1, "cancelled": [], "asked": [run]}
    view = until_state(lab, run, "finished")
    assert (view["outcome"], view["reason"]) == ("cancelled", "cancelled by a person")
    assert len(view["attempts"]) == 1


@pytest.mark.parametrize("target", ["run", "experiment", "queue"])
def test_a_pause_gives_the_device_back_and_a_resume_goes_on(
    working: tuple[Lab, subprocess.Popen[str]], target: str
) -> None:
    lab, _ = working
    name = f"paused_{target}"
    run = submitted(lab, name)
    word = {"run": str(run), "experiment": name, "queue": "queue"}[target]
    until_step(lab, name, 3)
    assert call(lab, "pause", word, "--json").json["asked"] == [run]
    view = until_state(lab, run, "queued")
    assert view["waiting"]["code"] == "paused"
    status = call(lab, "status", "--json").json
    assert status["running"] == []
    assert (status["paused"] is not None) == (target == "queue")
    if target != "queue":
        other = submitted(lab, f"meanwhile_{target}", steps=1)
        until_state(lab, other, "finished")
    assert call(lab, "resume", word, "--json").json["resumed"] == [run]
    view = until_state(lab, run, "finished")
    assert view["outcome"] == "succeeded"
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted", "succeeded"]
    assert view["attempts"][0]["reason"] == "paused by a person"
    assert Counter(step for _, step in executed(lab, name)) == Counter(range(1, STEPS + 1))


def test_status_shows_how_far_a_run_is_and_when_it_will_be_done(working: tuple[Lab, subprocess.Popen[str]]) -> None:
    lab, _ = working
    run = submitted(lab, "watched", steps=400)
    until_step(lab, "watched", 20)

    def told() -> Any:
        running = call(lab, "status", "--json").json["running"]
        return running and running[0]["progress"] and running[0]["eta_s"] and running[0]

    view = wait_until(told)
    assert view["id"] == run
    assert view["progress"]["total"] == 400
    left = (400 - view["progress"]["done"]) * 0.03
    assert left * 0.8 < view["eta_s"] < left * 3, "0.03 s a step and what it costs to record it"
    call(lab, "cancel", run)
    until_state(lab, run, "finished")


def test_a_second_worker_on_the_same_device_is_refused_with_the_first_ones_process(
    working: tuple[Lab, subprocess.Popen[str]],
) -> None:
    lab, worker = working
    run = submitted(lab, "first", steps=1)
    until_state(lab, run, "finished")
    second = call(lab, "worker", "--drain", "--device", "cpu")
    assert second.code == 4
    assert f"process id {worker.pid}" in second.err
    assert "--device" in second.err
    assert len(second.err.strip().splitlines()) == 1
    assert worker.poll() is None
