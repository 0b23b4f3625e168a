"""The first tables, as they were on the day of version 1. Frozen: later changes are later revisions."""

from alembic import op

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TABLE controls (
        "key" VARCHAR NOT NULL,
        value JSON NOT NULL,
        PRIMARY KEY ("key")
    )
    """,
    """
    CREATE TABLE environments (
        id INTEGER NOT NULL,
        hash VARCHAR NOT NULL,
        data JSON NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (hash)
    )
    """,
    """
    CREATE TABLE experiments (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        name VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        archived_at DOUBLE,
        UNIQUE (name)
    )
    """,
    """
    CREATE TABLE workers (
        id INTEGER NOT NULL,
        device VARCHAR NOT NULL,
        host VARCHAR NOT NULL,
        boot_id VARCHAR NOT NULL,
        pid INTEGER NOT NULL,
        pid_start INTEGER NOT NULL,
        started_at DOUBLE NOT NULL,
        lease VARCHAR NOT NULL,
        ended_at DOUBLE,
        PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE jobs (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        experiment_id INTEGER NOT NULL,
        spec JSON NOT NULL,
        spec_version VARCHAR NOT NULL,
        profile VARCHAR NOT NULL,
        device VARCHAR NOT NULL,
        priority INTEGER NOT NULL,
        needs JSON NOT NULL,
        "commit" VARCHAR,
        dirty BOOLEAN,
        sources_hash VARCHAR NOT NULL,
        packages_hash VARCHAR NOT NULL,
        created_at DOUBLE NOT NULL,
        FOREIGN KEY(experiment_id) REFERENCES experiments (id)
    )
    """,
    """
    CREATE INDEX ix_jobs_experiment_id ON jobs (experiment_id)
    """,
    """
    CREATE TABLE runs (
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
        token INTEGER NOT NULL,
        attempts_used INTEGER NOT NULL,
        stalls INTEGER NOT NULL,
        request VARCHAR,
        paused_until VARCHAR,
        not_before VARCHAR,
        released BOOLEAN NOT NULL,
        adjusted JSON,
        wait_code VARCHAR,
        wait_text VARCHAR,
        progress_done INTEGER,
        progress_total INTEGER,
        rate DOUBLE,
        wall_s DOUBLE,
        peak_memory_gib DOUBLE,
        context_gib DOUBLE,
        estimated_memory_gib DOUBLE,
        sources_hash VARCHAR,
        packages_hash VARCHAR,
        CONSTRAINT a_known_state CHECK (state IN ('queued', 'running', 'finished')),
        CONSTRAINT a_known_outcome CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'out_of_memory', 'diverged', 'timed_out', 'pruned', 'crashed')),
        CONSTRAINT finished_has_an_outcome CHECK ((state = 'finished') = (outcome IS NOT NULL)),
        CONSTRAINT finished_has_an_end CHECK ((state = 'finished') = (finished_at IS NOT NULL)),
        CONSTRAINT running_was_claimed CHECK (state != 'running' OR (token > 0 AND started_at IS NOT NULL)),
        CONSTRAINT success_was_executed CHECK (outcome IS NULL OR outcome != 'succeeded' OR token > 0),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(experiment_id) REFERENCES experiments (id)
    )
    """,
    """
    CREATE INDEX ix_runs_job_id ON runs (job_id)
    """,
    """
    CREATE INDEX runs_queue ON runs (device, priority DESC, id) WHERE state = 'queued'
    """,
    """
    CREATE INDEX runs_spec ON runs (experiment_id, spec_hash)
    """,
    """
    CREATE INDEX runs_state ON runs (state)
    """,
    """
    CREATE TABLE artifacts (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        type VARCHAR NOT NULL,
        path VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        bytes INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        created_at DOUBLE NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (run_id, name),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE TABLE attempts (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        number INTEGER NOT NULL,
        outcome VARCHAR,
        reason VARCHAR,
        started_at DOUBLE NOT NULL,
        finished_at DOUBLE,
        worker_id INTEGER NOT NULL,
        lease VARCHAR NOT NULL,
        boot_id VARCHAR NOT NULL,
        pid INTEGER,
        pid_start INTEGER,
        log VARCHAR NOT NULL,
        adjusted JSON,
        resumed_from_step INTEGER,
        last_step INTEGER,
        environment_id INTEGER,
        "commit" VARCHAR,
        dirty BOOLEAN,
        patch VARCHAR,
        sources_hash VARCHAR,
        packages_hash VARCHAR,
        peak_memory_gib DOUBLE,
        telemetry JSON,
        PRIMARY KEY (id),
        UNIQUE (run_id, number),
        CONSTRAINT a_known_ending CHECK (outcome IN ('succeeded', 'failed', 'cancelled', 'out_of_memory', 'diverged', 'timed_out', 'pruned', 'crashed', 'interrupted', 'disk_full')),
        CONSTRAINT ended_has_an_outcome CHECK ((outcome IS NULL) = (finished_at IS NULL)),
        FOREIGN KEY(run_id) REFERENCES runs (id),
        FOREIGN KEY(worker_id) REFERENCES workers (id),
        FOREIGN KEY(environment_id) REFERENCES environments (id)
    )
    """,
    """
    CREATE UNIQUE INDEX attempts_open ON attempts (run_id) WHERE finished_at IS NULL
    """,
    """
    CREATE INDEX ix_attempts_run_id ON attempts (run_id)
    """,
    """
    CREATE TABLE checkpoints (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        step INTEGER NOT NULL,
        path VARCHAR NOT NULL,
        sha256 VARCHAR NOT NULL,
        bytes INTEGER NOT NULL,
        created_at DOUBLE NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (run_id, step),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE TABLE events (
        id INTEGER NOT NULL,
        at DOUBLE NOT NULL,
        run_id INTEGER,
        kind VARCHAR NOT NULL,
        text VARCHAR NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE INDEX ix_events_run_id ON events (run_id)
    """,
    """
    CREATE TABLE job_runs (
        job_id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        position INTEGER NOT NULL,
        reused BOOLEAN NOT NULL,
        PRIMARY KEY (job_id, run_id),
        FOREIGN KEY(job_id) REFERENCES jobs (id),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
     WITHOUT ROWID
    """,
    """
    CREATE INDEX ix_job_runs_run_id ON job_runs (run_id)
    """,
    """
    CREATE TABLE series (
        id INTEGER NOT NULL,
        run_id INTEGER NOT NULL,
        name VARCHAR NOT NULL,
        points INTEGER NOT NULL,
        first DOUBLE,
        first_step INTEGER NOT NULL,
        last DOUBLE,
        last_step INTEGER NOT NULL,
        min DOUBLE,
        min_step INTEGER,
        max DOUBLE,
        PRIMARY KEY (id),
        UNIQUE (run_id, name),
        FOREIGN KEY(run_id) REFERENCES runs (id)
    )
    """,
    """
    CREATE TABLE metrics (
        series_id INTEGER NOT NULL,
        step INTEGER NOT NULL,
        value DOUBLE,
        PRIMARY KEY (series_id, step),
        FOREIGN KEY(series_id) REFERENCES series (id)
    )
     WITHOUT ROWID
    """,
)


def upgrade() -> None:
    """Makes every table of version 1."""
    for statement in TABLES:
        op.execute(statement)
