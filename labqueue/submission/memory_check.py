"""Does a run fit the card? Predicted by its kind, corrected by what runs like it really reserved.

A kind's own figure is its formula's; nothing here changes it. The correction is an item of its own, so that both can be
told apart, and it is computed anew from the results store each time.
"""

from __future__ import annotations

import contextlib
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError

from labqueue.domain.canonical import canonical, flat
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Kind, Params
from labqueue.domain.spec.references import Reference, of, references, refers
from labqueue.domain.spec.schema import assign
from labqueue.llm.memory.workload import CARD_GIB, CONTEXT_GIB, usable_gib
from labqueue.store.db import Database
from labqueue.store.queries import measured_memory
from labqueue.store.runs import inputs
from labqueue.store.runs.needs import matches
from labqueue.submission.plan import Plan
from labqueue.system.cards import gpus

ASSUMED_GIB = 14.5
"""What a run's allocator gets of a 16 GB card, where no card and no limit says otherwise."""

ENOUGH = 3
"""Measured runs from which a ratio to the formula is believed."""

LOWEST, HIGHEST = 0.5, 1.25
"""Bounds of that ratio: further off, something else is wrong."""

DEEPEST = 16
"""Runs that stand behind one another at most; a circle of experiments ends here."""


@dataclass(frozen=True)
class Capacity:
    """What one run's allocator may reserve, and who says so."""

    gib: float
    source: str


@dataclass(frozen=True)
class MemoryCheck:
    """What a run is predicted to reserve, item by item, GiB; ``items_gib`` is None where its kind cannot say."""

    items_gib: dict[str, float] | None
    formula_gib: float | None
    """The kind's own total, uncorrected."""
    capacity: Capacity | None
    params: Params | None = None
    """What it is of: a run's parameters, with what stands for another run's artifact replaced where that is known."""

    @property
    def total_gib(self) -> float | None:
        """The corrected total: the peak of the allocator's reserved bytes."""
        return None if self.items_gib is None else math.fsum(self.items_gib.values())

    @property
    def fits(self) -> bool | None:
        """Total within what is left to the allocator beside the context; None where either side is not known."""
        if self.total_gib is None or self.capacity is None:
            return None
        return self.total_gib <= self.capacity.gib


def itemised(items_gib: Mapping[str, float] | None) -> str:
    """``weights 3.04, activations 0.87, …``, largest first, GiB; nothing where nothing is known."""
    items = sorted((items_gib or {}).items(), key=lambda item: -abs(item[1]))
    return ", ".join(f"{name.replace('_', ' ')} {size:.2f}" for name, size in items if abs(size) >= 0.005)


def capacity(limit: float | str = "auto") -> Capacity | None:
    """What a run may reserve: the less of ``limits.memory_gib`` and what the largest card has beside a context.

    None where there is neither.
    """
    found = []
    if not isinstance(limit, str):
        found.append(Capacity(limit, f"limits.memory_gib {limit:g}"))
    cards = gpus()
    if cards:
        card = max(cards, key=lambda card: card.total_gib)
        found.append(Capacity(usable_gib(card.total_gib), f"{card.name} ({card.total_gib:.1f} GiB)"))
    return min(found, key=lambda each: each.gib, default=None)


@dataclass(frozen=True)
class _Past:
    """One measured run, with what the formula says of it today."""

    group: str
    data: str
    items: dict[str, float]
    peak_gib: float

    @property
    def ratio(self) -> float:
        return self.peak_gib / math.fsum(self.items.values())


