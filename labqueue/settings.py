"""Where things are: every path of the lab derives from the workspace root. Knows nothing of their content."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """The workspace and what a worker in it may use.

    ``device`` is ``auto``, ``cpu`` or ``cuda:N``; ``memory_gib`` is device memory for one run (None: what is free).
    """

    root: Path
    device: str = "auto"
    memory_gib: float | None = None

    @property
    def database(self) -> Path:
        """The truth about experiments, runs and results."""
        return self.root / "results.db"

    @property
    def outputs(self) -> Path:
        """Everything that runs and reports write."""
        return self.root / "outputs"

    @property
    def wakeups(self) -> Path:
        """The queue's file of wake-ups: disposable, never believed."""
        return self.outputs / "wakeups.db"

    def experiment(self, name: str) -> Path:
        """The folder of one experiment."""
        return self.outputs / name

    def run(self, experiment: str, run_id: int) -> Path:
        """The folder of one run."""
        return self.outputs / experiment / str(run_id)

    def relative(self, path: Path) -> str:
        """A path as the ledger and all output show it: relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def find_root(given: str | None) -> Path:
    """The workspace: what was given, else ``LABQUEUE_ROOT``, else the current folder."""
    return Path(given or os.environ.get("LABQUEUE_ROOT") or ".").resolve()
