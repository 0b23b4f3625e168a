"""Since when each prediction is claimed, which runs could be known by then, and how the seeds of an experiment came.

A run could be known before a registration when it had ended by then; when a run of the same seed had, under the same
name in whatever version; or when one that computed the same had, under any name.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.spec.registration import metric
from labqueue.domain.state import State
from labqueue.domain.views import LookView, RegistrationView, RunView
from labqueue.store.db import Database
from labqueue.store.runs.jobs import NewJob
from labqueue.store.runs.registrations import by_digest
from labqueue.store.tables import Experiment, Job, JobRun, Registration, Run, Series
from labqueue.system.clock import iso


def of(connection: Connection, experiment_id: int, newest: Any, runs: Sequence[RunView]) -> list[RegistrationView]:
    """The registrations of an experiment, those of its newest job first, in the order of its spec.

    ``newest`` is that job's row and ``runs`` are the counted runs of its version.
    """
    rows = connection.execute(
        select(Registration).where(Registration.c.experiment_id == experiment_id).order_by(Registration.c.id)
    ).all()
    known = Known.of(connection, experiment_id, runs, [row.prediction for row in rows])
    standing, gone = [], []
    for key, prediction in by_digest(newest.spec).items():
        held = [row for row in rows if row.digest == key and row.withdrawn_at is None]
        if held:
            first = min(held, key=lambda row: (row.created_at, row.id))
            standing.append(_view(first, prediction, known, None))
    now = {view.digest for view in standing}
    for row in rows:
        if row.withdrawn_at is not None:
            gone.append(_view(row, row.prediction, known, row.withdrawn_at))
        elif row.digest not in now:  # of another workspace, and not in the spec of this one
            gone.append(_view(row, row.prediction, known, max(row.created_at, newest.created_at)))
    return [*standing, *gone]


def _view(row: Any, prediction: Mapping[str, Any], known: Known, withdrawn_at: float | None) -> RegistrationView:
    return RegistrationView(
        id=row.prediction_id,
        digest=row.digest,
        at=iso(row.created_at) or "",
        job=row.job_id,
        prediction=dict(prediction),
        seen_runs=known.before(row.created_at, metric(row.prediction)),
        withdrawn_at=iso(withdrawn_at),
    )


@dataclass(frozen=True)
class Known:
    """When the result of each counted run could first be known."""

    at: Mapping[int, float]
    """By run: its own end, or that of a run of its seed under the same name, or of an equal run under another; runs
    of which nothing is known are not there."""
    results_at: Mapping[tuple[int, str], float]
    """By run and metric: the first end of another run that recorded the same result."""

    @classmethod
    def of(
        cls,
        connection: Connection,
        experiment_id: int,
        runs: Sequence[RunView],
        predictions: Iterable[Mapping[str, Any]],
    ) -> Known:
        """Reads what had ended when, for the counted runs and the metrics that predictions name."""
        metrics = {metric(prediction) for prediction in predictions}
        if not metrics:
            return cls({}, {})
        by_seed, by_hash = _ends(connection, experiment_id, {run.seed for run in runs}, {run.spec_hash for run in runs})
        at = {}
        for run in runs:
            ends = [ended for ended in (by_seed.get(run.seed), by_hash.get(run.spec_hash)) if ended is not None]
            if ends:
                at[run.id] = min(ends)
        return cls(at, _equal_results(connection, runs, metrics))

    def before(self, time: float, name: str) -> list[int]:
        """Ids of counted runs whose value of a metric could be known at a time, sorted."""
        seen = {run for run, at in self.at.items() if at <= time}
        return sorted(seen | {run for (run, of), at in self.results_at.items() if of == name and at <= time})


def _ends(
    connection: Connection, experiment_id: int, seeds: Collection[int], hashes: Collection[str]
) -> tuple[dict[int, float], dict[str, float]]:
    """The first end under a name by seed, and under any by spec hash; of runs that were executed."""
    # What was cancelled before it began has an end as well, and told nobody anything.
    executed = select(Run.c.seed, Run.c.spec_hash, Run.c.finished_at).where(
        Run.c.state == State.FINISHED, Run.c.attempt > 0
    )
    by_seed: dict[int, float] = {}
    for row in connection.execute(executed.where(Run.c.experiment_id == experiment_id)):
        if row.seed in seeds:
            by_seed[row.seed] = min(row.finished_at, by_seed.get(row.seed, math.inf))
    by_hash: dict[str, float] = {}
    wanted = sorted(hashes)
    for start in range(0, len(wanted), 5000):
        for row in connection.execute(executed.where(Run.c.spec_hash.in_(wanted[start : start + 5000]))):
            by_hash[row.spec_hash] = min(row.finished_at, by_hash.get(row.spec_hash, math.inf))
    return by_seed, by_hash


Recorded = tuple[int, float]
"""Last step and last value of a metric."""


def _equal_results(
    connection: Connection, runs: Sequence[RunView], metrics: Collection[str]
) -> dict[tuple[int, str], float]:
    """The first end of another run of the kind that recorded, with the same seed, the same last value at the same step.

    A value that many runs share (a count, a share of few items, one that other seeds of its point have too) is no sign
    of the same computation; there, some other metric that they both recorded must be the same and telling.
    """
    own = {run.id: _recorded(run) for run in runs}
    others = [(run, name, own[run.id][name]) for run in runs for name in sorted(metrics & own[run.id].keys())]
    if not others:
        return {}
    found: dict[tuple[str, int, Recorded], list[tuple[int, float]]] = defaultdict(list)
    query = (
        select(Run.c.id, Run.c.seed, Run.c.finished_at, Series.c.name, Series.c.last, Series.c.last_step)
        .join(Series, Series.c.run_id == Run.c.id)
        .where(Run.c.kind == runs[0].kind, Run.c.state == State.FINISHED, Series.c.name.in_(sorted(metrics)))
    )
    for row in connection.execute(query):
        if row.last is not None:
            found[row.name, row.seed, (row.last_step, row.last)].append((row.id, row.finished_at))
    answers: dict[tuple[int, str], float] = {}
    theirs: dict[int, dict[str, Recorded]] = {}
    for run, name, value in others:
        for other, ended in sorted(found.get((name, run.seed, value), ()), key=lambda pair: pair[1]):
            if other == run.id:
                continue
            if not _telling(name, value, run, runs, own):
                if other not in theirs:
                    theirs[other] = _read(connection, other)
                both = own[run.id].items() & theirs[other].items()
                if not any(_telling(also, same, run, runs, own) for also, same in both):
                    continue
            answers[run.id, name] = ended
            break
    return answers


def _telling(
    name: str, value: Recorded, run: RunView, runs: Sequence[RunView], own: Mapping[int, Mapping[str, Recorded]]
) -> bool:
    """Whether a result can hardly be another computation's: no fraction of small numbers, and no other seed's."""
    near = Fraction(value[1]).limit_denominator(1000)
    if abs(float(near) - value[1]) <= 3e-8 * max(1.0, abs(value[1])):  # rounded to float32
        return False
    return not any(own[each.id].get(name) == value for each in runs if each.seed != run.seed)


def _recorded(run: RunView) -> dict[str, Recorded]:
    return {name: (view.last_step, view.last) for name, view in run.metrics.items() if view.last is not None}


def _read(connection: Connection, run_id: int) -> dict[str, Recorded]:
    query = select(Series.c.name, Series.c.last_step, Series.c.last).where(Series.c.run_id == run_id)
    return {name: (step, last) for name, step, last in connection.execute(query) if last is not None}


def looks_of(jobs: Sequence[Any], seeds: Mapping[int, Sequence[int]], ends: Sequence[float]) -> list[LookView]:
    """How the seeds of a version came: a job that adds some after a run of it had ended begins a new look.

    Seeds of jobs between which no run ended belong together: whoever added the later ones knew no more.
    ``jobs`` are rows of that version, ``seeds`` those of each job, ``ends`` the ends of executed runs of the version.
    """
    known: set[int] = set()
    groups: list[tuple[list[int], Any]] = []
    for job in sorted(jobs, key=lambda job: (job.created_at, job.id)):
        fresh = [seed for seed in dict.fromkeys(seeds.get(job.id, ())) if seed not in known]
        if not fresh:
            continue
        known.update(fresh)
        since = groups[-1][1].created_at if groups else None
        if since is None or any(since < ended <= job.created_at for ended in ends):
            groups.append((fresh, job))
        else:
            groups[-1][0].extend(fresh)
    return [LookView(found, job.id, iso(job.created_at) or "") for found, job in groups]


def looks_at(jobs: Sequence[Any], newest: Any) -> float:
    """The time since which a version's looks are as its newest job has them."""
    since: float = newest.created_at
    for job in sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True):
        if job.created_at <= since:
            if job.spec.get("looks", []) != newest.spec.get("looks", []):
                break
            since = job.created_at
    return since