class History:
    """The measured runs of one kind, as corrections of its formula."""

    def __init__(self, kind: Kind, runs: Sequence[measured_memory.Measured] = ()) -> None:
        self._kind = kind
        self._past: list[_Past] = []
        for run in runs:
            try:
                params = kind.params.parse(run.params)
                items = kind.estimate(params, "cuda")
            except (ValidationError, LabError):
                continue  # of an older version of the kind, or of a model folder that has gone
            if items and run.peak_gib > 0:
                self._past.append(_Past(*_groups(kind, params), items, run.peak_gib))

    @classmethod
    def of(cls, kind: Kind, db: Database | None) -> History:
        """What a workspace knows."""
        return cls(kind, measured_memory.measured(db, kind.name) if db is not None else ())

    def corrected(self, params: Params, items: dict[str, float]) -> dict[str, float]:
        """``items`` with a last one that is what measured runs add or take off; without it where none speak to it.

        Runs with the same estimate on the same data: the highest peak of the newest ENOUGH, since one too low would let
        a run through that cannot fit. Else the median ratio of peak to formula over at least ENOUGH runs of the same
        group (``memory_groups`` of the kind), on the same data, or on any but then never below 1: rows shorter than
        allowed make any formula look too high, and other rows may be as long.
        """
        group, data = _groups(self._kind, params)
        alike = [past for past in self._past if past.group == group]
        same = [past for past in alike if past.data == data]
        total = math.fsum(items.values())
        equal = [past.peak_gib for past in same if _equal(past.items, items)]
        if equal:
            return items | {f"calibration_from_{_runs(len(equal))}": max(equal[:ENOUGH]) - total}
        if len(same) >= ENOUGH:
            ratio = statistics.median(past.ratio for past in same)
            return items | {f"calibration_from_{_runs(len(same))}": (_bounded(ratio) - 1) * total}
        if len(alike) >= ENOUGH:
            ratio = max(1.0, statistics.median(past.ratio for past in alike))
            if ratio > 1:
                return items | {f"calibration_from_{_runs(len(alike))}": (_bounded(ratio) - 1) * total}
        return items

    def verdict(self, params: Params, device: str, room: Capacity | None) -> MemoryCheck:
        """What a run is predicted to reserve.

        Raises:
            LabError: as the kind's ``estimate``.
        """
        items = self._kind.estimate(params, device)
        if not items:
            return MemoryCheck(None, None, room, params)
        return MemoryCheck(self.corrected(params, items), math.fsum(items.values()), room, params)


def _groups(kind: Kind, params: Params) -> tuple[str, str]:
    """The kind's ``memory_groups``, as texts."""
    group, data = kind.memory_groups(params)
    return canonical(group), canonical(data)


def _equal(one: dict[str, float], other: dict[str, float]) -> bool:
    return one.keys() == other.keys() and all(math.isclose(one[name], other[name], rel_tol=1e-6) for name in one)


def _bounded(ratio: float) -> float:
    return min(max(ratio, LOWEST), HIGHEST)


def _runs(number: int) -> str:
    return "1_run" if number == 1 else f"{number}_runs"


def assess(planned: Plan, db: Database | None, beside: Sequence[Plan] = ()) -> tuple[Plan, list[MemoryCheck]]:
    """The plan with corrected estimates, and what is predicted of each of its runs; ``beside`` are plans of the same
    submission, whose artifacts they may take.

    Raises:
        LabError: as the kind's ``estimate``, at its place in the spec.
    """
    job = planned.job
    if job.device != "cuda":
        return planned, [MemoryCheck(None, None, None) for _ in job.runs]
    history = History.of(planned.kind, db)
    known: dict[tuple[str, str], MemoryCheck] = {}
    verdicts = []
    for run, params, plain in zip(job.runs, _with_origins(planned, beside, db), planned.params, strict=True):
        key = (run.params.text, run.limits.text)
        if key not in known:
            room = capacity(run.limits.value["memory_gib"])
            try:
                known[key] = history.verdict(params, job.device, room)
            except LabError as error:
                if error.key not in {each.key for each in references(run.params.value)}:
                    raise planned.error(error.message, error.key or "") from error
                # What the other run had there means nothing to this kind, and is no value that a person gave it.
                known[key] = history.verdict(plain, job.device, room)
        verdicts.append(known[key])
    runs = [
        run if verdict.total_gib is None else run._replace(estimated_memory_gib=verdict.total_gib)
        for run, verdict in zip(job.runs, verdicts, strict=True)
    ]
    return replace(planned, job=replace(job, runs=runs)), verdicts


