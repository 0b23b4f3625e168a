"""Canonical JSON: one text for equal values, used for hashing and run reuse. Imports no validation library."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN and infinities raise ValueError."""
    return _ENCODER.encode(value)


def digest(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_of(texts: Iterable[str]) -> str:
    """``digest`` of a list whose members are canonical JSON already: nothing is written twice to be hashed."""
    return hashlib.sha256(f"[{','.join(texts)}]".encode()).hexdigest()


class Canonical(NamedTuple):
    """A mapping with its canonical text, which is written once and then hashed, compared and stored."""

    value: dict[str, Any]
    text: str

    @classmethod
    def of(cls, value: dict[str, Any]) -> Canonical:
        """A mapping with its text."""
        return cls(value, canonical(value))


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A tree as one level of dotted keys: ``{"lora": {"rank": 4}}`` is ``{"lora.rank": 4}``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found
