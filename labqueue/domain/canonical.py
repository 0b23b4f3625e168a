"""One text for equal values: what hashes and reuse rest on. Imports no validation library."""

from __future__ import annotations

import hashlib
import json

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text. NaN and infinities raise ValueError."""
    return _ENCODER.encode(value)


def digest(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of a value."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()
