"""A workspace copied, moved or emptied under its workers: each keeps to its own, and stops when that is gone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError, Moved
from labqueue.settings import Place
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import read
from labqueue.system import processes
from labqueue.system.clock import Deadline
from labqueue.worker import recovery
from tests import own_kinds
from tests.commands import call, rows
from tests.conftest import Lab, wait_until
from tests.store.factories import submitted

GATED = """
import os, pathlib, time
from labqueue.domain import kind
class Params(kind.Params):
    pass
def run(params, rec):
    if rec.resume_from is None:
        rec.checkpoint(1, lambda folder: (folder / "one").write_text("1"))
    while not pathlib.Path(os.environ["GATE"]).exists():
        if rec.should_stop is not None:
            rec.checkpoint(2, lambda folder: (folder / "two").write_text("2"))
            raise kind.Stopped
        time.sleep(0.02)
    rec.metric("resumed", 0 if rec.resume_from is None else rec.resume_from.step, 3)
"""
"""Computes until a file is there, which belongs to no workspace."""

Start = Callable[..., "subprocess.Popen[str]"]


class Gated:
    """A workspace with one run that a worker executes until ``open``."""

    def __init__(self, folder: Path, start: Start) -> None:
        self.folder, self._start = folder, start
        (folder / "site").mkdir()
        self.extra = {**own_kinds.install(folder / "site", {"gated": GATED}), "GATE": str(folder / "gate")}
        (folder / "lab").mkdir()
        self.lab = Lab(folder / "lab")
        spec = self.lab.text("name: gated\nkind: gated\n", "gated")
        answer = self.lab.run("submit", spec, "--profile", "cpu", **self.extra)
        assert answer.code == 0, answer.err
        self.worker = self.start(self.lab)
        db = self.lab.db
        wait_until(lambda: read.checkpoints(db, 1), timeout_s=60)
        db.close()

    def start(self, lab: Lab) -> subprocess.Popen[str]:
        return self._start(lab, "worker", "--device", "cpu", "--drain", **self.extra)

    def open(self) -> None:
        (self.folder / "gate").touch()


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts commands that are ended with the test, however it ends."""
    started: list[subprocess.Popen[str]] = []

    def begin(lab: Lab, *words: str, **extra: str) -> subprocess.Popen[str]:
        started.append(lab.start(*words, **extra))
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.communicate()


@pytest.fixture
def gated(tmp_path: Path, start: Start) -> Gated:
    return Gated(tmp_path, start)


def show(lab: Lab, run: int = 1) -> dict[str, Any]:
    return call(lab, "show", run, "--json").json  # type: ignore[no-any-return]  # JSON


