"""Writes results of running attempts, and what workers say of themselves; each in one transaction.

Submissions are in ``jobs``; the life of an attempt (claim, renew, end, reclaim) is in ``attempts``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, text, update

from labqueue.domain.canonical import digest
from labqueue.domain.values import written
from labqueue.store import series
from labqueue.store.db import Database
from labqueue.store.runs.attempts import LEASE_S, Ref, guard
from labqueue.store.tables import Artifact, Checkpoint, Environment, Event, Run, Worker
from labqueue.system import clock


class Progress(NamedTuple):
    """How far a run is: in steps, or in what ``phase`` counts."""

    done: int
    total: int
    rate: float | None
    """A second."""
    phase: str | None = None


class Asked(NamedTuple):
    """What a person has asked of a running attempt."""

    stop: str | None
    """``cancel`` or ``pause``."""
    keep: bool
    """To keep what it has now."""


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
        connection.execute(update(Worker).where(Worker.c.id == worker_id).values(**values))


def environment(db: Database, data: dict[str, Any]) -> int:
    """Stores a description of machine and software once; returns its id."""
    key = digest(data)
    with db.write() as connection:
        found = connection.execute(select(Environment.c.id).where(Environment.c.hash == key)).scalar()
        if found is None:
            connection.execute(insert(Environment).values(hash=key, data=data))
            found = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
        return int(found)


def flush(
    db: Database,
    ref: Ref,
    points: list[series.Point],
    progress: Progress | None,
    notes: list[str],
    samples: Iterable[series.Sample] = (),
) -> Asked:
    """Commits what a running attempt has measured since the last flush; returns what a person asked of it.

    Raises:
        Fenced: the attempt no longer owns its run; nothing was stored.
    """
    with db.write() as connection:
        guard(connection, ref)
        series.add(connection, ref.run_id, points)
        series.add_samples(connection, ref.run_id, ref.attempt, samples)
        if progress is not None:
            named = {"progress_done": progress.done, "progress_total": progress.total, "rate": progress.rate}
            connection.execute(update(Run).where(Run.c.id == ref.run_id).values(**named, progress_phase=progress.phase))
        if notes:
            now = clock.now()
            connection.execute(
                insert(Event), [{"at": now, "run_id": ref.run_id, "kind": "note", "text": note} for note in notes]
            )
        return asked(connection, ref)


def asked(connection: Connection, ref: Ref) -> Asked:
    """What a person has asked of an attempt that owns its run."""
    row = connection.execute(select(Run.c.request, Run.c.keep_asked_at).where(Run.c.id == ref.run_id)).one()
    return Asked(row.request, row.keep_asked_at is not None)


def add_artifact(db: Database, ref: Ref, *, name: str, type: str, path: str, sha256: str, bytes: int) -> None:
    """Records an artifact of a running attempt; the same name replaces. A model is what a person who asked to keep
    what the run has now was waiting for.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        row = {
            "type": type,
            "path": path,
            "sha256": sha256,
            "bytes": bytes,
            "attempt": ref.attempt,
            "created_at": clock.now(),
        }
        same = (Artifact.c.run_id == ref.run_id, Artifact.c.name == name)
        if not connection.execute(update(Artifact).where(*same).values(**row)).rowcount:
            connection.execute(insert(Artifact).values(run_id=ref.run_id, name=name, **row))
        if type == "model":
            waiting = (Run.c.id == ref.run_id, Run.c.keep_asked_at.is_not(None))
            if connection.execute(update(Run).where(*waiting).values(keep_asked_at=None)).rowcount:
                words = f"kept as {name}, as a person asked"
                connection.execute(insert(Event).values(at=clock.now(), run_id=ref.run_id, kind="keep", text=words))


def forget_artifact(db: Database, ref: Ref, name: str) -> None:
    """Forgets an artifact whose file is about to be replaced: at no moment does a record name other content.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        connection.execute(text("DELETE FROM artifacts WHERE run_id = :r AND name = :n"), {"r": ref.run_id, "n": name})


def add_checkpoint(
    db: Database,
    ref: Ref,
    *,
    step: int,
    path: str,
    sha256: str,
    bytes: int,
    points: list[series.Point],
    keep: int,
    samples: Iterable[series.Sample] = (),
) -> list[str]:
    """Records a durable checkpoint together with all metrics and samples up to it; returns paths that may now be
    removed.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        series.add(connection, ref.run_id, points)
        series.add_samples(connection, ref.run_id, ref.attempt, samples)
        connection.execute(
            text("DELETE FROM checkpoints WHERE run_id = :r AND step >= :s"), {"r": ref.run_id, "s": step}
        )
        connection.execute(
            insert(Checkpoint).values(
                run_id=ref.run_id,
                attempt=ref.attempt,
                step=step,
                path=path,
                sha256=sha256,
                bytes=bytes,
                created_at=clock.now(),
            )
        )
        rows = connection.execute(
            select(Checkpoint.c.id, Checkpoint.c.path)
            .where(Checkpoint.c.run_id == ref.run_id)
            .order_by(Checkpoint.c.step.desc())
        ).all()
        old = rows[keep:]
        for row in old:
            connection.execute(text("DELETE FROM checkpoints WHERE id = :id"), {"id": row.id})
        return [row.path for row in old]


def drop_checkpoint(db: Database, ref: Ref, step: int, reason: str) -> None:
    """Forgets a checkpoint that can no longer be believed, and says so in the run's history.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        connection.execute(
            text("DELETE FROM checkpoints WHERE run_id = :r AND step = :s"), {"r": ref.run_id, "s": step}
        )
        connection.execute(insert(Event).values(at=clock.now(), run_id=ref.run_id, kind="checkpoint_lost", text=reason))


def log_event(db: Database, kind: str, words: str, run_id: int | None = None) -> None:
    """Adds a sentence to the history."""
    with db.write() as connection:
        connection.execute(insert(Event).values(at=clock.now(), run_id=run_id, kind=kind, text=written(words)))
