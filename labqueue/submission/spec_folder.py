"""Which questions the specs in a folder speak to. A spec that cannot be read speaks to none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.submission import specfile


def questions_of(folders: Iterable[Path]) -> dict[str, list[str]]:
    """Experiment → question ids, of every spec below the folders; folders that are not there have none."""
    found: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            try:
                data = specfile.read(path).data
            except LabError:
                continue
            name, ids = data.get("name"), data.get("questions")
            if isinstance(name, str) and isinstance(ids, list):
                found[name] = list(dict.fromkeys([*found.get(name, []), *(one for one in ids if isinstance(one, str))]))
    return found
