"""The life of an attempt in the results store: claim, write, end, reclaim.

Every function is one transaction, and every write of a running attempt carries its number (``Ref``): once a newer
attempt exists, or the run was taken away, the write raises ``Fenced`` and changes nothing.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, func, insert, select, text, type_coerce, update

from labqueue.domain.canonical import canonical
from labqueue.domain.state import Ending, Outcome, State
from labqueue.domain.waiting import Reason
from labqueue.store.db import Database
from labqueue.store.runs import needs
from labqueue.store.runs.eligibility import ready
from labqueue.store.series import forget_after
from labqueue.store.tables import Attempt, Checkpoint, Event, Experiment, Run, WaitingReason
from labqueue.system import clock

LEASE_S = 20.0
"""How long a worker that does not renew is believed to be alive. Four missed renewals. Assumption."""

MAX_STALLS = 3
"""Interruptions in a row without progress after which one counts as a crash (design, section 4)."""


class Fenced(Exception):
    """This attempt no longer owns its run; nothing it writes is taken."""


class Ref(NamedTuple):
    """Which attempt of which run: what its writes carry, and what is looked at before any of them."""

    run_id: int
    attempt: int


@dataclass(frozen=True)
class Claim:
    """A run under way: what its worker and its process know of it."""

    run_id: int
    attempt: int
    """The number of this attempt, from 1."""
    experiment: str
    kind: str
    seed: int
    device: str
    varied: dict[str, Any]
    params: dict[str, Any]
    limits: dict[str, Any]
    adjusted: dict[str, Any] | None
    attempts_used: int

    @property
    def ref(self) -> Ref:
        """What its writes carry."""
        return Ref(self.run_id, self.attempt)


@dataclass(frozen=True)
class Candidate:
    """What an admission may know of a queued run."""

    experiment_id: int
    device: str
    limits: dict[str, Any]
    estimated_memory_gib: float | None
    progress_done: int | None
    progress_total: int | None
    progress_phase: str | None


Admit = Callable[[Candidate], "Reason | None"]
"""Asked before a claim: None to start it, or why it is passed over."""

PAGES = (8, 64, 512, 4096)
"""Candidates that are asked about at a time: the first is nearly always admitted, a card that is full admits none."""


def claim(db: Database, *, device: str, worker_id: int, admit: Admit | None = None) -> Claim | None:
    """Takes the best eligible run of a device (``cpu`` or ``cuda``): by priority, then age. One compare-and-swap.

    Returns None when nothing is eligible. Runs that ``admit`` passes over keep its reason.
    """
    with db.write() as connection:
        best = ready(connection, device, limit=1)
        if best is None:
            return None
        wanted = best.scalar_subquery() if admit is None else _admitted(connection, device, admit)
        return None if wanted is None else _take(connection, wanted, worker_id)


def _admitted(connection: Connection, device: str, admit: Admit) -> int | None:
    """The best eligible run that ``admit`` does not pass over; keeps the reasons of those before it."""
    asked: dict[tuple[Any, ...], Reason | None] = {}
    after: tuple[int, int] | None = None
    for limit in itertools.chain(PAGES, itertools.repeat(PAGES[-1])):
        page = ready(connection, device, limit=limit, after=after)
        assert page is not None, "the write lock is held, so the queue was not paused since"
        rows = connection.execute(_CANDIDATES.where(Run.c.id.in_(page))).all()
        refused = []
        admitted = None
        for row in rows:
            facts = tuple(row)[FACTS]
            if facts not in asked:
                asked[facts] = admit(_candidate(*facts))
            reason = asked[facts]
            if reason is None:
                admitted = row.id
                break
            parameters = canonical(reason.parameters)
            if (reason.code, parameters) != (row.code, row.parameters):
                refused.append((row.id, str(reason.code), parameters))
        if refused:
            connection.exec_driver_sql("INSERT OR REPLACE INTO waiting_reasons VALUES (?, ?, ?)", refused)
        if admitted is not None or len(rows) < limit:
            return admitted
        after = rows[-1].priority, rows[-1].id
    return None


# As it is stored, the text of limits is a key: one question for all runs that are alike.
_CANDIDATES = (
    select(
        Run.c.id,
        Run.c.priority,
        WaitingReason.c.code,
        type_coerce(WaitingReason.c.parameters, String).label("parameters"),
        Run.c.experiment_id,
        Run.c.device,
        type_coerce(Run.c.limits, String).label("limits"),
        Run.c.estimated_memory_gib,
        Run.c.progress_done,
        Run.c.progress_total,
        Run.c.progress_phase,
    )
    .outerjoin(WaitingReason, WaitingReason.c.run_id == Run.c.id)
    .order_by(Run.c.priority.desc(), Run.c.id)
)
FACTS = slice(4, None)
"""Columns of a row of ``_CANDIDATES`` that an admission may know: ``Candidate``'s, in its order."""


