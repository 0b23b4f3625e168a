"""Children that behave badly, in real processes under the real worker: what they do ends with them, and the next runs.

A flood is watched from outside while it happens; every process that a run leaves behind is known by what it wrote down
itself, not by what the lab believes.
"""

from __future__ import annotations

import re
import signal
import textwrap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labqueue.system import processes
from labqueue.worker.child_process import LOG_CAP_BYTES
from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab, wait_until

KINDS = {
    # A helper in its own group, deaf like itself.
    "deaf": """
        helper = subprocess.Popen(
            [sys.executable, '-S', '-c', 'import time; time.sleep(600)'],
            preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
        )
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leave(helper.pid, os.getpid())
        while True:
            time.sleep(0.05)
    """,
    # A fork that lets go of everything by which it could be found, but its environment.
    "daemon": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                leave(os.getpid())
                os.closerange(0, 4096)
                time.sleep(600)
            os._exit(0)
        while not TOLD.exists():
            time.sleep(0.01)
    """,
    # A helper that a stop must not reach before the run has checkpointed.
    "helped": """
        helper = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])
        leave(helper.pid)
        while rec.should_stop is None:
            time.sleep(0.05)
        time.sleep(0.1)
        rec.checkpoint(1, lambda folder: (folder / 'helper').write_text(str(helper.poll())))
        raise kind.Stopped
    """,
    "system_exit": "raise SystemExit(0)",
    "exits_with_words": "raise SystemExit('I had enough')",
}


HEAD = """
import os, pathlib, signal, subprocess, sys, time
from labqueue.domain import kind
TOLD = pathlib.Path(os.environ["LABQUEUE_ROOT"]) / (__name__.rpartition(".")[2] + ".pids")
class Params(kind.Params):
    pass
def leave(*pids):
    aside = TOLD.with_suffix(".aside")
    aside.write_text(" ".join(map(str, pids)))
    aside.rename(TOLD)
def run(params, rec):
"""


def source(body: str) -> str:
    return HEAD + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


@dataclass
class Flood:
    """A log's size and what its run had written, seen every few milliseconds from outside."""

    log: Path
    cap_bytes: int = LOG_CAP_BYTES
    largest: int = 0
    written: int = 0
    most_in_a_look: int = 0
    """The most that was written within any 0.25 s: five times the worker's look, since this machine may be busy."""
    done: threading.Event = field(default_factory=threading.Event)

    def watch(self, pid: int) -> None:
        seen: list[tuple[float, int]] = []
        while not self.done.is_set():
            try:
                self.largest = max(self.largest, self.log.stat().st_size)
                (written,) = re.findall(r"wchar: (\d+)", Path(f"/proc/{pid}/io").read_text())
            except (OSError, ValueError):
                break
            now = time.monotonic()
            seen = [(at, n) for at, n in seen if now - at < 0.25] + [(now, int(written))]
            self.written = int(written)
            self.most_in_a_look = max(self.most_in_a_look, seen[-1][1] - seen[0][1])
            time.sleep(0.002)
        self.largest = max(self.largest, self.log.stat().st_size)


@dataclass(frozen=True)
class Night:
    lab: Lab
    runs: dict[str, dict[str, Any]]
    flood: Flood
    said: str

    def left(self, name: str) -> list[int]:
        return [int(pid) for pid in (self.lab.root / f"{name}.pids").read_text().split()]


QUICK = {"steps": 3, "step_s": 0, "checkpoint_every": 2, "fault_at": 2}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    lab = Lab(tmp_path_factory.mktemp("night"))
    extra = own_kinds.install(tmp_path_factory.mktemp("site"), {name: source(KINDS[name]) for name in KINDS})
    once = {"attempts": 1}
    specs = [
        *(lab.text(f"name: {name}\nkind: {name}\n", name) for name in KINDS),
        lab.spec("forks", params={**QUICK, "fault": "fork"}),
        lab.spec("floods", params={**QUICK, "fault": "flood"}, limits={"wall_minutes": 0.1}),
        lab.spec("prints_binary", params={**QUICK, "fault": "binary"}, limits=once),
        lab.spec("quits", params={**QUICK, "fault": "quit"}),
        lab.spec("aborts", params={**QUICK, "fault": "abort"}, limits=once),
        lab.spec("segfaults", params={**QUICK, "fault": "segfault"}, limits=once),
        lab.spec("last", params={"steps": 2, "step_s": 0}),
    ]
    answer = lab.run("submit", *specs, "--profile", "cpu", "--json", **extra)
    assert answer.code == 0, answer.err
    worker = lab.start("worker", "--drain", "--device", "cpu", "--grace", "3", **extra)
    names = [path.stem for path in specs]
    ids = {name: number for number, name in enumerate(names, start=1)}
    flood = Flood(lab.settings.run("floods", ids["floods"]) / "attempt-1.log")
    try:
        # Stopped once they are ready for it: a limit in seconds would end them before that on a busy machine.
        for name in ("deaf", "helped"):
            wait_until((lab.root / f"{name}.pids").exists, timeout_s=60)
            assert call(lab, "cancel", ids[name], **extra).code == 0
        wait_until(lambda: flood.log.exists() and flood.log.stat().st_size > 0, timeout_s=60)
        holder = processes.holder(lab.settings.outputs / "locks" / "cpu.compute")
        watching = threading.Thread(target=flood.watch, args=(int(holder["pid"]),))
        watching.start()
        _, said = worker.communicate(timeout=120)
    finally:
        flood.done.set()
        worker.kill()
    watching.join()
    assert worker.returncode == 1, said
    runs = {name: call(lab, "show", ids[name], "--json", **extra).json for name in names}
    return Night(lab, runs, flood, said)


