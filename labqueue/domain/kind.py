"""The contract between the lab and a kind of experiment. Knows no database, no queue and no model.

A kind is one module in ``labqueue/kinds``. Its docstring's first line says what it is; ``Params`` says what can be
set; ``run(params, rec)`` does the work and sees the world through the recorder only. What reports and checks read:

- ``METRICS: Mapping[str, Metric]``: unit, direction and role of what it records (``labqueue.domain.declarations``);
- ``ARTIFACTS: Mapping[str, ArtifactUse]``: which artifact is what to a report;
- ``COMPUTED_IN: str``: the parameter that says in which type of number a run computes;
- ``USES_TORCH = False``: its runs start without torch;
- ``KEEPS_ON_DEMAND = True``: its runs heed ``Recorder.keep_wanted``, so that ``labqueue checkpoint RUN`` can be asked.

Optional functions:

- ``with_less_memory(params) -> Params | None``: the same experiment in less memory (same effective batch), or None;
- ``reduce(params) -> Iterator[Params]``: the run in ever less memory, once ``with_less_memory`` is None; each changes
  the experiment a little more, so only a person may choose one;
- ``memory_advice(params) -> str``: in words, what to reduce when nothing of the same experiment fits;
- ``memory_groups(params) -> tuple[object, object]``: what runs must share for their ratios of measured to estimated
  memory to be comparable, and their data; plain values;
- ``preflight(params) -> Params | None``: the same configuration in two steps, with an evaluation and a save; what does
  not change memory or code path (a learning rate, say) gets one value, so that equal ones are rehearsed once;
- ``family_metrics(params) -> Collection[str]``: the names that a run records of the families in ``METRICS``;
- ``assets(params) -> list[str]``: names of models and data that must be on this machine before the night;
- ``pinned(params) -> Params``: the same with the content of the files that it names, as hashes: asked at submission,
  so that another content is another run;
- ``resolved(params, device) -> Params``: the same with what depends on this computer decided (what ``auto`` means on
  its processor, say): asked at submission, so that every attempt computes alike, on another computer too;
- ``check(params, device)``: raises LabError where a run could not begin, as far as files, models' figures and the
  device tell (``cpu`` or ``cuda``); asked at submission, once the assets are here; cheap, without torch;
- ``expected_s(params, device) -> float | None``: predicted seconds of a run on this computer;
- ``estimate(params, device) -> dict[str, float] | None``: predicted peak memory by item, GiB;
- ``imports(device) -> tuple[str, ...]``: modules that its runs import, for a process in waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import ClassVar, Protocol, cast, get_args

from pydantic import ConfigDict

from labqueue.domain.artifacts import Artifact
from labqueue.domain.declarations import ArtifactUse, Metrics
from labqueue.domain.spec.strict import Strict


class Params(Strict):
    """Parameters of a kind; defaults are validated like values."""

    model_config = ConfigDict(validate_default=True)

    RENAMED: ClassVar[Mapping[str, str]] = {}
    """Keys of an earlier version and what they are called now: a spec that has one is refused with the new name."""

    @classmethod
    def renamed(cls, key: str) -> str | None:
        """Returns the dotted ``key`` as it is written now where a part of it has another name; else None."""
        head, dot, rest = key.partition(".")
        now = cls.RENAMED.get(head, head)
        inner = (params_in(cls.model_fields[now].annotation) if now in cls.model_fields else []) if rest else []
        tail = next(filter(None, (each.renamed(rest) for each in inner)), rest)
        return None if (now, tail) == (head, rest) else f"{now}{dot}{tail}"


def params_in(annotation: object) -> list[type[Params]]:
    """The parameter classes in the type of a field: ``Lora | None`` has one."""
    if isinstance(annotation, type) and issubclass(annotation, Params):
        return [annotation]
    return [found for inner in get_args(annotation) for found in params_in(inner)]


class UserError(Exception):
    """A parameter that only the running kind could find wrong. The run fails and is never retried."""


class Diverged(Exception):
    """A value that must be finite was not. Ends the run as ``diverged``."""

    def __init__(self, name: str, step: int, last_good_step: int | None) -> None:
        good = f"last finite at step {last_good_step}" if last_good_step is not None else "never finite"
        super().__init__(f"{name} is not finite at step {step} ({good})")
        self.name = name
        self.step = step
        self.last_good_step = last_good_step


class Stopped(Exception):
    """The kind was asked to stop and has checkpointed. Whoever asked decides what the run becomes."""


class Pruned(Exception):
    """A search ended this run early. Ends it as ``pruned``."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint to go on from: ``step`` is the last step whose every effect is recorded."""

    step: int
    path: Path


