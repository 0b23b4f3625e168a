"""What a run will take from another, as far as a prediction of memory asks: the artifact under a key is taken to have
the shape of what the other run had under the same key. A model that was tuned is as large as the one it was tuned from.

Nothing here is recorded: the run itself gets the artifact, whatever it then is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from labqueue.domain.canonical import canonical
from labqueue.domain.kind import Params
from labqueue.domain.spec import assign
from labqueue.store.db import Database
from labqueue.store.runs import inputs
from labqueue.store.runs.needs import matches
from labqueue.submission.plan import Plan

DEEPEST = 16
"""Runs that stand behind one another at most; a circle of experiments ends here."""


def shaped(planned: Plan, beside: Sequence[Plan], db: Database | None) -> list[Params]:
    """The parameters of each run, with what stands for another run's artifact replaced where that is known.

    Looked for among the runs submitted ``beside`` it, else among those of the ledger, whatever became of them; where
    they had different values, or none, the placeholder stays.
    """
    known: dict[str, Params] = {}
    asked: dict[tuple[str, str], str | None] = {}  # the runs of a sweep mostly name the same
    found = []
    for run, params in zip(planned.job.runs, planned.params, strict=True):
        if '"from_run"' in run.params.text and run.params.text not in known:
            plain = params.model_dump(mode="json")
            for key, named in inputs.references(run.params.value):
                place = (key, canonical(named))
                if place not in asked:
                    asked[place] = _origin(key, named, beside, db)
                plain = plain if asked[place] is None else assign(plain, key, asked[place])
            with contextlib.suppress(ValidationError):  # another kind may mean something else by the same key
                known[run.params.text] = planned.kind.params.model_validate_json(canonical(plain))
        found.append(known.get(run.params.text, params))
    return found


def _origin(key: str, named: dict[str, Any], beside: Sequence[Plan], db: Database | None, depth: int = 0) -> str | None:
    """What all runs that a reference may mean had under ``key``; None where there is no one such value."""
    if depth == DEEPEST:
        return None
    where = named.get("where", {})
    here = [run for planned in beside if planned.job.experiment == named["experiment"] for run in planned.job.runs]
    candidates = [run.params.value for run in here if matches(where, run.varied.value, run.params.value)]
    if not here and db is not None:
        candidates = inputs.candidates(db, named["experiment"], where)
    values = {canonical(value): value for value in (_at(params, key) for params in candidates)}
    if len(values) != 1:
        return None
    (value,) = values.values()
    if isinstance(value, dict) and set(value) == {"from_run"}:
        return _origin(key, value["from_run"], beside, db, depth + 1)
    return value if isinstance(value, str) else None


def _at(params: dict[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
