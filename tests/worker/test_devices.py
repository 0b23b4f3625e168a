"""One card each: what a worker with one of several cards computes on, measures, locks and leaves alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from labqueue.domain.errors import LabError
from labqueue.domain.waiting import Reason, describe
from labqueue.settings import Settings
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import read
from labqueue.store.runs.attempts import Candidate
from labqueue.system import devices, lock_files, processes
from labqueue.system.clock import Deadline
from labqueue.system.devices import Device
from labqueue.worker import child_process, recovery
from labqueue.worker.admission import Admission
from labqueue.worker.telemetry import Telemetry
from labqueue.worker.worker import Options, Worker
from labqueue.worker.working_hours import Hours
from tests import driver
from tests.commands import call
from tests.conftest import Lab, wait_until

A, B, C = "GPU-a1", "GPU-b2", "GPU-c3"


@contextlib.contextmanager
def working(lab: Lab, *words: str, **extra: str) -> Iterator[subprocess.Popen[str]]:
    """A worker of the lab, ended afterwards."""
    worker = lab.start("worker", "--grace", "5", *words, **extra)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.communicate(timeout=30)


def visible_to_children(worker: subprocess.Popen[str]) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of every process that a worker has started."""
    found = []
    for process_of in psutil.Process(worker.pid).children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if environ := process_of.environ():  # of one that is only just starting nothing can be read
                found.append(environ.get("CUDA_VISIBLE_DEVICES"))
    return found


