"""Results stores with a search in them, written through the store's own doors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from labqueue.domain.state import Ending
from labqueue.store.db import Database
from labqueue.store.runs import attempts, results
from labqueue.store.runs.jobs import Submitted, add_jobs
from tests.store.factories import job, runs_at, worker

Point = dict[str, Any]


def searched(
    db: Database, points: Iterable[Point], *, trials: int, seeds: Sequence[int] = (0,), name: str = "searched",
    **search: Any,
) -> Submitted:  # fmt: skip
    """Submits a search whose first points are given."""
    asked = {
        "sampler": "tpe", "trials": trials, "metric": "loss", "direction": "minimize",
        "pruner": "none", "prune_after": 0, "seed": 0,
        "space": {"distance": {"uniform": [-2, 2]}}, **search,
    }  # fmt: skip
    plain = job(name)
    spec = {**plain.spec, "sweep": {"search": asked}, "seeds": list(seeds), "axes": ["distance"], "params": {}}
    runs = [run for point in points for run in runs_at(point, seeds)]
    return add_jobs(db, [job(name, spec=spec, runs=runs, trials=trials)])[0]


def carried_out(db: Database, values: Sequence[tuple[int, float]], ending: str = "succeeded") -> attempts.Claim:
    """Claims the best run, measures ``loss`` at each step, and ends it."""
    claim = attempts.claim(db, device="cpu", worker_id=worker(db))
    assert claim is not None
    points = [("loss", step, value) for step, value in values]
    results.flush(db, claim.ref, points, results.Progress(10, 10, None), [])
    attempts.end(db, claim.ref, Ending(ending), None)
    return claim
