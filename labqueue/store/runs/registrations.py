"""Registrations of predictions: written with the job that states them, and ended by the job that does not.

They belong to the experiment's name: a changed parameter makes another version of the spec, and no new registration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select, update

from labqueue.domain.spec.registration import digest
from labqueue.store.tables import Registration


def record(connection: Connection, experiment_id: int, job_id: int, spec: Mapping[str, Any], now: float) -> None:
    """Registers the predictions of a new job, and withdraws those of earlier jobs that it does not state."""
    held = by_digest(spec)
    query = select(Registration.c.digest).where(Registration.c.experiment_id == experiment_id)
    standing = set(connection.execute(query.where(Registration.c.withdrawn_at.is_(None))).scalars())
    if gone := standing - held.keys():
        mine = (Registration.c.experiment_id == experiment_id, Registration.c.withdrawn_at.is_(None))
        withdrawn = update(Registration).where(*mine, Registration.c.digest.in_(gone))
        connection.execute(withdrawn.values(withdrawn_at=now))
    for key, prediction in held.items():
        if key not in standing:
            row = {"prediction_id": prediction["id"], "digest": key, "prediction": prediction, "created_at": now}
            connection.execute(
                insert(Registration).values(experiment_id=experiment_id, job_id=job_id, withdrawn_at=None, **row)
            )


def by_digest(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The predictions of a frozen spec by their digests, in their order."""
    return {digest(prediction): dict(prediction) for prediction in spec["predictions"]}


def admit(
    connection: Connection,
    rows: Iterable[Mapping[str, Any]],
    jobs: Mapping[int, int],
    specs: Mapping[int, Mapping[str, Any]],
    experiments: Mapping[int, int],
) -> None:
    """Stores registrations of another workspace with their own times.

    ``jobs`` and ``experiments`` are ids there → ids here, ``specs`` the frozen specs of those jobs by their ids there.
    One whose job has not come is put down to the first job that states it; where none does, it is left out.
    """
    for row in rows:
        if row["experiment_id"] not in experiments:
            continue
        stating = [job for job in sorted(jobs) if job in specs and row["digest"] in by_digest(specs[job])]
        job = row["job_id"] if row["job_id"] in jobs else next((job for job in stating if job > row["job_id"]), None)
        if job is None:
            continue
        same = (Registration.c.job_id == jobs[job], Registration.c.digest == row["digest"])
        if connection.execute(select(Registration.c.id).where(*same)).first() is not None:
            # What was withdrawn here, by a job of this workspace, does not stand again.
            open_here = update(Registration).where(*same, Registration.c.withdrawn_at.is_(None))
            connection.execute(open_here.values(withdrawn_at=row["withdrawn_at"]))
            continue
        moved = {key: row[key] for key in ("prediction_id", "digest", "prediction", "created_at", "withdrawn_at")}
        ours = {"experiment_id": experiments[row["experiment_id"]], "job_id": jobs[job]}
        connection.execute(insert(Registration).values(**ours, **moved))
