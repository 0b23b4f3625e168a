"""From rows to views: the one place where a run's columns become the answer that people see."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.state import State
from labqueue.domain.views import (
    ArtifactView,
    AttemptView,
    EventView,
    MetricView,
    ProgressView,
    RunView,
    SampleView,
)
from labqueue.store.queries.waiting import Waits
from labqueue.store.runs.attempts import LEASE_S
from labqueue.store.tables import Artifact, Attempt, Environment, Event, Experiment, Job, Run, Sample, Series, Worker
from labqueue.system.clock import Deadline, iso

_SAMPLES = (Sample.c.step, Sample.c.number)


def by_ids(connection: Connection, ids: list[int]) -> list[Any]:
    """Rows of runs by id, sorted."""
    rows: list[Any] = []
    for at in range(0, len(ids), 5000):
        rows.extend(connection.execute(select(Run).where(Run.c.id.in_(ids[at : at + 5000])).order_by(Run.c.id)).all())
    return rows


def views_of(connection: Connection, rows: list[Any], waits: Waits, *, details: bool) -> list[RunView]:
    """Views of run rows, in their order; ``details`` adds attempts, metrics, artifacts and notes."""
    jobs = {
        job.id: job
        for job in connection.execute(
            select(Job.c.id, Job.c.profile, Job.c.commit, Job.c.dirty, Experiment.c.name).where(
                Experiment.c.id == Job.c.experiment_id
            )
        )
    }
    attempts: dict[int, list[AttemptView]] = defaultdict(list)
    metrics: dict[int, dict[str, MetricView]] = defaultdict(dict)
    artifacts: dict[int, list[ArtifactView]] = defaultdict(list)
    notes: dict[int, list[str]] = defaultdict(list)
    history: dict[int, list[EventView]] = defaultdict(list)
    samples: dict[int, list[SampleView]] = defaultdict(list)
    of_attempts = (
        select(Attempt, Worker.c.device.label("worker_device"), Environment.c.data.label("environment"))
        .join(Worker, Worker.c.id == Attempt.c.worker_id)
        .outerjoin(Environment, Environment.c.id == Attempt.c.environment_id)
    )
    ids = [row.id for row in rows if row.attempt > 0]
    for at in range(0, len(ids) if details else 0, 5000):
        part = ids[at : at + 5000]
        for a in connection.execute(of_attempts.where(Attempt.c.run_id.in_(part)).order_by(Attempt.c.number)):
            attempts[a.run_id].append(
                AttemptView(
                    a.number, a.outcome, a.reason, iso(a.started_at) or "", iso(a.finished_at), a.log,
                    a.resumed_from_step, a.last_step, a.adjusted, a.environment_id, a.commit, a.dirty,
                    a.patch, a.telemetry, a.worker_device.partition(" ")[0], (a.environment or {}).get("gpu"),
                    a.last_phase,
                )
            )  # fmt: skip
        for s in connection.execute(select(Series).where(Series.c.run_id.in_(part)).order_by(Series.c.name)):
            metrics[s.run_id][s.name] = MetricView(s.last, s.last_step, s.min, s.min_step, s.max, s.first, s.points)
        for f in connection.execute(select(Artifact).where(Artifact.c.run_id.in_(part)).order_by(Artifact.c.name)):
            artifacts[f.run_id].append(ArtifactView(f.name, f.type, f.path, f.sha256, f.bytes))
        for row in connection.execute(select(Sample).where(Sample.c.run_id.in_(part)).order_by(*_SAMPLES)):
            samples[row.run_id].append(SampleView(row.step, row.number, row.prompt, row.text))
    for at in range(0, len(rows) if details else 0, 5000):
        part = [row.id for row in rows[at : at + 5000]]
        for e in connection.execute(select(Event).where(Event.c.run_id.in_(part)).order_by(Event.c.id)):
            if e.kind == "note":
                if e.text not in notes[e.run_id]:  # a resumed attempt says once more what the first one said
                    notes[e.run_id].append(e.text)
            else:
                history[e.run_id].append(EventView(iso(e.at) or "", e.kind, e.text))
    running = [row.id for row in rows if row.state == State.RUNNING]
    renewed = select(Attempt.c.run_id, Attempt.c.lease).where(
        Attempt.c.run_id.in_(running), Attempt.c.finished_at.is_(None)
    )
    since = {run: Deadline.parse(lease).age_s(LEASE_S) for run, lease in connection.execute(renewed)} if running else {}
    views = []
    for row in rows:
        job = jobs[row.job_id]
        views.append(
            RunView(
                id=row.id,
                job=row.job_id,
                experiment=job.name,
                kind=row.kind,
                state=row.state,
                outcome=row.outcome,
                reason=row.reason,
                waiting=waits.view(row) if row.state == State.QUEUED else None,
                profile=job.profile,
                device=row.device,
                priority=row.priority,
                params=row.params,
                varied=row.varied,
                seed=row.seed,
                progress=_progress(row),
                eta_s=_eta_s(row),
                queued_at=iso(row.queued_at) or "",
                started_at=iso(row.started_at),
                finished_at=iso(row.finished_at),
                wall_s=_wall_s(row, since.get(row.id)),
                peak_memory_gib=row.peak_memory_gib,
                estimated_memory_gib=row.estimated_memory_gib,
                context_gib=row.context_gib,
                spec_hash=row.spec_hash,
                commit=job.commit,
                dirty=job.dirty,
                attempts=attempts[row.id],
                metrics=metrics[row.id],
                artifacts=artifacts[row.id],
                notes=notes[row.id],
                history=history[row.id],
                samples=samples[row.id],
            )
        )
    return views


def _progress(row: Any) -> ProgressView | None:
    if not row.progress_total:
        return None
    return ProgressView(row.progress_done, row.progress_total, row.progress_phase)


def _wall_s(row: Any, since_renewal_s: float | None) -> float | None:
    known = [float(part) for part in (row.wall_s, since_renewal_s) if part is not None]
    return sum(known) if known else None


def _eta_s(row: Any) -> float | None:
    if row.state != State.RUNNING or not row.rate or row.progress_total is None:
        return None
    return float((row.progress_total - row.progress_done) / row.rate)


def _in_a_phase(view: RunView) -> bool:
    return view.progress is not None and view.progress.phase is not None


def queue_eta_s(connection: Connection, views: list[RunView], to_come: Mapping[str, int]) -> float | None:
    """Seconds until the queue is empty: what runs, plus the mean duration of like runs for each that waits.

    ``to_come`` are the runs that searches have still to propose, by experiment.
    """
    walls: dict[str, list[float]] = defaultdict(list)
    for name, wall_s in connection.execute(
        select(Experiment.c.name, Run.c.wall_s).where(
            Run.c.experiment_id == Experiment.c.id, Run.c.outcome == "succeeded"
        )
    ):
        if wall_s is not None:
            walls[name].append(wall_s)
    left = 0.0
    for view in views:
        known = walls.get(view.experiment)
        if view.state == State.RUNNING and view.eta_s is not None and not (known and _in_a_phase(view)):
            left += view.eta_s
            walls[view.experiment].append((view.wall_s or 0.0) + view.eta_s)
        elif known:
            # A phase's end is not the run's; nor can the run end before it.
            left += max(0.0, view.eta_s or 0.0, statistics.fmean(known) - (view.wall_s or 0.0))
        else:
            return None
    for experiment, runs in to_come.items():
        if experiment not in walls:
            return None
        left += runs * statistics.fmean(walls[experiment])
    return left
