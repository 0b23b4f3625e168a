"""Writes results of running attempts, and what workers say of themselves; each in one transaction.

Submissions are in ``jobs``; the life of an attempt (claim, renew, end, reclaim) is in ``attempts``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, text, update

from labqueue.domain.canonical import digest
from labqueue.domain.values import written
from labqueue.store import series
from labqueue.store.db import Database
from labqueue.store.runs.attempts import LEASE_S, Ref, guard
from labqueue.store.tables import Artifact, Checkpoint, Environment, Event, Run, Worker
from labqueue.system import clock


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
    progress: tuple[int, int, float | None] | None,
    notes: list[str],
) -> str | None:
    """Commits what a running attempt has measured since the last flush; returns what a person asked of it.

    ``progress`` is (done, total, steps a second).

    Raises:
        Fenced: the attempt no longer owns its run; nothing was stored.
    """
    with db.write() as connection:
        guard(connection, ref)
        series.add(connection, ref.run_id, points)
        if progress is not None:
            done, total, rate = progress
            connection.execute(
                update(Run).where(Run.c.id == ref.run_id).values(progress_done=done, progress_total=total, rate=rate)
            )
        if notes:
            now = clock.now()
            connection.execute(
                insert(Event), [{"at": now, "run_id": ref.run_id, "kind": "note", "text": note} for note in notes]
            )
        return connection.execute(select(Run.c.request).where(Run.c.id == ref.run_id)).scalar_one()


def add_artifact(db: Database, ref: Ref, *, name: str, type: str, path: str, sha256: str, bytes: int) -> None:
    """Records an artifact of a running attempt; the same name replaces.

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
) -> list[str]:
    """Records a durable checkpoint together with all metrics up to it; returns paths that may now be removed.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        series.add(connection, ref.run_id, points)
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
