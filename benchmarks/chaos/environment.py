"""A hostile machine: a full disk, a disk that turns read-only, a wall clock that jumps, a database that is locked."""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.chaos import judge
from benchmarks.chaos.tracing import Missing
from benchmarks.chaos.workspace import WORKER, Workspace, lines, until, until_lines

STEPS = 60
STEP_S = 0.1
EVERY = 5

DISK_MIB = 8
"""Of the disk that fills: the empty workspace takes 0.3 MiB of it."""

DAY_S = 86400

LOCKED_S = 20.0


def submitted(workspace: Workspace, steps: int = STEPS) -> Workspace:
    """With one drill in the queue."""
    workspace.submit("hostile", "drill_files", steps=steps, step_s=STEP_S, checkpoint_every=EVERY)
    return workspace


def verdict(workspace: Workspace, steps: int = STEPS) -> list[str]:
    """Every law, after a run that was to succeed in the end."""
    broken = judge.history(workspace.witness, steps=steps, checkpoint_every=EVERY, runs={1})
    return broken + judge.results(workspace.root, steps=steps, runs=1, witness=workspace.witness)


def attempts(workspace: Workspace) -> list[str]:
    """How each attempt ended, and why, as recorded."""
    with judge.opened(workspace.database) as connection:
        rows = connection.execute("SELECT outcome, reason FROM attempts ORDER BY number").fetchall()
        return [f"{row['outcome']}" + (f": {row['reason']}" if row["reason"] else "") for row in rows]


@contextlib.contextmanager
def mounted(folder: Path, *words: str) -> Iterator[Path]:
    """A disk of its own at ``folder/disk``.

    Raises:
        Missing: this user may not mount.
    """
    disk = folder / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", *words, str(disk)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Missing(f"a small disk cannot be mounted ({done.stderr.strip()}); run this as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


def _on_disk(folder: Path, disk: Path) -> Workspace:
    """A workspace on the small disk whose witness and log are on another."""
    workspace = Workspace(
        disk / "lab", {"CHAOS_WITNESS": str(folder / "witness.txt"), "CHAOS_LOG": str(folder / "commands.log")}
    )
    return workspace.with_kinds(folder / "site")


