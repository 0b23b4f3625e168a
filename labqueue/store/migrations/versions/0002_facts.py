"""Facts instead of sentences: inputs, needs and reasons for waiting in tables; a claim reads an index. Frozen.

The number of the newest attempt of a run is called so (``attempt``); it was ``token``, another word in this field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from alembic import op
from sqlalchemy import Connection

from labqueue.store.migrations.version_1 import inputs, reason_code, untried

revision = "0002"
down_revision = "0001"

RUNS = """
    CREATE TABLE runs_new (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        job_id INTEGER NOT NULL,
        experiment_id INTEGER NOT NULL,
        kind VARCHAR NOT NULL,
        device VARCHAR NOT NULL,
        seed INTEGER NOT NULL,
        varied JSON NOT NULL,
        params JSON NOT NULL,
        limits JSON NOT NULL,
        spec_hash VARCHAR NOT NULL,
        priority INTEGER NOT NULL,
        state VARCHAR NOT NULL,
        outcome VARCHAR,
        reason VARCHAR,
        queued_at DOUBLE NOT NULL,
        started_at DOUBLE,
        finished_at DOUBLE,
        attempt INTEGER NOT NULL,
        attempts_used INTEGER NOT NULL,
        stalls INTEGER NOT NULL,
        request VARCHAR,
        paused_until VARCHAR,
        not_before VARCHAR,
        released BOOLEAN NOT NULL,
        adjusted JSON,
        progress_done INTEGER,
        progress_total INTEGER,
        rate DOUBLE,
        wall_s DOUBLE,
        peak_memory_gib DOUBLE,
        context_gib DOUBLE,
        estimated_memory_gib DOUBLE,
        sources_hash VARCHAR,
        packages_hash VARCHAR,
        reason_code VARCHAR,
        needs_unmet BOOLEAN NOT NULL,
        CONSTRAINT a_known_state CHECK (state IN ('queued', 'running', 'finished')),
        CONSTRAINT a_known_outcome CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'out_of_memory', 'diverged', 'timed_out', 'pruned', 'crashed')),
        CONSTRAINT finished_has_an_outcome CHECK ((state = 'finished') = (outcome IS NOT NULL)),
        CONSTRAINT finished_has_an_end CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
        CONSTRAINT running_was_claimed CHECK (state != 'running' OR (attempt > 0 AND started_at IS NOT NULL)),
        CONSTRAINT success_was_executed CHECK (outcome IS NULL OR outcome != 'succeeded' OR attempt > 0),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(experiment_id) REFERENCES experiments (id)
    )
