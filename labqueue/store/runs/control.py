"""Controls runs as a person asks: cancel, pause, resume, retry, release, prioritize, keep. Each is one transaction.

A running attempt is only asked (``runs.request``): it checkpoints first, and its worker sees that it obeys.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, case, insert, or_, select, update

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec.names import QUEUE
from labqueue.domain.state import Outcome, State
from labqueue.domain.values import whole
from labqueue.store.db import Database
from labqueue.store.runs import needed, needs, search_state
from labqueue.store.runs.eligibility import FOREVER, pauses
from labqueue.store.runs.needed import chunks
from labqueue.store.tables import Control, Event, Experiment, Run
from labqueue.system import clock


def targets(connection: Connection, target: str) -> tuple[list[int], str | None]:
    """The run ids that a word names, and the experiment's name where it names one.

    ``target`` is a run id, an experiment, or ``queue``.

    Raises:
        LabError: there is no such run or experiment.
    """
    if target == QUEUE:
        return list(connection.execute(select(Run.c.id).where(Run.c.state != State.FINISHED)).scalars()), None
    if target.isdecimal():
        found = connection.execute(select(Run.c.id).where(Run.c.id == whole(target))).scalar()
        if found is None:
            last = connection.execute(select(Run.c.id).order_by(Run.c.id.desc()).limit(1)).scalar()
            known = f"runs go up to {last}" if last else "there are no runs yet"
            raise LabError(f"there is no run {target}: {known}")
        return [found], None
    names = list(connection.execute(select(Experiment.c.name)).scalars())
    if target not in names:
        raise LabError(f"there is no experiment {target!r}: {nearest(target, names)}")
    query = select(Run.c.id).join(Experiment, Experiment.c.id == Run.c.experiment_id).where(Experiment.c.name == target)
    return list(connection.execute(query.order_by(Run.c.id)).scalars()), target


def cancel(db: Database, target: str) -> tuple[list[int], list[int]]:
    """Ends queued runs as cancelled and asks running ones to stop. Returns (ended now, asked).

    Raises:
        LabError: nothing of that name, or the one run named has already finished.
    """
    with db.write() as connection:
        ids, experiment = targets(connection, target)
        ended, asked = [], []
        now = clock.now()
        if not target.isdecimal():
            search_state.cancel(connection, experiment)
        for run in _rows(connection, ids):
            if run.state == State.QUEUED:
                values = {
                    "state": State.FINISHED,
                    "outcome": Outcome.CANCELLED,
                    "reason": "cancelled while queued",
                    "finished_at": now,
                    "paused_until": None,
                }
                connection.execute(update(Run).where(Run.c.id == run.id).values(**values))
                ended.append(run.id)
            elif run.state == State.RUNNING:
                connection.execute(update(Run).where(Run.c.id == run.id).values(request="cancel"))
                asked.append(run.id)
            elif target.isdecimal():
                raise LabError(f"run {run.id} has already finished ({run.outcome}); there is nothing to cancel")
        needs.follow(connection, ended)
        _tell(connection, ended + asked, "cancel", "cancelled by a person")
        return ended, asked


def pause(db: Database, target: str, for_s: float | None) -> tuple[list[int], list[int]]:
    """Keeps runs from starting, and asks running ones to checkpoint and give the device back.

    ``for_s`` seconds, or until ``resume``. Returns (queued runs held, running runs asked).

    Raises:
        LabError: nothing of that name, or the one run named has already finished.
    """
    until = FOREVER if for_s is None else str(clock.Deadline.after(for_s))
    words = "by a person" if for_s is None else f"by a person, for {for_s:.0f} s"
    with db.write() as connection:
        ids, experiment = targets(connection, target)
        if not target.isdecimal():
            _switch(connection, experiment, {"reason": words, "until": until})
        held, asked = [], []
        for run in _rows(connection, ids):
            if run.state == State.FINISHED:
                if target.isdecimal():
                    raise LabError(f"run {run.id} has already finished ({run.outcome}); there is nothing to pause")
                continue
            values: dict[str, Any] = {"paused_until": until} if target.isdecimal() else {}
            if run.state == State.RUNNING:
                # Cancelled and then paused is still cancelled.
                values["request"] = case((Run.c.request == "cancel", "cancel"), else_="pause")
                asked.append(run.id)
            else:
                held.append(run.id)
            if values:
                connection.execute(update(Run).where(Run.c.id == run.id).values(**values))
        _tell(connection, held + asked, "pause", f"paused {words}")
        return held, asked


def halt(db: Database, reason: str, cause: str) -> bool:
    """Pauses the whole queue on the lab's own account; nothing that runs is asked to stop.

    ``cause`` is one word by which ``go_on`` finds it again. False when the queue is paused already.
    """
    with db.write() as connection:
        if "" in pauses(connection):
            return False
        _switch(connection, None, {"reason": reason, "until": FOREVER, "cause": cause})
        connection.execute(insert(Event).values(at=clock.now(), run_id=None, kind="halt", text=reason))
        return True


def hold(db: Database, experiment: str, reason: str) -> None:
    """Pauses one experiment on the lab's own account, until a person resumes it; what runs of it runs on."""
    with db.write() as connection:
        _switch(connection, experiment, {"reason": reason, "until": FOREVER})
        connection.execute(
            insert(Event).values(at=clock.now(), run_id=None, kind="halt", text=f"{experiment}: {reason}")
        )