class Recorder(Protocol):
    """Everything a kind may know of the world and all it may do to it."""

    @property
    def run_id(self) -> int: ...

    @property
    def seed(self) -> int: ...

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda:N``; the process already holds it."""
        ...

    @property
    def directory(self) -> Path:
        """A folder of this run alone, kept between its attempts; scratch, never believed by the lab."""
        ...

    @property
    def attempt(self) -> int:
        """1 for the first execution of this run."""
        ...

    @property
    def resume_from(self) -> Checkpoint | None:
        """The newest checkpoint whose hashes hold; None at a fresh start."""
        ...

    @property
    def should_stop(self) -> str | None:
        """Why the run must stop now (``cancel``, ``pause``, ``timeout``, ``shutdown``), or None.

        A kind asks at least once a step; when it is not None it calls ``checkpoint`` and raises ``Stopped``.
        """
        ...

    @property
    def keep_wanted(self) -> bool:
        """Whether a person has asked for what the run has now (``labqueue checkpoint``).

        A kind that says ``KEEPS_ON_DEMAND`` asks at least once a step, and then stores its model as an artifact of type
        ``model``, ``step_000500`` say: with that the request is done, and this is False again.
        """
        ...

    def metric(self, name: str, value: float | None, step: int) -> None:
        """Records a value at a step (None: not measured). A value that is not finite is stored as null and
        raises ``Diverged``; a search whose metric it is may end the run here (``Pruned``). A repeated (name, step)
        replaces the earlier value."""
        ...

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Records what the model writes after a prompt at a step, without the prompt. A repeated (step, prompt)
        replaces, so that a text can be shown as it grows; what no text holds is kept as an escape."""
        ...

    def artifact(self, name: str, value: Artifact) -> None:
        """Stores a typed value or a file under a name, synced and hashed; the same name replaces."""
        ...

    def note(self, text: str) -> None:
        """Tells the reader of the run something that is neither a number nor a file."""
        ...

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """Calls ``save`` with an empty folder and makes it durable: all metrics and samples up to ``step`` are
        committed with it.

        Call it after everything of ``step`` is recorded: a resume forgets what is of later steps. Pickle is not
        allowed in it: safetensors, JSON, or ``torch.save`` of tensors that ``weights_only=True`` can read.
        """
        ...

    def progress(self, done: int, total: int, *, phase: str | None = None) -> None:
        """Says how far the run is: in steps, or in what a named ``phase`` beside its steps counts (``tokenizing``,
        say). Rate and time left are derived from it, each phase's by itself; only steps tell when the run will end."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of experiment as found on disk."""

    name: str
    about: str
    params: type[Params]
    module: ModuleType
    metrics: Metrics = field(default_factory=Metrics)
    artifacts: Mapping[str, ArtifactUse] = field(default_factory=dict)

    def run(self, params: Params, rec: Recorder) -> None:
        self.module.run(params, rec)

    @property
    def uses_torch(self) -> bool:
        """False for a kind that says ``USES_TORCH = False``: its runs start without it."""
        return bool(getattr(self.module, "USES_TORCH", True))

    def imports(self, device: str) -> tuple[str, ...]:
        """Modules that its runs import on a device, for a process in waiting to import ahead. None of them may touch
        the device or forbid another kind's, for that process may be given any run."""
        name = getattr(self.module, "imports", None)
        return cast("tuple[str, ...]", name(device)) if name else ()

    @property
    def keeps_on_demand(self) -> bool:
        """Whether its runs keep what they have now when they are asked to."""
        return bool(getattr(self.module, "KEEPS_ON_DEMAND", False))

    @property
    def computed_in(self) -> str | None:
        """The parameter that says in which type of number a run computes; None where the kind names none."""
        return cast("str | None", getattr(self.module, "COMPUTED_IN", None))

    def family_metrics(self, params: Params) -> Collection[str] | None:
        """The names that a run records of the declared families; None where the kind does not say."""
        name = getattr(self.module, "family_metrics", None)
        return cast("Collection[str]", name(params)) if name else None

    def with_less_memory(self, params: Params) -> Params | None:
        """The same experiment in less memory, or None when the kind knows none."""
        make = getattr(self.module, "with_less_memory", None)
        return cast("Params | None", make(params)) if make else None

    def reduce(self, params: Params) -> Iterator[Params]:
        """The run in ever less memory, each changing the experiment a little more; none when the kind knows none."""
        make = getattr(self.module, "reduce", None)
        return cast("Iterator[Params]", make(params)) if make else iter(())

    def memory_advice(self, params: Params) -> str | None:
        """What to reduce when nothing ``with_less_memory`` is left, in words; None when the kind does not say."""
        advise = getattr(self.module, "memory_advice", None)
        return cast("str", advise(params)) if advise else None

    def memory_groups(self, params: Params) -> tuple[object, object]:
        """What runs must share for their ratios of measured to estimated memory to be comparable, and their data;
        the same for all runs where the kind does not say."""
        group = getattr(self.module, "memory_groups", None)
        return cast("tuple[object, object]", group(params)) if group else (None, None)

    def preflight(self, params: Params) -> Params | None:
        """The same configuration in two steps, or None when the kind knows no rehearsal."""
        make = getattr(self.module, "preflight", None)
        return cast("Params | None", make(params)) if make else None

    def assets(self, params: Params) -> list[str]:
        """Names of the models and data that a run needs on this machine."""
        find = getattr(self.module, "assets", None)
        return cast("list[str]", find(params)) if find else []

    def pinned(self, params: Params) -> Params:
        """The same parameters with the content of the files that they name; unchanged where the kind names none."""
        pin = getattr(self.module, "pinned", None)
        return cast("Params", pin(params)) if pin else params

    def resolved(self, params: Params, device: str) -> Params:
        """The same parameters with what depends on this computer decided; unchanged where nothing does."""
        decide = getattr(self.module, "resolved", None)
        return cast("Params", decide(params, device)) if decide else params

    def check(self, params: Params, device: str) -> None:
        """Checks that a run of these could begin, as far as it can be known before.

        Raises:
            LabError: it could not; ``key`` is relative to the parameters, ``file`` is set where a data file is wrong.
        """
        look = getattr(self.module, "check", None)
        if look:
            look(params, device)

    def expected_s(self, params: Params, device: str) -> float | None:
        """Predicted seconds of a run on this computer; None when the kind cannot say."""
        predict = getattr(self.module, "expected_s", None)
        return cast("float | None", predict(params, device)) if predict else None

    def estimate(self, params: Params, device: str) -> dict[str, float] | None:
        """Predicted peak device memory by item, GiB; None when the kind cannot say."""
        predict = getattr(self.module, "estimate", None)
        return cast("dict[str, float] | None", predict(params, device)) if predict else None
