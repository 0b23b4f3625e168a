"""Why a queued run cannot start now. One rule for the worker that claims and for the pages that explain."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.state import SETTLED, Outcome, State, Waiting
from labqueue.domain.views import WaitingView
from labqueue.store.runs import search_state
from labqueue.store.tables import Control, Experiment, Job, JobRun, Run
from labqueue.system import clock

FOREVER = "forever"


def pauses(connection: Connection) -> dict[str, tuple[str, str]]:
    """What is paused now: ``""`` for the whole queue or an experiment's name, each with its reason and its end."""
    found = {}
    for key, value in connection.execute(select(Control.c.key, Control.c.value).where(Control.c.key.like("pause%"))):
        until = value.get("until", FOREVER)
        if still_paused(until):
            found[key.partition(":")[2]] = (value["reason"], until)
    return found


def still_paused(until: str | None) -> bool:
    """Whether a pause (``forever``, a deadline or null) still holds."""
    return until is not None and (until == FOREVER or not clock.Deadline.parse(until).passed)


def unmet_needs(connection: Connection, job_id: int) -> str | None:
    """What a job still waits for, in words; None when all it needs is there."""
    needs: list[dict[str, Any]] = connection.execute(select(Job.c.needs).where(Job.c.id == job_id)).scalar_one()
    unmet = []
    for need in needs:
        if "serves" in need:
            continue  # each run waits for its own rehearsal only
        accept = need["accept"]
        rows = connection.execute(
            select(Run.c.id, Run.c.state, Run.c.outcome, Run.c.varied, Run.c.params)
            .join(JobRun, JobRun.c.run_id == Run.c.id)
            .where(JobRun.c.job_id == need["job"])
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
        open_search = search_state.unfinished(connection, need["job"])
        if open_search is not None:
            unmet.append(open_search)
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
            row.id: row.name for row in connection.execute(select(Experiment.c.id, Experiment.c.name))
        }
        self._needs: dict[int, str | None] = {}
        self._rehearsals: dict[int, dict[str, str]] = {}

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
            unmet = unmet or self._unrehearsed(run)
            if unmet:
                return WaitingView(Waiting.NEEDS, unmet)
        if run.not_before is not None:
            deadline = clock.Deadline.parse(run.not_before)
            if not deadline.passed:
                why = f": {run.reason}" if run.reason else ""
                return WaitingView(Waiting.BACKOFF, f"tries again in {deadline.left_s:.0f} s{why}")
        return None

    def _unrehearsed(self, run: Any) -> str | None:
        """Why the rehearsal of a run's shape keeps it waiting, or None."""
        if run.job_id not in self._rehearsals:
            self._rehearsals[run.job_id] = self._reasons(run.job_id)
        return self._rehearsals[run.job_id].get(run.spec_hash)

    def _reasons(self, job_id: int) -> dict[str, str]:
        """Spec hash of each run of a job whose rehearsal has not succeeded, with the words for it."""
        needs = self._connection.execute(select(Job.c.needs).where(Job.c.id == job_id)).scalar_one()
        found: dict[str, str] = {}
        for need in needs:
            if "serves" not in need:
                continue
            query = (
                select(Run.c.id, Run.c.spec_hash, Run.c.state, Run.c.outcome)
                .join(JobRun, JobRun.c.run_id == Run.c.id)
                .where(JobRun.c.job_id == need["job"], Run.c.outcome.is_distinct_from("succeeded"))
            )
            open_shapes = {}
            for run_id, spec_hash, state, outcome in self._connection.execute(query):
                words = f"its rehearsal, run {run_id} of {need['experiment']}, is {state}"
                if state == State.FINISHED:
                    words = f"its rehearsal, run {run_id} of {need['experiment']}, ended {outcome} "
                    words += f"(`labqueue logs {run_id}`; `labqueue retry {run_id}`, or `labqueue release` what waits)"
                open_shapes[spec_hash] = words
            found |= {served: open_shapes[by] for served, by in need["serves"].items() if by in open_shapes}
        return found
