"""What version 4 has beside version 3, in rows of exports that earlier versions made. Frozen."""

from __future__ import annotations

from typing import Any


def upgrade_rows(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Gives rows of an export of version 3 the columns of version 4; it knew neither phases nor samples."""
    for run in tables["runs"]:
        run["progress_phase"] = run["keep_asked_at"] = None
    for attempt in tables["attempts"]:
        attempt["last_phase"] = None
    tables["samples"] = []
