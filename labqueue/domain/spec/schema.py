"""The spec: what a YAML file says of one experiment. Knows nothing of files, kinds' parameters or the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec.predictions import Cell, Prediction
from labqueue.domain.spec.references import KEY, chosen, is_reference, keyed
from labqueue.domain.spec.search import Axis, Search
from labqueue.domain.spec.strict import Strict

Device = Literal["cpu", "cuda"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


def _no_seed_twice(seeds: tuple[int, ...]) -> tuple[int, ...]:
    twice = sorted(seed for seed, n in Counter(seeds).items() if n > 1)
    if twice:
        raise ValueError(f"the seeds {twice} are listed twice; each is run once per sweep point")
    return seeds


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=100_000), AfterValidator(_no_seed_twice)]


Keys = Annotated[dict[str, Any], BeforeValidator(lambda value: {} if value is None else value)]
"""Keys and values; a heading with nothing but comments below it is an empty one."""


def _no_id_twice(predictions: tuple[Prediction, ...]) -> tuple[Prediction, ...]:
    twice = sorted(name for name, n in Counter(each.id for each in predictions).items() if n > 1)
    if twice:
        raise ValueError(f"the prediction ids {twice} are listed twice")
    return predictions


Predictions = Annotated[tuple[Prediction, ...], AfterValidator(_no_id_twice)]


def _rising(looks: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(looks)):
        raise ValueError(f"the looks {list(looks)} do not rise; each is a number of seeds, larger than the one before")
    return looks


Looks = Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(max_length=3), AfterValidator(_rising)]


class RandomSweep(Strict):
    """``samples`` points drawn once, at submission, with ``seed``.

    Each key of ``space`` is ``{uniform: [low, high]}``, ``{log_uniform: [low, high]}``, ``{int: [low, high]}``
    (both ends included) or ``{choice: [...]}``.
    """

    samples: int = Field(ge=1)
    """Points to draw."""
    seed: int = Field(default=0, ge=0)
    """Of the drawing."""
    space: dict[str, Axis] = Field(min_length=1)
    """What each varied key is drawn from."""


class Sweep(Strict):
    """What is varied. The blocks given are combined: every point of one with every point of the others."""

    grid: dict[str, list[Any]] | None = Field(default=None, min_length=1)
    """Every combination of the values of each key."""
    zipped: dict[str, list[Any]] | None = Field(default=None, min_length=1, alias="zip")
    """The first values together, the second values together, and so on; all lists equally long."""
    points: list[dict[str, Any]] | None = Field(default=None, min_length=1, alias="list")
    """The points themselves."""
    random: RandomSweep | None = None
    """Points drawn at random, at submission."""
    search: Search | None = None
    """Points chosen while the others run; stands alone."""

    @property
    def axes(self) -> list[str]:
        """The varied keys, in the order written."""
        keys = [*(self.grid or {}), *(self.zipped or {})]
        keys += [key for point in self.points or [] for key in point]
        keys += list(self.random.space) if self.random else []
        keys += list(self.search.space) if self.search else []
        return list(dict.fromkeys(keys))

    def lacks(self, choice: dict[str, Cell]) -> str | None:
        """None where some point can have these values; else, in words, what comes nearest."""
        unknown = next((key for key in choice if key not in self.axes), None)
        if unknown is not None:
            return nearest(unknown, self.axes)
        zipped = self.zipped or {}
        blocks = [[{key: value} for value in values] for key, values in (self.grid or {}).items()]
        blocks.append([dict(zip(zipped, row, strict=True)) for row in zip(*zipped.values(), strict=False)])
        for rows in [*blocks, self.points or []]:  # combined freely, so that each has its own part of the choice
            part = {key: value for key, value in choice.items() if any(key in row for row in rows)}
            near = [{key: row[key] for key in part if key in row} for row in rows]
            if part and not any(_has(row, part) for row in near):
                return nearest(canonical(part), {canonical(row) for row in near if row})
        drawn = Search.model_construct(trials=1, metric="", space=self.random.space) if self.random else self.search
        away = [key for key in choice if drawn and key in drawn.space and not drawn.holds(key, choice[key])]
        return f"{away[0]} is drawn from {canonical(drawn.space[away[0]])}" if drawn and away else None

    @model_validator(mode="after")
    def _something(self) -> Self:
        others = self.grid or self.zipped or self.points or self.random
        if not (others or self.search):
            raise ValueError("is empty: give one of grid, zip, list, random, search, or leave the sweep out")
        if others and self.search:
            raise ValueError("a search stands alone: put the other axes into its space (as choice), or leave it out")
        return self


class Limits(Strict):
    """What a run may use before it is ended."""

    memory_gib: float | Literal["auto"] = "auto"
    """Device memory of one run; ``auto`` is what is free at start, less the CUDA context."""
    wall_minutes: float | None = Field(default=None, gt=0)
    """Minutes that one attempt may take; longer ones end as timed_out."""
    attempts: int = Field(default=3, ge=1, le=100)
    """How often a run is tried that crashes or runs out of memory."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if self.memory_gib != "auto" and not self.memory_gib > 0:
            raise ValueError(f"memory_gib must be auto or above 0, got {self.memory_gib}")
        return self


