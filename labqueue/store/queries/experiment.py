"""Chooses the runs that speak for an experiment: the newest of each sweep point and seed, within one spec version."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

from sqlalchemy import select

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.measured import averageable
from labqueue.domain.views import ExperimentView, RunView
from labqueue.store import trials
from labqueue.store.db import Database
from labqueue.store.queries import read, registrations
from labqueue.store.queries.views import by_ids, views_of
from labqueue.store.queries.waiting import Waits
from labqueue.store.tables import Experiment, Job, JobRun
from labqueue.store.workspace import identity
from labqueue.system.clock import iso


def names(db: Database) -> set[str]:
    """All experiments, archived ones too."""
    with db.read() as connection:
        return set(connection.execute(select(Experiment.c.name)).scalars())


def asked(db: Database) -> dict[str, list[str]]:
    """The question ids that each experiment's newest spec names."""
    with db.read() as connection:
        query = select(Experiment.c.name, Job.c.spec).join(Job, Job.c.experiment_id == Experiment.c.id)
        return {name: list(spec["questions"]) for name, spec in connection.execute(query.order_by(Job.c.id))}


def experiment(db: Database, name: str) -> ExperimentView:
    """What was registered under a name (the newest spec) and the runs that a report may use.

    Of several runs of one sweep point and seed the newest succeeded one counts, else the newest. What is not
    counted is said in ``left_out``.

    Raises:
        LabError: there is no such experiment.
    """
    with db.read() as connection:
        found = connection.execute(select(Experiment).where(Experiment.c.name == name)).first()
        if found is None:
            known = connection.execute(select(Experiment.c.name)).scalars()
            raise LabError(f"there is no experiment {name!r}: {nearest(name, known)}")
        # What came from another workspace joins what is registered here, and never takes its place.
        foreign_jobs, foreign_runs = identity.all_of(connection)
        jobs = connection.execute(select(Job).where(Job.c.experiment_id == found.id).order_by(Job.c.id)).all()
        newest = max(jobs, key=lambda job: (job.id not in foreign_jobs, job.id))
        same = {job.id for job in jobs if job.spec_version == newest.spec_version}
        links = connection.execute(
            select(JobRun.c.job_id, JobRun.c.run_id, JobRun.c.position)
            .join(Job, Job.c.id == JobRun.c.job_id)
            .where(Job.c.experiment_id == found.id)
            .order_by(JobRun.c.job_id, JobRun.c.position)
        ).all()
        mine = list(dict.fromkeys(link.run_id for link in links if link.job_id in same))
        rows = {row.id: row for row in by_ids(connection, mine)}
        chosen = _newest(sorted(rows.values(), key=lambda row: (row.id not in foreign_runs, row.id)))
        views = {view.id: view for view in views_of(connection, list(chosen.values()), Waits(connection), details=True)}
        left_out = []
        counted = {row.id for row in chosen.values()}
        if repeated := [row.outcome or row.state for row in rows.values() if row.id not in counted]:
            how = ", ".join(f"{number} {word}" for word, number in sorted(Counter(repeated).items()))
            left_out.append(f"further runs of these sweep points and seeds: {how} (the newest that succeeded counts)")
        others = defaultdict(set)
        for link in links:
            job_version = next(job.spec_version for job in jobs if job.id == link.job_id)
            if job_version != newest.spec_version and link.run_id not in rows:
                others[job_version].add(link.run_id)
        if others:
            runs = sum(len(ids) for ids in others.values())
            older = "an earlier version" if len(others) == 1 else f"{len(others)} earlier versions"
            left_out.append(f"{runs} {'run' if runs == 1 else 'runs'} of {older} of this spec, kept apart")
        spec: dict[str, Any] = newest.spec
        left_out += _missing(spec, chosen)
        left_out += _too_large(views.values())
        version = [job for job in jobs if job.id in same]
        executed = [row for row in rows.values() if row.finished_at is not None and row.attempt > 0]
        seeds = {job.id: list(job.spec.get("seeds", ())) for job in version}
        for link in links:
            if link.job_id in same:
                seeds[link.job_id].append(rows[link.run_id].seed)
        looks = list(spec.get("looks", ()))  # none in specs frozen before there were any
        looks_at = registrations.looks_at(version, newest) if looks else None
        order: dict[str, int] = {}
        for at, run_id in enumerate(mine):
            order.setdefault(canonical(rows[run_id].varied), at)
        return ExperimentView(
            experiment=name,
            track=spec["track"],
            kind=spec["kind"],
            hypothesis=spec["hypothesis"],
            methodology=spec["methodology"],
            questions=list(spec["questions"]),
            predictions=list(spec["predictions"]),
            axes=list(spec["axes"]),
            job=newest.id,
            profile=newest.profile,
            device=newest.device,
            spec_version=newest.spec_version,
            runs=sorted(views.values(), key=lambda view: (view.seed, order[canonical(view.varied)])),
            left_out=left_out,
            search=trials.result(db, newest.id),
            plots=list(spec.get("plots", ())),  # specs frozen before there were plots have none
            registrations=registrations.of(connection, found.id, newest, list(views.values())),
            looks=looks,
            looks_at=iso(looks_at),
            looks_seen_runs=sorted(row.id for row in executed if looks_at and row.finished_at <= looks_at),
            found_looks=registrations.looks_of(version, seeds, [row.finished_at for row in executed]),
        )


