"""The next trials of the searches of a device: ``python -m labqueue.worker.proposer``, a process of its own.

The worker starts it between two runs and waits. In the worker itself the optimiser would stay for weeks (some 45 MiB)
and a fault in it would end the queue; here both end with the process. It may be killed at any moment: what it has not
recorded is proposed again, the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labqueue.attempt import exit_codes
from labqueue.domain.errors import LabError, Moved, Unavailable
from labqueue.settings import Settings
from labqueue.store import trials
from labqueue.store.db import Database, open_existing
from labqueue.store.runs import control
from labqueue.store.runs.search_state import METRIC_NEVER_RECORDED, Switch
from labqueue.system.provenance import importable

if TYPE_CHECKING:
    from labqueue.domain.spec.schema import Spec

PATIENCE_S = 300.0
"""How long one proposal may take; it takes about a second. Assumption."""


class Proposer:
    """What the worker asks between two runs. A search that cannot go on is paused, and says why."""

    def __init__(self, settings: Settings, db: Database, device_class: str, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._db = db
        self._device = device_class
        self._say = say

    def look(self) -> None:
        """Has the next trial of each search proposed that waits for one."""
        for switch in trials.due(self._db, self._device):
            words = self._propose(switch)
            if words is not None:
                control.hold(self._db, switch.experiment, f"its search cannot propose a trial: {words}")
                self._say(f"experiment {switch.experiment} is paused: its search cannot propose a trial: {words}")

    def _propose(self, switch: Switch) -> str | None:
        """Why it failed, or None; a workspace that cannot be written now is tried again later."""
        command = [sys.executable, "-m", "labqueue.worker.proposer"]
        command += ["--root", str(self._settings.root), "--job", str(switch.job)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, start_new_session=True,
                cwd=self._settings.root, env={**os.environ, "PYTHONPATH": importable()},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it took longer than {PATIENCE_S:.0f} s"
        for line in done.stdout.splitlines():
            self._say(line)
        if done.returncode in (0, exit_codes.LATER):
            return None
        said = [line for line in done.stderr.splitlines() if line.strip()]
        return said[-1].strip() if said else f"exit status {done.returncode}"


def propose(db: Database, job: int) -> str | None:
    """Records the next trial of a search that has none waiting; returns what to say, None where nothing was to do.

    Several in a row where the points have succeeded before and are reused. The search ends where no point is left,
    or where nothing that ran measured its metric.
    """
    from labqueue.domain.canonical import canonical
    from labqueue.domain.spec.schema import Spec
    from labqueue.domain.trials import metric_never_recorded
    from labqueue.search.sampler import next_point
    from labqueue.submission.plan import runs_of

    said = None
    while (study := trials.study(db, job)) is not None and study.switch.ended is None:
        if any(run.state == "queued" for trial in study.trials for run in trial.runs):
            break
        spec = Spec.of_job(study.spec)
        assert spec.sweep is not None, "a search is a sweep"
        search = spec.sweep.search
        assert search is not None, "it has been registered"
        why = metric_never_recorded(study.trials, search.startup, search.metric)
        if why is not None:
            trials.end(db, job, METRIC_NEVER_RECORDED, why)
            return f"the search of {spec.name} ends: {why}"
        refused = partial(_refused, spec, study)
        number = len(study.trials)
        point = next_point(search, study.trials, refused)
        if point is None:
            why = f"no point of its space is left after {number} trials"
            trials.end(db, job, "exhausted", why)
            return f"the search of {spec.name} ends: {why}"
        ids = trials.record(db, job, number, runs_of(spec, point, study.device))
        if ids is not None:
            said = f"trial {number} of {spec.name}: {canonical(point)} ({', '.join(f'run {run}' for run in ids)})"
    return said


def _refused(spec: Spec, study: trials.Study, point: dict[str, Any]) -> bool:
    """Whether a point is none for this search: the kind does not take it, or it is a run that the job has already.

    Two points may be one run where they differ in writing only (a default that is spelt out).
    """
    from labqueue.submission.plan import runs_of

    try:
        runs = runs_of(spec, point, study.device)
    except LabError:
        return True
    return any(run.spec_hash in study.spec_hashes for run in runs)


def main(argv: list[str] | None = None) -> int:
    """Proposes for one job; what it says goes to standard output."""
    parser = argparse.ArgumentParser(prog="labqueue.worker.proposer")
    parser.add_argument("--root", required=True)
    parser.add_argument("--job", type=int, required=True)
    given = parser.parse_args(argv)
    db = open_existing(Settings(Path(given.root)).database)
    if db is None:
        return exit_codes.LATER  # moved away under its worker, who will see it
    try:
        said = propose(db, given.job)
    except (Unavailable, Moved) as error:
        sys.stderr.write(f"{error}\n")
        return exit_codes.LATER
    if said is not None:
        sys.stdout.write(f"{said}\n")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own teardown, which takes longer than the proposal.
    os._exit(status)
