"""Parameters that have another name now, in frozen specs, runs and what refers to them; their hashes follow. Frozen."""

from __future__ import annotations

import json
from typing import Any

from alembic import op
from sqlalchemy import Connection

from labqueue.store.migrations.version_2 import rename

revision = "0003"
down_revision = "0002"

COLUMNS = {
    "jobs": ("spec", "needs", "spec_version"),
    "runs": ("varied", "params", "adjusted", "spec_hash"),
    "attempts": ("adjusted",),
    "inputs": ("key",),
}
"""What is written anew where it has changed, of rows that have an id."""

READ = {
    "jobs": "SELECT id, experiment_id, device, spec, needs, spec_version FROM jobs",
    "runs": "SELECT id, experiment_id, kind, device, seed, varied, params, adjusted, spec_hash FROM runs",
    "job_runs": "SELECT job_id, run_id FROM job_runs",
    "attempts": "SELECT id, run_id, adjusted FROM attempts WHERE adjusted IS NOT NULL",
    "inputs": 'SELECT id, run_id, "key" FROM inputs',
}

JSON = {"spec", "needs", "varied", "params", "adjusted"}


def upgrade() -> None:
    """Makes version 3 of version 2."""
    connection = op.get_bind()
    experiments = {row.id: row.name for row in connection.exec_driver_sql("SELECT id, name FROM experiments")}
    before = {name: _rows(connection, query) for name, query in READ.items()}
    tables = {name: [_read(row) for row in rows] for name, rows in before.items()}
    hashes = rename(tables, experiments)
    for table, columns in COLUMNS.items():
        for old, new in zip(before[table], tables[table], strict=True):
            for column in columns:
                if _read({column: old[column]})[column] != new[column]:
                    connection.exec_driver_sql(
                        f'UPDATE {table} SET "{column}" = ? WHERE id = ?',  # noqa: S608  # our own words
                        (_written(column, new[column]), new["id"]),
                    )
    for old_hash, new_hash in hashes.items():
        connection.exec_driver_sql("UPDATE needs SET spec_hash = ? WHERE spec_hash = ?", (new_hash, old_hash))


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def _read(row: dict[str, Any]) -> dict[str, Any]:
    return {key: json.loads(value) if key in JSON and value is not None else value for key, value in row.items()}


def _written(column: str, value: Any) -> Any:
    if column not in JSON:
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