def _too_large(runs: Iterable[RunView]) -> list[str]:
    """A line for the last values that no mean over seeds can hold; each is shown where it stands alone."""
    found = [
        f"{name} {metric.last:.4g} of run {run.id}"
        for run in runs
        for name, metric in run.metrics.items()
        if metric.last is not None and not averageable(metric.last)
    ]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return [f"too large to be averaged over seeds: {', '.join(found[:3])}{more}"] if found else []


def _missing(spec: dict[str, Any], chosen: dict[tuple[str, int], Any]) -> list[str]:
    """What the newest spec has and nobody recorded: an archive of a sweep that was broken off holds what had ended."""
    points, seeds = list(dict.fromkeys(point for point, _ in chosen)), spec.get("seeds", ())
    absent = [(point, seed) for point in points for seed in seeds if (point, seed) not in chosen]
    if not absent or (spec.get("sweep") or {}).get("search"):
        return []
    first = "; ".join(f"seed {seed} of {_named(point)}" for point, seed in absent[:4])
    more = f" and {len(absent) - 4} more" if len(absent) > 4 else ""
    return [f"{len(absent)} of {len(points) * len(seeds)} runs are not here: {first}{more}"]


def _named(point: str) -> str:
    return ", ".join(f"{key}={value}" for key, value in json.loads(point).items()) or "the only sweep point"


def _newest(rows: list[Any]) -> dict[tuple[str, int], Any]:
    """The newest run of each sweep point and seed that succeeded, else the newest. One that was cancelled before it
    began says nothing, and hides none that ended by itself."""
    chosen: dict[tuple[str, int], Any] = {}
    for row in rows:
        key = (canonical(row.varied), row.seed)
        before = chosen.get(key)
        never_began = row.outcome == "cancelled" and row.attempt == 0
        if before is None or row.outcome == "succeeded" or (before.outcome != "succeeded" and not never_began):
            chosen[key] = row
    return chosen


class Series:
    """Series and tables of any run, read when they are asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._tables: dict[tuple[int, str], tuple[list[str], list[list[Any]]] | None] = {}

    def series(self, run_id: int, metric: str) -> list[tuple[int, float | None]]:
        """All points (step, value) of one metric of a run; empty when it was never measured."""
        return read.series(self._db, run_id, metric)

    def table(self, run: RunView, artifact: str) -> tuple[list[str], list[list[Any]]] | None:
        """Columns and rows of a table artifact of a run; None where it is not here, or is no table."""
        key = (run.id, artifact)
        if key not in self._tables:
            self._tables[key] = self._read(run, artifact)
        return self._tables[key]

    def _read(self, run: RunView, artifact: str) -> tuple[list[str], list[list[Any]]] | None:
        for each in run.artifacts:
            if (each.name, each.type) == (artifact, "table"):
                try:
                    found = json.loads((self._db.path.parent / each.path).read_bytes())
                    return list(found["columns"]), [list(row) for row in found["rows"]]
                except (OSError, ValueError, KeyError, TypeError):  # removed, damaged, or made elsewhere
                    return None
        return None