def ended(worker: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = worker.communicate(timeout=60)
    assert "Traceback" not in said
    return worker.returncode, said


def outcomes(lab: Lab) -> list[str | None]:
    return [attempt["outcome"] for attempt in show(lab)["attempts"]]


def computing(lab: Lab) -> int:
    """The process id of the run that computes on the CPU."""
    return int(processes.holder(lab.settings.outputs / "locks" / "cpu.compute")["pid"])


def test_a_copys_worker_leaves_the_originals_run_alone_and_executes_its_own(gated: Gated) -> None:
    copy = Lab(gated.folder / "copy")
    shutil.copytree(gated.lab.root, copy.root)
    child = computing(gated.lab)
    listed = call(copy, "status", "--json").json["workers"]
    assert [(one["pid"], one["alive"], one["frozen"]) for one in listed] == [(gated.worker.pid, False, False)]
    second = gated.start(copy)
    wait_until((copy.settings.run("gated", 1) / "attempt-2.log").exists, timeout_s=60)
    assert processes.start_of(child) is not None
    assert gated.worker.poll() is None
    gated.open()
    code, said = ended(second)
    assert code == 0
    (words,) = [line for line in said.splitlines() if "copied" in line]
    assert f"process {child} of the other workspace" in words
    assert "labqueue cancel 1" in words
    assert "restarted after a crash" not in said
    view = show(copy)
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["interrupted", "succeeded"]
    assert view["attempts"][1]["resumed_from_step"] == 1
    assert f"copied while it computed; process {child}" in view["attempts"][0]["reason"]
    assert ended(gated.worker)[0] == 0
    assert outcomes(gated.lab) == ["succeeded"]


def test_a_second_worker_is_refused_though_the_first_ones_lock_was_removed(gated: Gated) -> None:
    gated.worker.send_signal(signal.SIGSTOP)  # it would soon end by itself
    shutil.rmtree(gated.lab.settings.outputs)
    code, said = ended(gated.start(gated.lab))
    assert code == 2
    assert f"process id {gated.worker.pid}, whose lock was removed" in said
    gated.worker.send_signal(signal.SIGCONT)
    code, said = ended(gated.worker)
    assert code == 3
    assert re.search(r"cpu\.worker is (gone|another file now)", said)
    assert "--root" in said
    gated.open()
    assert ended(gated.start(gated.lab))[0] == 0
    assert outcomes(gated.lab) == ["interrupted", "succeeded"]


def test_a_workspace_moved_under_its_worker_is_gone_on_with_where_it_is_now(gated: Gated) -> None:
    moved = Lab(gated.folder / "moved")
    gated.lab.root.rename(moved.root)
    code, said = ended(gated.worker)
    assert code == 3
    assert f"{gated.lab.settings.database} is gone" in said
    assert "assert" not in said.lower()
    assert not gated.lab.root.exists(), "nothing is written where it used to be"
    view = show(moved)
    assert (view["state"], view["attempts"][0]["outcome"]) == ("queued", "interrupted")
    assert "moved" in view["attempts"][0]["reason"]
    gated.open()
    assert ended(gated.start(moved))[0] == 0
    view = show(moved)
    assert view["outcome"] == "succeeded"
    assert view["attempts"][1]["resumed_from_step"] == 1, "the last checkpoint before the move"


def test_a_worker_whose_results_store_was_replaced_stops_and_changes_nothing_in_the_new_one(
    lab: Lab, start: Start
) -> None:
    worker = start(lab, "worker", "--device", "cpu")
    assert worker.stderr is not None
    assert "worker ready" in worker.stderr.readline()
    for file in lab.root.glob("results.db*"):
        file.unlink()
    answer = call(lab, "submit", lab.spec("drill", params={"steps": 1, "step_s": 0}), "--profile", "cpu")
    assert answer.code == 0
    code, said = ended(worker)
    assert code == 3
    assert re.search(r"results\.db is (gone|another file now)", said)
    assert rows(lab)["runs"] == 1
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 0
    assert show(lab)["outcome"] == "succeeded"


def test_a_results_store_that_was_opened_is_never_another_file(lab: Lab) -> None:
    """Ids of one mean other rows in another: a later connection must not be to whatever lies there now."""
    db = lab.db
    submitted(db)
    db.engine.dispose()
    lab.settings.database.rename(lab.root / "aside.db")
    with pytest.raises(Moved, match="is gone"):
        read.run(db, 1)
    assert not lab.settings.database.exists()
    create_or_migrate(lab.settings.database).close()
    with pytest.raises(Moved, match="is another file now"):
        read.run(db, 1)
    (lab.root / "aside.db").rename(lab.settings.database)
    assert read.run(db, 1).id == 1, "put back, it is the same again"


HOLDER = """
import fcntl, os, sqlite3, sys, time
results, lock, words = sys.argv[1:]
kept = sqlite3.connect(results)
kept.execute("SELECT 1 FROM runs").fetchall()
handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
fcntl.flock(handle, fcntl.LOCK_EX)
if words:
    pid = os.getpid()
    start = int(open("/proc/self/stat").read().rpartition(")")[2].split()[19])
    os.pwrite(handle, words.replace("PID", str(pid)).replace("START", str(start)).encode().ljust(4096), 0)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A process that holds a lock for the whole machine, as a GPU's is, and has a workspace's results store open."""
    started: list[subprocess.Popen[str]] = []

    def begin(db: Database, lock: Path, words: str = "", **extra: str) -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-S", "-c", HOLDER, db.path, lock, words],
            stdout=subprocess.PIPE, text=True, env={**os.environ, **extra}, start_new_session=True,
        )  # fmt: skip
        started.append(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        return holder

    yield begin
    for holder in started:
        holder.kill()
        holder.communicate()


@pytest.fixture
def two(tmp_path: Path) -> tuple[Database, Database]:
    """The results stores of two workspaces."""
    made = [create_or_migrate(tmp_path / name / "results.db") for name in ("ours", "theirs")]
    return made[0], made[1]


def lapsed() -> str:
    before = Deadline.after(-30.0)
    words = {"boot_id": before.boot_id, "pid": "PID", "start": "START", "lease": str(before), "root": "/elsewhere"}
    return json.dumps(words).replace('"PID"', "PID").replace('"START"', "START")


def test_a_frozen_worker_is_ended_by_its_own_workspace_only(
    two: tuple[Database, Database], tmp_path: Path, hold: Callable[..., Any]
) -> None:
    ours, theirs = two
    lock = tmp_path / "GPU-1.worker"
    stranger = hold(theirs, lock, lapsed())
    with pytest.raises(LabError, match=f"kill -CONT {stranger.pid}"):
        recovery.take_over(lock, "cuda:0", ours)
    assert stranger.poll() is None
    recovery.take_over(lock, "cuda:0", theirs).release()
    assert stranger.wait(10) == -signal.SIGKILL


def test_an_orphan_on_a_shared_card_is_ended_by_its_own_workspace_only(
    two: tuple[Database, Database], tmp_path: Path, hold: Callable[..., Any]
) -> None:
    ours, theirs = two
    lock = tmp_path / "GPU-1.compute"
    orphan = hold(theirs, lock)
    with pytest.raises(LabError, match=f"`kill {orphan.pid}`"):
        recovery.free_device(lock, 0.0, ours.place)
    assert orphan.poll() is None
    assert recovery.free_device(lock, 0.0, theirs.place) == [orphan.pid]
    assert orphan.wait(10) == -signal.SIGKILL


def test_who_only_reads_a_lock_is_not_taken_for_its_holder(tmp_path: Path) -> None:
    """A copy of a workspace, say, as it is being made."""
    lock = tmp_path / "cpu.compute"
    lock.touch()
    reader = subprocess.Popen(["sleep", "600"], stdin=lock.open("rb"))
    held = lock.open("r+b")
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        assert processes.holders(lock) == [], "this process is never among them"
    finally:
        held.close()
        reader.kill()
        reader.wait()


def test_marks_are_of_files_so_that_a_workspace_at_an_old_path_is_another(
    two: tuple[Database, Database], tmp_path: Path, hold: Callable[..., Any]
) -> None:
    ours, theirs = two
    lock = tmp_path / "GPU-1.compute"
    lock.touch()
    theirs_too = hold(ours, tmp_path / "x", LABQUEUE_CHILD=f"{processes.mark_of(theirs.place, lock)}name")
    mine = hold(theirs, tmp_path / "y", LABQUEUE_CHILD=f"{processes.mark_of(ours.place, lock)}name")
    assert processes.belongs(mine.pid, ours.place) is True
    assert processes.end_marked(processes.mark_of(ours.place, lock)) == [mine.pid]
    assert theirs_too.poll() is None
    moved = ours.path.rename(tmp_path / "moved.db")
    assert processes.mark_of(Place.of(moved), lock) == processes.mark_of(ours.place, lock)


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "cpu.worker"
    first = processes.lock(path)
    assert first is not None
    shutil.rmtree(path.parent)
    assert first.place.changed == f"{path} is gone"
    second = processes.lock(path)
    assert second is not None
    assert second.place.changed is None
    assert first.place.changed == f"{path} is another file now"
    second.release()
    first.release()
