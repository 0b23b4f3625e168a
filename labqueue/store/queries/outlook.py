"""Tells whether waiting longer can help: what a draining worker asks when it finds nothing to claim."""

from __future__ import annotations

from enum import Enum

from sqlalchemy import Connection, select

from labqueue.domain.state import State, Waiting
from labqueue.store.db import Database
from labqueue.store.queries.waiting import Waits
from labqueue.store.runs import search_state
from labqueue.store.runs.eligibility import FOREVER, pauses
from labqueue.store.tables import Need, Run


class Prospect(Enum):
    """What becomes of the queue if nobody does anything."""

    EMPTY = "nothing waits"
    LATER = "something becomes eligible by itself"
    STUCK = "what waits needs a person, or another device's worker"


def another_waits(db: Database, device: str) -> bool:
    """Whether any run of a device (``cpu`` or ``cuda``) is queued, for whatever reason it waits."""
    with db.read() as connection:
        waiting = select(Run.c.id).where(Run.c.state == State.QUEUED, Run.c.device == device).limit(1)
        return connection.execute(waiting).first() is not None


def prospect(db: Database, device: str) -> Prospect:
    """Looks at every queued run of a device (``cpu`` or ``cuda``) and at what each waits for."""
    with db.read() as connection:
        waits = Waits(connection)
        queued = connection.execute(select(Run).where(Run.c.state == State.QUEUED, Run.c.device == device)).all()
        if _proposes(connection, device):
            return Prospect.LATER
        if not queued:
            return Prospect.STUCK if _held(connection, device) else Prospect.EMPTY
        alive = {Waiting.BACKOFF, Waiting.MEMORY, Waiting.HOURS}
        needing = set()
        for run in queued:
            waiting = waits.of(run)
            passed_over = waits.passed_over(run)
            if waiting is None and passed_over is not None and passed_over.code == Waiting.DEVICE:
                continue  # more than the device has, or no device: nothing here changes that
            if waiting is None or waiting.code in alive:
                return Prospect.LATER
            if waiting.code == Waiting.PAUSED and waits.pause_ends(run):
                return Prospect.LATER
            if waiting.code == Waiting.NEEDS:
                needing.add(run.job_id)
        # Every live run of this device has returned above, so a need can only be met by a run that is running now
        # (under another worker). A need that ended badly needs a person even then.
        for job_id in needing:
            states = connection.execute(
                select(Need.c.met, Run.c.state)
                .join(Run, Run.c.id == Need.c.needed_run_id)
                .where(Need.c.job_id == job_id)
            ).all()
            bad = any(row.state == State.FINISHED and not row.met for row in states)
            if not bad and any(row.state == State.RUNNING for row in states):
                return Prospect.LATER
        return Prospect.STUCK


def _idle_searches(connection: Connection, device: str) -> list[list[str]]:
    """Of each open search without a queued run: until when it is paused, if it is."""
    paused = pauses(connection)
    return [
        [paused[key][1] for key in ("", search.experiment) if key in paused]
        for search in search_state.all_open(connection)
        if search.device == device and not search_state.waits(connection, search.job)
    ]


def _proposes(connection: Connection, device: str) -> bool:
    """Whether a search will propose a run by itself: it is not paused, or its pause ends."""
    return any(FOREVER not in ends for ends in _idle_searches(connection, device))


def _held(connection: Connection, device: str) -> bool:
    """Whether a search that is not complete is paused until a person resumes it."""
    return any(FOREVER in ends for ends in _idle_searches(connection, device))
