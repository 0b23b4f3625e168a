"""Taking experiments out of sight, bringing them back, and deleting what is archived. Each is one transaction.

An archived experiment stays whole: its runs are evidence, answer ``show`` and ``report NAME``, and serve others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec.references import references
from labqueue.domain.state import State
from labqueue.store.db import Database
from labqueue.store.runs import search_state
from labqueue.store.tables import Artifact, Event, Experiment, Job, Run, Series
from labqueue.system import clock


@dataclass(frozen=True)
class Contents:
    """What an experiment consists of."""

    experiment: str
    archived: bool
    jobs: int
    runs: list[int]
    artifacts: int
    points: int
    """Of all metrics together."""


def archive(db: Database, names: Sequence[str]) -> None:
    """Takes experiments out of the listings, all or none; one that is archived already stays so.

    Raises:
        LabError: there is no such experiment, or it has runs that are queued or running.
    """
    with db.write() as connection:
        for name in names:
            experiment = _named(connection, name)
            going = _going_on(connection, experiment)
            if going:
                raise LabError(f"{going}: let it finish, or `labqueue cancel {name}`, then archive it")
            if experiment.archived_at is None:
                _mark(connection, experiment.id, name, clock.now())


def restore(db: Database, names: Sequence[str]) -> None:
    """Brings archived experiments back into the listings, all or none.

    Raises:
        LabError: there is no such experiment, or it is not archived.
    """
    with db.write() as connection:
        for name in names:
            experiment = _named(connection, name)
            if experiment.archived_at is None:
                raise LabError(
                    f"experiment {name!r} is not archived; `labqueue report --archived` lists those that are"
                )
            _mark(connection, experiment.id, name, None)


def refuse_archived(connection: Connection, name: str) -> None:
    """Nothing new comes under an archived name.

    Raises:
        LabError: the experiment is archived.
    """
    archived_at = connection.execute(select(Experiment.c.archived_at).where(Experiment.c.name == name)).scalar()
    if archived_at is not None:
        raise LabError(
            f"experiment {name!r} is archived: `labqueue restore {name}` brings it back, or choose another name"
        )


def contents(db: Database, name: str) -> Contents:
    """What would go with an experiment.

    Raises:
        LabError: there is no such experiment.
    """
    with db.read() as connection:
        return _contents(connection, _named(connection, name))


def delete(db: Database, name: str) -> Contents:
    """Removes an archived experiment from the results store for good. Returns what went; files are not touched.

    Raises:
        LabError: there is no such experiment, it is not archived, it has runs that have not finished, or other
            experiments need it or use its artifacts.
    """
    with db.write() as connection:
        experiment = _named(connection, name)
        gone = _contents(connection, experiment)
        if not gone.archived:
            raise LabError(f"only what is archived can be deleted: `labqueue archive {name}` first")
        going = _going_on(connection, experiment)
        if going:
            raise LabError(f"{going}: `labqueue cancel {name}` first")
        users = list(_users(connection, experiment))
        if users:
            raise LabError(f"{'; '.join(users[:5])}{'; …' if len(users) > 5 else ''}. Delete those first, or keep it")
        _forget(connection, experiment.id, name)
        words = f"{name}: {gone.jobs} jobs and {len(gone.runs)} runs deleted by a person"
        connection.execute(insert(Event).values(at=clock.now(), run_id=None, kind="delete", text=words))
        return gone


def _named(connection: Connection, name: str) -> Any:
    found = connection.execute(select(Experiment).where(Experiment.c.name == name)).first()
    if found is None:
        known = connection.execute(select(Experiment.c.name)).scalars()
        raise LabError(f"there is no experiment {name!r}: {nearest(name, known)}")
    return found


def _mark(connection: Connection, experiment_id: int, name: str, archived_at: float | None) -> None:
    connection.execute(update(Experiment).where(Experiment.c.id == experiment_id).values(archived_at=archived_at))
    word = "archive" if archived_at is not None else "restore"
    connection.execute(
        insert(Event).values(at=clock.now(), run_id=None, kind=word, text=f"{name}: {word}d by a person")
    )


def _going_on(connection: Connection, experiment: Any) -> str | None:
    """What of an experiment has not finished, in words; None when all has."""
    query = select(Run.c.id).where(Run.c.experiment_id == experiment.id, Run.c.state != State.FINISHED)
    runs = list(connection.execute(query.order_by(Run.c.id)).scalars())
    if runs:
        return f"experiment {experiment.name!r} has {len(runs)} runs that are queued or running ({_ids(runs)})"
    if any(switch.experiment == experiment.name for switch in search_state.all_open(connection)):
        return f"experiment {experiment.name!r} has a search with trials to come"
    return None


def _contents(connection: Connection, experiment: Any) -> Contents:
    mine = select(Run.c.id).where(Run.c.experiment_id == experiment.id)
    count = select(func.count())
    return Contents(
        experiment=experiment.name,
        archived=experiment.archived_at is not None,
        jobs=connection.execute(count.select_from(Job).where(Job.c.experiment_id == experiment.id)).scalar_one(),
        runs=list(connection.execute(mine.order_by(Run.c.id)).scalars()),
        artifacts=connection.execute(count.select_from(Artifact).where(Artifact.c.run_id.in_(mine))).scalar_one(),
        points=connection.execute(
            select(func.coalesce(func.sum(Series.c.points), 0)).where(Series.c.run_id.in_(mine))
        ).scalar_one(),
    )


def _users(connection: Connection, experiment: Any) -> Iterator[str]:
    """Other experiments that need this one, or name its artifacts in their parameters, one sentence each."""
    jobs = set(connection.execute(select(Job.c.id).where(Job.c.experiment_id == experiment.id)).scalars())
    query = select(Job.c.needs, Experiment.c.name).join(Experiment, Experiment.c.id == Job.c.experiment_id)
    needing = {
        name
        for needs, name in connection.execute(query.where(Job.c.experiment_id != experiment.id))
        if any(need["job"] in jobs for need in needs)
    }
    yield from (f"experiment {name!r} needs {experiment.name!r}" for name in sorted(needing))
    using: dict[str, list[int]] = {}
    runs = (
        select(Run.c.id, Run.c.params, Run.c.adjusted, Experiment.c.name)
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .where(Run.c.experiment_id != experiment.id)
        # No reference can be in a text without the name.
        .where(text("instr(runs.params || coalesce(runs.adjusted, ''), :wanted)").bindparams(wanted=experiment.name))
        .order_by(Run.c.id)
    )
    for run_id, params, adjusted, name in connection.execute(runs):
        if _takes([params, adjusted["params"] if adjusted else {}], experiment.name):
            using.setdefault(name, []).append(run_id)
    for name, ids in sorted(using.items()):
        yield f"runs {_ids(ids)} of experiment {name!r} use artifacts of {experiment.name!r}"


def _takes(params: list[Any], experiment: str) -> bool:
    """Whether parameters name an artifact of an experiment, by reference or by path."""
    named = any(each.experiment == experiment for each in references(params, "params"))
    return named or f"outputs/{experiment}/" in canonical(params)


_RUNS = "(SELECT id FROM runs WHERE experiment_id = :id)"

_JOBS = "(SELECT id FROM jobs WHERE experiment_id = :id)"

_FORGET = (
    # From the leaves up: foreign keys are kept at every statement.
    f"DELETE FROM metrics WHERE series_id IN (SELECT id FROM series WHERE run_id IN {_RUNS})",  # noqa: S608  # our own words
    *(
        f"DELETE FROM {table} WHERE run_id IN {_RUNS}"  # noqa: S608  # our own words
        for table in (
            "series",
            "samples",
            "artifacts",
            "checkpoints",
            "attempts",
            "events",
            "inputs",
            "waiting_reasons",
            "job_runs",
        )
    ),
    f"UPDATE inputs SET source_run_id = NULL WHERE source_run_id IN {_RUNS}",  # noqa: S608  # our own words
    f"DELETE FROM needs WHERE job_id IN {_JOBS} OR needed_job_id IN {_JOBS}",  # noqa: S608  # our own words
    "DELETE FROM job_runs WHERE job_id IN (SELECT id FROM jobs WHERE experiment_id = :id)",
    "DELETE FROM controls WHERE key IN (SELECT 'search:' || id FROM jobs WHERE experiment_id = :id)",
    "DELETE FROM runs WHERE experiment_id = :id",
    "DELETE FROM registrations WHERE experiment_id = :id",
    "DELETE FROM jobs WHERE experiment_id = :id",
    "DELETE FROM experiments WHERE id = :id",
)


def _forget(connection: Connection, experiment_id: int, name: str) -> None:
    for statement in _FORGET:
        connection.execute(text(statement), {"id": experiment_id})
    connection.execute(text("DELETE FROM controls WHERE key = :key"), {"key": f"pause:{name}"})


def _ids(runs: Sequence[int]) -> str:
    listed = ", ".join(map(str, runs[:8]))
    return f"{listed} and {len(runs) - 8} more" if len(runs) > 8 else listed
