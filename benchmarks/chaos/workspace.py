"""A workspace and its processes, as a person at a terminal has them: commands, process ids, signals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT_S = 240.0
"""No single command of these tests may take longer."""

WORKER = ("worker", "--drain", "--device", "cpu", "--grace", "10")

_SITE = """
import os, sys
import labqueue.kinds
labqueue.kinds.__path__.append({kinds!r})
if "CHAOS_CHILD" in os.environ:
    sys.executable = os.environ["CHAOS_CHILD"]
"""


@dataclass(frozen=True)
class Workspace:
    """A root folder; ``extra`` is added to the environment of every command."""

    root: Path
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def witness(self) -> Path:
        """The side-effect file of every drill here."""
        return Path(self.extra.get("CHAOS_WITNESS", self.root / "witness.txt"))

    @property
    def log(self) -> Path:
        """What commands print; elsewhere where the workspace's own disk is to fill."""
        return Path(self.extra.get("CHAOS_LOG", self.root / "commands.log"))

    @property
    def database(self) -> Path:
        """What the lab believes."""
        return self.root / "results.db"

    def environment(self, **extra: str) -> dict[str, str]:
        """Of every command in this workspace."""
        ours = {"LABQUEUE_ROOT": str(self.root), "LABQUEUE_LOCKS": str(self.root / "locks"), "COLUMNS": "200"}
        return {**os.environ, **ours, **self.extra, **extra}

    def with_kinds(self, site: Path | None = None) -> Workspace:
        """The same with the kind ``drill_files``, and with ``CHAOS_CHILD`` in place of the interpreter of children.

        ``site`` is where that is arranged, if not in the workspace itself.
        """
        site = site or self.root / ".site"
        site.mkdir(parents=True, exist_ok=True)
        kinds = Path(__file__).parent / "kinds"
        (site / "sitecustomize.py").write_text(_SITE.format(kinds=str(kinds)))
        given = self.extra.get("PYTHONPATH") or os.environ.get("PYTHONPATH")
        return Workspace(self.root, {**self.extra, "PYTHONPATH": os.pathsep.join(filter(None, [str(site), given]))})

    def copy(self, root: Path) -> Workspace:
        """A copy of the folder at another place."""
        shutil.copytree(self.root, root)
        extra = {key: value.replace(str(self.root), str(root)) for key, value in self.extra.items()}
        return Workspace(root, extra)

    def start(self, *words: str, before: tuple[str, ...] = (), **extra: str) -> subprocess.Popen[bytes]:
        """Starts ``labqueue WORDS``, its output in ``commands.log``; ``before`` is a command that runs it."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*before, sys.executable, "-m", "labqueue", *words],
                env=self.environment(**extra),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def run(self, *words: str, before: tuple[str, ...] = (), **extra: str) -> int:
        """Runs a command to its end and returns its status; one that hangs is killed, and is an error."""
        process = self.start(*words, before=before, **extra)
        try:
            return process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill_all()
            process.kill()
            process.wait()
            raise

    def submit(self, name: str, kind: str = "drill", *, seeds: int = 1, attempts: int = 50, **params: Any) -> None:
        """Submits drills that write to ``witness``; ``seeds`` of them, from 0."""
        self.root.mkdir(parents=True, exist_ok=True)
        spec = self.root / f"{name}.yaml"
        fields = {
            "name": name,
            "kind": kind,
            "params": {"witness": str(self.witness) if self.witness.parent != self.root else "witness.txt", **params},
            "seeds": list(range(seeds)),
            "limits": {"attempts": attempts},
        }
        spec.write_text(json.dumps(fields))
        if self.run("submit", str(spec), "--profile", "cpu") != 0:
            raise RuntimeError(f"cannot submit: {self.said()}")

    def said(self, limit: int = 2000) -> str:
        """The end of what all commands printed."""
        return self.log.read_text(errors="replace")[-limit:] if self.log.exists() else ""

    def processes(self) -> Iterator[int]:
        """Ids of all living processes of this workspace, whoever started them."""
        mark = f"LABQUEUE_ROOT={self.root}\0".encode()
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdecimal() and mark in Path(f"/proc/{entry}/environ").read_bytes():
                    yield int(entry)

    def kill_all(self) -> None:
        """SIGKILL to all of them, until none is left."""
        for _ in range(100):
            alive = list(self.processes())
            if not alive:
                return
            for pid in alive:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)

    def wait_quiet(self, timeout_s: float = 30.0) -> None:
        """Waits until no process of this workspace is left."""
        until(lambda: not list(self.processes()), timeout_s)


def children(pid: int) -> list[int]:
    """Living children of a process, oldest first."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for task in tasks:
        with contextlib.suppress(OSError):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return sorted(found)


def until(true: Callable[[], Any], timeout_s: float = 60.0, pause_s: float = 0.005) -> Any:
    """Waits for a condition and returns its value.

    Raises:
        TimeoutError: it did not come true.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > give_up:
            raise TimeoutError(f"not true within {timeout_s:g} s")
        time.sleep(pause_s)


def until_lines(path: Path, least: int, timeout_s: float = 60.0, pause_s: float = 0.005) -> None:
    """Waits until a file has that many complete lines.

    Raises:
        TimeoutError: it did not get them.
    """
    until(lambda: lines(path) >= least, timeout_s, pause_s)


def lines(path: Path) -> int:
    """Complete lines of a file; 0 where there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0
