"""Registration of predictions: what makes two of them the same claim. Imports no validation library.

A claim is frozen by the digest of its id and its typed clause. Fields that hold their default are left out of it, so
that a spec that spells a default out, or one frozen before a field existed, states the same claim.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labqueue.domain import canonical

_DEFAULTS: Mapping[str, Any] = {"at": "last", "where": {}, "direction": "min"}
"""Of a clause, beside null."""


def clause(prediction: Mapping[str, Any]) -> dict[str, Any]:
    """The id and the typed clause of a prediction, as plain JSON values: without its wording and without defaults."""
    stated: dict[str, Any] = {"id": prediction["id"]}
    for form, fields in prediction.items():
        if isinstance(fields, Mapping):
            stated[form] = {
                key: value
                for key, value in fields.items()
                if value is not None and not (key in _DEFAULTS and value == _DEFAULTS[key])
            }
    return stated


def digest(prediction: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of the clause: equal for equal claims, however they are worded."""
    return canonical.digest(clause(prediction))


def metric(prediction: Mapping[str, Any]) -> str:
    """The metric that a prediction, as plain JSON values, is about."""
    return str(next(fields["metric"] for fields in prediction.values() if isinstance(fields, Mapping)))
