"""What people and workers write into the ledger, each in one transaction: jobs, controls, workers, results.

The life of an attempt (claim, renew, end, reclaim) is in ``claims``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, text, update

from labqueue import clock
from labqueue.domain.canonical import digest
from labqueue.domain.state import Outcome, State
from labqueue.store import series
from labqueue.store.claims import LEASE_S, guard
from labqueue.store.db import Database
from labqueue.store.tables import (
    Artifact,
    Attempt,
    Checkpoint,
    Control,
    Environment,
    Event,
    Experiment,
    Job,
    JobRun,
    Run,
    Worker,
)


@dataclass(frozen=True)
class NewRun:
    """A run to be recorded: validated parameters of one sweep point with one seed."""

    kind: str
    seed: int
    varied: dict[str, Any]
    params: dict[str, Any]
    limits: dict[str, Any]
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


@dataclass(frozen=True)
class Submitted:
    """What a submission became: ``runs`` are all of the job's, ``reused`` those that had succeeded before."""

    job: int
    runs: list[int]
    reused: list[int]


def add_jobs(db: Database, jobs: list[NewJob]) -> list[Submitted]:
    """Records jobs with all their runs in one transaction; a need on an earlier job of the list has ``job`` null."""
    with db.write() as connection:
        added: dict[str, int] = {}
        answers = []
        for job in jobs:
            needs = [{**need, "job": need["job"] or added[need["experiment"]]} for need in job.needs]
            submitted = _add_job(connection, job, needs)
            added[job.experiment] = submitted.job
            answers.append(submitted)
        return answers


