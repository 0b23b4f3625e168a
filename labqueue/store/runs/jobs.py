"""Records submissions: a job with all its runs in one transaction, reusing those in which nothing changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, text

from labqueue.domain.canonical import Canonical
from labqueue.domain.spec.references import refers
from labqueue.domain.state import Outcome
from labqueue.store.db import Database
from labqueue.store.runs import inputs, needed, needs, registrations, search_state
from labqueue.store.tables import Experiment, Job, Run
from labqueue.store.workspace import archive
from labqueue.system import clock


class NewRun(NamedTuple):
    """A run to be recorded: validated parameters of one sweep point with one seed."""

    kind: str
    seed: int
    varied: Canonical
    params: Canonical
    limits: Canonical
    spec_hash: str
    estimated_memory_gib: float | None = None


@dataclass(frozen=True)
class NewJob:
    """A submission to be recorded, all or nothing."""

    experiment: str
    spec: dict[str, Any]
    spec_version: str
    profile: str
    device: str
    priority: int
    needs: list[dict[str, Any]]
    commit: str | None
    dirty: bool | None
    sources_hash: str
    packages_hash: str
    runs: list[NewRun]
    force: bool = False
    """Execute also what has already succeeded with the same spec, sources and packages."""
    trials: int | None = None
    """How many trials its search will have, of which ``runs`` are the first; None where nothing is searched."""


@dataclass(frozen=True)
class Submitted:
    """What a submission became: ``runs`` are all of the job's, ``reused`` those that had succeeded before."""

    job: int
    runs: list[int]
    reused: list[int]


# The driver's own SQL: ten thousand rows through a compiled insert take twice as long.
_INSERT_RUN = """
    INSERT INTO runs (
        id, job_id, experiment_id, device, priority, queued_at,
        kind, seed, varied, params, limits, spec_hash, estimated_memory_gib,
        state, attempt, attempts_used, stalls, released, needs_unmet
    ) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', 0, 0, 0, 0, 0)
    """
_INSERT_LINK = "INSERT INTO job_runs (job_id, run_id, position, reused) VALUES (?, ?, ?, ?)"


def add_jobs(db: Database, jobs: list[NewJob]) -> list[Submitted]:
    """Records jobs with all their runs in one transaction; a need on an earlier job of the list has ``job`` null."""
    with db.write() as connection:
        added: dict[str, int] = {}
        answers = []
        for job in jobs:
            frozen = [{**need, "job": need["job"] or added[need["experiment"]]} for need in job.needs]
            submitted = _add_job(connection, job, frozen)
            added[job.experiment] = submitted.job
            answers.append(submitted)
        return answers


def _add_job(connection: Connection, job: NewJob, needed_jobs: list[dict[str, Any]]) -> Submitted:
    archive.refuse_archived(connection, job.experiment)
    now = clock.now()
    connection.execute(
        text("INSERT INTO experiments (name, created_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING"),
        {"name": job.experiment, "now": now},
    )
    experiment_id = connection.execute(select(Experiment.c.id).where(Experiment.c.name == job.experiment)).scalar_one()
    connection.execute(
        insert(Job).values(
            experiment_id=experiment_id,
            spec=job.spec,
            spec_version=job.spec_version,
            profile=job.profile,
            device=job.device,
            priority=job.priority,
            needs=needed_jobs,
            commit=job.commit,
            dirty=job.dirty,
            sources_hash=job.sources_hash,
            packages_hash=job.packages_hash,
            created_at=now,
        )
    )
    job_id: int = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
    registrations.record(connection, experiment_id, job_id, job.spec, now)
    done = {} if job.force else _reusable(connection, job.runs, succeeded(connection, experiment_id, job))
    ids, reused = add_runs(connection, (job_id, experiment_id, job.device, job.priority, now), job.runs, done)
    if job.trials is not None:
        search_state.register(connection, job_id, job.experiment, job.device, job.trials, force=job.force)
    if needed_jobs:
        needs.record(connection, job_id)
    needed.raise_to(connection, sorted(set(ids) - set(reused)), job.priority)
    return Submitted(job_id, ids, reused)


def _reusable(connection: Connection, runs: list[NewRun], done: dict[str, int]) -> dict[str, int]:
    """Of what has succeeded, what would find the same in the artifacts of other runs that its parameters name."""
    named = [run for run in runs if run.spec_hash in done and refers(run.params.value)]
    other = {
        run.spec_hash
        for run in named
        if not inputs.unchanged(connection, done[run.spec_hash], run.params.value, run.seed)
    }
    return {spec_hash: run_id for spec_hash, run_id in done.items() if spec_hash not in other}


def add_runs(
    connection: Connection,
    shared: tuple[int, int, str, int, float],
    runs: list[NewRun],
    done: dict[str, int],
    position: int = 0,
) -> tuple[list[int], list[int]]:
    """Adds runs to a job from a position on, those in ``done`` (spec hash: id) as they are; returns (all, reused).

    ``shared`` is the job's id, the experiment's id, the device, the priority and the time.
    """
    last = connection.execute(text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'runs'"))
    next_id: int = last.scalar_one() + 1
    ids, reused, fresh = [], [], []
    for run in runs:
        run_id = done.get(run.spec_hash)
        if run_id is None:
            run_id = next_id
            next_id += 1
            texts = (run.varied.text, run.params.text, run.limits.text)
            fresh.append((run_id, *shared, run.kind, run.seed, *texts, run.spec_hash, run.estimated_memory_gib))
        else:
            reused.append(run_id)
        ids.append(run_id)
    if fresh:
        connection.exec_driver_sql(_INSERT_RUN, fresh)
    old = set(reused)
    links = [(shared[0], run_id, at, run_id in old) for at, run_id in enumerate(ids, start=position)]
    connection.exec_driver_sql(_INSERT_LINK, links)
    return ids, reused


def succeeded(connection: Connection, experiment_id: int, job: Any) -> dict[str, int]:
    """Spec hash → id of runs that need not be executed again; ``job`` has device, sources_hash and packages_hash."""
    rows = connection.execute(
        select(Run.c.spec_hash, Run.c.id)
        .where(
            Run.c.experiment_id == experiment_id,
            Run.c.outcome == Outcome.SUCCEEDED,
            Run.c.device == job.device,
            Run.c.sources_hash == job.sources_hash,
            Run.c.packages_hash == job.packages_hash,
        )
        .order_by(Run.c.id)
    )
    return {row.spec_hash: row.id for row in rows}
