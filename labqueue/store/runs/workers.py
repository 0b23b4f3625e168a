"""Records workers and their machines, and finds workers that died and the runs they left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from labqueue.domain.state import State
from labqueue.store.db import Database
from labqueue.store.runs.attempts import LEASE_S, Claim, Ref, claim_from
from labqueue.store.tables import Attempt, Experiment, Run, Worker
from labqueue.system import clock


@dataclass(frozen=True)
class Dead:
    """A worker that ended without saying so. ``rebooted``: the machine went down with it."""

    boot_id: str
    pid: int
    pid_start: int
    """In clock ticks after boot."""
    started_at: float
    seen_at: float
    """Unix time of its last sign of life."""
    rebooted: bool

    @property
    def identity(self) -> tuple[str, int, int]:
        """What tells its process from a later one with its number."""
        return self.boot_id, self.pid, self.pid_start


def close_dead_workers(db: Database, worker_id: int) -> Dead | None:
    """Ends the rows of earlier workers of this one's device and host that never ended; returns the newest of them.

    The caller holds the device's lock, so none of them is alive. None when every worker before ended by itself.
    """
    with db.write() as connection:
        me = connection.execute(select(Worker).where(Worker.c.id == worker_id)).one()
        before = (
            Worker.c.device == me.device,
            Worker.c.host == me.host,
            Worker.c.id < worker_id,
            Worker.c.ended_at.is_(None),
        )
        rows = connection.execute(select(Worker).where(*before).order_by(Worker.c.id)).all()
        for row in rows:
            seen_at = max(row.started_at, clock.Deadline.parse(row.lease).unix_s - LEASE_S)
            connection.execute(update(Worker).where(Worker.c.id == row.id).values(ended_at=seen_at))
    if not rows:
        return None
    return Dead(row.boot_id, row.pid, row.pid_start, row.started_at, seen_at, row.boot_id != clock.boot_id())


def unended(db: Database, device: str) -> list[Any]:
    """Rows of the workers of a device that have not said that they ended."""
    with db.read() as connection:
        return list(connection.execute(select(Worker).where(Worker.c.device == device, Worker.c.ended_at.is_(None))))


def record_telemetry(db: Database, ref: Ref, data: dict[str, Any]) -> None:
    """Writes what was measured while an attempt ran; also after its ending, which its own process tells."""
    with db.write() as connection:
        mine = (Attempt.c.run_id == ref.run_id, Attempt.c.number == ref.attempt)
        connection.execute(update(Attempt).where(*mine).values(telemetry=data))


@dataclass(frozen=True)
class Running:
    """An attempt that is marked running, with the processes that should see it through."""

    claim: Claim
    request: str | None
    boot_id: str
    pid: int | None
    """None where its process has not said who it is."""
    pid_start: int | None
    worker_boot: str
    worker_pid: int
    worker_start: int


def running(db: Database, device: str) -> list[Running]:
    """Every attempt that is marked running on a device class."""
    query = (
        select(
            Run,
            Experiment.c.name,
            Attempt.c.boot_id,
            Attempt.c.pid,
            Attempt.c.pid_start,
            Worker.c.boot_id.label("worker_boot"),
            Worker.c.pid.label("worker_pid"),
            Worker.c.pid_start.label("worker_start"),
        )
        .join(Attempt, (Attempt.c.run_id == Run.c.id) & (Attempt.c.number == Run.c.attempt))
        .join(Worker, Worker.c.id == Attempt.c.worker_id)
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .where(Run.c.state == State.RUNNING, Run.c.device == device)
    )
    with db.read() as connection:
        return [
            Running(
                claim_from(row, row.name), row.request, row.boot_id, row.pid, row.pid_start,
                row.worker_boot, row.worker_pid, row.worker_start,
            )
            for row in connection.execute(query)
        ]  # fmt: skip
