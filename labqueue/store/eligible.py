"""Why a queued run cannot start now. One rule for the worker that claims and for the pages that explain."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from labqueue import clock
from labqueue.domain.state import SETTLED, Outcome, State, Waiting
from labqueue.domain.views import WaitingView
from labqueue.store.tables import CONTROLS, EXPERIMENTS, Job, JobRun, Run

FOREVER = "forever"


def pauses(connection: Connection) -> dict[str, tuple[str, str]]:
    """What is paused now: ``""`` for the whole queue or an experiment's name, each with its reason and its end."""
    found = {}
    for key, value in connection.execute(select(CONTROLS.key, CONTROLS.value).where(CONTROLS.key.like("pause%"))):
        until = value.get("until", FOREVER)
        if still_paused(until):
            found[key.partition(":")[2]] = (value["reason"], until)
    return found


def still_paused(until: str | None) -> bool:
    """Whether a pause (``forever``, a deadline or null) still holds."""
    return until is not None and (until == FOREVER or not clock.Deadline.parse(until).passed)


def unmet_needs(connection: Connection, job_id: int) -> str | None:
    """What a job still waits for, in words; None when all it needs is there."""
    needs: list[dict[str, Any]] = connection.execute(select(Job.needs).where(Job.id == job_id)).scalar_one()
    unmet = []
    for need in needs:
        accept = need["accept"]
        rows = connection.execute(
            select(Run.id, Run.state, Run.outcome, Run.varied, Run.params)
            .join(JobRun, JobRun.run_id == Run.id)
            .where(JobRun.job_id == need["job"])
        ).all()
        for run_id, state, outcome, varied, params in rows:
            if not matches(need["where"], varied, params):
                continue
            if state != State.FINISHED:
                unmet.append(f"run {run_id} of {need['experiment']} is {state}")
            elif accept is not None and Outcome(outcome) not in SETTLED and outcome not in accept:
                unmet.append(
                    f"run {run_id} of {need['experiment']} ended {outcome} "
                    f"(`labqueue retry {run_id}`, or `labqueue release` what waits)"
                )
    if not unmet:
        return None
    more = f"; and {len(unmet) - 3} more" if len(unmet) > 3 else ""
    return "; ".join(unmet[:3]) + more


def matches(where: dict[str, Any], varied: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether a run is one that ``where`` chooses: by its varied keys, else by its parameters."""
    for key, wanted in where.items():
        value: Any = varied.get(key, _MISSING)
        if value is _MISSING:
            value = params
            for part in key.split("."):
                value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value != wanted:
            return False
    return True


_MISSING = object()


class Waits:
    """Answers for many runs of one picture of the ledger; asks for each job's needs once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pauses = pauses(connection)
        self._names: dict[int, str] = {
            row.id: row.name for row in connection.execute(select(EXPERIMENTS.id, EXPERIMENTS.name))
        }
        self._needs: dict[int, str | None] = {}

    @property
    def queue_paused(self) -> str | None:
        """Why the whole queue is paused, or None."""
        return self._pauses[""][0] if "" in self._pauses else None

    def pause_ends(self, run: Any) -> bool:
        """Whether every pause that holds a run ends by itself."""
        switches = [self._pauses.get(key, ("", None))[1] for key in ("", self._names[run.experiment_id])]
        return FOREVER not in (*switches, run.paused_until)

    def of(self, run: Any) -> WaitingView | None:
        """Why this queued run cannot start now, or None. ``run`` has the columns of ``tables.Run``."""
        name = self._names[run.experiment_id]
        if "" in self._pauses:
            return WaitingView(Waiting.PAUSED, f"the queue is paused: {self._pauses[''][0]}")
        if name in self._pauses:
            return WaitingView(Waiting.PAUSED, f"experiment {name} is paused: {self._pauses[name][0]}")
        if still_paused(run.paused_until):
            until = "until `labqueue resume`"
            if run.paused_until != FOREVER:
                until = f"until {clock.iso(clock.Deadline.parse(run.paused_until).unix_s)}"
            return WaitingView(Waiting.PAUSED, f"paused {until}")
        if not run.released:
            if run.job_id not in self._needs:
                self._needs[run.job_id] = unmet_needs(self._connection, run.job_id)
            unmet = self._needs[run.job_id]
            if unmet:
                return WaitingView(Waiting.NEEDS, unmet)
        if run.not_before is not None:
            deadline = clock.Deadline.parse(run.not_before)
            if not deadline.passed:
                why = f": {run.reason}" if run.reason else ""
                return WaitingView(Waiting.BACKOFF, f"tries again in {deadline.left_s:.0f} s{why}")
        return None