def go_on(db: Database, cause: str) -> bool:
    """Ends a pause that ``halt`` made for this cause; another one stays. False when there was none."""
    with db.write() as connection:
        value = connection.execute(select(Control.c.value).where(Control.c.key == "pause")).scalar()
        if value is None or value.get("cause") != cause:
            return False
        connection.execute(Control.delete().where(Control.c.key == "pause"))
        connection.execute(insert(Event).values(at=clock.now(), run_id=None, kind="resume", text=f"{cause}: over"))
        return True


def resume(db: Database, target: str) -> list[int]:
    """Ends a pause. Returns the runs that are queued and no longer held by it.

    Raises:
        LabError: nothing of that name.
    """
    with db.write() as connection:
        ids, experiment = targets(connection, target)
        if not target.isdecimal():
            _switch(connection, experiment, None)
        for chunk in chunks(ids):
            open_runs = update(Run).where(Run.c.id.in_(chunk), Run.c.state != State.FINISHED)
            connection.execute(open_runs.where(Run.c.request == "pause").values(request=None))
            connection.execute(open_runs.values(paused_until=None))
        queued = [run.id for run in _rows(connection, ids) if run.state == State.QUEUED]
        _tell(connection, queued, "resume", "resumed by a person")
        return queued


def retry(db: Database, target: str, *, failed_only: bool = False) -> list[int]:
    """Queues finished runs again under their own ids; never a succeeded or pruned one of a group. Returns them.

    What the run itself went through is forgotten: attempts, back-off, stalls, what the memory ladder changed. What a
    person has said of it stands: its priority, and that it was released. The needs that it was freed from may never be
    met, and a retry that waited for them again could wait all night.

    Of the whole queue the archived experiments are left alone: a run that waits out of sight is never looked for.

    Raises:
        LabError: nothing of that name, what is named is archived, or the one run named has succeeded or has not
            finished.
    """
    with db.write() as connection:
        ids, experiment = targets(connection, target)
        if target == QUEUE:
            ids = list(connection.execute(select(Run.c.id).where(Run.c.state == State.FINISHED)).scalars())
        archived = _archived(connection)
        if experiment in archived.values():
            raise LabError(f"experiment {experiment!r} is archived: `labqueue restore {experiment}`, then retry it")
        if not target.isdecimal() and not failed_only:
            names = [experiment] if experiment else connection.execute(select(Experiment.c.name)).scalars().all()
            for name in names:
                if name not in archived.values():
                    search_state.undo_cancel(connection, name)
        again = []
        for run in _rows(connection, ids):
            named = target.isdecimal()
            if run.state != State.FINISHED:
                if named:
                    raise LabError(f"run {run.id} has not finished: it is {run.state}")
                continue
            if run.outcome == Outcome.SUCCEEDED:
                if named:
                    raise LabError(
                        f"run {run.id} has succeeded and is kept; to execute it anew submit its spec with --force"
                    )
                continue
            if not named and run.outcome == Outcome.PRUNED:
                continue
            if failed_only and run.outcome in (Outcome.CANCELLED, Outcome.PRUNED):
                continue
            if run.experiment_id in archived:
                if named:
                    name = archived[run.experiment_id]
                    raise LabError(
                        f"run {run.id} is one of experiment {name!r}, which is archived: `labqueue restore {name}`, "
                        f"then retry it"
                    )
                continue
            connection.execute(
                update(Run)
                .where(Run.c.id == run.id, Run.c.state == State.FINISHED)
                .values(
                    state=State.QUEUED,
                    outcome=None,
                    finished_at=None,
                    reason=None,
                    reason_code=None,
                    queued_at=clock.now(),
                    attempts_used=0,
                    stalls=0,
                    not_before=None,
                    paused_until=None,
                    adjusted=None,
                )
            )
            again.append(run.id)
        needs.follow(connection, again)
        _tell(connection, again, "retry", "queued again by a person")
        return again