def cards_of_running(db: Database) -> dict[str, int]:
    """The cards on which runs 1 to 3 have begun to compute, with the runs."""
    found = {}
    for view in (read.run(db, run) for run in (1, 2, 3)):
        if view.state == "running" and view.attempts and view.attempts[-1].card:
            found[view.attempts[-1].card["uuid"]] = view.id
    return found


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A machine with three cards, a worker on each in one workspace, and a run on each that computes until it is told
    to stop. The third worker came when the others were busy, and calls its card as the first one does: it sees no
    other."""
    lab = Lab(tmp_path_factory.mktemp("three"))
    cards = (driver.card(A), driver.card(B), driver.card(C))
    machine = driver.machine(lab.root / "driver", *cards)
    spec = lab.spec("busy", params={"fault": "hang"}, seeds=[0, 1, 2])
    assert call(lab, "submit", spec, "--profile", "gpu", "--no-preflight").code == 0
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(working(lab, "--device", "cuda:0", **machine))
        second = stack.enter_context(working(lab, "--device", "cuda:1", **machine))
        db = lab.db
        wait_until(lambda: len(cards_of_running(db)) == 2, 60)
        third = stack.enter_context(working(lab, **machine, CUDA_VISIBLE_DEVICES="2"))
        runs = wait_until(lambda: len(found := cards_of_running(db)) == 3 and found, 60)
        yield SimpleNamespace(lab=lab, cards=cards, workers={A: first, B: second, C: third}, runs=runs)


def test_each_child_sees_its_workers_card_and_no_other(three: SimpleNamespace) -> None:
    for card, worker in three.workers.items():
        # One computes, and one waits to be the next.
        seen = wait_until(lambda worker=worker: len(found := visible_to_children(worker)) == 2 and found)
        assert seen == [card, card]


def test_workers_of_one_workspace_leave_each_others_runs_alone(three: SimpleNamespace) -> None:
    db = three.lab.db
    views = [read.run(db, run) for run in (1, 2, 3)]
    assert [(view.state, len(view.attempts)) for view in views] == [("running", 1)] * 3
    shown = call(three.lab, "status", "--json").json["workers"]
    assert sorted((worker["card"], worker["device"], worker["alive"]) for worker in shown) == [
        *((A, "cuda:0", True), (B, "cuda:1", True), (C, "cuda:0", True))
    ]


def test_a_run_tells_its_device_as_it_was_asked_for_and_the_card_behind_it(three: SimpleNamespace) -> None:
    for card, device in ((A, "cuda:0"), (B, "cuda:1"), (C, "cuda:0")):
        (attempt,) = call(three.lab, "show", three.runs[card], "--json").json["attempts"]
        assert attempt["device"] == device
        assert attempt["card"] == {"name": "a card", "uuid": card, "memory_gib": 16.0}
    assert f"cuda:1 is a card ({B})" in call(three.lab, "show", three.runs[B]).out


@pytest.mark.parametrize(("device", "visible"), [("cuda:1", "0,1,2"), ("cuda:0", B), ("auto", f"{B},{A}")])
def test_a_second_worker_on_a_card_is_refused_by_whatever_name_and_workspace(
    three: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, visible: str
) -> None:
    driver.here(monkeypatch, tmp_path / "driver", *three.cards, visible=visible)
    monkeypatch.setenv("LABQUEUE_LOCKS", three.lab.environment()["LABQUEUE_LOCKS"])
    second = Worker(Settings(tmp_path, device), Options(drain=True))
    with pytest.raises(LabError, match=f"held by the worker with process id {three.workers[B].pid} "):
        second.work()


def test_a_card_that_is_hidden_cannot_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver.here(monkeypatch, tmp_path, driver.card(A), driver.card(B), visible=B)
    assert devices.find(devices.choose("auto")) == Device("cuda:0", B)
    with pytest.raises(LabError, match="no device 'cuda:1' on this machine: choose auto, cpu, cuda:0"):
        devices.choose("cuda:1")


def test_a_run_on_a_cpu_sees_no_card(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    waiting = child_process.prepare(lab.settings, None, lab.root / "cpu.compute", "a_mark:")
    try:
        seen = wait_until(lambda: psutil.Process(waiting.process.pid).environ())
        assert seen["CUDA_VISIBLE_DEVICES"] == ""
    finally:
        waiting.discard()


def test_locks_of_cards_are_found_from_every_session(tmp_path: Path) -> None:
    """Two workspaces, two sessions with a folder each for what is temporary, one card."""
    name = f"GPU-{uuid.uuid4()}"
    machine = driver.machine(tmp_path / "driver", driver.card(name)) | {"LABQUEUE_LOCKS": ""}
    labs, homes = [], []
    for at in ("one", "two"):
        (tmp_path / at / "tmp").mkdir(parents=True)
        labs.append(Lab(tmp_path / at))
        homes.append(machine | {"TMPDIR": str(tmp_path / at / "tmp")})
    try:
        with working(labs[0], **homes[0]):
            wait_until(lambda: labs[0].settings.database.exists() and read.status(labs[0].db).workers)
            answer = labs[1].run("worker", "--drain", **homes[1])
    finally:
        left = [path for place in lock_files.OPEN_TO_ALL for path in place.glob(f"labqueue/{name}*")]
        for path in left:
            path.unlink()
    assert answer.code == 4
    assert f"workspace {labs[0].root}" in answer.err
    assert left, "the machine's own folder is where they met"


def admitted(device: Device, limit: float) -> Reason | None:
    asked = Admission(device, Hours(), lambda _run: None)
    asked.look()
    return asked(Candidate(1, "cuda", {"memory_gib": limit}, None, None, None, None))


def test_admission_and_telemetry_look_at_the_workers_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    full, free = driver.card(A, free_gib=1.0, temperature_c=80), driver.card(B, temperature_c=40)
    driver.here(monkeypatch, tmp_path, full, free)
    assert admitted(devices.find("cuda:1"), 8.0) is None
    refused = admitted(devices.find("cuda:0"), 8.0)
    assert refused is not None
    assert refused.code == "memory"
    assert "free on cuda:0" in describe(refused)
    watch = Telemetry(devices.find("cuda:1").card)
    watch.start()
    wait_until(lambda: watch._samples)
    found = watch.stop()
    assert found is not None
    assert found["temperature_c"] == {"max": 40, "mean": 40.0}


def test_a_worker_keeps_its_card_when_another_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A driver may count the cards that are left anew: then cuda:1 is no more, and the second card is."""
    driver.here(monkeypatch, tmp_path, driver.card(A), driver.card(B))
    mine = devices.find("cuda:1")
    driver.here(monkeypatch, tmp_path, driver.card(B))
    assert admitted(mine, 8.0) is None
    driver.here(monkeypatch, tmp_path, driver.card(A))
    refused = admitted(mine, 8.0)
    assert refused is not None
    assert (refused.code, describe(refused)) == ("device", "cuda:1 does not answer its driver")
    with pytest.raises(LabError, match="no device 'cuda:1'"):
        devices.find("cuda:1")


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine's folder for everybody, in which nobody has a lock yet; pytest's own folders are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="labqueue-test-", dir="/tmp"))
    folder.chmod(0o1777)
    monkeypatch.setattr(lock_files, "OPEN_TO_ALL", (folder / "none", folder))
    monkeypatch.delenv("LABQUEUE_LOCKS", raising=False)
    yield folder
    shutil.rmtree(folder)


