"""Parameters that are what a run of another experiment left: ``{from_run: …}``. Knows no runs."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from labqueue.domain.canonical import canonical
from labqueue.domain.spec import FromRun
from labqueue.submission import specfile
from labqueue.submission.specfile import Source


def without(params: Any, source: Source, path: str = "params") -> Any:
    """Parameters with each ``{from_run: …}`` replaced by a text, as the kind will see the artifact's path.

    Raises:
        LabError: one is malformed.
    """
    if not isinstance(params, dict):
        return params
    if set(params) == {"from_run"}:
        try:
            FromRun.model_validate_json(canonical(params["from_run"]))
        except ValidationError as error:
            raise specfile.first_error(error, source, f"{path}.from_run", FromRun) from error
        return "from_run"
    return {key: without(value, source, f"{path}.{key}") for key, value in params.items()}


def restored(dump: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    """Validated parameters with the references of the raw ones in their places again."""
    laid = dict(dump)
    for key, value in raw.items():
        if isinstance(value, dict) and set(value) == {"from_run"}:
            laid[key] = value
        elif isinstance(value, dict) and isinstance(dump.get(key), dict):
            laid[key] = restored(dump[key], value)
    return laid