"""

OTHERS = (
    """
    CREATE INDEX ix_runs_job_id ON runs (job_id)
    """,
    """
    CREATE INDEX runs_ready ON runs (device, priority DESC, id, experiment_id) WHERE state = 'queued' AND needs_unmet = 0 AND paused_until IS NULL AND not_before IS NULL
    """,
    """
    CREATE INDEX runs_spec ON runs (experiment_id, spec_hash)
    """,
    """
    CREATE INDEX runs_state ON runs (state)
    """,
    """
    CREATE INDEX runs_timed ON runs (device, priority DESC, id, experiment_id) WHERE state = 'queued' AND needs_unmet = 0 AND (paused_until IS NOT NULL OR not_before IS NOT NULL)
    """,
    """
    CREATE TABLE inputs (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        "key" VARCHAR NOT NULL,
        source_run_id INTEGER,
        experiment VARCHAR NOT NULL,
        artifact VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (run_id, "key"),
        FOREIGN KEY(run_id) REFERENCES runs (id),
        FOREIGN KEY(source_run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE INDEX ix_inputs_source_run_id ON inputs (source_run_id)
    """,
    """
    CREATE TABLE needs (
        id INTEGER NOT NULL,
        job_id INTEGER NOT NULL,
        needed_job_id INTEGER NOT NULL,
        needed_run_id INTEGER,
        accepts JSON,
        spec_hash VARCHAR,
        met BOOLEAN NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(needed_job_id) REFERENCES jobs (id),
        FOREIGN KEY(needed_run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE INDEX ix_needs_job_id ON needs (job_id)
    """,
    """
    CREATE INDEX ix_needs_needed_job_id ON needs (needed_job_id)
    """,
    """
    CREATE INDEX ix_needs_needed_run_id ON needs (needed_run_id)
    """,
    """
    CREATE TABLE waiting_reasons (
        run_id INTEGER NOT NULL,
        code VARCHAR NOT NULL,
        parameters JSON NOT NULL,
        PRIMARY KEY (run_id),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
)

KEPT = (
    "id, job_id, experiment_id, kind, device, seed, varied, params, limits, spec_hash, priority, state, outcome, reason, "
    "queued_at, started_at, finished_at, {}, attempts_used, stalls, request, paused_until, not_before, released, adjusted, "
    "progress_done, progress_total, rate, wall_s, peak_memory_gib, context_gib, estimated_memory_gib, sources_hash, "
    "packages_hash"
)

SETTLED = ("succeeded", "pruned")


def upgrade() -> None:
    """Makes version 2 of version 1."""
    connection = op.get_bind()
    last = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'runs'").scalar()
    passed_over = connection.exec_driver_sql(
        "SELECT id, wait_code, wait_text FROM runs WHERE wait_code IS NOT NULL"
    ).all()
    op.execute(RUNS)
    # The numbers and rules of a table change only with the table (sqlite.org/lang_altertable.html, section 7).
    op.execute(
        f"INSERT INTO runs_new ({KEPT.format('attempt')}, needs_unmet) SELECT {KEPT.format('token')}, 0 FROM runs"  # noqa: S608  # our own words
    )
    op.execute("DROP TABLE runs")
    op.execute("ALTER TABLE runs_new RENAME TO runs")
    if last is not None:  # ids of runs that were deleted are never used again
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name IN ('runs', 'runs_new')")
        connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES ('runs', ?)", (last,))
    for statement in OTHERS:
        op.execute(statement)
    for run, code, words in passed_over:
        values = (run, code, json.dumps({"text": words or ""}, ensure_ascii=False))
        connection.exec_driver_sql("INSERT INTO waiting_reasons (run_id, code, parameters) VALUES (?, ?, ?)", values)
    _codes(connection)
    _inputs(connection)
    _needs(connection)


def _codes(connection: Connection) -> None:
    for run, outcome, reason in connection.exec_driver_sql("SELECT id, outcome, reason FROM runs").all():
        code = reason_code(outcome, reason)
        if code is not None:
            connection.exec_driver_sql("UPDATE runs SET reason_code = ? WHERE id = ?", (code, run))
    for attempt, reason in connection.exec_driver_sql(
        "SELECT id, reason FROM attempts WHERE outcome = 'crashed'"
    ).all():
        if untried(reason) != reason:
            connection.exec_driver_sql("UPDATE attempts SET reason = ? WHERE id = ?", (untried(reason), attempt))


def _inputs(connection: Connection) -> None:
    query = "SELECT run_id, text FROM events WHERE kind = 'input' AND run_id IS NOT NULL ORDER BY id"
    here = set(connection.exec_driver_sql("SELECT id FROM runs").scalars())
    for row in inputs((run, text) for run, text in connection.exec_driver_sql(query).all()):
        # A run that came from another workspace tells the numbers of that one.
        if row["source_run_id"] not in here:
            row["source_run_id"] = None
        connection.exec_driver_sql(
            "INSERT INTO inputs (run_id, key, source_run_id, experiment, artifact, sha256) VALUES (?, ?, ?, ?, ?, ?)",
            tuple(row[key] for key in ("run_id", "key", "source_run_id", "experiment", "artifact", "sha256")),
        )


def _needs(connection: Connection) -> None:
    for job, text in connection.exec_driver_sql("SELECT id, needs FROM jobs WHERE needs != '[]' ORDER BY id").all():
        rows = [row for need in json.loads(text) for row in _rows(connection, job, need)]
        for row in rows:
            connection.exec_driver_sql(
                "INSERT INTO needs (job_id, needed_job_id, needed_run_id, accepts, spec_hash, met) "
                "VALUES (?, ?, ?, ?, ?, ?)", row
            )  # fmt: skip
        connection.exec_driver_sql(
            "UPDATE runs SET needs_unmet = NOT released AND EXISTS (SELECT 1 FROM needs WHERE needs.job_id = ? "
            "AND NOT met AND (needs.spec_hash IS NULL OR needs.spec_hash = runs.spec_hash)) WHERE job_id = ?", (job, job)
        )  # fmt: skip


def _rows(connection: Connection, job: int, need: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """(job, needed job, needed run, accepts, spec hash, met)."""
    needed = need["job"]
    query = (
        "SELECT r.id, r.outcome, r.varied, r.params, r.spec_hash FROM runs r JOIN job_runs l ON l.run_id = r.id "
        "WHERE l.job_id = ? ORDER BY r.id"
    )
    runs = connection.exec_driver_sql(query, (needed,)).all()
    if "serves" in need:
        rehearsals = {run[4]: run for run in runs}
        for served, by in need["serves"].items():
            if by in rehearsals:
                run = rehearsals[by]
                yield job, needed, run[0], '["succeeded"]', served, run[1] == "succeeded"
        return
    accepts = None if need["accept"] is None else sorted({*SETTLED, *need["accept"]})
    for run_id, outcome, varied, params, _ in runs:
        if _matches(need["where"], json.loads(varied), json.loads(params)):
            met = outcome is not None and (accepts is None or outcome in accepts)
            yield job, needed, run_id, None if accepts is None else json.dumps(accepts), None, met
    search = connection.exec_driver_sql("SELECT value FROM controls WHERE key = ?", (f"search:{needed}",)).scalar()
    if search is not None:
        yield job, needed, None, None, None, json.loads(search)["ended"] is not None


def _matches(where: dict[str, Any], varied: dict[str, Any], params: dict[str, Any]) -> bool:
    missing = object()
    for key, wanted in where.items():
        value: Any = varied.get(key, missing)
        if value is missing:
            value = params
            for part in key.split("."):
                value = value.get(part, missing) if isinstance(value, dict) else missing
        if value != wanted:
            return False
    return True
