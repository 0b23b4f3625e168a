"""Finished runs from another workspace into this one, from its folder or from an exported file.

Nothing is believed: an artifact counts only when its SHA-256 is the one that its results store names, a run with one
that does not hold is refused as a whole, and all others come in by one transaction.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labqueue.domain.errors import LabError, WorkFailed
from labqueue.domain.spec import names
from labqueue.settings import Settings, own_folders
from labqueue.store.db import Database, open_existing
from labqueue.store.workspace import bundle, identity, importing
from labqueue.store.workspace.bundle import Bundle, Points
from labqueue.system import clock, files, patches
from labqueue.workspace import archive_file

STALE_S = 86_400.0

ReadPoints = Callable[[set[int]], Iterable[Points]]


@dataclass(frozen=True)
class Brought:
    """What an import did: run ids there → here, and those refused with the words for it."""

    workspace: str
    runs: dict[int, int]
    known: dict[int, int]
    refused: dict[int, str]


def bring(db: Database, settings: Settings, source: Path) -> Brought:
    """Imports the finished runs of a workspace's folder or of an exported file.

    Raises:
        LabError: the source is neither, of another version, damaged, or reaches outside itself.
    """
    settings.outputs.mkdir(parents=True, exist_ok=True)
    for left in settings.outputs.glob(".import-*"):
        # Of an import that was killed; one that goes on is younger.
        if clock.now() - left.stat().st_mtime > STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    staging = settings.outputs / f".import-{uuid.uuid4().hex}"
    try:
        staging.mkdir()
        if source.is_dir():
            return _from_workspace(db, settings, source, staging)
        if source.is_file():
            return _from_file(db, settings, source, staging)
        raise LabError(f"there is no {source}: name a workspace's folder, or a file that `labqueue export` wrote")
    except OSError as error:
        raise WorkFailed(f"import of {source} failed: {error.strerror or error}; nothing was imported") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _from_workspace(db: Database, settings: Settings, source: Path, staging: Path) -> Brought:
    theirs = open_existing(source / "results.db")
    if theirs is None:
        raise LabError(f"there is no results.db in {source}: it is no workspace", file=str(source))
    try:
        if theirs.path.samefile(db.path):
            raise LabError(f"{source} is this workspace itself: there is nothing to import")
        workspace = identity.workspace_id(theirs)
        with theirs.read() as connection:
            brought = bundle.collect(connection, workspace, bundle.names(connection))

            def points(wanted: set[int]) -> Iterable[Points]:
                return bundle.points(connection, sorted(wanted))

            return _store(db, settings, brought, points, source, staging, move=False)
    finally:
        theirs.close()


def _from_file(db: Database, settings: Settings, source: Path, staging: Path) -> Brought:
    inside = staging / "file"
    inside.mkdir()
    archive_file.extract(source, inside)

    def points(wanted: set[int]) -> Iterable[Points]:
        return archive_file.points(inside, source, wanted)

    return _store(db, settings, archive_file.read(inside, source), points, inside, staging, move=True)


def _store(
    db: Database, settings: Settings, brought: Bundle, points: ReadPoints, source: Path, staging: Path, *, move: bool
) -> Brought:
    """Checks and verifies everything, then stores it; files come into place before the commit, and go if it fails."""
    bundle.check(brought)
    with db.read() as connection:
        have = importing.known(connection, brought.workspace)
    ready = staging / "ready"
    refused = {}
    for run_id, row in brought.runs.items():
        if run_id in have:
            continue
        name = brought.experiments[row["experiment_id"]]
        home = f"outputs/{name}/{run_id}"
        fault = _unnamable(name) or _gather(brought, run_id, home, source, ready / str(run_id), move=move)
        if fault is not None:
            refused[run_id] = f"run {run_id}: {fault}"
    brought.drop(refused)
    placed: list[Path] = []

    def place(name: str, theirs: int, ours: int) -> None:
        target = settings.run(name, ours)
        files.make_folder(target.parent, settings.root)
        placed.append(target)
        files.publish(ready / str(theirs), target)

    try:
        admitted = importing.admit(
            db, brought, points, place, lambda name, ours: not name or not settings.run(name, ours).exists()
        )
    except BaseException:
        for path in placed:
            shutil.rmtree(path, ignore_errors=True)
        raise
    _patches(brought, source, settings)
    for name in filter(lambda name: _unnamable(name) is None, brought.experiments.values() if admitted.new else ()):
        _learnings(source / "outputs" / name / "learnings.md", settings.experiment(name) / "learnings.md")
    return Brought(brought.workspace, admitted.new, admitted.known, refused)


def _gather(brought: Bundle, run_id: int, home: str, source: Path, ready: Path, *, move: bool) -> str | None:
    """Brings what a run declares, and nothing else, into a folder of its own; returns what is wrong, or None."""
    ready.mkdir(parents=True)
    artifacts = [row for row in brought.tables["artifacts"] if row["run_id"] == run_id]
    logs = [row["log"] for row in brought.tables["attempts"] if row["run_id"] == run_id]
    for path in [*(row["path"] for row in artifacts), *logs]:
        parts = PurePosixPath(path).parts
        if not path.startswith(f"{home}/") or ".." in parts or str(PurePosixPath(path)) != path:
            return f"its results store names {path!r}, which is not in its own folder"
    for row in artifacts:
        there, here = source / row["path"], ready / row["path"].removeprefix(f"{home}/")
        fault = _take(source, there, here, move=move)
        if fault is not None:
            return f"artifact {row['name']!r} {fault}"
        if files.sha256(here) != row["sha256"]:
            said = "has another SHA-256 than its results store says; nothing of the run is imported"
            return f"artifact {row['name']!r} {said}"
    for log in logs:
        # A log may have been cleaned away.
        _take(source, source / log, ready / log.removeprefix(f"{home}/"), move=move)
    return None


def _unnamable(name: str) -> str | None:
    """Why an experiment of an older lab cannot stand here under its name; that of a rehearsal can."""
    words = None if name.endswith(names.REHEARSAL) else names.refusal(name, own_folders())
    return words and f"{words} (submit its spec under that name where it comes from, then import it)"


def _take(source: Path, there: Path, here: Path, *, move: bool) -> str | None:
    if not there.exists():
        return f"is missing: {there.relative_to(source)}"
    inside = [there, *there.rglob("*")]
    above = [parent for parent in there.parents if parent.is_relative_to(source / "outputs")]
    if any(path.is_symlink() or not _plain(path) for path in [*inside, *above]):
        return "is a link, or holds one"
    here.parent.mkdir(parents=True, exist_ok=True)
    if move:
        os.replace(there, here)
    elif there.is_dir():
        shutil.copytree(there, here)
    else:
        shutil.copyfile(there, here)
    return None


def _plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def _patches(brought: Bundle, source: Path, settings: Settings) -> None:
    """The changes with which runs ran come along, where the file holds what its name says."""
    for name in {row["patch"] for row in brought.tables["attempts"] if row["patch"]}:
        theirs, ours = source / name, settings.root / name
        links = any(path.is_symlink() for path in (theirs, *theirs.parents) if path.is_relative_to(source / "outputs"))
        if links or not theirs.is_file() or ours.exists():
            continue
        content = theirs.read_bytes()
        if patches.file_name(content) == ours.name:
            files.make_folder(ours.parent, settings.root)
            files.write_bytes(ours, content)


def _learnings(theirs: Path, ours: Path) -> None:
    """What a person wrote comes along where nothing of the kind is here yet; nothing is overwritten."""
    if theirs.is_file() and not theirs.is_symlink() and not ours.exists():
        with contextlib.suppress(OSError):
            files.write_bytes(ours, theirs.read_bytes())
