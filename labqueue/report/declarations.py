"""Looks up what kinds of reported runs declare of their metrics and artifacts. A report is whole without it.

Runs outlive kinds: of one that is not here any more, or cannot be used, metrics are shown without unit and direction,
and tables that it would call samples are listed only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from labqueue.domain.declarations import ArtifactUse, Metrics, Quantity
from labqueue.domain.errors import LabError
from labqueue.domain.views import RunView

_BARE = "metrics are shown without units, tables that runs left by name alone"


@dataclass(frozen=True)
class Declarations:
    """Of one kind."""

    metrics: Metrics = field(default_factory=Metrics)
    artifacts: Mapping[str, ArtifactUse] = field(default_factory=dict)
    computed_in: str | None = None
    """The parameter that says in which type of number a run computes."""
    lacks: str | None = None
    """Why nothing is known of the kind, as a sentence without its stop; None where it is here."""


def of(name: str) -> Declarations:
    """The declarations of a kind by its name; empty ones, with the reason, where it cannot be asked."""
    from labqueue import kinds  # brings pydantic, which commands that report nothing need not load

    try:
        kind = kinds.get(name)
    except LabError as error:
        return Declarations(lacks=f"{_BARE}: {error.message}")
    except Exception as error:  # a module of somebody else's: a library that is not here, say
        return Declarations(lacks=f"{_BARE}: the kind {name!r} cannot be imported: {error}")
    return Declarations(kind.metrics, kind.artifacts, kind.computed_in)


def of_runs(name: str, runs: Iterable[RunView]) -> Quantity:
    """A metric as the kinds of the runs that recorded it declare it; bare where they differ."""
    found = {of(kind).metrics[name] for kind in {run.kind for run in runs if name in run.metrics}}
    return found.pop() if len(found) == 1 else Quantity(name)


def computed_in(run_kinds: Iterable[str]) -> set[str]:
    """The parameters that say, in some of these kinds, in which type of number a run computes."""
    return {key for kind in set(run_kinds) if (key := of(kind).computed_in) is not None}
