"""Declares a kind's metrics (unit, direction, role) and what its artifacts mean to a report.

A kind's ``METRICS`` maps names to ``Metric``, in the order in which a report shows them within a role. A name with one
``*`` is a family, for names that a kind makes from parameters: ``*_loss`` stands for ``general_loss``. The family ``*``
says that a kind makes its names freely; a kind without ``METRICS`` says nothing of its names, which is taken for the
same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from labqueue.domain.errors import nearest

Better = Literal["lower", "higher"]
Role = Literal["held_out", "training", "cost", "diagnostic"]
Scale = Literal["real", "positive", "share", "yes_no"]
Use = Literal["samples", "curve_summary", "item_scores", "listed"]

ROLES: tuple[Role, ...] = get_args(Role)

FREELY = "*"
"""The family of all names."""

DIVERGED = "diverged"
"""The lab's metric for a run that ended with numbers but is lost (1): never the best of anything."""

PEAK_MEMORY = "peak_memory_gib"
"""The lab's metric in which a kind that resumes says the most memory that any attempt of the run has held."""


@dataclass(frozen=True)
class Metric:
    """What one metric, or a family of them, measures."""

    unit: str = ""
    """As it stands on an axis: ``nats/token``, ``s``; empty for a pure number and for a share."""
    better: Better | None = None
    """None where neither direction is an improvement."""
    role: Role = "diagnostic"
    """``held_out``: the result, on data that was not trained on; ``training``: how it came about; ``cost``: time,
    memory, size; ``diagnostic``: what is read off the others. In this order reports show them, the last two without
    figures unless a spec names them."""
    scale: Scale = "real"
    """``positive``: never below 0; ``share``: from 0 to 1; ``yes_no``: 1 or 0."""
    items: str | None = None
    """The metric or parameter (dotted) that counts what a share is of. Of a family, ``*`` in it is the entry of a list
    whose ``name`` is what ``*`` stands for in the metric's name: ``tests.*.items``."""
    deterministic: bool = False
    """Equal in every run of a sweep point, seeds included: a count of parameters."""
    nullable: bool = False
    """A run can succeed without it: it never got there, or had nothing to measure."""
    about: str = ""
    """What it is, in a few words, for lists of metrics."""

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest value that it can have, in its unit."""
        if self.scale in ("share", "yes_no"):
            return 0.0, 1.0
        return (0.0 if self.scale == "positive" else -math.inf), math.inf

    @property
    def shown_unit(self) -> str:
        """The unit, or what stands in for it: ``fraction`` of a share, ``1 is yes``; may be empty."""
        return self.unit or {"share": "fraction", "yes_no": "1 is yes"}.get(self.scale, "")


@dataclass(frozen=True)
class ArtifactUse:
    """What an artifact means to a report."""

    use: Use = "listed"
    """``samples``: a table to show in full, for the first runs; ``curve_summary``: a table (feature, value, …)
    with what the curves of a run show, beside ``metrics``; ``item_scores``: a table (metric, step, item, score) whose
    mean score at a step is the value of that metric, a share, there: it says how far a verdict may move with other
    items; ``listed``: named with its size and path."""
    metrics: tuple[str, ...] = ()
    """Of a curve summary: the metrics that were read off the same curves, in the order of the report's columns."""
    row: str | None = None
    """Of a curve summary: the feature whose value says it all in words."""
    about: str = ""
    """What it is, in a few words."""


LAB: Mapping[str, Metric] = {
    PEAK_MEMORY: Metric("GiB", "lower", "cost", "positive", about="most memory held by any attempt"),
    "estimated_memory_gib": Metric("GiB", "lower", "cost", "positive", about="peak memory as predicted"),
    "context_gib": Metric("GiB", "lower", "cost", "positive", about="memory of the device's context, beside the peak"),
    "wall_s": Metric("s", "lower", "cost", "positive", about="time of all attempts"),
    "attempts": Metric("", "lower", "cost", "positive", about="executions of the run"),
    DIVERGED: Metric("", "lower", "diagnostic", "yes_no", about="ended with numbers, but is lost"),
}
"""What means the same in every kind. A kind that records one of them declares it as it stands here."""

OF_EVERY_RUN = tuple(name for name in LAB if name != DIVERGED)
"""What the lab itself knows of a run at its end, whether or not its kind records it."""


