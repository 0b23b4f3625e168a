"""The tables of ``results.db``. Knows no query.

A change here needs a migration in ``migrations/versions`` and a higher ``SCHEMA_VERSION``; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from labqueue.domain.state import Ending, Outcome, State

SCHEMA_VERSION = 1
"""Kept in ``PRAGMA user_version``, so that a reader can tell without importing the migration library."""


class Base(DeclarativeBase):
    """Times are unix seconds; deadlines are ``clock.Deadline`` as text."""

    type_annotation_map = {dict[str, Any]: JSON(none_as_null=True), list[Any]: JSON}


def _one_of(column: str, values: type[State] | type[Outcome] | type[Ending]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


class Experiment(Base):
    """A name under which specs are submitted."""

    __tablename__ = "experiments"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[float]
    archived_at: Mapped[float | None]


class Job(Base):
    """One submission of a spec, frozen."""

    __tablename__ = "jobs"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"), index=True)
    spec: Mapped[dict[str, Any]]
    spec_version: Mapped[str]
    """Digest of what decides the results, seeds left out: jobs of one version are one body of evidence."""
    profile: Mapped[str]
    device: Mapped[str]
    priority: Mapped[int]
    needs: Mapped[list[Any]]
    """``[{experiment, job, where, accept}]``; ``accept`` null takes any outcome."""
    commit: Mapped[str | None]
    dirty: Mapped[bool | None]
    sources_hash: Mapped[str]
    packages_hash: Mapped[str]
    created_at: Mapped[float]


class JobRun(Base):
    """Which runs a job consists of; a reused run belongs to several jobs."""

    __tablename__ = "job_runs"
    __table_args__ = {"sqlite_with_rowid": False}

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), primary_key=True, index=True)
    position: Mapped[int]
    reused: Mapped[bool]


class Run(Base):
    """One sweep point with one seed. Impossible rows are refused by the database itself."""

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(_one_of("state", State), name="a_known_state"),
        CheckConstraint(_one_of("outcome", Outcome), name="a_known_outcome"),
        CheckConstraint("(state = 'finished') = (outcome IS NOT NULL)", name="finished_has_an_outcome"),
        CheckConstraint("(state = 'finished') = (finished_at IS NOT NULL)", name="finished_has_an_end"),
        CheckConstraint("state != 'running' OR (token > 0 AND started_at IS NOT NULL)", name="running_was_claimed"),
        CheckConstraint("outcome IS NULL OR outcome != 'succeeded' OR token > 0", name="success_was_executed"),
        Index("runs_queue", "device", text("priority DESC"), "id", sqlite_where=text("state = 'queued'")),
        Index("runs_state", "state"),
        Index("runs_spec", "experiment_id", "spec_hash"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    experiment_id: Mapped[int] = mapped_column(ForeignKey("experiments.id"))
    kind: Mapped[str]
    device: Mapped[str]
    seed: Mapped[int]
    varied: Mapped[dict[str, Any]]
    params: Mapped[dict[str, Any]]
    limits: Mapped[dict[str, Any]]
    spec_hash: Mapped[str]
    priority: Mapped[int]
    state: Mapped[str]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    queued_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    token: Mapped[int]
    """Fencing token: the number of the newest attempt. A write that carries an older one is refused."""
    attempts_used: Mapped[int]
    """Attempts that count against ``limits.attempts``; interruptions do not."""
    stalls: Mapped[int]
    """Interruptions in a row without a new step or checkpoint."""
    request: Mapped[str | None]
    """What a person asked of the running attempt: ``cancel`` or ``pause``."""
    paused_until: Mapped[str | None]
    """``forever``, a deadline, or null."""
    not_before: Mapped[str | None]
    """Back-off deadline."""
    released: Mapped[bool]
    adjusted: Mapped[dict[str, Any] | None]
    """What the memory ladder changed for the next attempt."""
    wait_code: Mapped[str | None]
    wait_text: Mapped[str | None]
    """Why the worker passed it over (memory, disk, hours, device)."""
    progress_done: Mapped[int | None]
    progress_total: Mapped[int | None]
    rate: Mapped[float | None]
    """Steps a second."""
    wall_s: Mapped[float | None]
    peak_memory_gib: Mapped[float | None]
    context_gib: Mapped[float | None]
    estimated_memory_gib: Mapped[float | None]
    sources_hash: Mapped[str | None]
    packages_hash: Mapped[str | None]
    """Of the attempt that succeeded."""


class Attempt(Base):
    """One execution of a run."""

    __tablename__ = "attempts"
    __table_args__ = (
        UniqueConstraint("run_id", "number"),
        CheckConstraint(_one_of("outcome", Ending), name="a_known_ending"),
        CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="ended_has_an_outcome"),
        Index("attempts_open", "run_id", unique=True, sqlite_where=text("finished_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"), index=True)
    number: Mapped[int]
    outcome: Mapped[str | None]
    reason: Mapped[str | None]
    started_at: Mapped[float]
    finished_at: Mapped[float | None]
    worker_id: Mapped[int] = mapped_column(ForeignKey("workers.id"))
    lease: Mapped[str]
    boot_id: Mapped[str]
    pid: Mapped[int | None]
    pid_start: Mapped[int | None]
    """Clock ticks after boot at which the process started: with boot id and pid, an identity."""
    log: Mapped[str]
    adjusted: Mapped[dict[str, Any] | None]
    resumed_from_step: Mapped[int | None]
    last_step: Mapped[int | None]
    environment_id: Mapped[int | None] = mapped_column(ForeignKey("environments.id"))
    commit: Mapped[str | None]
    dirty: Mapped[bool | None]
    patch: Mapped[str | None]
    sources_hash: Mapped[str | None]
    packages_hash: Mapped[str | None]
    peak_memory_gib: Mapped[float | None]
    telemetry: Mapped[dict[str, Any] | None]
    """Temperature and throttling seen while it ran; null where there is no sensor."""


class Checkpoint(Base):
    """A durable state of a run, believed only while its hashes hold."""

    __tablename__ = "checkpoints"
    __table_args__ = (UniqueConstraint("run_id", "step"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    attempt: Mapped[int]
    step: Mapped[int]
    path: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int]
    created_at: Mapped[float]


class Series(Base):
    """One metric of one run, with what lists and reports need of it, so that they need not read its points."""

    __tablename__ = "series"
    __table_args__ = (UniqueConstraint("run_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    name: Mapped[str]
    points: Mapped[int]
    first: Mapped[float | None]
    first_step: Mapped[int]
    last: Mapped[float | None]
    last_step: Mapped[int]
    min: Mapped[float | None]
    min_step: Mapped[int | None]
    max: Mapped[float | None]


class Metric(Base):
    """A value at a step. Without a row id, one point is its key and its value: some 20 bytes."""

    __tablename__ = "metrics"
    __table_args__ = {"sqlite_with_rowid": False}

    series_id: Mapped[int] = mapped_column(ForeignKey("series.id"), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    value: Mapped[float | None]


class Artifact(Base):
    """A file that a run left, with its hash."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("run_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(ForeignKey("runs.id"))
    name: Mapped[str]
    type: Mapped[str]
    path: Mapped[str]
    sha256: Mapped[str]
    bytes: Mapped[int]
    attempt: Mapped[int]
    created_at: Mapped[float]