def _candidate(experiment_id: int, device: str, limits: str, *others: Any) -> Candidate:
    return Candidate(experiment_id, device, json.loads(limits), *others)


def _take(connection: Connection, wanted: Any, worker_id: int) -> Claim | None:
    now = clock.now()
    run = connection.execute(
        update(Run)
        .where(Run.c.id == wanted)
        .values(
            state=State.RUNNING,
            attempt=Run.c.attempt + 1,
            started_at=now,
            reason=None,
            request=None,
            not_before=None,
            paused_until=None,
        )
        .returning(*Run.c)
    ).first()
    if run is None:
        return None
    experiment = connection.execute(select(Experiment.c.name).where(Experiment.c.id == run.experiment_id)).scalar_one()
    connection.execute(WaitingReason.delete().where(WaitingReason.c.run_id == run.id))
    connection.execute(
        insert(Attempt).values(
            run_id=run.id,
            number=run.attempt,
            started_at=now,
            worker_id=worker_id,
            lease=str(clock.Deadline.after(LEASE_S)),
            boot_id=clock.boot_id(),
            log=f"outputs/{experiment}/{run.id}/attempt-{run.attempt}.log",
            adjusted=run.adjusted,
        )
    )
    return claim_from(run, experiment)


def claim_from(run: Any, experiment: str) -> Claim:
    """A claim from a row of ``tables.Run`` that is running."""
    return Claim(
        run_id=run.id,
        attempt=run.attempt,
        experiment=experiment,
        kind=run.kind,
        seed=run.seed,
        device=run.device,
        varied=run.varied,
        params=run.params,
        limits=run.limits,
        adjusted=run.adjusted,
        attempts_used=run.attempts_used,
    )


def attempt_fields(db: Database, ref: Ref, **fields: Any) -> None:
    """Writes columns of the attempt (pid, environment, commit, …).

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        mine = _is(ref)
        connection.execute(update(Attempt).where(*mine).values(**fields))


def renew(db: Database, ref: Ref) -> str | None:
    """Prolongs the lease of a running attempt; returns what a person has asked of it, if anything.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        mine = _is(ref)
        lease = clock.Deadline.parse(connection.execute(select(Attempt.c.lease).where(*mine)).scalar_one())
        connection.execute(update(Attempt).where(*mine).values(lease=str(clock.Deadline.after(LEASE_S))))
        # On the boot clock, so that a jump of the wall clock is not worked time; a power cut loses what came after.
        wall_s = func.coalesce(Run.c.wall_s, 0.0) + lease.age_s(LEASE_S)
        connection.execute(update(Run).where(Run.c.id == ref.run_id).values(wall_s=wall_s))
        return connection.execute(select(Run.c.request).where(Run.c.id == ref.run_id)).scalar_one()


def guard(connection: Connection, ref: Ref) -> None:
    """Refuses a write of an attempt that no longer owns its run."""
    if not _owns(connection, ref):
        raise Fenced(f"attempt {ref.attempt} of run {ref.run_id} no longer owns it")


def _owns(connection: Connection, ref: Ref) -> bool:
    mine = (Run.c.id == ref.run_id, Run.c.attempt == ref.attempt, Run.c.state == State.RUNNING)
    return connection.execute(select(Run.c.id).where(*mine)).first() is not None


def _is(ref: Ref) -> tuple[Any, Any]:
    """The row of an attempt."""
    return Attempt.c.run_id == ref.run_id, Attempt.c.number == ref.attempt


def under_way(db: Database, ref: Ref) -> bool:
    """Whether an attempt has not ended, and so is still its worker's to end: one look before the writes."""
    with db.read() as connection:
        return _owns(connection, ref)