class Need(Strict):
    """Another experiment that must be done first; only the runs that ``where`` matches, when it is given."""

    experiment: Name
    """Its name."""
    where: dict[str, Any] = Field(default={})
    """Parameters of its runs that are waited for; empty: all of them."""
    accept: tuple[Literal["failed", "cancelled", "out_of_memory", "diverged", "timed_out", "crashed"], ...] = ()
    """Outcomes beside succeeded with which waiting ends."""


class FromRun(Strict):
    """Another run's artifact as a parameter; resolved when the run is claimed, to exactly one succeeded run."""

    experiment: Name
    """Its name."""
    where: dict[str, Any] = Field(default={})
    """Parameters that choose one of its runs."""
    seed: Seed | Literal["same", "next"] | None = None
    """A seed of that experiment; ``same``: the one of the run that asks; ``next``: the one after it in that experiment,
    after the last its first."""
    artifact: str = Field(min_length=1)
    """Name of the artifact that becomes the parameter's value."""

    @model_validator(mode="after")
    def _chosen_once(self) -> Self:
        dotted = [key for name, value in self.where.items() for key in chosen({name: value})]
        if twice := sorted({key for key in dotted if dotted.count(key) > 1}):
            raise ValueError(f"where names {twice[0]!r} twice, once dotted and once in a folder; keep one")
        return self


class MetricPair(Strict):
    """A figure that the report draws: one metric against another, a mark per sweep point. Changes no run."""

    x: str = Field(min_length=1, max_length=100)
    """Metric of the horizontal axis."""
    y: str = Field(min_length=1, max_length=100)
    """Metric of the vertical axis."""
    by: str | None = Field(default=None, min_length=1)
    """A varied key that is told by colour."""
    title: str = Field(default="", max_length=120)
    """Heading of the figure."""
    better: Literal["lower-left", "lower-right", "upper-left", "upper-right"] | None = None
    """The corner where both metrics are good; said in words, the axes stay as they are."""
    without: tuple[Annotated[dict[str, Cell], Field(min_length=1)], ...] = Field(default=(), max_length=24)
    """Sweep points with these values are not in this figure, which says so; no other figure, table or verdict knows."""

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.x == self.y:
            raise ValueError(f"x and y are both {self.x!r}; a figure needs two metrics")
        return self


class Override(Strict):
    """What a profile changes. ``params`` and ``limits`` are merged key by key; the others replace."""

    device: Device | None = None
    """``cpu`` or ``cuda``: whose worker executes its runs."""
    params: Keys = Field(default={})
    """Parameters that differ from the spec's own."""
    limits: Keys = Field(default={})
    """Limits that differ."""
    sweep: Sweep | None = None
    """Replaces the spec's sweep."""
    seeds: Seeds | None = None
    """Replaces the spec's seeds."""