def _add_job(connection: Connection, job: NewJob, needs: list[dict[str, Any]]) -> Submitted:
    now = clock.now()
    connection.execute(
        text("INSERT INTO experiments (name, created_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING"),
        {"name": job.experiment, "now": now},
    )
    experiment_id = connection.execute(select(Experiment.id).where(Experiment.name == job.experiment)).scalar_one()
    connection.execute(
        insert(Job).values(
            experiment_id=experiment_id,
            spec=job.spec,
            spec_version=job.spec_version,
            profile=job.profile,
            device=job.device,
            priority=job.priority,
            needs=needs,
            commit=job.commit,
            dirty=job.dirty,
            sources_hash=job.sources_hash,
            packages_hash=job.packages_hash,
            created_at=now,
        )
    )
    job_id: int = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
    done = {} if job.force else _succeeded(connection, experiment_id, job)
    last = connection.execute(text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'runs'"))
    next_id: int = last.scalar_one() + 1
    ids, fresh, links = [], [], []
    for position, run in enumerate(job.runs):
        run_id = done.get(run.spec_hash)
        reused = run_id is not None
        if run_id is None:
            run_id = next_id
            next_id += 1
            fresh.append(
                {
                    "id": run_id,
                    "job_id": job_id,
                    "experiment_id": experiment_id,
                    "kind": run.kind,
                    "device": job.device,
                    "seed": run.seed,
                    "varied": run.varied,
                    "params": run.params,
                    "limits": run.limits,
                    "spec_hash": run.spec_hash,
                    "priority": job.priority,
                    "state": State.QUEUED,
                    "queued_at": now,
                    "token": 0,
                    "attempts_used": 0,
                    "stalls": 0,
                    "released": False,
                    "estimated_memory_gib": run.estimated_memory_gib,
                }
            )
        ids.append(run_id)
        links.append({"job_id": job_id, "run_id": run_id, "position": position, "reused": reused})
    if fresh:
        connection.execute(insert(Run), fresh)
    connection.execute(insert(JobRun), links)
    new = {row["id"] for row in fresh}
    return Submitted(job_id, ids, [run_id for run_id in ids if run_id not in new])


def _succeeded(connection: Connection, experiment_id: int, job: NewJob) -> dict[str, int]:
    rows = connection.execute(
        select(Run.spec_hash, Run.id)
        .where(
            Run.experiment_id == experiment_id,
            Run.outcome == Outcome.SUCCEEDED,
            Run.device == job.device,
            Run.sources_hash == job.sources_hash,
            Run.packages_hash == job.packages_hash,
        )
        .order_by(Run.id)
    )
    return {row.spec_hash: row.id for row in rows}


def register_worker(db: Database, *, device: str, host: str, pid: int, pid_start: int) -> int:
    """Records a worker; returns its id."""
    with db.write() as connection:
        connection.execute(
            insert(Worker).values(
                device=device,
                host=host,
                boot_id=clock.boot_id(),
                pid=pid,
                pid_start=pid_start,
                started_at=clock.now(),
                lease=str(clock.Deadline.after(LEASE_S)),
            )
        )
        return int(connection.execute(text("SELECT last_insert_rowid()")).scalar_one())


def renew_worker(db: Database, worker_id: int, *, ended: bool = False) -> None:
    """Prolongs a worker's lease, or ends it."""
    with db.write() as connection:
        values: dict[str, Any] = {"lease": str(clock.Deadline.after(0 if ended else LEASE_S))}
        if ended:
            values["ended_at"] = clock.now()
        connection.execute(update(Worker).where(Worker.id == worker_id).values(**values))


def environment(db: Database, data: dict[str, Any]) -> int:
    """Stores a description of machine and software once; returns its id."""
    key = digest(data)
    with db.write() as connection:
        found = connection.execute(select(Environment.id).where(Environment.hash == key)).scalar()
        if found is None:
            connection.execute(insert(Environment).values(hash=key, data=data))
            found = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
        return int(found)


def flush(
    db: Database,
    run_id: int,
    token: int,
    points: list[series.Point],
    progress: tuple[int, int, float | None] | None,
    notes: list[str],
) -> str | None:
    """Commits what a running attempt has measured since the last flush; returns what a person asked of it.

    ``progress`` is (done, total, steps a second).

    Raises:
        Fenced: the attempt no longer owns its run; nothing was stored.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        series.add(connection, run_id, points)
        if progress is not None:
            done, total, rate = progress
            connection.execute(
                update(Run).where(Run.id == run_id).values(progress_done=done, progress_total=total, rate=rate)
            )
        if notes:
            now = clock.now()
            connection.execute(
                insert(Event), [{"at": now, "run_id": run_id, "kind": "note", "text": note} for note in notes]
            )
        return connection.execute(select(Run.request).where(Run.id == run_id)).scalar_one()


def add_artifact(
    db: Database, run_id: int, token: int, *, name: str, type: str, path: str, sha256: str, bytes: int
) -> None:
    """Records an artifact of a running attempt; the same name replaces.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        row = {
            "type": type,
            "path": path,
            "sha256": sha256,
            "bytes": bytes,
            "attempt": token,
            "created_at": clock.now(),
        }
        same = (Artifact.run_id == run_id, Artifact.name == name)
        if not connection.execute(update(Artifact).where(*same).values(**row)).rowcount:
            connection.execute(insert(Artifact).values(run_id=run_id, name=name, **row))


def add_checkpoint(
    db: Database,
    run_id: int,
    token: int,
    *,
    step: int,
    path: str,
    sha256: str,
    bytes: int,
    points: list[series.Point],
    keep: int,
) -> list[str]:
    """Records a durable checkpoint together with all metrics up to it; returns paths that may now be removed.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        series.add(connection, run_id, points)
        connection.execute(text("DELETE FROM checkpoints WHERE run_id = :r AND step >= :s"), {"r": run_id, "s": step})
        connection.execute(
            insert(Checkpoint).values(
                run_id=run_id, attempt=token, step=step, path=path, sha256=sha256, bytes=bytes, created_at=clock.now()
            )
        )
        rows = connection.execute(
            select(Checkpoint.id, Checkpoint.path).where(Checkpoint.run_id == run_id).order_by(Checkpoint.step.desc())
        ).all()
        old = rows[keep:]
        for row in old:
            connection.execute(text("DELETE FROM checkpoints WHERE id = :id"), {"id": row.id})
        return [row.path for row in old]


def drop_checkpoint(db: Database, run_id: int, step: int, reason: str) -> None:
    """Forgets a checkpoint that can no longer be believed, and says so in the run's history."""
    with db.write() as connection:
        connection.execute(text("DELETE FROM checkpoints WHERE run_id = :r AND step = :s"), {"r": run_id, "s": step})
        connection.execute(insert(Event).values(at=clock.now(), run_id=run_id, kind="checkpoint_lost", text=reason))


def log_event(db: Database, kind: str, words: str, run_id: int | None = None) -> None:
    """Adds a sentence to the history."""
    with db.write() as connection:
        connection.execute(insert(Event).values(at=clock.now(), run_id=run_id, kind=kind, text=words))


def set_control(db: Database, key: str, value: dict[str, Any] | None) -> None:
    """Sets a switch of the queue; None removes it."""
    with db.write() as connection:
        connection.execute(text("DELETE FROM controls WHERE key = :key"), {"key": key})
        if value is not None:
            connection.execute(insert(Control).values(key=key, value=value))


def child_started(db: Database, run_id: int, token: int, pid: int, pid_start: int) -> None:
    """Records the identity of the process that executes an attempt.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        mine = (Attempt.run_id == run_id, Attempt.number == token)
        connection.execute(update(Attempt).where(*mine).values(pid=pid, pid_start=pid_start))