def refuse(planned: Plan, verdicts: Sequence[MemoryCheck], db: Database | None) -> None:
    """Refuses a submission of which a run cannot fit.

    Raises:
        LabError: naming the largest such run item by item, and the values to write that fit.
    """
    too_large = [at for at, verdict in enumerate(verdicts) if verdict.fits is False]
    if not too_large:
        return
    at = max(too_large, key=lambda number: verdicts[number].total_gib or 0.0)
    verdict, run = verdicts[at], planned.job.runs[at]
    assert verdict.capacity is not None
    assert verdict.params is not None
    point = ", ".join(f"{key}={json.dumps(value)}" for key, value in run.varied.value.items())
    of_many = f"{len(too_large)} of {len(verdicts)} runs do not fit; the largest" if len(verdicts) > 1 else "the run"
    words = (
        f"{of_many}{f' ({point})' if point else ''} needs {verdict.total_gib:.1f} GiB ({itemised(verdict.items_gib)}) "
        f"beside its context of {CONTEXT_GIB} GiB; {verdict.capacity.source} leaves it {verdict.capacity.gib:.1f} GiB"
    )
    raise planned.source.error(f"{words}. {_advice(planned, verdict.params, verdict.capacity, db)}", "params")


def _advice(planned: Plan, params: Params, room: Capacity, db: Database | None) -> str:
    """The nearest setting that fits, as values to write."""
    history = History.of(planned.kind, db)
    before = flat(params.model_dump(mode="json"))
    for less in _reduced(planned.kind, params):
        try:
            found = history.verdict(less, planned.job.device, room)
        except LabError:
            continue
        if found.fits:
            after = flat(less.model_dump(mode="json"))
            changed = {key: value for key, value in after.items() if before.get(key) != value}
            values = ", ".join(f"{key}: {json.dumps(value)}" for key, value in changed.items())
            return f"The nearest setting that fits is {values} ({found.total_gib:.1f} GiB)"
    return "Nothing near it fits: take a smaller model"


def _reduced(kind: Kind, params: Params) -> Iterator[Params]:
    """The kind's memory ladder at equal effective batch, then what changes the experiment more and more."""
    least: Params = params
    while (step := kind.with_less_memory(least)) is not None:
        least = step
        yield least
    yield from kind.reduce(least)


def card_gib() -> float:
    """Memory of the largest card; that of a 16 GB card where there is none."""
    return max((card.total_gib for card in gpus()), default=CARD_GIB)


def _with_origins(planned: Plan, beside: Sequence[Plan], db: Database | None) -> list[Params]:
    """The parameters of each run, with what stands for another run's artifact replaced where that is known.

    The artifact under a key is taken to have the shape of what the other run had under the same key: a model that was
    tuned is as large as the one it was tuned from. Nothing of it is recorded: the run itself gets the artifact,
    whatever it then is. Looked for among the runs submitted ``beside`` it, else among those of the results store,
    whatever became of them; where they had different values, or none, the placeholder stays.
    """
    known: dict[str, Params] = {}
    asked: dict[str, str | None] = {}  # the runs of a sweep mostly name the same
    found = []
    for run, params in zip(planned.job.runs, planned.params, strict=True):
        if run.params.text not in known and refers(run.params.value):
            plain = params.model_dump(mode="json")
            for named in references(run.params.value):
                if named.text not in asked:
                    asked[named.text] = _origin(named, beside, db)
                value = asked[named.text]
                plain = plain if value is None else assign(plain, named.key, value)
            with contextlib.suppress(ValidationError):  # another kind may mean something else by the same key
                known[run.params.text] = planned.kind.params.parse(plain)
        found.append(known.get(run.params.text, params))
    return found


def _origin(named: Reference, beside: Sequence[Plan], db: Database | None, depth: int = 0) -> str | None:
    """What all runs that a reference may mean had under its key; None where there is no one such value."""
    if depth == DEEPEST:
        return None
    here = [run for planned in beside if planned.job.experiment == named.experiment for run in planned.job.runs]
    candidates = [run.params.value for run in here if matches(named.where, run.varied.value, run.params.value)]
    if not here and db is not None:
        candidates = inputs.candidates(db, named.experiment, named.where)
    values = {canonical(value): value for value in (_at(params, named.key) for params in candidates)}
    if len(values) != 1:
        return None
    (value,) = values.values()
    if (further := of(named.key, value)) is not None:
        return _origin(further, beside, db, depth + 1)
    return value if isinstance(value, str) else None


def _at(params: dict[str, Any], key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
