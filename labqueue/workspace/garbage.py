"""Finds files below ``outputs`` that can be deleted, and says why and what that frees.

Deciding is a pure function; deleting is a step of its own.

Never goes: a result, a recorded artifact, anything of a run that is queued or running, anything that another run's
parameters name, reports and what people put beside them, anything behind a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from labqueue.store.backup import BACKUPS
from labqueue.store.workspace.retention import GarbageFacts, RunFacts
from labqueue.workspace.scan import Entry

BACKUPS_KEPT = 3
"""Of the results store's backups, the newest; beside them stays the newest of those made before each migration."""

PARTIAL_S = 3600.0
"""A backup that is still half written after this long never will be whole. Assumption: backups take seconds."""

DAY_S = 86_400.0

TRASH = ".gc"
"""The folder in ``outputs`` where things wait for the instant that their deletion takes."""


class Sort(StrEnum):
    """The kinds of things that may go."""

    CHECKPOINTS = "checkpoints"
    SCRATCH = "scratch"
    LOG = "log"
    BACKUP = "backup"
    UNKNOWN = "unknown"
    TRASH = "trash"


@dataclass(frozen=True)
class Item:
    """Something that may go. ``run`` is whose it is, where the results store knows that run."""

    path: str
    sort: Sort
    why: str
    bytes: int
    run: RunFacts | None = None


@dataclass(frozen=True)
class Kept:
    """Paths that stay, and the folders on the way to them."""

    paths: frozenset[str]
    ways: frozenset[str]

    @classmethod
    def of(cls, paths: frozenset[str]) -> Kept:
        """Of these paths."""
        return cls(paths, frozenset(way for path in paths for way in _ways(path)))

    def free(self, folder: Entry) -> Iterator[Entry]:
        """Finds what can be deleted of a folder's content: whole folders, where nothing inside stays; never links."""
        if not self.holds(folder.path):
            for entry in folder.children:
                if entry.path in self.ways:
                    yield from self.free(entry)
                elif entry.path not in self.paths and entry.removable:
                    yield entry

    def holds(self, path: str) -> bool:
        """Whether a path stays, by itself or as a part of something that does."""
        return path in self.paths or any(way in self.paths for way in _ways(path))


def _ways(path: str) -> Iterator[str]:
    parts = path.split("/")
    return ("/".join(parts[:n]) for n in range(1, len(parts)))


def decide(known: GarbageFacts, outputs: Entry | None, root: Path, *, now_s: float, logs_days: float) -> list[Item]:
    """Finds what can be deleted of the tree below ``outputs`` (None: there is none), by path. Touches nothing.

    ``now_s`` is unix time; ``root`` makes paths in parameters comparable and is not looked at.
    """
    if outputs is None:
        return []
    kept = Kept.of(known.artifacts | _inside(known.mentioned, root, outputs.path))
    items: list[Item] = []
    for folder in outputs.folders:
        if folder.path == f"outputs/{TRASH}":
            items += [_item(left, Sort.TRASH, "left by a `gc` that was interrupted") for left in folder.children]
        elif folder.path == BACKUPS.as_posix():
            items += _backups(folder, now_s)
        for run_folder in folder.folders:
            number = _number(run_folder.name)
            if number is None or folder.name.startswith("."):
                continue
            run = known.runs.get((folder.name, number))
            if run is None:
                items += _unknown(folder, run_folder, known, kept)
            elif run.finished:
                items += _of_run(run, run_folder, known, kept, now_s, logs_days)
    return sorted(items, key=lambda item: item.path)


def _of_run(
    run: RunFacts, folder: Entry, known: GarbageFacts, kept: Kept, now_s: float, logs_days: float
) -> Iterator[Item]:
    for entry in kept.free(folder):
        if entry.path in known.logs:
            ended_s = known.logs[entry.path]
            if run.succeeded and ended_s is not None and now_s - ended_s > logs_days * DAY_S:
                days = (now_s - ended_s) / DAY_S
                yield _item(entry, Sort.LOG, f"log of run {run.id}, which succeeded; {days:.0f} days old", run)
        elif f"{entry.path}/".startswith(f"{folder.path}/checkpoints/"):
            later = "" if run.succeeded else "; a retry would begin from step 0"
            yield _item(entry, Sort.CHECKPOINTS, f"run {run.id} has finished ({run.outcome}){later}", run)
        else:
            yield _item(entry, Sort.SCRATCH, f"run {run.id} has finished ({run.outcome}); no artifact of it", run)


def _unknown(experiment: Entry, folder: Entry, known: GarbageFacts, kept: Kept) -> list[Item]:
    # Somebody may keep folders of their own here, named by years, say: a run's folder has a log from its first moment.
    looks_like_a_run = any(re.fullmatch(r"attempt-[0-9]+\.log", child.name) for child in folder.children)
    used = kept.holds(folder.path) or folder.path in kept.ways
    if used or not folder.removable or not (experiment.name in known.experiments or looks_like_a_run):
        return []
    return [_item(folder, Sort.UNKNOWN, f"the results store knows no run {folder.name} of {experiment.name}")]


def _backups(folder: Entry, now_s: float) -> Iterator[Item]:
    newest = [entry for entry in folder.children if entry.kind == "file"]
    newest.sort(key=lambda entry: (entry.modified_s, entry.name), reverse=True)
    seen, words_seen = 0, set()
    for entry in newest:
        if entry.name.startswith(".results-") and entry.name.endswith(".partial"):
            if now_s - entry.modified_s > PARTIAL_S:
                yield _item(entry, Sort.BACKUP, "backup of results.db that was never finished")
        elif found := re.fullmatch(r"results-([^-]+)-.*\.db", entry.name):
            if seen >= BACKUPS_KEPT and found[1] in words_seen:
                words = f"backup of results.db; the newest {BACKUPS_KEPT} stay, and the newest of each migration"
                yield _item(entry, Sort.BACKUP, words)
            seen += 1
            words_seen.add(found[1])


def _inside(mentioned: frozenset[str], root: Path, outputs: str) -> frozenset[str]:
    """Paths in parameters that lie under ``outputs``, relative to the workspace."""
    found = set()
    for text in mentioned:
        path = Path(text)
        absolute = path if path.is_absolute() else root / path
        # By words alone: what a path in a parameter means is not looked up on the disk.
        parts: list[str] = []
        for part in absolute.parts:
            if part == "..":
                parts = parts[:-1] or parts
            else:
                parts.append(part)
        plain = Path(*parts)
        if plain.is_relative_to(root / outputs):
            found.add(plain.relative_to(root).as_posix())
    return frozenset(found)


def _item(entry: Entry, sort: Sort, why: str, run: RunFacts | None = None) -> Item:
    return Item(entry.path, sort, why, entry.bytes, run)


def _number(name: str) -> int | None:
    """The run id that a folder's name is, if it is one as the lab writes it."""
    return int(name) if name.isascii() and name.isdecimal() and str(int(name)) == name else None


def totals(items: Sequence[Item]) -> dict[str, dict[str, int]]:
    """Items and bytes by sort, in the order of ``Sort``."""
    return {
        sort.value: {"items": len(mine), "bytes": sum(item.bytes for item in mine)}
        for sort in Sort
        if (mine := [item for item in items if item.sort is sort])
    }
