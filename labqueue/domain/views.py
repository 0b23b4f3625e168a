"""Answers to questions about the results store, as the command line, the API and the report all give them.

Plain dataclasses, since the commands that people type most must not wait for a validation library. Field names are
the JSON contract. Times are UTC ISO 8601; paths are relative to the workspace; None is "not measured".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class WaitingView:
    code: str
    text: str


@dataclass(frozen=True)
class ProgressView:
    done: int
    total: int
    phase: str | None = None
    """What is counted; None: the run's steps."""


@dataclass(frozen=True)
class AttemptView:
    number: int
    outcome: str | None
    reason: str | None
    started_at: str
    finished_at: str | None
    log: str | None = None
    resumed_from_step: int | None = None
    last_step: int | None = None
    adjusted: dict[str, Any] | None = None
    """What the memory ladder changed for this attempt."""
    environment: int | None = None
    commit: str | None = None
    dirty: bool | None = None
    patch: str | None = None
    """The file with the difference of a dirty tree to ``commit``, for ``git apply`` at the top of a clone."""
    telemetry: dict[str, Any] | None = None
    """Temperature, power, clocks and throttling while it ran (``execution.telemetry.summarize``)."""
    device: str | None = None
    """What its worker called the device: ``cpu``, ``cuda:1``."""
    card: dict[str, Any] | None = None
    """The card behind that name: ``name``, ``memory_gib`` and, of runs since it is kept, ``uuid``; None on a CPU."""
    last_phase: str | None = None
    """What ``last_step`` counts; None: the run's steps."""


@dataclass(frozen=True)
class MetricView:
    last: float | None
    last_step: int
    min: float | None
    min_step: int | None
    max: float | None
    first: float | None
    points: int


@dataclass(frozen=True)
class ArtifactView:
    name: str
    type: str
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class SampleView:
    """What a run wrote after a prompt at a step."""

    step: int
    number: int
    """Of the prompt, from 0."""
    prompt: str
    text: str


@dataclass(frozen=True)
class EventView:
    """Something that happened to a run, in a sentence."""

    at: str
    kind: str
    text: str


@dataclass(frozen=True)
class RunView:
    id: int
    job: int
    experiment: str
    kind: str
    state: str
    outcome: str | None
    reason: str | None
    waiting: WaitingView | None
    profile: str
    device: str
    priority: int
    params: dict[str, Any]
    varied: dict[str, Any]
    seed: int
    progress: ProgressView | None
    eta_s: float | None
    """Seconds until its steps are done, or those of ``progress.phase``."""
    queued_at: str
    started_at: str | None
    finished_at: str | None
    wall_s: float | None
    peak_memory_gib: float | None
    estimated_memory_gib: float | None
    context_gib: float | None
    spec_hash: str
    commit: str | None
    dirty: bool | None
    attempts: list[AttemptView] = field(default_factory=list)
    metrics: dict[str, MetricView] = field(default_factory=dict)
    artifacts: list[ArtifactView] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the kind had to say."""
    history: list[EventView] = field(default_factory=list)
    """What the lab and people did with it, oldest first."""
    samples: list[SampleView] = field(default_factory=list)
    """By step, then in the order of the prompts."""


@dataclass(frozen=True)
class StatusView:
    running: list[RunView]
    queued: list[RunView]
    finished: dict[str, int]
    eta_s: float | None
    paused: str | None
    """Why the whole queue is paused, or None."""
    workers: list[WorkerView] = field(default_factory=list)
    searches: list[SearchView] = field(default_factory=list)
    """Searches that will propose more runs."""
    schema: int = 1


@dataclass(frozen=True)
class SearchView:
    """A search that goes on: how many of its trials are recorded, and how many runs will follow."""

    experiment: str
    job: int
    recorded: int
    trials: int
    to_come: int


@dataclass(frozen=True)
class WorkerView:
    device: str
    host: str
    pid: int
    started_at: str
    alive: bool
    frozen: bool = False
    """It does not renew its lease, though its process exists: stopped, say."""
    card: str | None = None
    """The UUID of the card behind ``device``; None for a CPU."""


@dataclass(frozen=True)
class JobView:
    """One submission of a spec, as it was frozen."""

    id: int
    experiment: str
    submitted_at: str
    profile: str
    device: str
    priority: int
    runs: int
    reused: int
    """Of these, the runs that an earlier job had made."""
    spec_version: str
    commit: str | None
    dirty: bool | None
    predictions: list[dict[str, Any]]


@dataclass(frozen=True)
class ExperimentView:
    """What was registered (the newest spec) and the runs that a report may use."""

    experiment: str
    track: str
    kind: str
    hypothesis: str
    methodology: str
    questions: list[str]
    predictions: list[dict[str, Any]]
    axes: list[str]
    job: int
    profile: str
    device: str
    spec_version: str
    runs: list[RunView]
    left_out: list[str]
    """In sentences: runs that are not counted, and why."""
    search: SearchResult | None = None
    """What the newest job's search came to; None where nothing was searched."""
    plots: list[dict[str, Any]] = field(default_factory=list)
    """Figures that the spec asks for (``domain.spec.schema.MetricPair``); none in specs older than the field."""
    registrations: list[RegistrationView] = field(default_factory=list)
    """Those of the newest spec's predictions, in their order; then those that were withdrawn, oldest first."""
    looks: list[int] = field(default_factory=list)
    """Numbers of seeds at which verdicts are taken, as the newest spec registers them; empty: at all seeds, once."""
    looks_at: str | None = None
    """Since when these looks are registered for this version of the experiment; None where there are none."""
    looks_seen_runs: list[int] = field(default_factory=list)
    """Runs that had finished by then: looks that were registered after them."""
    found_looks: list[LookView] = field(default_factory=list)
    """How the seeds came: a job that adds seeds after an earlier run of this version had finished begins a look."""


