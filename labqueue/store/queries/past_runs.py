"""Reads how attempts and runs ended lately, and how long they took: for a worker to look after its queue."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from labqueue.domain.state import State
from labqueue.store.db import Database
from labqueue.store.tables import Artifact, Attempt, Experiment, Run


@dataclass(frozen=True)
class Ended:
    """One ended attempt. ``final`` says whether its run ended with it."""

    run_id: int
    outcome: str
    reason: str | None
    final: bool


def latest(db: Database, device_class: str, limit: int) -> list[Ended]:
    """The attempts of a device class (``cpu`` or ``cuda``) that ended last, newest first."""
    query = (
        select(Attempt.c.run_id, Attempt.c.number, Attempt.c.outcome, Attempt.c.reason, Run.c.attempt, Run.c.state)
        .join(Run, Run.c.id == Attempt.c.run_id)
        .where(Run.c.device == device_class, Attempt.c.finished_at.is_not(None))
        .order_by(Attempt.c.finished_at.desc(), Attempt.c.run_id.desc(), Attempt.c.number.desc())
        .limit(limit)
    )
    with db.read() as connection:
        return [
            Ended(row.run_id, row.outcome, row.reason, row.state == State.FINISHED and row.number == row.attempt)
            for row in connection.execute(query)
        ]


def typical_wall_s(db: Database) -> dict[tuple[int, str], float]:
    """Median seconds of succeeded runs by (experiment id, device)."""
    found: dict[tuple[int, str], list[float]] = {}
    query = select(Run.c.experiment_id, Run.c.device, Run.c.wall_s).where(
        Run.c.outcome == "succeeded", Run.c.wall_s.is_not(None)
    )
    with db.read() as connection:
        for experiment_id, device, wall_s in connection.execute(query):
            found.setdefault((experiment_id, device), []).append(float(wall_s or 0.0))
    return {key: statistics.median(values) for key, values in found.items()}


@dataclass(frozen=True)
class Typical:
    """Of the succeeded runs of one experiment on one device: how many, and their median seconds and bytes kept."""

    runs: int
    wall_s: float | None
    bytes: float


def typical(db: Database, experiment: str, device: str) -> Typical | None:
    """What a run of an experiment takes; None where none has succeeded here."""
    query = (
        select(Run.c.wall_s, func.coalesce(func.sum(Artifact.c.bytes), 0))
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .outerjoin(Artifact, Artifact.c.run_id == Run.c.id)
        .where(Experiment.c.name == experiment, Run.c.device == device, Run.c.outcome == "succeeded")
        .group_by(Run.c.id)
    )
    with db.read() as connection:
        found = [(wall_s, int(kept)) for wall_s, kept in connection.execute(query)]
    if not found:
        return None
    walls = [float(wall_s) for wall_s, _ in found if wall_s is not None]
    kept = statistics.median(kept for _, kept in found)
    return Typical(len(found), statistics.median(walls) if walls else None, kept)


def expected_s(run: Any, typical: dict[tuple[int, str], float]) -> float | None:
    """How long a queued run (columns of ``tables.Run``) will still take, seconds; None when nothing says.

    From runs of its experiment, else its own time limit; the steps that it has already done before an interruption are
    taken off, what else it had done is not.
    """
    minutes = run.limits["wall_minutes"]
    whole: float | None = typical.get((run.experiment_id, run.device), None if minutes is None else minutes * 60.0)
    if whole is None or not run.progress_total or run.progress_phase is not None:
        return whole
    return whole * float(1.0 - (run.progress_done or 0) / run.progress_total)
