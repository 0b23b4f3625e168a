"""The tables of ``results.db``. Knows no query.

A change here needs a migration in ``migrations/versions`` and a higher ``SCHEMA_VERSION``; a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Named, TypedColumns, text
from sqlalchemy.schema import CheckConstraint, Column, ForeignKey, Index, MetaData, Table, UniqueConstraint

from labqueue.domain.state import Ending, Outcome, State

SCHEMA_VERSION = 4
"""Kept in ``PRAGMA user_version``, so that a reader can tell without importing the migration library."""

METADATA = MetaData()
"""In all tables times are unix seconds, and deadlines are ``clock.Deadline`` as text."""

OBJECT: JSON[Any] = JSON(none_as_null=True)


def _one_of(column: str, values: type[State] | type[Outcome] | type[Ending]) -> str:
    listed = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({listed})"


class ExperimentColumns(TypedColumns):
    """A name under which specs are submitted."""

    id: Named[int] = Column(primary_key=True)
    name: Named[str] = Column(unique=True)
    created_at: Named[float]
    archived_at: Named[float | None]


Experiment = Table("experiments", METADATA, ExperimentColumns, sqlite_autoincrement=True)


class JobColumns(TypedColumns):
    """One submission of a spec, frozen."""

    id: Named[int] = Column(primary_key=True)
    experiment_id: Named[int] = Column(ForeignKey("experiments.id"), index=True)
    spec: Named[dict[str, Any]] = Column(OBJECT)
    spec_version: Named[str]
    """Digest of what decides the results, seeds left out: jobs of one version are one body of evidence."""
    profile: Named[str]
    device: Named[str]
    priority: Named[int]
    needs: Named[list[Any]] = Column(JSON)
    """``[{experiment, job, where, accept}]``; ``accept`` null takes any outcome."""
    commit: Named[str | None]
    dirty: Named[bool | None]
    sources_hash: Named[str]
    packages_hash: Named[str]
    created_at: Named[float]


Job = Table("jobs", METADATA, JobColumns, sqlite_autoincrement=True)


class RegistrationColumns(TypedColumns):
    """A prediction under the name of its experiment, from the first job that states it until one that does not."""

    id: Named[int] = Column(primary_key=True)
    experiment_id: Named[int] = Column(ForeignKey("experiments.id"), index=True)
    job_id: Named[int] = Column(ForeignKey("jobs.id"))
    prediction_id: Named[str]
    digest: Named[str]
    """Of its id and its clause, without the wording (``domain.spec.registration``)."""
    prediction: Named[dict[str, Any]] = Column(OBJECT)
    created_at: Named[float]
    withdrawn_at: Named[float | None]
    """When a job left it out, or stated another clause under its id; null while it stands."""


Registration = Table("registrations", METADATA, RegistrationColumns, UniqueConstraint("job_id", "digest"))


class JobRunColumns(TypedColumns):
    """Which runs a job consists of; a reused run belongs to several jobs."""

    job_id: Named[int] = Column(ForeignKey("jobs.id"), primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"), primary_key=True, index=True)
    position: Named[int]
    reused: Named[bool]


JobRun = Table("job_runs", METADATA, JobRunColumns, sqlite_with_rowid=False)


READY = "state = 'queued' AND needs_unmet = 0 AND paused_until IS NULL AND not_before IS NULL"
"""Runs that only a pause of the queue or of their experiment can hold; a claim's words must be these very ones."""

TIMED = "state = 'queued' AND needs_unmet = 0 AND (paused_until IS NOT NULL OR not_before IS NOT NULL)"
"""Runs that a pause of their own or a back-off holds, as long as its deadline has not passed."""


