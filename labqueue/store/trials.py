"""The trials of a search, read from the runs of its job, and the next one recorded among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from labqueue.domain.state import ReasonCode, State
from labqueue.domain.trials import Trial, TrialRun, TrialState, best
from labqueue.domain.views import BestTrial, SearchResult
from labqueue.store.db import Database
from labqueue.store.runs import needs, search_state
from labqueue.store.runs.eligibility import pauses
from labqueue.store.runs.jobs import NewRun, add_runs, succeeded
from labqueue.store.runs.search_state import Switch
from labqueue.store.tables import Job, JobRun, Run, Series
from labqueue.system import clock


@dataclass(frozen=True)
class Study:
    """Everything of which the next trial is a function."""

    switch: Switch
    spec: dict[str, Any]
    """As frozen at submission."""
    device: str
    trials: list[Trial]
    spec_hashes: frozenset[str]
    """Of every run of the job."""


def due(db: Database, device: str) -> list[Switch]:
    """Open searches of a device class whose next trial can be proposed now: none of their runs is queued.

    What is paused is not due.
    """
    with db.read() as connection:
        open_ones = [switch for switch in search_state.all_open(connection) if switch.device == device]
        if not open_ones:
            return []
        paused = pauses(connection)
        if "" in paused:
            return []
        return [s for s in open_ones if s.experiment not in paused and not search_state.waits(connection, s.job)]


def study(db: Database, job: int) -> Study | None:
    """The search of a job with all its trials; None where it has none."""
    with db.read() as connection:
        switch = search_state.find(connection, job)
        if switch is None:
            return None
        row = connection.execute(select(Job.c.spec, Job.c.device).where(Job.c.id == job)).one()
        runs = connection.execute(_runs_of(job)).all()
        metric = row.spec["sweep"]["search"]["metric"]
        values = _values(connection, job, metric)
        trials = []
        for at in range(0, len(runs), switch.seeds):
            part = runs[at : at + switch.seeds]
            seeds = tuple(TrialRun(r.id, r.seed, r.state, r.outcome, *values.get(r.id, (None, None))) for r in part)
            trials.append(Trial(at // switch.seeds, part[0].varied, seeds))
        return Study(switch, row.spec, row.device, trials, frozenset(r.spec_hash for r in runs))


def result(db: Database, job: int) -> SearchResult | None:
    """What the search of a job has come to; None where it has none."""
    found = study(db, job)
    if found is None:
        return None
    search = found.spec["sweep"]["search"]
    top = best(found.trials, search["direction"])
    counts = Counter(trial.state.value for trial in found.trials)
    return SearchResult(
        sampler=search["sampler"],
        pruner=search["pruner"],
        metric=search["metric"],
        direction=search["direction"],
        planned=found.switch.trials,
        trials={each.value: counts[each.value] for each in TrialState},
        ended=found.switch.why if found.switch.ended else None,
        best=BestTrial(top.number, top.point, top.value, [run.id for run in top.runs])
        if top is not None and top.value is not None
        else None,
    )


def record(db: Database, job: int, number: int, runs: list[NewRun]) -> list[int] | None:
    """Records trial ``number`` of a search; returns its runs. One that has succeeded before is reused.

    None, and nothing changes, when somebody else has recorded that trial, or ended the search, meanwhile.
    """
    with db.write() as connection:
        switch = search_state.find(connection, job)
        if switch is None or switch.ended is not None or switch.recorded != number:
            return None
        of = connection.execute(select(Job).where(Job.c.id == job)).one()
        done = {} if switch.force else succeeded(connection, of.experiment_id, of)
        # What a person has prioritised stays so: the newest run says it, not the submission.
        newest = connection.execute(
            select(Run.c.priority).where(Run.c.job_id == job).order_by(Run.c.id.desc()).limit(1)
        ).scalar()
        shared = (job, of.experiment_id, of.device, of.priority if newest is None else newest, clock.now())
        ids, _ = add_runs(connection, shared, runs, done, position=number * switch.seeds)
        search_state.close_when_complete(connection, job)
        needs.added(connection, job)
        return ids


def end(db: Database, job: int, code: str, why: str) -> None:
    """Ends an open search. What of it has not begun is pruned with it; what runs, runs on. Nothing if it has ended."""
    with db.write() as connection:
        switch = search_state.find(connection, job)
        if switch is None:
            return
        unbegun = (Run.c.job_id == job, Run.c.state == State.QUEUED)
        ids = list(connection.execute(select(Run.c.id).where(*unbegun)).scalars())
        if switch.ended is None or ids:
            search_state.end(connection, switch, code, why)
        words = f"the search ended before its turn: {why}"
        search_state.finish_unbegun(connection, ids, words, ReasonCode.SEARCH_ENDED)


def reopen(db: Database, job: int) -> None:
    """Undoes ``end``: trials are proposed again, and what had not begun is queued again."""
    with db.write() as connection:
        switch = search_state.find(connection, job)
        if switch is None:
            return
        waiting = {"state": State.QUEUED, "outcome": None, "finished_at": None, "reason": None, "reason_code": None}
        ended = (Run.c.job_id == job, Run.c.outcome == "pruned", Run.c.reason_code == ReasonCode.SEARCH_ENDED)
        again = Run.update().where(*ended).values(**waiting, queued_at=clock.now()).returning(Run.c.id)
        needs.follow(connection, connection.execute(again).scalars().all())
        search_state.open_again(connection, switch)


def _runs_of(job: int) -> Any:
    return (
        select(Run.c.id, Run.c.seed, Run.c.state, Run.c.outcome, Run.c.varied, Run.c.spec_hash)
        .join(JobRun, JobRun.c.run_id == Run.c.id)
        .where(JobRun.c.job_id == job)
        .order_by(JobRun.c.position)
    )


def _values(connection: Connection, job: int, metric: str) -> dict[int, tuple[float | None, int | None]]:
    """Run → (last value, its step) of one metric."""
    query = (
        select(Series.c.run_id, Series.c.last, Series.c.last_step)
        .join(JobRun, JobRun.c.run_id == Series.c.run_id)
        .where(JobRun.c.job_id == job, Series.c.name == metric)
    )
    return {run_id: (last, step) for run_id, last, step in connection.execute(query)}


@dataclass(frozen=True)
class SearchOf:
    """The search that a run is a trial of."""

    job: int
    search: dict[str, Any]
    """``sweep.search`` of the spec as frozen at submission."""


def search_of(db: Database, run_id: int) -> SearchOf | None:
    """The search that has proposed a run; None for every other run, a rehearsal of one included."""
    with db.read() as connection:
        job = connection.execute(select(Run.c.job_id).where(Run.c.id == run_id)).scalar_one()
        if search_state.find(connection, job) is None:
            return None
        spec = connection.execute(select(Job.c.spec).where(Job.c.id == job)).scalar_one()
        return SearchOf(job, spec["sweep"]["search"])


def values_by_step(db: Database, job: int, seed: int, metric: str) -> dict[int, list[float]]:
    """Step → values of one metric in the succeeded runs of a job with this seed."""
    with db.read() as connection:
        query = (
            select(Series.c.id)
            .join(JobRun, JobRun.c.run_id == Series.c.run_id)
            .join(Run, Run.c.id == Series.c.run_id)
            .where(JobRun.c.job_id == job, Run.c.seed == seed, Run.c.outcome == "succeeded")
            .where(Series.c.name == metric)
        )
        found: dict[int, list[float]] = {}
        for series_id in connection.execute(query).scalars().all():
            points = connection.exec_driver_sql("SELECT step, value FROM metrics WHERE series_id = ?", (series_id,))
            for step, value in points:
                if value is not None:
                    found.setdefault(step, []).append(value)
        return found
