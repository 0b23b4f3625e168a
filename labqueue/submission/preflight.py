"""The rehearsal before the night: each distinct shape of a sweep runs two steps, an evaluation and a save first.

A rehearsal is a run like any other, of an experiment named ``NAME_preflight``, at a higher priority. Runs of the sweep
wait for the one of their own shape: what fails in the evening holds back those of its shape, and no others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from labqueue.domain.canonical import Canonical, canonical, digest, digest_of
from labqueue.domain.spec.names import REHEARSAL
from labqueue.store.runs.jobs import NewJob, NewRun
from labqueue.submission.plan import Plan, Request

NAME_LENGTH = 64
"""The longest name of an experiment (``domain.spec.schema.Name``)."""


def wanted(planned: Plan, request: Request) -> bool:
    """Whether a submission is rehearsed: as asked, else whenever several runs will share a GPU's night."""
    if request.preflight is not None:
        return request.preflight
    return planned.job.device == "cuda" and len(planned.job.runs) > 1


def preflight(planned: Plan) -> tuple[Plan, dict[str, Any]] | None:
    """The rehearsal of a submission, and the need that binds the submission's runs to it.

    None where the kind knows no rehearsal. A run with another run's artifact among its parameters has none: the
    artifact may not be there yet.
    """
    job = planned.job
    runs: dict[str, NewRun] = {}
    params = []
    serves: dict[str, str] = {}
    for run, full in zip(job.runs, planned.params, strict=True):
        short = planned.kind.preflight(full)
        if short is None or '"from_run"' in run.params.text:
            continue
        plain = Canonical.of(short.model_dump(mode="json"))
        spec_hash = digest_of((canonical(run.kind), canonical(job.device), plain.text, canonical(0)))
        serves[run.spec_hash] = spec_hash
        if spec_hash not in runs:
            runs[spec_hash] = run._replace(seed=0, params=plain, spec_hash=spec_hash)
            params.append(short)
    if not runs:
        return None
    name = f"{job.experiment[: NAME_LENGTH - len(REHEARSAL)]}{REHEARSAL}"
    spec = {
        **job.spec,
        "name": name,
        "hypothesis": "",
        "methodology": f"Two steps, an evaluation and a save of every distinct shape of {job.experiment}.",
        "seeds": [0],
        "needs": [],
        "questions": [],
        "predictions": [],
        "looks": [],
        "plots": [],
    }
    points = sorted(f"[{run.varied.text},{run.params.text}]" for run in runs.values())
    rehearsal: NewJob = replace(
        job,
        experiment=name,
        spec=spec,
        spec_version=digest([job.spec["kind"], job.device, points]),
        priority=job.priority + 1,
        needs=[],
        runs=list(runs.values()),
        trials=None,
    )
    need: dict[str, Any] = {"experiment": name, "where": {}, "accept": [], "job": None, "serves": serves}
    return Plan(planned.source, rehearsal, planned.kind, params), need