class Event(Base):
    """Something that happened, in a sentence: the history that a person reads."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[float]
    run_id: Mapped[int | None] = mapped_column(ForeignKey("runs.id"), index=True)
    kind: Mapped[str]
    text: Mapped[str]


class Environment(Base):
    """Machine and software of an attempt; equal ones are stored once."""

    __tablename__ = "environments"

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[str] = mapped_column(unique=True)
    data: Mapped[dict[str, Any]]


class Worker(Base):
    """A worker process and until when it is believed to be alive."""

    __tablename__ = "workers"

    id: Mapped[int] = mapped_column(primary_key=True)
    device: Mapped[str]
    host: Mapped[str]
    boot_id: Mapped[str]
    pid: Mapped[int]
    pid_start: Mapped[int]
    started_at: Mapped[float]
    lease: Mapped[str]
    ended_at: Mapped[float | None]


class Control(Base):
    """Switches of the queue: ``pause`` for all of it, ``pause:NAME`` for one experiment."""

    __tablename__ = "controls"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[dict[str, Any]]


# The same tables for the commands that people type most: a select of mapped classes configures every mapper first,
# which costs some 50 ms once per process.
RUNS = Run.__table__.c
JOBS = Job.__table__.c
EXPERIMENTS = Experiment.__table__.c
WORKERS = Worker.__table__.c
CONTROLS = Control.__table__.c
