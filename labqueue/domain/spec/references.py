"""References to other runs' artifacts among parameters: ``{from_run: {experiment, where, seed, artifact}}``.

The only module that knows how one is written. Imports no validation library: ``schema.FromRun`` says what may stand in
one, and a submission checks it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError

KEY = "from_run"
"""The one key of a reference as it is written."""

PLACEHOLDER = "from_run"
"""Stands for the artifact while parameters are validated: no model of that name is looked for, and the artifact's own
SHA-256 decides what is reused. No parameter may be this text by itself."""


class Reference(NamedTuple):
    """One reference, under the dotted key of the parameter that it stands for; a place in a list is part of the key."""

    key: str
    experiment: str
    artifact: str
    where: dict[str, Any]
    """Dotted keys of parameters, with the values that choose among the runs of the experiment."""
    seed: int | Literal["same", "next"] | None
    """The wanted run's seed; ``same``: that of the run which asks; ``next``: the one after it; None: any."""

    def seed_for(self, seed: int, known: Iterable[int]) -> int | None:
        """Returns the seed that a run with ``seed`` asks for; None if it asks for none.

        Of ``next``: the lowest above ``seed`` of the seeds ``known`` of the chosen runs, after the highest the lowest.
        So every run has a partner, and where both experiments have the same seeds each is the partner of one.

        Raises:
            LabError: ``next``, and no other seed is known.
        """
        if self.seed == "next":
            others = sorted(set(known) - {seed})
            if not others:
                raise LabError(
                    f"from_run asks for the next seed of experiment {self.experiment!r}, which has none but {seed}: "
                    "submit it with more --seeds, or write the seed as a number",
                    key=self.key,
                )
            return next((other for other in others if other > seed), others[0])
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
    return Reference(key, named["experiment"], named["artifact"], chosen(named.get("where", {})), named.get("seed"))


def chosen(where: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a ``where`` with dotted keys, however it is written: ``{lora: {rank: 4}}`` is ``{lora.rank: 4}``.

    A reference and an empty folder are values, compared whole.
    """
    found: dict[str, Any] = {}
    for name, value in where.items():
        if isinstance(value, dict) and value and not is_reference(value):
            found |= chosen(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def keyed(reference: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Returns what is written below ``from_run`` with a dotted key set.

    Below ``where`` it is one dotted key, and takes the place of what was written for it in whatever form.
    """
    head, _, rest = dotted.partition(".")
    if head != "where" or not rest:
        return {**reference, dotted: value}
    where = chosen(reference.get("where", {}))
    kept = {key: old for key, old in where.items() if key != rest and not key.startswith(f"{rest}.")}
    return {**reference, "where": {**kept, rest: value}}


def references(value: Any, key: str = "") -> Iterator[Reference]:
    """Yields each reference among parameters, in their order."""
    found = of(key, value)
    if found is not None:
        yield found
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from references(inner, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from references(inner, f"{key}.{place}")


def refers(params: dict[str, Any]) -> bool:
    """Returns whether any parameter is another run's artifact."""
    return next(references(params), None) is not None


def resolved(value: Any, by_key: Mapping[str, str], key: str = "") -> Any:
    """Returns parameters with each reference replaced by the text under its dotted key."""
    if key in by_key:
        return by_key[key]
    if isinstance(value, dict):
        return {name: resolved(inner, by_key, f"{key}.{name}" if key else name) for name, inner in value.items()}
    if isinstance(value, list):
        return [resolved(inner, by_key, f"{key}.{place}") for place, inner in enumerate(value)]
    return value


def restored(dump: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Returns validated parameters with the references of the ``raw`` ones in their places again."""
    laid: dict[str, Any] = _restored(dump, raw)
    return laid


def _restored(dump: Any, raw: Any) -> Any:
    if is_reference(raw):
        return raw
    if isinstance(raw, dict) and isinstance(dump, dict):
        kept = [key for key in raw if key in dump or is_reference(raw[key])]
        return {**dump, **{key: _restored(dump.get(key), raw[key]) for key in kept}}
    if isinstance(raw, list) and isinstance(dump, list) and len(raw) == len(dump):
        return [_restored(one, other) for one, other in zip(dump, raw, strict=True)]
    return dump


def is_unresolved(value: object) -> bool:
    """Returns whether a parameter is another run's artifact, which only the run will have."""
    return value == PLACEHOLDER