def begin(db: Database, ref: Ref, resumed_from: int | None) -> None:
    """Makes the run's history what the checkpoint knew: metrics and samples of later steps are forgotten.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        forget_after(connection, ref.run_id, -1 if resumed_from is None else resumed_from)
        connection.execute(update(Attempt).where(*_is(ref)).values(resumed_from_step=resumed_from))


def end(
    db: Database,
    ref: Ref,
    ending: Ending,
    reason: str | None,
    *,
    addition: str = "",
    requeue: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
) -> None:
    """Ends the attempt; its run ends with it, or is queued again when ``requeue`` (columns of the run) is given.

    ``addition`` follows the reason where it is the run's: what was tried, and how often.

    Raises:
        Fenced: the attempt no longer owns its run: its ending is somebody else's to tell.
    """
    with db.write() as connection:
        guard(connection, ref)
        _end(connection, ref, ending, reason, addition, requeue, fields or {})


def _end(
    connection: Connection,
    ref: Ref,
    ending: Ending,
    reason: str | None,
    addition: str,
    requeue: dict[str, Any] | None,
    fields: dict[str, Any],
) -> None:
    now = clock.now()
    mine = _is(ref)
    attempt = connection.execute(select(Attempt).where(*mine)).one()
    run = connection.execute(select(Run).where(Run.c.id == ref.run_id)).one()
    far = {"last_step": run.progress_done, "last_phase": run.progress_phase}
    connection.execute(update(Attempt).where(*mine).values(outcome=ending, reason=reason, finished_at=now, **far))
    if reason is not None:
        reason += addition
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
            "keep_asked_at": None,
        }
        if run.keep_asked_at is not None:
            words = "the run ended before it kept what a person asked for"
            connection.execute(insert(Event).values(at=now, run_id=ref.run_id, kind="keep", text=words))
        if ending is Ending.SUCCEEDED:
            values |= {"sources_hash": attempt.sources_hash, "packages_hash": attempt.packages_hash}
            connection.execute(text("DELETE FROM checkpoints WHERE run_id = :run"), {"run": ref.run_id})
    connection.execute(update(Run).where(Run.c.id == ref.run_id).values(**values))
    if requeue is None:
        needs.follow(connection, [ref.run_id])
    word = "queued again" if requeue is not None else "finished"
    words = f"attempt {ref.attempt} {ending}, {word}" + (f": {reason}" if reason else "")
    connection.execute(insert(Event).values(at=now, run_id=ref.run_id, kind=str(ending), text=words))


def interrupt(db: Database, ref: Ref, reason: str, *, asked: bool = False) -> bool:
    """Takes a run back from an attempt that did not end by itself (worker or machine died, shutdown, pause).

    Does not count as an attempt, unless it is the third in a row without a new step or checkpoint that nobody
    ``asked`` for: then True is returned and nothing is changed, and the caller ends it as a crash.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        run = connection.execute(select(Run).where(Run.c.id == ref.run_id)).one()
        stalls = 0 if asked or advanced(connection, ref) else run.stalls + 1
        if stalls >= MAX_STALLS:
            return True
        requeue = {"stalls": stalls}
        _end(connection, ref, Ending.INTERRUPTED, reason, "", requeue, {})
        return False


def advanced(connection: Connection, ref: Ref) -> bool:
    """Whether an attempt got further than every earlier one of the same phase: a new step, or a new checkpoint."""
    run = connection.execute(select(Run.c.progress_done, Run.c.progress_phase).where(Run.c.id == ref.run_id)).one()
    earlier = (Attempt.c.run_id == ref.run_id, Attempt.c.number < ref.attempt)
    # Steps of training and bytes of a corpus are not compared.
    alike = Attempt.c.last_phase.is_not_distinct_from(run.progress_phase)
    before = connection.execute(select(func.max(Attempt.c.last_step)).where(*earlier, alike)).scalar_one()
    if run.progress_done is not None and run.progress_done > (before if before is not None else 0):
        return True
    new = select(Checkpoint.c.id).where(Checkpoint.c.run_id == ref.run_id, Checkpoint.c.attempt == ref.attempt)
    return connection.execute(new.limit(1)).first() is not None
