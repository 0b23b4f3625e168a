"""Every question asked of the results store, answered as frozen views. Changes nothing."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import Connection, func, select, text

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.state import State
from labqueue.domain.views import (
    ExperimentRow,
    JobView,
    RunView,
    SearchView,
    StatusView,
    WorkerView,
)
from labqueue.store.db import Database
from labqueue.store.queries.views import by_ids, queue_eta_s, views_of
from labqueue.store.queries.waiting import Waits
from labqueue.store.runs import results
from labqueue.store.runs.attempts import Claim, Ref, claim_from, guard
from labqueue.store.runs.control import targets
from labqueue.store.runs.results import Asked
from labqueue.store.runs.search_state import all_open
from labqueue.store.tables import Experiment, Job, JobRun, Run, Series, Worker
from labqueue.system.clock import Deadline, iso

Lives = Callable[[str, int, int], "bool | None"]
"""Whether the process (boot id, process id, start) lives and is this workspace's; None: it lives and is another's."""


def status(db: Database, lives: Lives | None = None) -> StatusView:
    """What runs, what waits, when it will be done.

    Workers are judged by their leases, and by ``lives`` where it is given.
    """
    with db.read() as connection:
        open_runs = connection.execute(
            select(Run).where(Run.c.state != State.FINISHED).order_by(Run.c.priority.desc(), Run.c.id)
        ).all()
        waits = Waits(connection)
        views = views_of(connection, list(open_runs), waits, details=False)
        finished = connection.execute(
            select(Run.c.outcome, func.count()).where(Run.c.state == State.FINISHED).group_by(Run.c.outcome)
        )
        searches = all_open(connection)
        return StatusView(
            running=[view for view in views if view.state == State.RUNNING],
            queued=[view for view in views if view.state == State.QUEUED],
            finished={outcome: n for outcome, n in finished if outcome is not None},
            eta_s=queue_eta_s(connection, views, {s.experiment: s.to_come for s in searches}),
            paused=waits.queue_paused,
            searches=[SearchView(s.experiment, s.job, s.recorded, s.trials, s.to_come) for s in searches],
            workers=_workers(connection, lives),
        )


def workers(db: Database, lives: Lives | None = None) -> list[WorkerView]:
    """Workers that have not ended, as far as they could tell; judged as in ``status``."""
    with db.read() as connection:
        return _workers(connection, lives)


def _workers(connection: Connection, lives: Lives | None) -> list[WorkerView]:
    rows = connection.execute(select(Worker).where(Worker.c.ended_at.is_(None)).order_by(Worker.c.id)).all()
    return [_worker(row, lives) for row in rows]


def _worker(row: Any, lives: Lives | None) -> WorkerView:
    renewed = not Deadline.parse(row.lease).passed
    found = lives(row.boot_id, row.pid, row.pid_start) if lives else False
    called, _, card = row.device.partition(" ")
    return WorkerView(
        called, row.host, row.pid, iso(row.started_at) or "",
        alive=renewed and found is not None, frozen=not renewed and found is True, card=card or None,
    )  # fmt: skip


def run(db: Database, run_id: int) -> RunView:
    """One run with all its details.

    Raises:
        LabError: there is no such run.
    """
    return runs(db, [run_id])[0]


def runs(db: Database, ids: Iterable[int]) -> list[RunView]:
    """Runs by id, in the order asked.

    Raises:
        LabError: one of them does not exist.
    """
    with db.read() as connection:
        wanted = list(ids)
        rows = []
        for run_id in wanted:
            targets(connection, str(run_id))
            rows.append(connection.execute(select(Run).where(Run.c.id == run_id)).one())
        return views_of(connection, rows, Waits(connection), details=True)


def find(db: Database, target: str) -> list[RunView]:
    """The runs that a run id, an experiment or ``queue`` names, without their details.

    Raises:
        LabError: it names nothing.
    """
    with db.read() as connection:
        ids, _ = targets(connection, target)
        rows = by_ids(connection, ids)
        return views_of(connection, rows, Waits(connection), details=False)


def recent(db: Database, limit: int) -> list[RunView]:
    """The newest runs, newest first, without their details."""
    with db.read() as connection:
        rows = connection.execute(select(Run).order_by(Run.c.id.desc()).limit(limit)).all()
        return views_of(connection, list(rows), Waits(connection), details=False)


def experiments(db: Database, *, archived: bool = False) -> list[ExperimentRow]:
    """One line per experiment, by name: those in use, or those that are archived."""
    with db.read() as connection:
        counts: dict[int, dict[str, int]] = defaultdict(dict)
        for experiment_id, state, outcome, n in connection.execute(
            select(Run.c.experiment_id, Run.c.state, Run.c.outcome, func.count()).group_by(
                Run.c.experiment_id, Run.c.state, Run.c.outcome
            )
        ):
            counts[experiment_id][outcome or state] = n
        lines = []
        shown = Experiment.c.archived_at.is_not(None) if archived else Experiment.c.archived_at.is_(None)
        query = select(Experiment).where(shown).order_by(Experiment.c.name)
        for experiment in connection.execute(query).all():
            jobs = connection.execute(
                select(Job.c.spec, Job.c.created_at).where(Job.c.experiment_id == experiment.id).order_by(Job.c.id)
            ).all()
            count = counts[experiment.id]
            lines.append(
                ExperimentRow(
                    experiment=experiment.name,
                    track=jobs[-1].spec["track"],
                    kind=jobs[-1].spec["kind"],
                    jobs=len(jobs),
                    runs=sum(count.values()),
                    queued=count.get(State.QUEUED, 0),
                    running=count.get(State.RUNNING, 0),
                    finished={k: v for k, v in count.items() if k not in (State.QUEUED, State.RUNNING)},
                    last_at=iso(jobs[-1].created_at),
                )
            )
        return lines


def jobs(db: Database, experiment: str | None) -> list[JobView]:
    """The submissions of an experiment, or all, oldest first.

    Raises:
        LabError: there is no such experiment.
    """
    with db.read() as connection:
        query = select(Job, Experiment.c.name).join(Experiment, Experiment.c.id == Job.c.experiment_id)
        if experiment is not None:
            names = set(connection.execute(select(Experiment.c.name)).scalars())
            if experiment not in names:
                raise LabError(f"there is no experiment {experiment!r}: {nearest(experiment, names)}")
            query = query.where(Experiment.c.name == experiment)
        counts = {
            job: (runs, reused)
            for job, runs, reused in connection.execute(
                select(JobRun.c.job_id, func.count(), func.sum(JobRun.c.reused)).group_by(JobRun.c.job_id)
            )
        }
        return [
            JobView(
                id=job.id,
                experiment=job.name,
                submitted_at=iso(job.created_at) or "",
                profile=job.profile,
                device=job.device,
                priority=job.priority,
                runs=counts.get(job.id, (0, 0))[0],
                reused=int(counts.get(job.id, (0, 0))[1] or 0),
                spec_version=job.spec_version,
                commit=job.commit,
                dirty=job.dirty,
                predictions=list(job.spec["predictions"]),
            )
            for job in connection.execute(query.order_by(Job.c.id))
        ]


def series(db: Database, run_id: int, metric: str) -> list[tuple[int, float | None]]:
    """All points of one metric of a run, by step; empty when it was never measured."""
    with db.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT step, value FROM metrics WHERE series_id ="
            " (SELECT id FROM series WHERE run_id = ? AND name = ?) ORDER BY step",
            (run_id, metric),
        )
        return [(step, value) for step, value in rows]


def metric_names(db: Database, run_id: int) -> list[str]:
    """Names of the metrics that a run has measured."""
    with db.read() as connection:
        return list(
            connection.execute(select(Series.c.name).where(Series.c.run_id == run_id).order_by(Series.c.name)).scalars()
        )


def newest_job(db: Database, experiment: str) -> Any | None:
    """The newest job of an experiment (columns of ``tables.Job``), or None."""
    with db.read() as connection:
        return connection.execute(
            select(Job)
            .join(Experiment, Experiment.c.id == Job.c.experiment_id)
            .where(Experiment.c.name == experiment)
            .order_by(Job.c.id.desc())
            .limit(1)
        ).first()


def control(db: Database, key: str) -> dict[str, Any] | None:
    """A switch of the queue, or None."""
    with db.read() as connection:
        row = connection.execute(text("SELECT value FROM controls WHERE key = :key"), {"key": key}).scalar()
        return json.loads(row) if row is not None else None


def checkpoints(db: Database, run_id: int) -> list[Any]:
    """Checkpoints of a run (step, path, sha256), newest first."""
    with db.read() as connection:
        query = text("SELECT step, path, sha256 FROM checkpoints WHERE run_id = :r ORDER BY step DESC")
        return list(connection.execute(query, {"r": run_id}))


def asked(db: Database, ref: Ref) -> Asked:
    """What a person has asked of a running attempt.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.read() as connection:
        guard(connection, ref)
        return results.asked(connection, ref)


def claim(db: Database, ref: Ref) -> Claim:
    """What a claimed attempt is to execute.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    with db.read() as connection:
        guard(connection, ref)
        row = connection.execute(select(Run).where(Run.c.id == ref.run_id)).one()
        name = connection.execute(select(Experiment.c.name).where(Experiment.c.id == row.experiment_id)).scalar_one()
        return claim_from(row, name)