class RunColumns(TypedColumns):
    """One sweep point with one seed. Impossible rows are refused by the database itself."""

    id: Named[int] = Column(primary_key=True)
    job_id: Named[int] = Column(ForeignKey("jobs.id"), index=True)
    experiment_id: Named[int] = Column(ForeignKey("experiments.id"))
    kind: Named[str]
    device: Named[str]
    seed: Named[int]
    varied: Named[dict[str, Any]] = Column(OBJECT)
    params: Named[dict[str, Any]] = Column(OBJECT)
    limits: Named[dict[str, Any]] = Column(OBJECT)
    spec_hash: Named[str]
    priority: Named[int]
    state: Named[str]
    outcome: Named[str | None]
    reason: Named[str | None]
    queued_at: Named[float]
    started_at: Named[float | None]
    finished_at: Named[float | None]
    attempt: Named[int]
    """The number of the newest attempt, 0 before the first. A write that carries an older one is refused (fencing)."""
    attempts_used: Named[int]
    """Attempts that count against ``limits.attempts``; interruptions do not."""
    stalls: Named[int]
    """Interruptions in a row without a new step or checkpoint."""
    request: Named[str | None]
    """What a person asked of the running attempt: ``cancel`` or ``pause``."""
    paused_until: Named[str | None]
    """``forever``, a deadline, or null."""
    not_before: Named[str | None]
    """Back-off deadline."""
    released: Named[bool]
    adjusted: Named[dict[str, Any] | None] = Column(OBJECT)
    """What the memory ladder changed for the next attempt."""
    progress_done: Named[int | None]
    progress_total: Named[int | None]
    rate: Named[float | None]
    """Steps a second."""
    wall_s: Named[float | None]
    peak_memory_gib: Named[float | None]
    context_gib: Named[float | None]
    estimated_memory_gib: Named[float | None]
    sources_hash: Named[str | None]
    packages_hash: Named[str | None]
    """Of the attempt that succeeded."""
    reason_code: Named[str | None]
    """Beside a ``reason`` that programs act on: what ``domain.state.ReasonCode`` lists."""
    needs_unmet: Named[bool]
    """Whether a need of its job is unmet and it was not released: follows ``needs``, for the index of claims."""
    progress_phase: Named[str | None]
    """What the progress is of; null where it is of the run's steps."""
    keep_asked_at: Named[float | None]
    """Since when a person waits for what the run has now (``labqueue checkpoint``); null once it is kept."""


Run = Table(
    "runs",
    METADATA,
    RunColumns,
    CheckConstraint(_one_of("state", State), name="a_known_state"),
    CheckConstraint(_one_of("outcome", Outcome), name="a_known_outcome"),
    CheckConstraint("(state = 'finished') = (outcome IS NOT NULL)", name="finished_has_an_outcome"),
    CheckConstraint("(state = 'finished') = (finished_at IS NOT NULL)", name="finished_has_an_end"),
    CheckConstraint("state != 'running' OR (attempt > 0 AND started_at IS NOT NULL)", name="running_was_claimed"),
    CheckConstraint("outcome IS NULL OR outcome != 'succeeded' OR attempt > 0", name="success_was_executed"),
    Index("runs_ready", "device", text("priority DESC"), "id", "experiment_id", sqlite_where=text(READY)),
    Index("runs_timed", "device", text("priority DESC"), "id", "experiment_id", sqlite_where=text(TIMED)),
    Index("runs_state", "state"),
    Index("runs_spec", "experiment_id", "spec_hash"),
    sqlite_autoincrement=True,
)


class AttemptColumns(TypedColumns):
    """One execution of a run."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"), index=True)
    number: Named[int]
    outcome: Named[str | None]
    reason: Named[str | None]
    started_at: Named[float]
    finished_at: Named[float | None]
    worker_id: Named[int] = Column(ForeignKey("workers.id"))
    lease: Named[str]
    boot_id: Named[str]
    pid: Named[int | None]
    pid_start: Named[int | None]
    """Clock ticks after boot at which the process started: with boot id and pid, an identity."""
    log: Named[str]
    adjusted: Named[dict[str, Any] | None] = Column(OBJECT)
    resumed_from_step: Named[int | None]
    last_step: Named[int | None]
    environment_id: Named[int | None] = Column(ForeignKey("environments.id"))
    commit: Named[str | None]
    dirty: Named[bool | None]
    patch: Named[str | None]
    sources_hash: Named[str | None]
    packages_hash: Named[str | None]
    peak_memory_gib: Named[float | None]
    telemetry: Named[dict[str, Any] | None] = Column(OBJECT)
    """Temperature and throttling seen while it ran; null where there is no sensor."""
    last_phase: Named[str | None]
    """What ``last_step`` counts; null where it is the run's steps."""


Attempt = Table(
    "attempts",
    METADATA,
    AttemptColumns,
    UniqueConstraint("run_id", "number"),
    CheckConstraint(_one_of("outcome", Ending), name="a_known_ending"),
    CheckConstraint("(outcome IS NULL) = (finished_at IS NULL)", name="ended_has_an_outcome"),
    Index("attempts_open", "run_id", unique=True, sqlite_where=text("finished_at IS NULL")),
)


class CheckpointColumns(TypedColumns):
    """A durable state of a run, believed only while its hashes hold."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"))
    attempt: Named[int]
    step: Named[int]
    path: Named[str]
    sha256: Named[str]
    bytes: Named[int]
    created_at: Named[float]


Checkpoint = Table("checkpoints", METADATA, CheckpointColumns, UniqueConstraint("run_id", "step"))


class SeriesColumns(TypedColumns):
    """One metric of one run, with what lists and reports need of it, so that they need not read its points."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"))
    name: Named[str]
    points: Named[int]
    first: Named[float | None]
    first_step: Named[int]
    last: Named[float | None]
    last_step: Named[int]
    min: Named[float | None]
    min_step: Named[int | None]
    max: Named[float | None]


