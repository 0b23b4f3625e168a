"""The starter: forked attempts are what fresh ones are, and whatever happens to it costs no attempt."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.runs import attempts, results
from labqueue.system import processes
from labqueue.worker import child_process as children
from labqueue.worker.child_process import Child, Forked, Standby, Starter
from tests.commands import call
from tests.conftest import Lab, wait_until

TINY = {
    "model": "random-tiny",
    "data": {
        "task": "chain_sum", "options": {"max_terms": 2, "max_digits": 2}, "train_items": 20, "eval_items": 4,
    },
    "steps": 3, "batch": 2, "learning_rate": 1e-2, "evaluations": 1, "samples": 1, "scored": 1, "max_new_tokens": 4,
    "gradient_checkpointing": False, "max_length": 512, "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1},
}  # fmt: skip

CLOCK = ("tokens_per_second", "step_s", "peak_memory_gib", "model_flops_utilization")
"""What a run measures of the machine."""


@pytest.fixture
def pipe() -> Iterator[int]:
    """A wake-up that never comes."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def lock_of(lab: Lab) -> Path:
    (lab.root / "locks").mkdir(exist_ok=True)
    return lab.root / "locks" / "cpu.compute"


@pytest.fixture
def starter(lab: Lab, pipe: int) -> Iterator[Starter]:
    """One that is ready, of the drill: it imports nothing but the lab."""
    made = Starter(lab.settings, lock_of(lab), "a test's:", "drill")
    assert made.wait_ready(pipe)
    yield made
    made.discard()


def drill(lab: Lab, name: str = "drill", **params: Any) -> attempts.Claim:
    spec = lab.spec(name, params={"steps": 12, "witness": str(lab.root / f"{name}.txt"), **params})
    assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    return claimed(lab)


def claimed(lab: Lab) -> attempts.Claim:
    me = processes.myself()
    worker = results.register_worker(lab.db, device="cpu", host="test", pid=me.pid, pid_start=me.start)
    claim = attempts.claim(lab.db, device="cpu", worker_id=worker)
    assert claim is not None
    return claim


def forked(starter: Starter) -> Standby:
    made = starter.fork()
    assert made is not None
    assert isinstance(made.process, Forked)
    return made


def began(lab: Lab, standby: Standby, claim: attempts.Claim) -> Child:
    return children.start(standby, claim.ref, lab.root / "attempt.log")


def ended(child: Child, pipe: int) -> int:
    status: int | None = None

    def over() -> bool:
        nonlocal status
        status = child.wait(pipe, 0.5)
        return status is not None

    wait_until(over, timeout_s=120)
    assert status is not None
    return status


def recorded(lab: Lab) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """All series and the hashes of all artifacts' files, read past the lab; nothing that a clock decides."""
    with sqlite3.connect(lab.settings.database) as db:
        series: dict[str, list[Any]] = {}
        for name, step, value in db.execute(
            "SELECT s.name, m.step, m.value FROM metrics m JOIN series s ON s.id = m.series_id ORDER BY 1, 2"
        ):
            series.setdefault(name, []).append((step, value))
        files = {}
        for name, path in db.execute("SELECT name, path FROM artifacts"):
            place = lab.root / path
            for file in [place] if place.is_file() else sorted(place.rglob("*")):
                if file.is_file() and file.suffix in (".safetensors", ".json", ".parquet", ".bin", ""):
                    content = file.read_bytes()
                    if file.name == "adapter_config.json":  # PEFT writes a set, in the order of Python's hash seed
                        known = json.loads(content)
                        content = json.dumps(known | {"target_modules": sorted(known["target_modules"])}).encode()
                    files[f"{name}/{file.name}"] = hashlib.sha256(content).hexdigest()
    db.close()
    return series, files


def test_a_fork_is_a_child_of_the_worker_with_a_session_and_a_mark_of_its_own(starter: Starter) -> None:
    one, two = forked(starter), forked(starter)
    try:
        for each in (one, two):
            pid = each.process.pid
            stat = Path(f"/proc/{pid}/stat").read_text()
            parent, group, session = map(int, stat[stat.rindex(")") + 2 :].split()[1:4])
            assert (parent, group, session) == (os.getpid(), pid, pid)
            assert processes.marked(each.mark) == [pid]
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
            assert not [link for link in links if link.startswith("socket:")], "not the starter's, nor a sibling's"
            assert len([link for link in links if link.startswith("pipe:")]) == 1, "what it hears from"
        assert set(processes.marked("a test's:")) == {one.process.pid, two.process.pid, starter.pid}
        processes.end_marked(one.mark)
        assert one.process.wait() == -signal.SIGKILL
        assert two.process.poll() is None
        assert starter.usable
    finally:
        one.discard()
        two.discard()


