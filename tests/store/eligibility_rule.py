"""Which runs may start, by the rule as it reads: every run, every need and every pause looked at anew. The oracle."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.state import SETTLED, State
from labqueue.store.db import Database
from labqueue.store.runs import search_state
from labqueue.store.runs.eligibility import pauses, ready, still_paused
from labqueue.store.runs.needs import matches
from labqueue.store.tables import Experiment, Job, JobRun, Run
from labqueue.system import clock


def ready_now(db: Database, device: str) -> list[int]:
    """What the columns say: ids of the eligible runs of a device in the order of claims."""
    with db.read() as connection:
        statement = ready(connection, device, limit=10_000)
        return [] if statement is None else list(connection.execute(statement).scalars())


def ready_by_rule(db: Database, device: str) -> list[int]:
    """The same, computed from scratch."""
    with db.read() as connection:
        queued = select(Run).where(Run.c.state == State.QUEUED, Run.c.device == device)
        runs = connection.execute(queued.order_by(Run.c.priority.desc(), Run.c.id)).all()
        return [run.id for run in runs if not waits(connection, run)]


def waits(connection: Connection, run: Any) -> bool:
    """Whether anything holds a queued run."""
    name = connection.execute(select(Experiment.c.name).where(Experiment.c.id == run.experiment_id)).scalar_one()
    held = pauses(connection)
    if "" in held or name in held or still_paused(run.paused_until):
        return True
    if needs_unmet(connection, run):
        return True
    return run.not_before is not None and not clock.Deadline.parse(run.not_before).passed


def needs_unmet(connection: Connection, run: Any) -> bool:
    """Whether something that a run needs is missing; nothing is for one that was released."""
    needs = connection.execute(select(Job.c.needs).where(Job.c.id == run.job_id)).scalar_one()
    return not run.released and any(_unmet(connection, run, need) for need in needs)


def _unmet(connection: Connection, run: Any, need: dict[str, Any]) -> bool:
    needed = connection.execute(
        select(Run).join(JobRun, JobRun.c.run_id == Run.c.id).where(JobRun.c.job_id == need["job"])
    ).all()
    if "serves" in need:
        mine = need["serves"].get(run.spec_hash)
        return any(other.spec_hash == mine and other.outcome != "succeeded" for other in needed)
    if search_state.unfinished(connection, need["job"]) is not None:
        return True
    for other in needed:
        if not matches(need["where"], other.varied, other.params):
            continue
        if other.state != State.FINISHED:
            return True
        accept = need["accept"]
        if accept is not None and other.outcome not in SETTLED and other.outcome not in accept:
            return True
    return False
