"""Reads the memory that runs really reserved on a GPU, for predictions to learn from."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import select

from labqueue.domain.spec.references import refers
from labqueue.domain.state import Outcome
from labqueue.store.db import Database
from labqueue.store.tables import Run

NEWEST = 200
"""Runs looked at: older ones ran with older libraries."""


class Measured(NamedTuple):
    """One succeeded run on a GPU."""

    run: int
    params: dict[str, Any]
    """As it ran: with what the memory ladder changed."""
    peak_gib: float
    """Most bytes that its allocator had reserved."""


def measured(db: Database, kind: str) -> list[Measured]:
    """Runs of a kind with a measured peak, newest first; those that used another run's artifact are left out."""
    query = (
        select(Run.c.id, Run.c.params, Run.c.adjusted, Run.c.peak_memory_gib)
        .where(
            Run.c.kind == kind,
            Run.c.device == "cuda",
            Run.c.outcome == Outcome.SUCCEEDED,
            Run.c.peak_memory_gib.is_not(None),
        )
        .order_by(Run.c.id.desc())
        .limit(NEWEST)
    )
    with db.read() as connection:
        rows = connection.execute(query).all()
    found = [Measured(r.id, r.adjusted["params"] if r.adjusted else r.params, r.peak_memory_gib) for r in rows]
    return [run for run in found if not refers(run.params)]