@dataclass(frozen=True)
class Quantity:
    """A metric by its name, with what is declared of it: None where nothing is."""

    name: str
    metric: Metric | None = None
    member: str = ""
    """Of a family: what its ``*`` stands for in this name."""

    @property
    def unit(self) -> str:
        """The unit as it is shown; empty where there is none, or none is declared."""
        return "" if self.metric is None else self.metric.shown_unit

    @property
    def better(self) -> Better | None:
        """The direction of an improvement; None where there is none, or none is declared."""
        return None if self.metric is None else self.metric.better

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which values it lies; anywhere, where nothing is declared."""
        return (-math.inf, math.inf) if self.metric is None else self.metric.bounds

    def label(self, *, log: bool = False) -> str:
        """``value (s, log scale)``; the bare name where no unit is declared and the scale is linear."""
        said = ", ".join(part for part in (self.unit, "log scale" if log else "") if part)
        return f"{self.name} ({said})" if said else self.name


class Metrics:
    """The declared metrics of one kind, asked by name."""

    def __init__(self, declared: Mapping[str, Metric] | None = None) -> None:
        """``declared`` is a kind's ``METRICS``, valid as ``fault`` tells; None where it has none."""
        self.declared = dict(declared or {})
        self.families = sorted((name for name in self.declared if "*" in name), key=len, reverse=True)
        self.free = declared is None or FREELY in self.declared
        self._places = {name: place for place, name in enumerate(self.declared)}

    def __getitem__(self, name: str) -> Quantity:
        """The metric of that name; of the lab's own, where the kind declares none. Never missing."""
        key = self._key(name)
        if key is None:
            return Quantity(name, LAB.get(name))
        start, star, end = key.partition("*")
        return Quantity(name, self.declared[key], name[len(start) : len(name) - len(end)] if star else "")

    def place(self, name: str) -> int:
        """Where a metric stands in the declaration, for the order of reports; last where it does not stand there."""
        key = self._key(name)
        return len(self._places) if key is None else self._places[key]

    def known(self, made: Iterable[str] | None = None) -> list[str]:
        """The names that can be recorded; ``made`` are those of the families, None where they are not known."""
        names = [name for name in self.declared if "*" not in name]
        return [*names, *(self.families if made is None else made)]

    def records(self, name: str, made: Iterable[str] | None = None) -> bool:
        """Whether a run can record a metric of that name; ``made`` as in ``known``."""
        if self.free or (name in self.declared and "*" not in name):
            return True
        return self._key(name) is not None if made is None else name in made

    def _key(self, name: str) -> str | None:
        if name in self.declared and "*" not in name:
            return name
        return next((family for family in self.families if belongs(name, family)), None)


def belongs(name: str, family: str) -> bool:
    """Whether a name is of a family: its ``*`` stands for one letter or more."""
    start, _, end = family.partition("*")
    return len(name) > len(start) + len(end) and name.startswith(start) and name.endswith(end)


def fault(metrics: Any, artifacts: Any) -> str | None:
    """What is wrong with a kind's ``METRICS`` and ``ARTIFACTS`` (None where it has none), with the cure; None where
    nothing is."""
    for title, declared, type_ in (("METRICS", metrics, Metric), ("ARTIFACTS", artifacts, ArtifactUse)):
        if declared is None:
            continue
        if not isinstance(declared, Mapping):
            return f"{title} is {_shown(declared)}, not a mapping of names to {type_.__name__}"
        for name, value in declared.items():
            if not isinstance(name, str) or not name:
                return f"{title} has the name {_shown(name)}, which is no text"
            if not isinstance(value, type_):
                return f"{title}[{name!r}] is {_shown(value)}, not a {type_.__name__}"
    for name, metric in (metrics or {}).items():
        if words := _metric_fault(name, metric):
            return f"METRICS[{name!r}] {words}"
    for name, use in (artifacts or {}).items():
        if words := _use_fault(use, metrics):
            return f"ARTIFACTS[{name!r}] {words}"
    return None


def _metric_fault(name: str, metric: Metric) -> str | None:
    if name.count("*") > 1:
        return "has more than one *: a family has one"
    for field, value, choices in (
        ("better", metric.better, (*get_args(Better), None)),
        ("role", metric.role, ROLES),
        ("scale", metric.scale, get_args(Scale)),
    ):
        if value not in choices:
            return f"has {field} {value!r}: {nearest(str(value), map(str, choices))}"
    texts = {"unit": metric.unit, "about": metric.about, "items": metric.items or ""}
    if wrong := next((field for field, value in texts.items() if not isinstance(value, str)), None):
        return f"has {wrong} {texts[wrong]!r}, which is no text"
    if metric.unit and metric.scale in ("share", "yes_no"):
        return f"has the unit {metric.unit!r} and the scale {metric.scale}, which has none: leave the unit empty"
    if metric.items is not None and metric.scale != "share":
        return f"has items {metric.items!r}, which belong to the scale share, and the scale {metric.scale}"
    if name in LAB and metric != LAB[name]:
        return "is a metric of the lab's own: declare it as labqueue.domain.declarations.LAB does"
    return None


def _use_fault(use: ArtifactUse, metrics: Any) -> str | None:
    if use.use not in get_args(Use):
        return f"has use {use.use!r}: {nearest(str(use.use), get_args(Use))}"
    if (use.metrics or use.row is not None) and use.use != "curve_summary":
        return f"has metrics or row, which belong to the use curve_summary, and the use {use.use}"
    unknown = next((name for name in use.metrics if name not in (metrics or {})), None)
    if unknown is not None:
        return f"has the metric {unknown!r}, which METRICS does not declare: {nearest(unknown, metrics or {})}"
    return None


def _shown(value: Any) -> str:
    """A wrong value in an error; a long one is cut."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
