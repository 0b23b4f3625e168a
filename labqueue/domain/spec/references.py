"""References to other runs' artifacts among parameters: ``{from_run: {experiment, where, seed, artifact}}``.

The only module that knows how one is written. Imports no validation library: ``schema.FromRun`` says what may stand in
one, and a submission checks it there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from labqueue.domain.canonical import canonical

KEY = "from_run"
"""The one key of a reference as it is written."""

PLACEHOLDER = "from_run"
"""Stands for the artifact while parameters are validated: no model of that name is looked for, and the artifact's own
SHA-256 decides what is reused. No parameter may be this text by itself."""


class Reference(NamedTuple):
    """One reference, under the dotted key of the parameter that it stands for."""

    key: str
    experiment: str
    artifact: str
    where: dict[str, Any]
    """Parameters that choose among the runs of the experiment."""
    seed: int | Literal["same"] | None
    """The wanted run's seed; ``same``: that of the run which asks; None: any."""

    def seed_for(self, seed: int) -> int | None:
        """Returns the seed that a run with ``seed`` asks for; None if it asks for none."""
        return seed if self.seed == "same" else self.seed

    @property
    def text(self) -> str:
        """Canonical JSON, equal for references that are equal."""
        return canonical(list(self))


def is_reference(value: Any) -> bool:
    """Returns whether ``value`` is a reference itself."""
    return isinstance(value, dict) and set(value) == {KEY}


def of(key: str, value: Any) -> Reference | None:
    """Returns the reference that ``value`` is under ``key``; None if it is none, or not one that a submission takes."""
    named = value[KEY] if is_reference(value) else None
    if not isinstance(named, dict) or not named.keys() >= {"experiment", "artifact"}:
        return None
    return Reference(key, named["experiment"], named["artifact"], named.get("where", {}), named.get("seed"))


def references(value: Any, key: str = "") -> Iterator[Reference]:
    """Yields each reference among parameters, in their order."""
    found = of(key, value)
    if found is not None:
        yield found
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from references(inner, f"{key}.{name}" if key else name)


def refers(params: dict[str, Any]) -> bool:
    """Returns whether any parameter is another run's artifact."""
    return next(references(params), None) is not None


def resolved(value: Any, by_key: Mapping[str, str], key: str = "") -> Any:
    """Returns parameters with each reference replaced by the text under its dotted key."""
    if key in by_key:
        return by_key[key]
    if isinstance(value, dict):
        return {name: resolved(inner, by_key, f"{key}.{name}" if key else name) for name, inner in value.items()}
    return value


def restored(dump: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Returns validated parameters with the references of the ``raw`` ones in their places again."""
    laid = dict(dump)
    for key, value in raw.items():
        if is_reference(value):
            laid[key] = value
        elif isinstance(value, dict) and isinstance(dump.get(key), dict):
            laid[key] = restored(dump[key], value)
    return laid


def is_unresolved(value: object) -> bool:
    """Returns whether a parameter is another run's artifact, which only the run will have."""
    return value == PLACEHOLDER