ENDINGS = {
    "deaf": ("cancelled", "cancelled by a person; it did not stop within 3 s and was killed"),
    "daemon": ("succeeded", None),
    "helped": ("cancelled", "cancelled by a person"),
    "system_exit": ("failed", "SystemExit"),
    "exits_with_words": ("failed", "SystemExit: I had enough"),
    "forks": ("succeeded", None),
    "floods": ("timed_out", "limits.wall_minutes = 0.1"),
    "prints_binary": ("crashed", "died of exit status 3; last words:"),
    "quits": ("failed", "the process exited 0 without a result"),
    "aborts": ("crashed", "died of signal SIGABRT"),
    "segfaults": ("crashed", "died of signal SIGSEGV"),
    "last": ("succeeded", None),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_that_misbehaves_ends_once_as_what_it_did(night: Night, name: str) -> None:
    run = night.runs[name]
    outcome, reason = ENDINGS[name]
    assert (run["state"], run["outcome"]) == ("finished", outcome), run["reason"]
    assert len(run["attempts"]) == 1
    assert run["reason"] is None if reason is None else reason in run["reason"]


@pytest.mark.parametrize("name", ["deaf", "daemon", "helped"])
def test_nothing_that_a_run_started_outlives_it(night: Night, name: str) -> None:
    assert [processes.start_of(pid) for pid in night.left(name)] == [None] * len(night.left(name))


def test_a_stop_reaches_the_run_and_not_its_helpers(night: Night) -> None:
    (kept,) = (night.lab.settings.run("helped", night.runs["helped"]["id"]) / "checkpoints").glob("*/helper")
    assert kept.read_text() == "None", "the helper was alive when its run checkpointed"


def test_a_daemon_that_keeps_the_device_is_ended_before_the_next_run(night: Night) -> None:
    forks = night.runs["forks"]
    (pid,) = re.findall(r"left behind: process (\d+)", call(night.lab, "logs", forks["id"]).out)
    assert processes.start_of(int(pid)) is None
    following = min(run["started_at"] for run in night.runs.values() if run["started_at"] > forks["started_at"])
    assert following > forks["finished_at"]
    assert "was not free" not in night.said


def test_a_log_without_end_never_passes_its_cap_by_more_than_is_written_between_two_looks(night: Night) -> None:
    flood = night.flood
    assert flood.written > 3 * flood.cap_bytes, "it wrote enough for the cap to matter"
    assert flood.largest <= flood.cap_bytes + flood.most_in_a_look
    assert flood.log.stat().st_size <= flood.cap_bytes
    text = flood.log.read_bytes()
    assert text.startswith(b"the drill floods its log")
    assert b"[labqueue: log passed 64 MiB; its later part was cut]" in text


def test_a_binary_log_can_be_read_and_its_last_words_rule_no_terminal(night: Night) -> None:
    run = night.runs["prints_binary"]
    assert run["reason"].endswith("the end")
    assert not [c for c in run["reason"] if not c.isprintable()]
    answer = call(night.lab, "logs", run["id"])
    assert answer.code == 0
    assert " !\"#$%&'()*+" in answer.out
    assert "\x1b" not in answer.out
    as_json = call(night.lab, "logs", run["id"], "--json").json
    assert "the end" in as_json["text"]


def test_what_an_orphan_left_behind_does_not_stop_the_next_worker(lab: Lab) -> None:
    params = {"steps": 40, "step_s": 0.02, "checkpoint_every": 3, "fault": "fork", "fault_at": 2}
    run = call(lab, "submit", lab.spec("forks", params=params), "--profile", "cpu", "--json").json["runs"][0]
    worker = lab.start("worker", "--device", "cpu")
    log = lab.settings.run("forks", run) / "attempt-1.log"
    wait_until(lambda: log.exists() and "left behind" in log.read_text())
    saved = lab.settings.run("forks", run) / "checkpoints"
    wait_until(lambda: saved.exists() and list(saved.glob("step-*")))
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=30)
    (left,) = re.findall(r"process (\d+)", log.read_text())
    assert processes.start_of(int(left)) is not None
    answer = call(lab, "worker", "--drain", "--device", "cpu", "--grace", "2")
    assert answer.code == 0, answer.err
    assert processes.start_of(int(left)) is None
    view = call(lab, "show", run, "--json").json
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted", "succeeded"]
