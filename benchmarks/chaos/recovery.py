"""How long the queue stands still after a crash: from the start of a new worker to the next step of its first run."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.chaos import judge
from benchmarks.chaos.workspace import WORKER, Workspace, children, lines, until, until_lines

BOUND_S = 5.0
"""Promised: the first reclaimed run works again within this time."""

STEP_S = 0.05
EVERY = 5


def run(*, times: int) -> tuple[dict[str, Any], list[str]]:
    """Kills worker and children ``times`` times in the middle of one run, and measures each return."""
    took: list[float] = []
    broken: list[str] = []
    with tempfile.TemporaryDirectory(prefix="recovery-") as folder:
        workspace = Workspace(Path(folder) / "lab")
        steps = times * 12 + 20
        workspace.submit("recovery", steps=steps, step_s=STEP_S, checkpoint_every=EVERY)
        started = time.monotonic()
        worker = workspace.start(*WORKER)
        until(lambda: lines(workspace.witness), 60, 0.002)
        ordinary_s = time.monotonic() - started
        until(lambda: lines(workspace.witness) >= EVERY + 1)
        for _ in range(times):
            for pid in [worker.pid, *children(worker.pid)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            worker.wait()
            workspace.wait_quiet()
            done = lines(workspace.witness)
            started = time.monotonic()
            worker = workspace.start(*WORKER)
            until_lines(workspace.witness, done + 1, 60, 0.002)
            took.append(time.monotonic() - started)
            until_lines(workspace.witness, done + EVERY + 3)
        if worker.wait(120) != 0:
            broken.append(f"the last worker failed: {workspace.said()[-300:]}")
        broken += judge.history(workspace.witness, steps=steps, checkpoint_every=EVERY, runs={1})
        broken += judge.results(workspace.root, steps=steps, runs=1)
    if max(took) > BOUND_S:
        broken.append(f"a run stood still for {max(took):.2f} s after the worker's start; the bound is {BOUND_S:.2f} s")
    return {
        "kills of worker and child": times,
        "start of the worker to the reclaimed run's next step, s, p50": round(statistics.median(took), 2),
        "s, max": round(max(took), 2),
        "a start with nothing to reclaim, s": round(ordinary_s, 2),
        "bound, s": BOUND_S,
        "broken laws": broken,
    }, broken