def test_a_forked_drill_is_a_fresh_one_bit_for_bit(tmp_path: Path, pipe: int) -> None:
    found = []
    for name in ("fresh", "forked"):
        (tmp_path / name).mkdir()
        lab = Lab(tmp_path / name)
        claim = drill(lab, checkpoint_every=5)
        if name == "fresh":
            standby = children.prepare(lab.settings, None, lock_of(lab), "a test's:")
        else:
            starter = Starter(lab.settings, lock_of(lab), "a test's:", "drill")
            assert starter.wait_ready(pipe)
            standby = forked(starter)
            starter.discard()
        assert ended(began(lab, standby, claim), pipe) == 0
        found.append(recorded(lab))
    assert found[0][0]
    assert found[0] == found[1]


def test_the_attempt_alone_holds_the_device(lab: Lab, starter: Starter, pipe: int) -> None:
    waiting = forked(starter)
    child = began(lab, forked(starter), drill(lab, steps=4000, step_s=0.02))
    wait_until(lambda: processes.holders(lock_of(lab)))
    assert processes.holders(lock_of(lab)) == [child.process.pid]
    another = forked(starter)
    assert processes.holders(lock_of(lab)) == [child.process.pid]
    os.kill(child.process.pid, signal.SIGKILL)
    assert ended(child, pipe) == -signal.SIGKILL
    held = processes.lock(lock_of(lab))
    assert held is not None, "nobody else has it"
    held.release()
    waiting.discard()
    another.discard()


def test_an_attempt_outlives_its_killed_starter(lab: Lab, starter: Starter, pipe: int) -> None:
    child = began(lab, forked(starter), drill(lab, steps=40, step_s=0.02))
    wait_until((lab.root / "drill.txt").exists)
    os.kill(starter.pid, signal.SIGKILL)
    wait_until(lambda: not starter.usable)
    assert ended(child, pipe) == 0
    assert starter.fork() is None, "the next is started afresh"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_starter_that_does_not_answer_is_given_up_within_its_bound(starter: Starter, number: int) -> None:
    os.kill(starter.pid, number)
    start = time.monotonic()
    assert starter.fork() is None
    assert time.monotonic() - start < children.ANSWER_S + 5
    assert processes.marked("a test's:") == []


def test_changed_sources_and_packages_make_a_starter_useless(
    starter: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert starter.usable
    with monkeypatch.context() as later:
        newest = children.newest_source()
        later.setattr(children, "newest_source", lambda: newest + 1)
        assert not starter.usable
    assert starter.usable
    packages = tmp_path / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    assert starter.usable
    (packages / "torch-9.9.dist-info").mkdir()
    assert not starter.usable


def test_only_what_imports_much_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "WARM_GIB", 0.0)
    assert children.worth_a_starter("finetune")
    assert not children.worth_a_starter("drill")
    assert not children.worth_a_starter("a kind of somebody's own")
    monkeypatch.setenv("LABQUEUE_FRESH_CHILDREN", "1")
    assert not children.worth_a_starter("finetune")


WORKER = """
import os, sys, time
from pathlib import Path
from labqueue.settings import Settings
from labqueue.store.runs.attempts import Ref
from labqueue.worker import child_process as children
root, lock, run, attempt = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
starter = children.Starter(Settings(root), lock, "a killed one's:", "drill")
assert starter.wait_ready(os.pipe()[0])
children.start(starter.fork(), Ref(run, attempt), root / "attempt.log")
time.sleep(600)
"""


def test_starter_and_attempt_end_with_a_killed_worker(lab: Lab) -> None:
    claim = drill(lab, steps=100_000, step_s=0.02)
    words = [sys.executable, "-c", WORKER, str(lab.root), str(lock_of(lab)), str(claim.run_id), str(claim.attempt)]
    worker = subprocess.Popen(words, env=lab.environment())
    wait_until((lab.root / "drill.txt").exists)
    assert len(processes.marked("a killed one's:")) == 2
    worker.kill()
    worker.wait()
    wait_until(lambda: processes.marked("a killed one's:") == [], timeout_s=10)


