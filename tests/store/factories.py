"""Results stores with something in them, written through the store's own doors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from labqueue.domain.canonical import Canonical, digest
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.runs import attempts, results
from labqueue.store.runs.attempts import Claim
from labqueue.store.runs.jobs import NewJob, NewRun, Submitted, add_jobs

ANY_OUTCOME = None


def results_store(folder: Path) -> Database:
    return create_or_migrate(folder / "results.db")


def runs_at(point: dict[str, Any], seeds: Iterable[int] = (0,)) -> list[NewRun]:
    """The runs of one sweep point."""
    return [
        NewRun(
            kind="drill",
            seed=seed,
            varied=Canonical.of(point),
            params=Canonical.of({"steps": 10, **point}),
            limits=Canonical.of({"memory_gib": "auto", "wall_minutes": None, "attempts": 3}),
            spec_hash=digest([point, seed]),
        )
        for seed in seeds
    ]


def job(
    experiment: str = "drill",
    points: Iterable[dict[str, Any]] = ({},),
    seeds: Iterable[int] = (0,),
    **fields: Any,
) -> NewJob:
    """A submission of a drill; ``points`` are parameters and sweep points at once."""
    points = list(points)
    runs = [run for seed in seeds for point in points for run in runs_at(point, (seed,))]
    spec = {
        "name": experiment, "track": "lab", "kind": "drill", "hypothesis": "", "methodology": "",
        "questions": [], "predictions": [], "axes": [],
    }  # fmt: skip
    known: dict[str, Any] = {
        "experiment": experiment,
        "spec": spec,
        "spec_version": digest(points),
        "profile": "cpu",
        "device": "cpu",
        "priority": 0,
        "needs": [],
        "commit": None,
        "dirty": None,
        "sources_hash": "s",
        "packages_hash": "p",
        "runs": runs,
    }
    return NewJob(**{**known, **fields})


def submitted(db: Database, *args: Any, **fields: Any) -> Submitted:
    return add_jobs(db, [job(*args, **fields)])[0]


def needing(db: Database, experiment: str, accept: list[str] | None = None, where: dict[str, Any] | None = None) -> Any:
    """What ``NewJob.needs`` holds for the newest job of an experiment; ``accept=ANY_OUTCOME`` is ``--after``."""
    from labqueue.store.queries import read

    newest = read.newest_job(db, experiment)
    assert newest is not None
    return [{"experiment": experiment, "job": newest.id, "where": where or {}, "accept": accept}]


def worker(db: Database, device: str = "cpu") -> int:
    return results.register_worker(db, device=device, host="here", pid=1, pid_start=1)


def claimed(db: Database, device: str = "cpu") -> Claim:
    """Claims the best run; fails when there is none."""
    claim = attempts.claim(db, device=device, worker_id=worker(db, device))
    assert claim is not None
    return claim


def executed(db: Database, ending: str = "succeeded", points: Iterable[Any] = (), reason: str | None = None) -> Claim:
    """Claims the best run, measures ``points`` and ends it."""
    from labqueue.domain.state import Ending

    claim = claimed(db)
    fields = {"sources_hash": "s", "packages_hash": "p"}
    attempts.attempt_fields(db, claim.ref, **fields)
    results.flush(db, claim.ref, list(points), results.Progress(10, 10, None), [])
    attempts.end(db, claim.ref, Ending(ending), reason)
    return claim
