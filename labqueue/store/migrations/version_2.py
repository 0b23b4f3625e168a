"""Makes rows of ``registrations`` of what version 2 kept in frozen specs alone: for the migration to version 3, and for
exports that earlier versions made.

Frozen: the rule is that of the day of version 3.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

_DEFAULTS: Mapping[str, Any] = {"at": "last", "where": {}, "direction": "min"}


def registrations(jobs: Iterable[tuple[int, float, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of ``registrations``, without ids and experiment, from (id, time, spec) of one experiment's jobs, oldest
    first; jobs of one workspace only."""
    rows: list[dict[str, Any]] = []
    standing: dict[str, dict[str, Any]] = {}
    for job, at, spec in jobs:
        stated = [each for each in _list(spec.get("predictions")) if isinstance(each, dict) and "id" in each]
        held = {_digest(prediction): prediction for prediction in stated}
        for gone in standing.keys() - held.keys():
            standing.pop(gone)["withdrawn_at"] = at
        for digest, prediction in held.items():
            if digest not in standing:
                row = {"job_id": job, "prediction_id": str(prediction["id"]), "digest": digest}
                standing[digest] = {**row, "prediction": prediction, "created_at": at, "withdrawn_at": None}
                rows.append(standing[digest])
    return rows


def upgrade_rows(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Gives rows of an export of version 2 the registrations that version 3 has beside them."""
    tables["registrations"] = []
    jobs = [job for job in tables["jobs"] if isinstance(job.get("spec"), dict)]
    for experiment in dict.fromkeys(job["experiment_id"] for job in jobs):
        mine = sorted((job for job in jobs if job["experiment_id"] == experiment), key=lambda job: job["id"])
        for row in registrations((job["id"], job["created_at"], job["spec"]) for job in mine):
            number = len(tables["registrations"]) + 1
            tables["registrations"].append({"id": number, "experiment_id": experiment, **row})


def _digest(prediction: Mapping[str, Any]) -> str:
    clause: dict[str, Any] = {"id": prediction["id"]}
    for form, fields in prediction.items():
        if isinstance(fields, dict):
            clause[form] = {
                key: value
                for key, value in fields.items()
                if value is not None and not (key in _DEFAULTS and value == _DEFAULTS[key])
            }
    text = json.dumps(clause, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
