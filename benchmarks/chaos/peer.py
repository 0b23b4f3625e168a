"""One other scheduler: how it is started, given its tasks, and killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.tracing import Missing

TASKS = 5

QUIET_S = 20.0
"""With no new line for this long after the restart, a peer is done; Slurm gets three times as much."""


@dataclass
class Peer:
    """One scheduler in a folder of its own. Whatever has ``witness`` in its environment is the peer, and is killed."""

    name: str
    version: str
    start: Callable[[], None]
    """Starts or restarts it."""
    submit: Callable[[], None]
    stop: Callable[[], None]
    witness: Path
    patience_s: float = QUIET_S

    def processes(self) -> list[int]:
        """All of its processes that live, daemons, clients and jobs alike."""
        mark = f"={self.witness}\0".encode()
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdecimal() and mark in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
        return found

    def strike(self) -> None:
        """SIGKILL to all of them, until none is left."""
        while doomed := self.processes():
            for pid in doomed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def spawn(command: list[str], folder: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A process in the background, its output in ``said.log``."""
    with (folder / "said.log").open("ab") as said:
        return subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )


def call(command: list[str], folder: Path, **environment: str) -> str:
    """A command to its end; returns what it printed."""
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, check=True, capture_output=True, text=True, timeout=120
    ).stdout.strip()


def needed(program: str, package: str) -> str:
    """The path of a program.

    Raises:
        Missing: it is not installed.
    """
    found = shutil.which(program)
    if found is None:
        raise Missing(f"{program} is not installed: apt-get install {package}")
    return found
