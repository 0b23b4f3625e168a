"""A search carried out while nobody looks: a worker of its own, watched until a rule holds. Judges nothing itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from labqueue.domain.errors import DeviceInUse, LabError, WorkFailed
from labqueue.domain.trials import Trial, TrialState
from labqueue.search.stop_rules import BUDGET, INTERRUPTED, OURS, STUCK, Rules, Stop, settled, stop
from labqueue.settings import Settings
from labqueue.store import trials
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.trials import Study
from labqueue.system.processes import die_with_parent

LOOK_S = 0.5
"""Between looks at the results store."""

HANDOVER_S = 40.0
"""How long another worker of the device may take to leave: its run's grace of 30 s to checkpoint, and some more."""

MAX_DEATHS = 3
"""Deaths of the worker itself (the kernel's memory killer, say) after which starting another is no help."""

Verdict = Callable[[], "str | None"]
"""The verdict of the prediction that the rules name."""

Progress = Callable[[Study, Trial], None]
"""Hears of each trial once it has ended."""


class Unattended:
    """One call: a worker of its own, watched until a rule holds."""

    def __init__(
        self, settings: Settings, db: Database, job: int, rules: Rules, verdict: Verdict, tell: Progress
    ) -> None:
        self._settings = settings
        self._db = db
        self._job = job
        self._rules = rules
        self._verdict = verdict
        self._tell = tell
        self._began = time.monotonic()
        self._told: set[int] = set()
        self._seen: tuple[int, str | None] | None = None
        self._deaths = 0
        self._asked = False
        self._stop: Stop | None = None
        self._log = settings.experiment(self._study().switch.experiment) / "loop.log"

    @property
    def _left_s(self) -> float:
        return self._rules.budget_s - (time.monotonic() - self._began)

    def until_stopped(self) -> Stop:
        """Works until a rule holds; nothing of the search runs, or waits needlessly, when it returns."""
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        worker: subprocess.Popen[bytes] | None = None
        try:
            self._open()
            while not self._over():
                if worker is None or worker.poll() is not None:
                    worker = self._next_worker(worker)
                    if worker is None:
                        break
                self._wait(worker)
        finally:
            self._end(worker)
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._concluded()

    def _open(self) -> None:
        """Opens a search again that an earlier loop has ended by a rule which does not hold now."""
        study = self._study()
        self._told = {trial.number for trial in study.trials if trial.state is not TrialState.OPEN}
        if study.switch.ended in OURS and self._holds(study) is None:
            trials.reopen(self._db, self._job)

    def _over(self) -> bool:
        if self._asked or self._left_s <= 0:
            return True
        study = self._study()
        # Judged once for each trial that ends, and not at every look: a verdict asked for often comes by chance.
        seen = (sum(trial.state is not TrialState.OPEN for trial in study.trials), study.switch.ended)
        if seen != self._seen:
            self._seen = seen
            self._progress(study)
            self._stop = self._stop or self._holds(study)
        if self._stop is None:
            return False
        # What runs may end; what waits is not needed any more.
        trials.end(self._db, self._job, self._stop.code, self._stop.why)
        return settled(self._study())

    def _holds(self, study: Study) -> Stop | None:
        return stop(study, self._rules, self._verdict)

    def _next_worker(self, before: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes] | None:
        """A worker; None when the one before has drained the queue and the search is where it was.

        Raises:
            WorkFailed: it cannot start, since another one keeps the device, say.
            Moved: the results store is no longer where it was.
        """
        if before is not None and before.returncode in (0, 1):
            return None
        # A worker that is started where the workspace used to be would make a new one there.
        self._db.place.check()
        refused = before is not None and before.returncode in (LabError.exit_status, DeviceInUse.exit_status)
        if before is not None and not refused:
            self._deaths += 1
            if self._deaths == MAX_DEATHS:
                raise WorkFailed(f"the worker died {MAX_DEATHS} times (status {before.returncode}); see {self._log}")
        elif before is not None:
            held = before.returncode == DeviceInUse.exit_status
            if not held or time.monotonic() - self._began > HANDOVER_S:
                said = ["the worker could not start", *self._log.read_text(errors="replace").strip().splitlines()][-1]
                raise WorkFailed(said.removeprefix("labqueue: "))
            time.sleep(1.0)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "labqueue", "worker", "--drain", "--root", str(self._settings.root)]
        device = "cpu" if self._study().device == "cpu" else "auto"
        me = os.getpid()
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--device", device],
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(me),
            )

    def _wait(self, worker: subprocess.Popen[bytes]) -> None:
        try:
            worker.wait(max(0.01, min(LOOK_S, self._left_s)))
        except subprocess.TimeoutExpired:
            return

    def _end(self, worker: subprocess.Popen[bytes] | None) -> None:
        """Ends the worker: what runs checkpoints and is queued again."""
        if worker is not None and worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            worker.wait()
        if self._stop is not None:
            trials.end(self._db, self._job, self._stop.code, self._stop.why)

    def _concluded(self) -> Stop:
        study = self._study()
        self._progress(study)
        found = self._stop or self._holds(study)
        if found is not None:
            return found
        if self._asked:
            return Stop(INTERRUPTED, "it was asked to stop", done=False)
        if self._left_s <= 0:
            return Stop(BUDGET, f"the budget of {self._rules.budget_s / 3600:g} h ended first", done=False)
        held = [run for run in read.find(self._db, study.switch.experiment) if run.waiting is not None]
        paused = read.control(self._db, "pause") or read.control(self._db, f"pause:{study.switch.experiment}")
        why = (
            held[0].waiting.text if held and held[0].waiting else (paused or {}).get("reason", "see `labqueue status`")
        )
        return Stop(STUCK, f"the search cannot go on without a person: {why}", done=False)

    def _study(self) -> Study:
        found = trials.study(self._db, self._job)
        if found is None:
            raise LabError(f"job {self._job} has no search any more")
        return found

    def _progress(self, study: Study) -> None:
        for trial in study.trials:
            if trial.state is not TrialState.OPEN and trial.number not in self._told:
                self._told.add(trial.number)
                self._tell(study, trial)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._asked = True