@dataclass(frozen=True)
class Before:
    """What a submission finds under its name."""

    late: dict[str, int]
    """Of each prediction that it would register: how many runs with its seeds, or of an equal spec, have ended."""
    withdrawn: list[str]
    """Ids of predictions that stand and that it does not state."""
    looks: list[int]
    """As its version has registered them so far."""
    seeds: list[int]
    """Those of its version of which a run has ended."""


def before(db: Database, job: NewJob) -> Before:
    """What has been registered and has run before a job that is about to be submitted."""
    held = by_digest(job.spec)
    with db.read() as connection:
        found = select(Experiment.c.id).where(Experiment.c.name == job.experiment)
        experiment_id: int | None = connection.execute(found).scalar()
        rows = connection.execute(
            select(Registration.c.digest, Registration.c.prediction_id).where(
                Registration.c.experiment_id == experiment_id, Registration.c.withdrawn_at.is_(None)
            )
        ).all()
        standing = {row.digest: row.prediction_id for row in rows}
        version = select(Job.c.id, Job.c.spec).where(
            Job.c.experiment_id == experiment_id, Job.c.spec_version == job.spec_version
        )
        jobs = connection.execute(version.order_by(Job.c.id)).all()
        executed = select(Run.c.id, Run.c.seed, Run.c.spec_hash, Run.c.experiment_id).where(
            Run.c.state == State.FINISHED, Run.c.attempt > 0
        )
        seeds, hashes = {run.seed for run in job.runs}, {run.spec_hash for run in job.runs}
        own = executed.where(Run.c.experiment_id == experiment_id)
        # Seeds may be more than a statement has room for.
        ended = {row.id for row in connection.execute(own) if row.seed in seeds}
        wanted = sorted(hashes)
        for start in range(0, len(wanted), 5000):
            part = executed.where(Run.c.spec_hash.in_(wanted[start : start + 5000]))
            ended |= {row.id for row in connection.execute(part)}
        links = select(Run.c.seed).join(JobRun, JobRun.c.run_id == Run.c.id)
        links = links.where(JobRun.c.job_id.in_([row.id for row in jobs]), Run.c.state == State.FINISHED)
        known = sorted(set(connection.execute(links.where(Run.c.attempt > 0)).scalars()))
    late = [prediction["id"] for key, prediction in held.items() if key not in standing]
    return Before(
        late={name: len(ended) for name in late} if ended else {},
        withdrawn=[name for key, name in standing.items() if key not in held],
        looks=list(jobs[-1].spec.get("looks", ())) if jobs else [],
        seeds=known,
    )