def full(folder: Path, full_s: float = 20.0, steps: int = STEPS) -> dict[str, Any]:
    """The disk fills while a run works; later there is room again, and a person resumes the queue."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs") as disk:
        workspace = submitted(_on_disk(folder, disk), steps)
        worker = workspace.start(*WORKER)
        until(lambda: lines(workspace.witness) >= EVERY + 2)
        _fill(disk / "ballast")
        with contextlib.suppress(TimeoutError):
            until(lambda: worker.poll() is not None, full_s)
        alive = worker.poll() is None
        broken = [f"on the full disk, {words}" for words in _sound(workspace)]
        (disk / "ballast").unlink()
        # With room to write it down, the attempt ends, the queue pauses, and a draining worker has nothing left to do.
        with contextlib.suppress(TimeoutError):
            until(lambda: worker.poll() is not None, 60)
        statuses = [worker.poll()]
        workspace.kill_all()
        ended = attempts(workspace)
        if not any(words.startswith("disk_full") for words in ended):
            broken.append(f"no attempt ended because the disk was full: {ended}")
        elif "the queue is paused" not in workspace.said():
            broken.append("the worker did not say that it paused the queue")
        workspace.run("resume", "queue")
        statuses.append(workspace.run(*WORKER))
        broken += verdict(workspace, steps)
        return {
            "attempts when there was room again": ended,
            "the worker lived on": alive,
            "worker statuses": statuses,
            "attempts at the end": attempts(workspace),
            "said": workspace.said(400),
            "broken laws": broken,
        }


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 512):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"x" * size)


def _sound(workspace: Workspace) -> list[str]:
    with judge.opened(workspace.database) as connection:
        return judge.whole(connection)


def read_only(folder: Path) -> dict[str, Any]:
    """The disk turns read-only in the middle, as after an error; it is repaired and mounted again."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(32 * 1024**2)
    if shutil.which("mkfs.ext4") is None:
        raise Missing("mkfs.ext4 is not installed: apt-get install e2fsprogs")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with mounted(folder, "-o", "loop,errors=remount-ro", str(image)) as disk:
        workspace = submitted(_on_disk(folder, disk))
        worker = workspace.start(*WORKER)
        until(lambda: lines(workspace.witness) >= EVERY + 2)
        subprocess.run(["mount", "-o", "remount,abort", str(disk)], check=True)
        with contextlib.suppress(TimeoutError):
            until(lambda: worker.poll() is not None, 15)
        alive = worker.poll() is None
        reached = lines(workspace.witness)
        workspace.kill_all()
        worker.wait()
        subprocess.run(["umount", str(disk)], check=True)
        subprocess.run(["e2fsck", "-p", str(image)], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
        broken = [f"after the repair, {words}" for words in _sound(workspace)]
        status = workspace.run(*WORKER)
        broken += verdict(workspace)
        return {
            "the worker lived on": alive,
            "steps when it was mounted again": reached,
            "status of the next worker": status,
            "attempts at the end": attempts(workspace),
            "broken laws": broken,
        }


def shim(folder: Path) -> Path:
    """The library that moves the wall clock of those who load it.

    Raises:
        Missing: there is no C compiler.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Missing("there is no C compiler for the clock's shim: apt-get install gcc libc6-dev")
    library = folder / "clock_shim.so"
    source = Path(__file__).with_name("clock_shim.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def clock(folder: Path, jumps_s: tuple[int, ...] = (DAY_S, -DAY_S, DAY_S), steps: int = STEPS) -> dict[str, Any]:
    """The wall clock jumps a day ahead, two back, two ahead, in the middle of a run."""
    hands = folder / "clock"
    hands.write_bytes(struct.pack("l", 0))
    workspace = Workspace(folder / "lab").with_kinds()
    workspace = submitted(
        Workspace(workspace.root, {**workspace.extra, "LD_PRELOAD": str(shim(folder)), "CHAOS_CLOCK": str(hands)}),
        steps,
    )
    started = time.monotonic()
    worker = workspace.start(*WORKER)
    for at, jump_s in enumerate(jumps_s, 1):
        until_lines(workspace.witness, at * steps // (len(jumps_s) + 2))
        with hands.open("r+b") as file:
            file.write(struct.pack("l", jump_s))
    status = worker.wait(120)
    worker_s = time.monotonic() - started
    broken = verdict(workspace, steps)
    stamps = [float(line.split(" ")[3]) for line in workspace.witness.read_text().splitlines()]
    if max(stamps) - min(stamps) < abs(jumps_s[0]):
        broken.append("the clock did not move: this proved nothing")
    if len(attempts(workspace)) != 1:
        broken.append(f"the run was taken away from a living worker: {attempts(workspace)}")
    with judge.opened(workspace.database) as connection:
        wall_s = connection.execute("SELECT wall_s FROM runs").fetchone()[0]
    if not 0 < wall_s < worker_s:
        broken.append(f"the run took {wall_s:.0f} s by the record; the whole worker took {worker_s:.0f} s")
    return {
        "worker status": status,
        "attempts": attempts(workspace),
        "recorded wall_s of the run": round(wall_s, 1),
        "broken laws": broken,
    }


def locked(folder: Path, seconds: float = LOCKED_S, steps: int = STEPS) -> dict[str, Any]:
    """Another program holds the database's write lock for 20 s in the middle of a run."""
    workspace = submitted(Workspace(folder / "lab").with_kinds(), steps)
    worker = workspace.start(*WORKER)
    until(lambda: lines(workspace.witness) >= EVERY + 2)
    stranger = judge.sqlite.connect(workspace.database, timeout=30, isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    started = time.monotonic()
    time.sleep(seconds)
    held_s = time.monotonic() - started
    stranger.execute("ROLLBACK")
    stranger.close()
    status = worker.wait(120)
    broken = verdict(workspace, steps)
    if len(attempts(workspace)) != 1:
        broken.append(f"a locked database cost an attempt: {attempts(workspace)}")
    return {
        "locked for, s": round(held_s, 1),
        "worker status": status,
        "attempts": attempts(workspace),
        "broken laws": broken,
    }


SCENES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "disk full": full, "disk read-only": read_only, "clock jumps": clock, "database locked": locked,
}  # fmt: skip


def run(scenes: tuple[str, ...] = tuple(SCENES)) -> tuple[dict[str, Any], list[str]]:
    """Figures of each scene, and what was broken. A scene that this machine cannot play says why."""
    figures: dict[str, Any] = {}
    broken: list[str] = []
    for name in scenes:
        with tempfile.TemporaryDirectory(prefix="environment-", ignore_cleanup_errors=True) as folder:
            try:
                figures[name] = SCENES[name](Path(folder))
            except Missing as error:
                figures[name] = f"SKIPPED: {error}"
                continue
            except (TimeoutError, OSError, RuntimeError, subprocess.SubprocessError) as error:
                figures[name] = {"broken laws": [f"{type(error).__name__}: {error}"]}
            broken += [f"{name}: {words}" for words in figures[name]["broken laws"]]
            _end(Path(folder))
    return figures, broken


def _end(folder: Path) -> None:
    for root in (folder / "lab", folder / "disk" / "lab"):
        Workspace(root).kill_all()
        with contextlib.suppress(OSError):
            os.sync()
