"""The life of an attempt in the ledger: claim, write under the fencing token, end, reclaim.

Every function is one transaction, and every write of a running attempt carries its token (the attempt's number):
once a newer attempt exists, or the run was taken away, the write raises ``Fenced`` and changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from labqueue.domain.state import Ending, Outcome, State
from labqueue.store.db import Database
from labqueue.store.runs.eligibility import Waits
from labqueue.store.series import forget_after
from labqueue.store.tables import Attempt, Checkpoint, Event, Experiment, Run, Worker
from labqueue.system import clock

LEASE_S = 20.0
"""How long a worker that does not renew is believed to be alive. Four missed renewals. Assumption."""

MAX_STALLS = 3
"""Interruptions in a row without progress after which one counts as a crash (design, section 4)."""


class Fenced(Exception):
    """This attempt no longer owns its run; nothing it writes is taken."""


@dataclass(frozen=True)
class Claim:
    """A run that this worker may execute now."""

    run_id: int
    token: int
    experiment: str
    kind: str
    seed: int
    device: str
    varied: dict[str, Any]
    params: dict[str, Any]
    limits: dict[str, Any]
    adjusted: dict[str, Any] | None
    attempts_used: int


Admit = Callable[[Any], "tuple[str, str] | None"]
"""Asked before a claim: None to start it, or (waiting code, text) to pass it over."""


def claim(db: Database, *, device: str, worker_id: int, admit: Admit | None = None) -> Claim | None:
    """Takes the best eligible run of a device (``cpu`` or ``cuda``): by priority, then age. One compare-and-swap.

    Returns None when nothing is eligible. Runs that ``admit`` passes over keep its words as their waiting reason.
    """
    with db.write() as connection:
        waits = Waits(connection)
        if waits.queue_paused:
            return None
        queued = (
            select(Run)
            .where(Run.c.state == State.QUEUED, Run.c.device == device)
            .order_by(Run.c.priority.desc(), Run.c.id)
            .execution_options(yield_per=200)
        )
        with connection.execute(queued) as rows:
            chosen = next((run for run in rows if not waits.of(run) and not _passed_over(connection, run, admit)), None)
        return _take(connection, chosen, worker_id) if chosen else None


def _passed_over(connection: Connection, run: Any, admit: Admit | None) -> bool:
    code, words = (admit(run) if admit else None) or (None, None)
    if (code, words) != (run.wait_code, run.wait_text):
        connection.execute(update(Run).where(Run.c.id == run.id).values(wait_code=code, wait_text=words))
    return code is not None


def _take(connection: Connection, run: Any, worker_id: int) -> Claim:
    token = run.token + 1
    now = clock.now()
    experiment = connection.execute(select(Experiment.c.name).where(Experiment.c.id == run.experiment_id)).scalar_one()
    taken = connection.execute(
        update(Run)
        .where(Run.c.id == run.id, Run.c.state == State.QUEUED, Run.c.token == run.token)
        .values(
            state=State.RUNNING,
            token=token,
            started_at=now,
            reason=None,
            request=None,
            not_before=None,
            paused_until=None,
            wait_code=None,
            wait_text=None,
        )
    )
    assert taken.rowcount == 1, "the write lock is held, so nothing changed since it was read"
    connection.execute(
        insert(Attempt).values(
            run_id=run.id,
            number=token,
            started_at=now,
            worker_id=worker_id,
            lease=str(clock.Deadline.after(LEASE_S)),
            boot_id=clock.boot_id(),
            log=f"outputs/{experiment}/{run.id}/attempt-{token}.log",
            adjusted=run.adjusted,
        )
    )
    return claim_from(run, token, experiment)


def claim_from(run: Any, token: int, experiment: str) -> Claim:
    """A claim from a row of ``tables.Run``."""
    return Claim(
        run.id, token, experiment, run.kind, run.seed, run.device, run.varied, run.params, run.limits,
        run.adjusted, run.attempts_used,
    )  # fmt: skip


def attempt_fields(db: Database, run_id: int, token: int, **fields: Any) -> None:
    """Writes columns of the attempt (pid, environment, commit, …).

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        mine = (Attempt.c.run_id == run_id, Attempt.c.number == token)
        connection.execute(update(Attempt).where(*mine).values(**fields))


def renew(db: Database, run_id: int, token: int) -> str | None:
    """Prolongs the lease of a running attempt; returns what a person has asked of it, if anything.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        mine = (Attempt.c.run_id == run_id, Attempt.c.number == token)
        lease = clock.Deadline.parse(connection.execute(select(Attempt.c.lease).where(*mine)).scalar_one())
        connection.execute(update(Attempt).where(*mine).values(lease=str(clock.Deadline.after(LEASE_S))))
        # On the boot clock, so that a jump of the wall clock is not worked time; a power cut loses what came after.
        wall_s = func.coalesce(Run.c.wall_s, 0.0) + lease.age_s(LEASE_S)
        connection.execute(update(Run).where(Run.c.id == run_id).values(wall_s=wall_s))
        return connection.execute(select(Run.c.request).where(Run.c.id == run_id)).scalar_one()


def guard(connection: Connection, run_id: int, token: int) -> None:
    """Refuses a write of an attempt that no longer owns its run."""
    owned = connection.execute(
        select(Run.c.id).where(Run.c.id == run_id, Run.c.token == token, Run.c.state == State.RUNNING)
    ).first()
    if owned is None:
        raise Fenced(f"attempt {token} of run {run_id} no longer owns it")


def begin(db: Database, run_id: int, token: int, resumed_from: int | None) -> None:
    """Makes the run's history what the checkpoint knew: metrics of later steps are forgotten.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        forget_after(connection, run_id, -1 if resumed_from is None else resumed_from)
        connection.execute(
            update(Attempt)
            .where(Attempt.c.run_id == run_id, Attempt.c.number == token)
            .values(resumed_from_step=resumed_from)
        )


