"""Which runs may start, by the rule as it reads: every run, every need and every pause looked at anew. The oracle."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Picture:
    """All that the rule looks at, read whole in one transaction, past columns that say what waits."""

    connection: Connection
    names: dict[int, str]
    """Of experiments by their ids."""
    held: dict[str, Any]
    needs: dict[int, list[dict[str, Any]]]
    """Of jobs by their ids."""
    runs: dict[int, list[Any]]
    """Of jobs by their ids."""


def picture(connection: Connection) -> Picture:
    """As it is now."""
    runs: dict[int, list[Any]] = {}
    for run in connection.execute(select(Run, JobRun.c.job_id.label("of")).join(JobRun, JobRun.c.run_id == Run.c.id)):
        runs.setdefault(run.of, []).append(run)
    return Picture(
        connection,
        {row.id: row.name for row in connection.execute(select(Experiment.c.id, Experiment.c.name))},
        pauses(connection),
        {row.id: row.needs for row in connection.execute(select(Job.c.id, Job.c.needs))},
        runs,
    )


def ready_by_rule(db: Database, device: str) -> list[int]:
    """The same, computed from scratch."""
    with db.read() as connection:
        seen = picture(connection)
        queued = select(Run).where(Run.c.state == State.QUEUED, Run.c.device == device)
        runs = connection.execute(queued.order_by(Run.c.priority.desc(), Run.c.id)).all()
        return [run.id for run in runs if not waits(seen, run)]


def waits(seen: Picture, run: Any) -> bool:
    """Whether anything holds a queued run."""
    if "" in seen.held or seen.names[run.experiment_id] in seen.held or still_paused(run.paused_until):
        return True
    if needs_unmet(seen, run):
        return True
    return run.not_before is not None and not clock.Deadline.parse(run.not_before).passed


def needs_unmet(seen: Picture, run: Any) -> bool:
    """Whether something that a run needs is missing; nothing is for one that was released."""
    return not run.released and any(_unmet(seen, run, need) for need in seen.needs[run.job_id])


def _unmet(seen: Picture, run: Any, need: dict[str, Any]) -> bool:
    needed = seen.runs.get(need["job"], [])
    if "serves" in need:
        mine = need["serves"].get(run.spec_hash)
        return any(other.spec_hash == mine and other.outcome != "succeeded" for other in needed)
    if search_state.unfinished(seen.connection, need["job"]) is not None:
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