def test_the_folder_and_its_files_are_everybodys_whatever_the_umask(place: Path) -> None:
    before = os.umask(0o077)
    try:
        folder = lock_files.lock_folder()
        held = processes.lock(folder / "GPU-a.compute")
    finally:
        os.umask(before)
    assert held is not None
    held.release()
    assert folder == place / "labqueue"
    assert stat.filemode(folder.stat().st_mode) == "drwxrwxrwt"
    assert stat.filemode((folder / "GPU-a.compute").stat().st_mode) == "-rw-rw-rw-"
    assert lock_files.lock_folder() == folder


def test_without_a_folder_for_everybody_it_says_so(place: Path) -> None:
    place.chmod(0o755)
    with pytest.raises(LabError, match="LABQUEUE_LOCKS"):
        lock_files.lock_folder()


@pytest.mark.parametrize("trap", ["link", "second name", "folder", "pipe"])
def test_what_somebody_else_laid_there_is_neither_written_to_nor_waited_for(place: Path, trap: str) -> None:
    treasure = place / "treasure"
    treasure.write_text("mine")
    path = lock_files.lock_folder() / "GPU-a.worker"
    match trap:
        case "link":
            path.symlink_to(treasure)
        case "second name":
            path.hardlink_to(treasure)
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(LabError, match=r"GPU-a\.worker is no plain file.*LABQUEUE_LOCKS"):
        processes.lock(path)
    assert treasure.read_text() == "mine"


@pytest.mark.parametrize("trap", ["link", "file"])
def test_a_folder_that_is_none_is_refused(place: Path, trap: str) -> None:
    if trap == "link":
        (place / "elsewhere").mkdir()
        (place / "labqueue").symlink_to(place / "elsewhere")
    else:
        (place / "labqueue").write_text("")
    with pytest.raises(LabError, match="should be a folder open to every user"):
        lock_files.lock_folder()


def as_somebody_else(act: Callable[[], Any]) -> Any:
    """What a call returns, or the words of its error, for another user of this machine: in a fork, since the other one
    may not be let to this user's Python."""
    readable, writable = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            try:
                found = act()
            except LabError as error:
                found = error.message
            os.write(writable, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return json.loads(said)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


@needs_root
@pytest.mark.parametrize("mode", [0o666, 0o644])
def test_two_users_exclude_each_other_on_one_card(place: Path, mode: int) -> None:
    """Also where the first one's file cannot be written by the second, who then cannot say that it holds it."""
    path = lock_files.lock_folder() / "GPU-a.worker"
    held = processes.lock(path)
    assert held is not None
    held.describe({"root": "mine", "lease": str(Deadline.after(60))})
    path.chmod(mode)

    theirs = place / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    create_or_migrate(theirs / "results.db").close()
    (theirs / "results.db").chmod(0o666)

    def take_over() -> str:
        taken = recovery.take_over(path, "cuda:0", create_or_migrate(theirs / "results.db"))
        taken.describe({"root": "theirs"})
        return str(processes.holder(path)["root"])

    words = as_somebody_else(take_over)
    assert "device cuda:0 is held by" in words
    assert str(os.getpid()) in words
    held.release()
    assert as_somebody_else(take_over) == ("theirs" if mode == 0o666 else "mine")


@needs_root
def test_a_folder_that_another_user_keeps_to_himself_is_named(place: Path) -> None:
    (place / "labqueue").mkdir(mode=0o755)
    words = as_somebody_else(lambda: str(lock_files.lock_folder()))
    assert str(place / "labqueue") in words
    assert "drwxr-xr-x of user 0" in words


@needs_root
def test_a_lock_that_another_user_keeps_to_himself_is_named(place: Path) -> None:
    path = lock_files.lock_folder() / "GPU-a.worker"
    path.touch(mode=0o600)
    words = as_somebody_else(lambda: processes.lock(path) is None)
    assert f"cannot open the lock {path}: Permission denied" in words
    assert "LABQUEUE_LOCKS" in words