class Spec(Strict):
    """One experiment, as registered before it ran."""

    name: Name
    """Of the experiment: lower-case letters, digits and underscores."""
    kind: str
    """What executes its runs: a name of ``labqueue kinds``."""
    track: Name = "other"
    """Groups experiments in listings: fine_tuning, pretraining, attention, probing, papers, ..."""
    questions: tuple[str, ...] = ()
    """Ids in QUESTIONS.md that it speaks to."""
    hypothesis: str = ""
    """What is expected and why, written before the runs."""
    methodology: str = ""
    """What is varied, what is held fixed, and how it is measured."""
    params: Keys = Field(default={})
    """Parameters of the kind, for every run; a sweep varies some of them."""
    sweep: Sweep | None = None
    """What is varied; left out: one point."""
    seeds: Seeds = (0,)
    """Every sweep point runs once with each."""
    profiles: dict[Name, Override] = Field(default={})
    """Named variants, chosen with ``--profile``: sizes for a CPU, a small GPU, a night."""
    limits: Limits = Limits()
    """What each run may use."""
    needs: tuple[Name | Need, ...] = ()
    """Experiments that must be done before."""
    predictions: Predictions = ()
    """Claims that the report decides, written before the runs."""
    looks: Looks = ()
    """Numbers of seeds, rising, at which verdicts are taken: ``[3, 5]``. They share the 5 % of wrong decisions; left
    out: one look, at all seeds. Later seeds than the last look's are refused."""
    plots: tuple[MetricPair, ...] = Field(default=(), max_length=12)
    """Figures beside those that every report has; their metrics are known only when runs have recorded them."""

    @classmethod
    def of_job(cls, frozen: Mapping[str, Any]) -> Self:
        """Returns a spec as it was frozen into a job, beside the names of its axes."""
        return cls.parse({key: value for key, value in frozen.items() if key != "axes"})

    @field_validator("plots")
    @classmethod
    def _by_what_is_varied(cls, plots: tuple[MetricPair, ...], info: ValidationInfo) -> tuple[MetricPair, ...]:
        over = info.data.get("profiles", {}).values()
        known = {
            key for sweep in [info.data.get("sweep"), *(each.sweep for each in over)] if sweep for key in sweep.axes
        }
        for pair in plots:
            named = [("by", pair.by)] if pair.by is not None else []
            named += [("without", key) for choice in pair.without for key in choice]
            for field, key in named:
                if key not in known:
                    words = nearest(key, known) if known else f"this spec has no sweep; leave {field} out"
                    raise ValueError(f"{pair.y} against {pair.x} is {field} {key!r}, which is not varied: {words}")
        return plots


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` laid on it, folder by folder; neither is changed."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, dict) and isinstance(value, dict) and not is_reference(value)
        merged[key] = merge(old, value) if both and isinstance(old, dict) else value
    return merged


def assign(tree: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """``tree`` with the dotted key set; folders on the way are made. The original is not changed.

    A number on the way is a place in a list that is there. Below a reference's ``where`` the rest is one dotted key.
    """
    head, _, rest = dotted.partition(".")
    if not rest:
        return {**tree, head: value}
    inner = tree.get(head)
    if head == KEY and is_reference(tree) and isinstance(inner, dict):
        return {head: keyed(inner, rest, value)}
    place, _, below = rest.partition(".")
    if isinstance(inner, list) and place.isdecimal() and int(place) < len(inner):
        old = inner[int(place)]
        new = assign(old if isinstance(old, dict) else {}, below, value) if below else value
        return {**tree, head: [*inner[: int(place)], new, *inner[int(place) + 1 :]]}
    return {**tree, head: assign(inner if isinstance(inner, dict) else {}, rest, value)}


def with_profile(spec: Spec, profile: str) -> tuple[Spec, Device]:
    """Returns the spec with the profile's overrides in it (and no profiles left), and the device it asks for.

    Raises:
        LabError: the spec names no such profile (``cpu`` and ``gpu`` always exist), or a plot leaves out sweep points
            that no profile has.
    """
    over = spec.profiles.get(profile)
    if over is None:
        if profile not in ("cpu", "gpu"):
            known = nearest(profile, {*spec.profiles, "cpu", "gpu"})
            raise LabError(f"unknown profile {profile!r} of experiment {spec.name!r}: {known}", key="profiles")
        over = Override()
    limits = spec.limits.model_dump(exclude_unset=True) | over.limits
    sweep = over.sweep or spec.sweep
    plots = tuple(_plotted(spec, at, sweep) for at in range(len(spec.plots)))
    changed = spec.model_copy(
        update={
            "params": merge(spec.params, over.params),
            "limits": Limits.parse(limits),
            "sweep": sweep,
            "seeds": over.seeds or spec.seeds,
            "profiles": {},
            "plots": plots,
        }
    )
    return changed, over.device or ("cpu" if profile == "cpu" else "cuda")


def _plotted(spec: Spec, at: int, sweep: Sweep | None) -> MetricPair:
    """One of the spec's plots for the sweep of a profile, which may lack keys and points that another's has."""
    pair = spec.plots[at]
    sweeps = [each for each in (spec.sweep, *(over.sweep for over in spec.profiles.values())) if each]
    for choice in pair.without:
        found = [each.lacks(choice) for each in sweeps]
        if None not in found:
            words = f"plots.{at}: {pair.y} against {pair.x} is without {canonical(choice)}"
            raise LabError(f"{words}, which matches no sweep point: {found[0]}", key=f"plots.{at}")
    # What another profile varies is one value here: nothing to tell by colour, or to leave out.
    by = pair.by if sweep and pair.by in sweep.axes else None
    without = tuple(choice for choice in pair.without if sweep and sweep.lacks(choice) is None)
    return pair.model_copy(update={"by": by, "without": without})


def _has(row: dict[str, Any], part: dict[str, Cell]) -> bool:
    """Whether a point has these values: 1 is 1.0, but true is not 1."""
    values = [(row[key], value) for key, value in part.items() if key in row]
    return len(values) == len(part) and all(a == b and isinstance(a, bool) == isinstance(b, bool) for a, b in values)