def end(
    db: Database,
    run_id: int,
    token: int,
    ending: Ending,
    reason: str | None,
    *,
    requeue: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Ends the attempt; its run ends with it, or is queued again when ``requeue`` (columns of the run) is given.

    Raises:
        Fenced: the attempt no longer owns its run: its ending is somebody else's to tell.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        _end(connection, run_id, token, ending, reason, requeue, fields or {})


def _end(
    connection: Connection,
    run_id: int,
    token: int,
    ending: Ending,
    reason: str | None,
    requeue: dict[str, Any] | None,
    fields: dict[str, Any],
) -> None:
    now = clock.now()
    mine = (Attempt.c.run_id == run_id, Attempt.c.number == token)
    attempt = connection.execute(select(Attempt).where(*mine)).one()
    run = connection.execute(select(Run).where(Run.c.id == run_id)).one()
    connection.execute(
        update(Attempt).where(*mine).values(outcome=ending, reason=reason, finished_at=now, last_step=run.progress_done)
    )
    # Whoever takes a run back from a worker that died long ago does not know how long it worked after its last renewal.
    lease = clock.Deadline.parse(attempt.lease)
    known = attempt.pid == os.getpid() or not lease.passed
    wall_s = (run.wall_s or 0.0) + (lease.age_s(LEASE_S) if known else 0.0)
    values: dict[str, Any] = {"wall_s": wall_s, "reason": reason, "request": None, "rate": None, **fields}
    cancelled = requeue is not None and run.request == "cancel"
    if cancelled:  # it ended by itself after it was asked to stop
        requeue, values["reason"] = None, f"cancelled by a person; {reason}"
    if requeue is not None:
        values |= {"state": State.QUEUED, **requeue}
    else:
        values |= {
            "state": State.FINISHED,
            "outcome": Outcome.CANCELLED if cancelled else Outcome(ending),
            "finished_at": now,
            "stalls": 0,
            "paused_until": None,
        }
        if ending is Ending.SUCCEEDED:
            values |= {"sources_hash": attempt.sources_hash, "packages_hash": attempt.packages_hash}
            connection.execute(text("DELETE FROM checkpoints WHERE run_id = :run"), {"run": run_id})
    connection.execute(update(Run).where(Run.c.id == run_id).values(**values))
    word = "queued again" if requeue is not None else "finished"
    words = f"attempt {token} {ending}, {word}" + (f": {reason}" if reason else "")
    connection.execute(insert(Event).values(at=now, run_id=run_id, kind=str(ending), text=words))


def interrupt(db: Database, run_id: int, token: int, reason: str, *, asked: bool = False) -> bool:
    """Takes a run back from an attempt that did not end by itself (worker or machine died, shutdown, pause).

    Does not count as an attempt, unless it is the third in a row without a new step or checkpoint that nobody
    ``asked`` for: then True is returned and nothing is changed, and the caller ends it as a crash.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, run_id, token)
        run = connection.execute(select(Run).where(Run.c.id == run_id)).one()
        stalls = 0 if asked or advanced(connection, run_id, token) else run.stalls + 1
        if stalls >= MAX_STALLS:
            return True
        requeue = {"stalls": stalls}
        _end(connection, run_id, token, Ending.INTERRUPTED, reason, requeue, {})
        return False


def advanced(connection: Connection, run_id: int, token: int) -> bool:
    """Whether an attempt got further than every earlier one: a new step, or a new checkpoint."""
    before = connection.execute(
        select(func.max(Attempt.c.last_step)).where(Attempt.c.run_id == run_id, Attempt.c.number < token)
    ).scalar_one()
    done = connection.execute(select(Run.c.progress_done).where(Run.c.id == run_id)).scalar_one()
    if done is not None and done > (before if before is not None else 0):
        return True
    new = select(Checkpoint.c.id).where(Checkpoint.c.run_id == run_id, Checkpoint.c.attempt == token)
    return connection.execute(new.limit(1)).first() is not None


def running(db: Database, device: str) -> list[Any]:
    """Every attempt that is marked running on a device class, with its run's and its worker's columns."""
    with db.read() as connection:
        return list(
            connection.execute(
                select(
                    Attempt.c.run_id,
                    Attempt.c.number,
                    Attempt.c.boot_id,
                    Attempt.c.pid,
                    Attempt.c.pid_start,
                    Run.c.kind,
                    Run.c.params,
                    Run.c.limits,
                    Run.c.adjusted.label("run_adjusted"),
                    Run.c.attempts_used,
                    Run.c.request,
                    Worker.c.device.label("worker_device"),
                    Worker.c.boot_id.label("worker_boot"),
                    Worker.c.pid.label("worker_pid"),
                    Worker.c.pid_start.label("worker_start"),
                )
                .join(Run, Run.c.id == Attempt.c.run_id)
                .join(Worker, Worker.c.id == Attempt.c.worker_id)
                .where(Run.c.state == State.RUNNING, Run.c.device == device, Attempt.c.number == Run.c.token)
            )
        )
