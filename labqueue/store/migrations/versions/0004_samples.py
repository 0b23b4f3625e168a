"""Samples of what a run writes as it goes, phases of its progress, and the request to keep what it has now. Frozen."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    "ALTER TABLE runs ADD COLUMN progress_phase VARCHAR",
    "ALTER TABLE runs ADD COLUMN keep_asked_at DOUBLE",
    "ALTER TABLE attempts ADD COLUMN last_phase VARCHAR",
    """
    CREATE TABLE samples (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        step INTEGER NOT NULL,
        number INTEGER NOT NULL,
        prompt VARCHAR NOT NULL,
        text VARCHAR NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (run_id, step, number),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
)


def upgrade() -> None:
    """Makes version 4 of version 3, which recorded none of these."""
    for statement in STATEMENTS:
        op.execute(statement)
