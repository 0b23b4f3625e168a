"""Turns what version 1 kept as sentences into facts: for the migration to version 2, and for its exports.

Frozen: the sentences are those of that version, and nothing writes them any more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

_INPUT = re.compile(
    r"(?P<key>\S+) is artifact (?P<artifact>.+) of run (?P<run>\d{1,18}) \((?P<experiment>[^()]*)\), "
    r"SHA-256 (?P<sha256>[0-9a-f]{64})"
)
_TRIED = re.compile(r" \(attempt \d+ of \d+\)$")
_SEARCH_ENDED = "the search ended before its turn: "


def inputs(events: Iterable[tuple[int, str]]) -> list[dict[str, Any]]:
    """Rows of ``inputs``, without ids, from (run, text) of the events of kind ``input``, oldest first."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for run, text in events:
        words = _INPUT.fullmatch(text)
        if words is not None:
            source = {"source_run_id": int(words["run"]), "experiment": words["experiment"]}
            row = {"run_id": run, "key": words["key"], **source, "artifact": words["artifact"]}
            found[run, words["key"]] = {**row, "sha256": words["sha256"]}
    return list(found.values())


def reason_code(outcome: str | None, reason: str | None) -> str | None:
    """The code that version 2 has beside the reason of a run."""
    return "search_ended" if outcome == "pruned" and (reason or "").startswith(_SEARCH_ENDED) else None


def untried(reason: str | None) -> str | None:
    """The reason of an attempt without how many there were, which version 2 tells of the run alone."""
    return reason and _TRIED.sub("", reason)


def upgrade_rows(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Makes rows of an export of version 1 such as version 2 writes; what is not as expected stays as it is."""
    for run in tables["runs"]:
        if "token" in run:
            run["attempt"] = run.pop("token")
        run.pop("wait_code", None)
        run.pop("wait_text", None)
        run["reason_code"] = reason_code(*(_text(run.get(key)) for key in ("outcome", "reason")))
        run["needs_unmet"] = False
    for attempt in tables["attempts"]:
        attempt["reason"] = untried(_text(attempt.get("reason")))
    events = sorted(
        (event for event in tables["events"] if event.get("kind") == "input"), key=lambda event: event["id"]
    )
    taken = inputs((event["run_id"], _text(event["text"]) or "") for event in events)
    tables["inputs"] = [{"id": number, **row} for number, row in enumerate(taken, 1)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