Series = Table("series", METADATA, SeriesColumns, UniqueConstraint("run_id", "name"))


class MetricColumns(TypedColumns):
    """A value at a step. Without a row id, one point is its key and its value: some 20 bytes."""

    series_id: Named[int] = Column(ForeignKey("series.id"), primary_key=True)
    step: Named[int] = Column(primary_key=True)
    value: Named[float | None]


Metric = Table("metrics", METADATA, MetricColumns, sqlite_with_rowid=False)


class SampleColumns(TypedColumns):
    """What a run wrote after a prompt at a step."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"))
    attempt: Named[int]
    step: Named[int]
    number: Named[int]
    """Of the prompt, in the order in which its run came to them."""
    prompt: Named[str]
    text: Named[str]


Sample = Table("samples", METADATA, SampleColumns, UniqueConstraint("run_id", "step", "number"))


class ArtifactColumns(TypedColumns):
    """A file that a run left, with its hash."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"))
    name: Named[str]
    type: Named[str]
    path: Named[str]
    sha256: Named[str]
    bytes: Named[int]
    attempt: Named[int]
    created_at: Named[float]


Artifact = Table("artifacts", METADATA, ArtifactColumns, UniqueConstraint("run_id", "name"))


class InputColumns(TypedColumns):
    """An artifact that a run took from another, under the parameter that names it; the last attempt's."""

    id: Named[int] = Column(primary_key=True)
    run_id: Named[int] = Column(ForeignKey("runs.id"))
    key: Named[str]
    """Dotted, ``params.adapter`` say."""
    source_run_id: Named[int | None] = Column(ForeignKey("runs.id"), index=True)
    """Null where that run is not in this workspace."""
    experiment: Named[str]
    """Of the source run."""
    artifact: Named[str]
    sha256: Named[str]


Input = Table("inputs", METADATA, InputColumns, UniqueConstraint("run_id", "key"))


class NeedColumns(TypedColumns):
    """Something that runs of a job wait for: a run of a needed job, or the end of its search.

    Derived from ``jobs.needs``; ``met`` is kept true by whatever changes an outcome (``store.runs.needs``).
    """

    id: Named[int] = Column(primary_key=True)
    job_id: Named[int] = Column(ForeignKey("jobs.id"), index=True)
    """The job that waits."""
    needed_job_id: Named[int] = Column(ForeignKey("jobs.id"), index=True)
    needed_run_id: Named[int | None] = Column(ForeignKey("runs.id"), index=True)
    """Null: the needed job's search must have ended."""
    accepts: Named[list[Any] | None] = Column(OBJECT)
    """Outcomes that meet it; null takes any."""
    spec_hash: Named[str | None]
    """Only runs of this spec hash wait for it (their rehearsal); null: all of the job."""
    met: Named[bool]


Need = Table("needs", METADATA, NeedColumns)


class WaitingReasonColumns(TypedColumns):
    """Why a worker passed a queued run over when it last looked: a code of ``domain.state.Waiting`` with its facts."""

    run_id: Named[int] = Column(ForeignKey("runs.id"), primary_key=True)
    code: Named[str]
    parameters: Named[dict[str, Any]] = Column(OBJECT)


WaitingReason = Table("waiting_reasons", METADATA, WaitingReasonColumns)


class EventColumns(TypedColumns):
    """Something that happened, in a sentence: the history that a person reads."""

    id: Named[int] = Column(primary_key=True)
    at: Named[float]
    run_id: Named[int | None] = Column(ForeignKey("runs.id"), index=True)
    kind: Named[str]
    text: Named[str]


Event = Table("events", METADATA, EventColumns)


class EnvironmentColumns(TypedColumns):
    """Machine and software of an attempt; equal ones are stored once."""

    id: Named[int] = Column(primary_key=True)
    hash: Named[str] = Column(unique=True)
    data: Named[dict[str, Any]] = Column(OBJECT)


Environment = Table("environments", METADATA, EnvironmentColumns)


class WorkerColumns(TypedColumns):
    """A worker process and until when it is believed to be alive."""

    id: Named[int] = Column(primary_key=True)
    device: Named[str]
    host: Named[str]
    boot_id: Named[str]
    pid: Named[int]
    pid_start: Named[int]
    started_at: Named[float]
    lease: Named[str]
    ended_at: Named[float | None]


Worker = Table("workers", METADATA, WorkerColumns)


class ControlColumns(TypedColumns):
    """Switches: ``pause`` for the whole queue, ``pause:NAME`` for one experiment, ``search:JOB`` for a search."""

    key: Named[str] = Column(primary_key=True)
    value: Named[dict[str, Any]] = Column(OBJECT)


Control = Table("controls", METADATA, ControlColumns)
