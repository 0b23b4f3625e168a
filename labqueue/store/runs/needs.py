"""Keeps what jobs wait for, as rows: derived from ``jobs.needs``, and kept true by every change of an outcome.

``needs.met`` says whether a need is met, ``runs.needs_unmet`` whether a run waits for one. Whatever gives or takes an
outcome calls ``follow``; whatever opens or ends a search, ``follow_search``; whatever adds runs to a job, ``record``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, insert, select, text

from labqueue.domain.spec.references import chosen
from labqueue.domain.state import SETTLED, Outcome
from labqueue.store.tables import Control, Job, JobRun, Need, Run

SEARCH = "search:"
"""What the switch of a job's search is called, before the job's id."""

CHUNK = 5000
"""SQLite accepts some 32,000 parameters in one statement."""

_FOLLOW = text(
    """
    UPDATE needs SET met = NOT met
    WHERE needed_run_id = :run AND met IS NOT (
        SELECT outcome IS NOT NULL
        AND (needs.accepts IS NULL OR outcome IN (SELECT value FROM json_each(needs.accepts)))
        FROM runs WHERE id = :run
    )
    RETURNING job_id
    """
)

_MARK = text(
    """
    UPDATE runs SET needs_unmet = NOT needs_unmet
    WHERE job_id = :job AND needs_unmet IS NOT (
        NOT released AND EXISTS (
            SELECT 1 FROM needs
            WHERE needs.job_id = :job AND NOT needs.met
            AND (needs.spec_hash IS NULL OR needs.spec_hash = runs.spec_hash)
        )
    )
    """
)


def record(connection: Connection, job: int) -> None:
    """Derives the needs of a job anew, and marks its runs."""
    needs: list[dict[str, Any]] = connection.execute(select(Job.c.needs).where(Job.c.id == job)).scalar_one()
    connection.execute(Need.delete().where(Need.c.job_id == job))
    rows = [row for need in needs for row in _rows(connection, job, need)]
    if rows:
        connection.execute(insert(Need), rows)
    mark(connection, job)


def added(connection: Connection, job: int) -> None:
    """Derives the needs of all jobs that wait for this one anew, and its own: runs were added to it."""
    waiting = select(Need.c.job_id).where(Need.c.needed_job_id == job).distinct()
    for each in [*connection.execute(waiting).scalars(), job]:
        record(connection, each)


def follow(connection: Connection, runs: Iterable[int]) -> None:
    """Says of every need on these runs whether it is met, after their outcomes have changed."""
    changed: set[int] = set()
    for run in runs:
        changed.update(connection.execute(_FOLLOW, {"run": run}).scalars())
    for job in changed:
        mark(connection, job)


def follow_search(connection: Connection, job: int, *, ended: bool) -> None:
    """Says of every need on the search of a job whether it is met, after it was ended or opened."""
    mine = (Need.c.needed_job_id == job, Need.c.needed_run_id.is_(None))
    jobs = set(connection.execute(Need.update().where(*mine).values(met=ended).returning(Need.c.job_id)).scalars())
    for each in jobs:
        mark(connection, each)


def mark(connection: Connection, job: int) -> None:
    """Says of each run of a job whether it waits for a need."""
    connection.execute(_MARK, {"job": job})


def matches(where: dict[str, Any], varied: dict[str, Any], params: dict[str, Any]) -> bool:
    """Whether a run is one that ``where`` chooses: by its varied keys, else by its parameters."""
    for key, wanted in chosen(where).items():
        value: Any = varied.get(key, _MISSING)
        if value is _MISSING:
            value = params
            for part in key.split("."):
                value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
        if value != wanted:
            return False
    return True


_MISSING = object()


def _rows(connection: Connection, job: int, need: dict[str, Any]) -> Iterator[dict[str, Any]]:
    shared = {"job_id": job, "needed_job_id": need["job"]}
    serves: dict[str, str] | None = need.get("serves")
    runs = connection.execute(
        select(Run.c.id, Run.c.outcome, Run.c.varied, Run.c.params, Run.c.spec_hash)
        .join(JobRun, JobRun.c.run_id == Run.c.id)
        .where(JobRun.c.job_id == need["job"])
        .order_by(Run.c.id)
    ).all()
    if serves is not None:
        # Each run waits for the rehearsal of its own shape, and that must have succeeded.
        rehearsals = {run.spec_hash: run for run in runs}
        for served, by in serves.items():
            if by in rehearsals:
                run = rehearsals[by]
                met = run.outcome == Outcome.SUCCEEDED
                yield {
                    **shared,
                    "needed_run_id": run.id,
                    "accepts": [Outcome.SUCCEEDED],
                    "spec_hash": served,
                    "met": met,
                }
        return
    accepts = None if need["accept"] is None else sorted({*SETTLED, *need["accept"]})
    for run in runs:
        if matches(need["where"], run.varied, run.params):
            met = run.outcome is not None and (accepts is None or run.outcome in accepts)
            yield {**shared, "needed_run_id": run.id, "accepts": accepts, "spec_hash": None, "met": met}
    search = connection.execute(select(Control.c.value).where(Control.c.key == f"{SEARCH}{need['job']}")).scalar()
    if search is not None:
        met = search["ended"] is not None
        yield {**shared, "needed_run_id": None, "accepts": None, "spec_hash": None, "met": met}
