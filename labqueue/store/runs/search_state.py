"""Keeps which jobs still propose runs: one switch per search, set with its job and ended with its last trial.

A search that is open has more trials to come; its job is not done, whatever its runs say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from labqueue.domain.state import Outcome, ReasonCode, State
from labqueue.store.db import Database
from labqueue.store.runs import needs
from labqueue.store.tables import Control, Event, Job, JobRun, Run
from labqueue.system import clock

PREFIX = needs.SEARCH

ALL_RECORDED = "all_recorded"
"""The code of a search whose last trial has been recorded: it ends by itself."""
CANCELLED = "cancelled"
METRIC_NEVER_RECORDED = "metric_never_recorded"
NOT_DONE = frozenset({CANCELLED, METRIC_NEVER_RECORDED, "barren"})
"""Codes of searches that ended without what was asked; the last one is what earlier versions stored."""


@dataclass(frozen=True)
class Switch:
    """A search as the results store knows it. ``trials`` are planned, ``recorded`` so far."""

    job: int
    experiment: str
    device: str
    trials: int
    seeds: int
    force: bool
    ended: str | None
    """Why no more will be proposed: a code, then words; None while it goes on."""
    why: str | None
    recorded: int

    @property
    def to_come(self) -> int:
        """Runs that are not recorded yet."""
        return 0 if self.ended else max(0, self.trials - self.recorded) * self.seeds


def register(connection: Connection, job: int, experiment: str, device: str, trials: int, *, force: bool) -> None:
    """Opens the search of a job whose first runs have just been recorded."""
    seeds = len(connection.execute(select(Job.c.spec).where(Job.c.id == job)).scalar_one()["seeds"])
    value = {
        "experiment": experiment, "device": device, "trials": trials, "seeds": seeds, "force": force,
        "ended": None, "why": None,
    }  # fmt: skip
    connection.execute(insert(Control).values(key=f"{PREFIX}{job}", value=value))
    close_when_complete(connection, job)


def close_when_complete(connection: Connection, job: int) -> None:
    """Ends a search whose last trial has been recorded."""
    switch = find(connection, job)
    if switch is not None and switch.ended is None and switch.recorded >= switch.trials:
        end(connection, switch, ALL_RECORDED, f"all {switch.trials} trials are recorded")


def end(connection: Connection, switch: Switch, code: str, why: str) -> None:
    """No more trials are proposed."""
    _set(connection, switch.job, {"ended": code, "why": why})
    words = f"the search of {switch.experiment} (job {switch.job}) proposes no more: {why}"
    connection.execute(insert(Event).values(at=clock.now(), run_id=None, kind="search", text=words))


def open_again(connection: Connection, switch: Switch) -> None:
    """More trials are proposed, where any are left."""
    _set(connection, switch.job, {"ended": None, "why": None})
    close_when_complete(connection, switch.job)


def find(connection: Connection, job: int) -> Switch | None:
    """The search of a job; None where it has none."""
    return next(iter(_switches(connection, Control.c.key == f"{PREFIX}{job}")), None)


def all_open(connection: Connection) -> list[Switch]:
    """Every search that goes on, oldest first."""
    return [switch for switch in _switches(connection, Control.c.key.like(f"{PREFIX}%")) if switch.ended is None]


def unfinished(connection: Connection, job: int) -> Switch | None:
    """The search for which a job is not done although its runs may be; None when it is."""
    switch = find(connection, job)
    return None if switch is None or switch.ended is not None else switch


def prioritize(connection: Connection, job: int, priority: int, *, only_up: bool = False) -> None:
    """With which priority a search proposes more: its newest run says it, also when that has finished."""
    newest = select(Run.c.id).where(Run.c.job_id == job).order_by(Run.c.id.desc()).limit(1).scalar_subquery()
    change = update(Run).where(Run.c.id == newest).values(priority=priority)
    connection.execute(change.where(Run.c.priority < priority) if only_up else change)


def cancel(connection: Connection, experiment: str | None) -> None:
    """Ends the open searches of an experiment, or all of them, since a person has cancelled it."""
    for switch in all_open(connection):
        if experiment in (None, switch.experiment):
            end(connection, switch, CANCELLED, "cancelled by a person")


def undo_cancel(connection: Connection, experiment: str | None) -> None:
    """Opens again what ``cancel`` has ended, with the runs that are tried again."""
    for switch in _switches(connection, Control.c.key.like(f"{PREFIX}%")):
        if switch.ended == CANCELLED and experiment in (None, switch.experiment):
            open_again(connection, switch)


def settle_siblings(db: Database, run_id: int) -> list[int]:
    """Ends the other seeds of a pruned run's trial that have not begun: the trial's fate is decided. Returns them."""
    with db.write() as connection:
        pruned = connection.execute(select(Run.c.job_id, Run.c.reason).where(Run.c.id == run_id)).one()
        if find(connection, pruned.job_id) is None:
            return []
        same = select(Run.c.varied).where(Run.c.id == run_id).scalar_subquery()
        siblings = (
            Run.c.job_id == pruned.job_id,
            Run.c.state == State.QUEUED,
            Run.c.attempt == 0,
            Run.c.varied == same,
        )
        ids = list(connection.execute(select(Run.c.id).where(*siblings)).scalars())
        finish_unbegun(connection, ids, f"its trial was pruned with run {run_id}: {pruned.reason}")
        return ids


def finish_unbegun(connection: Connection, ids: list[int], reason: str, code: ReasonCode | None = None) -> None:
    """Ends queued runs as pruned, in one transaction with what made them needless."""
    now = clock.now()
    for run_id in ids:
        ended = {"state": State.FINISHED, "outcome": Outcome.PRUNED, "reason": reason, "finished_at": now,
                 "reason_code": code}  # fmt: skip
        connection.execute(update(Run).where(Run.c.id == run_id).values(**ended, paused_until=None))
        connection.execute(insert(Event).values(at=now, run_id=run_id, kind="pruned", text=reason))
    needs.follow(connection, ids)


def _switches(connection: Connection, where: Any) -> list[Switch]:
    found = []
    for key, value in connection.execute(select(Control.c.key, Control.c.value).where(where)):
        job = int(key.removeprefix(PREFIX))
        runs = connection.execute(select(func.count()).select_from(JobRun).where(JobRun.c.job_id == job)).scalar_one()
        found.append(Switch(job=job, recorded=runs // value["seeds"], **value))
    return sorted(found, key=lambda switch: switch.job)


def waits(connection: Connection, job: int) -> bool:
    """Whether a run of a job is queued."""
    query = select(Run.c.id).where(Run.c.job_id == job, Run.c.state == State.QUEUED).limit(1)
    return connection.execute(query).first() is not None


def _set(connection: Connection, job: int, changes: dict[str, Any]) -> None:
    key = f"{PREFIX}{job}"
    value = connection.execute(select(Control.c.value).where(Control.c.key == key)).scalar_one()
    connection.execute(update(Control).where(Control.c.key == key).values(value={**value, **changes}))
    needs.follow_search(connection, job, ended=changes["ended"] is not None)