@dataclass(frozen=True)
class RegistrationView:
    """A prediction as it was registered: when, by which job, and which runs could be known by then."""

    id: str
    digest: str
    """Of the typed clause and the id, without the wording."""
    at: str
    job: int
    prediction: dict[str, Any]
    seen_runs: list[int] = field(default_factory=list)
    """Counted runs whose result could be known before the registration: a verdict on them is exploratory."""
    withdrawn_at: str | None = None
    """When a later spec left it out, or changed its clause; None while it stands."""


@dataclass(frozen=True)
class LookView:
    """Seeds that were registered together, and the first job that did so."""

    seeds: list[int]
    job: int
    at: str


@dataclass(frozen=True)
class SearchResult:
    """How far a search is, and its best trial."""

    sampler: str
    pruner: str
    metric: str
    direction: str
    planned: int
    trials: dict[str, int]
    """How many are complete, pruned, failed, untried and open."""
    ended: str | None
    """Why no more are proposed; None while they are."""
    best: BestTrial | None


@dataclass(frozen=True)
class BestTrial:
    """The point with the best value, the mean over its seeds."""

    number: int
    point: dict[str, Any]
    value: float
    runs: list[int]


@dataclass(frozen=True)
class ExperimentRow:
    """One line of the list of experiments."""

    experiment: str
    track: str
    kind: str
    jobs: int
    runs: int
    queued: int
    running: int
    finished: dict[str, int]
    last_at: str | None


@dataclass(frozen=True)
class VerdictView:
    id: str
    claim: str
    verdict: str
    """``supported``, ``refuted``, ``inconclusive``, ``exploratory`` or ``withdrawn``."""
    estimate: float | None
    ci: list[float] | None
    n: int
    why: str
    registration: Registered | None = None
    """None where nothing is known of it: a judgement of predictions that no store registered."""
    item_ci: list[float] | None = None
    """The 95 % interval over further seeds and other items of their kind, of a share whose runs kept the score of each
    item; ``ci`` is over further seeds on the same items."""


@dataclass(frozen=True)
class Registered:
    """The registration that a verdict rests on."""

    at: str
    job: int
    digest: str
    looks: list[int]
    """Registered numbers of seeds; empty: one look, at all seeds."""
    look: int | None
    """The number of seeds of the look that decided, or of the last one taken; None where looks were not registered."""