def text(lab: Lab) -> Path:
    path = lab.root / "sheep.txt"
    path.write_text("".join(f"{n} sheep went over the hill, and {n % 7} came back.\n" for n in range(400)))
    return path


def finetune(_lab: Lab) -> dict[str, Any]:
    return TINY


def pretrain(lab: Lab) -> dict[str, Any]:
    return {
        "corpus": str(text(lab)), "model": {"layers": 2, "heads": 2, "width": 16, "context": 16, "dropout": 0.2},
        "steps": 4, "batch": 4, "evaluations": 2, "sample_tokens": 5,
    }  # fmt: skip


@pytest.mark.parametrize("params", [finetune, pretrain])
def test_a_forked_run_of_a_model_is_a_fresh_one_bit_for_bit(
    params: Callable[[Lab], dict[str, Any]], tmp_path: Path, pipe: int
) -> None:
    found = []
    for name in ("fresh", "forked"):
        (tmp_path / name).mkdir()
        lab = Lab(tmp_path / name)
        spec = lab.root / "model.yaml"
        spec.write_text(json.dumps({"name": "model", "kind": params.__name__, "seeds": [7], "params": params(lab)}))
        answer = call(lab, "submit", spec, "--profile", "cpu")
        assert answer.code == 0, answer.err
        claim = claimed(lab)
        if name == "fresh":
            standby = children.prepare(lab.settings, None, lock_of(lab), "a test's:")
        else:
            starter = Starter(lab.settings, lock_of(lab), "a test's:", params.__name__)
            assert starter.wait_ready(pipe)
            standby = forked(starter)
            starter.discard()
        assert ended(began(lab, standby, claim), pipe) == 0, (lab.root / "attempt.log").read_text()
        found.append(recorded(lab))
    (series, files), (other_series, other_files) = found
    assert {k: v for k, v in series.items() if k not in CLOCK} == {
        k: v for k, v in other_series.items() if k not in CLOCK
    }
    assert any(name.endswith(".safetensors") for name in files)
    assert files == other_files
    (_, peak), (_, other_peak) = series["peak_memory_gib"][-1], other_series["peak_memory_gib"][-1]
    assert other_peak == pytest.approx(peak, abs=0.1), "a fork shows the libraries it was given as its own"


def test_a_worker_forks_its_later_runs_and_a_killed_starter_costs_none_an_attempt(lab: Lab) -> None:
    spec = lab.root / "model.yaml"
    spec.write_text(json.dumps({"name": "model", "kind": "finetune", "seeds": [1, 2, 3], "params": TINY}))
    assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    worker = lab.start("worker", "--drain", "--device", "cpu")
    lock = lab.settings.locks / "cpu.compute"
    started: dict[int, str] = {}  # of each process that held the device, the program that it is a fork of

    def third() -> bool:
        holder = processes.identity_in(processes.holder(lock))
        if holder is not None:
            with contextlib.suppress(OSError, IndexError):  # one that has just ended shows nothing
                started[holder.pid] = Path(f"/proc/{holder.pid}/cmdline").read_bytes().decode().split("\0")[2]
        programs = list(started.values())
        if programs.count("labqueue.attempt.starter") == 1 and not killed:
            for pid in os.listdir("/proc"):
                with contextlib.suppress(OSError, ValueError):
                    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                    stat = Path(f"/proc/{pid}/stat").read_text()
                    parent = int(stat[stat.rindex(")") + 2 :].split()[1])
                    if parent == worker.pid and int(pid) not in started and "labqueue.attempt.starter" in words:
                        os.kill(int(pid), signal.SIGKILL)
                        killed.append(int(pid))
        return worker.poll() is not None

    killed: list[int] = []
    wait_until(third, timeout_s=240)
    assert worker.returncode == 0, worker.communicate()
    worker.communicate()
    assert len(killed) == 1
    assert list(started.values()) == ["labqueue.attempt.runner", "labqueue.attempt.starter", "labqueue.attempt.runner"]
    for run in (1, 2, 3):
        view = call(lab, "show", run, "--json").json
        assert [attempt["outcome"] for attempt in view["attempts"]] == ["succeeded"]
