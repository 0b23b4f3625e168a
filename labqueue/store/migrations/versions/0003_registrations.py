"""Registrations: since when each prediction is claimed, from the specs that earlier versions froze. Frozen."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from alembic import op

from labqueue.store.migrations.version_2 import registrations

revision = "0003"
down_revision = "0002"

TABLES = (
    """
    CREATE TABLE registrations (
        id INTEGER NOT NULL,
        experiment_id INTEGER NOT NULL,
        job_id INTEGER NOT NULL,
        prediction_id VARCHAR NOT NULL,
        digest VARCHAR NOT NULL,
        prediction JSON NOT NULL,
        created_at DOUBLE NOT NULL,
        withdrawn_at DOUBLE,
        PRIMARY KEY (id),
        UNIQUE (job_id, digest),
        FOREIGN KEY(experiment_id) REFERENCES experiments (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id)
    )
    """,
    """
    CREATE INDEX ix_registrations_experiment_id ON registrations (experiment_id)
    """,
)

INSERT = (
    "INSERT INTO registrations (experiment_id, job_id, prediction_id, digest, prediction, created_at, withdrawn_at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def upgrade() -> None:
    """Makes version 3 of version 2. Jobs of another workspace are a history of their own."""
    for statement in TABLES:
        op.execute(statement)
    connection = op.get_bind()
    home: dict[int, str] = {}
    for key, text in connection.exec_driver_sql("SELECT key, value FROM controls WHERE key LIKE 'import:%'").all():
        home |= dict.fromkeys(json.loads(text)["jobs"].values(), key)
    histories: dict[tuple[int, str], list[tuple[int, float, Mapping[str, Any]]]] = defaultdict(list)
    jobs = connection.exec_driver_sql("SELECT id, experiment_id, created_at, spec FROM jobs ORDER BY id").all()
    for job, experiment, at, spec in jobs:
        histories[experiment, home.get(job, "")].append((job, at, json.loads(spec)))
    for (experiment, _), history in histories.items():
        for row in registrations(history):
            text = json.dumps(row["prediction"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            values = (experiment, row["job_id"], row["prediction_id"], row["digest"], text)
            connection.exec_driver_sql(INSERT, (*values, row["created_at"], row["withdrawn_at"]))
