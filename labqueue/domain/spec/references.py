"""References to other runs' artifacts among parameters: ``{from_run: {experiment, where, seed, artifact}}``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FROM_RUN = "from_run"
"""The key of a reference. As a text it stands for the artifact while parameters are validated: no model of that name is
looked for, and the artifact's own SHA-256 decides what is reused."""


def is_reference(value: Any) -> bool:
    """Whether a value is a reference itself."""
    return isinstance(value, dict) and set(value) == {FROM_RUN}


def references(value: Any, key: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Each reference among parameters, with its dotted key."""
    if is_reference(value):
        yield key, value[FROM_RUN]
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from references(inner, f"{key}.{name}" if key else name)


def refers(params: dict[str, Any]) -> bool:
    """Whether any parameter is another run's artifact."""
    return next(references(params), None) is not None