def release(db: Database, target: str) -> list[int]:
    """Frees queued runs from what they wait for: needs, a back-off, their own pause. Returns them.

    Raises:
        LabError: nothing of that name.
    """
    with db.write() as connection:
        ids, _ = targets(connection, target)
        freed = [run.id for run in _rows(connection, ids) if run.state == State.QUEUED]
        for chunk in chunks(freed):
            connection.execute(
                update(Run)
                .where(Run.c.id.in_(chunk))
                .values(released=True, needs_unmet=False, not_before=None, paused_until=None)
            )
        _tell(connection, freed, "release", "released by a person")
        return freed


def prioritize(db: Database, target: str, priority: int) -> tuple[list[int], list[int]]:
    """Sets the priority of unfinished runs; higher starts earlier. What they wait for is raised to at least the same.
    Returns (the runs named, those that were raised with them).

    Raises:
        LabError: nothing of that name.
    """
    with db.write() as connection:
        ids, experiment = targets(connection, target)
        changed = [run.id for run in _rows(connection, ids) if run.state != State.FINISHED]
        for chunk in chunks(changed):
            connection.execute(update(Run).where(Run.c.id.in_(chunk)).values(priority=priority))
        for switch in [] if target.isdecimal() else search_state.all_open(connection):
            if experiment in (None, switch.experiment):
                search_state.prioritize(connection, switch.job, priority)
        return changed, needed.raise_to(connection, changed, priority)


def keep(db: Database, run_id: int) -> None:
    """Asks a running run to keep what it has now as an artifact; it stands until one is kept or the run has finished.

    Raises:
        LabError: there is no such run, or it is not running.
    """
    with db.write() as connection:
        targets(connection, str(run_id))
        (run,) = _rows(connection, [run_id])
        if run.state != State.RUNNING:
            is_now = run.outcome or run.state
            raise LabError(f"run {run_id} is not running ({is_now}): only a run that computes has anything to keep")
        connection.execute(update(Run).where(Run.c.id == run_id).values(keep_asked_at=clock.now()))
        _tell(connection, [run_id], "keep", "asked by a person to keep what it has now")


def _rows(connection: Connection, ids: list[int]) -> list[Any]:
    rows: list[Any] = []
    for chunk in chunks(ids):
        query = select(Run.c.id, Run.c.state, Run.c.outcome, Run.c.experiment_id).where(Run.c.id.in_(chunk))
        rows.extend(connection.execute(query.order_by(Run.c.id)).all())
    return rows


def _archived(connection: Connection) -> dict[int, str]:
    """Archived experiments: their names by their ids."""
    query = select(Experiment.c.id, Experiment.c.name).where(Experiment.c.archived_at.is_not(None))
    return {row.id: row.name for row in connection.execute(query)}


def _switch(connection: Connection, experiment: str | None, value: dict[str, Any] | None) -> None:
    key = f"pause:{experiment}" if experiment else "pause"
    where = Control.c.key == key if experiment else or_(Control.c.key == key, Control.c.key.like("pause:%"))
    if value is None:
        connection.execute(Control.delete().where(where))
    else:
        connection.execute(Control.delete().where(Control.c.key == key))
        connection.execute(insert(Control).values(key=key, value=value))


def _tell(connection: Connection, ids: list[int], kind: str, words: str) -> None:
    if ids:
        now = clock.now()
        connection.execute(insert(Event), [{"at": now, "run_id": i, "kind": kind, "text": words} for i in ids])
