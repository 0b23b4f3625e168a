"""Removing what may go: never outside ``outputs``, never through a link, each thing looked at once more before.

The results store forgets first, then the thing is moved aside in an instant in which nobody can claim its run, then it
is deleted at leisure. Killed anywhere in between, nothing in the results store points at nothing, and the next ``gc``
goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from labqueue.domain.errors import WorkFailed
from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.workspace import retention
from labqueue.workspace.garbage import TRASH, Item, Sort

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

CHANGED = "its run is no longer what it was, or something uses it now"


@dataclass(frozen=True)
class Done:
    """What became of an item. ``spared`` says why it is still there; ``failed`` that it should not be."""

    item: Item
    spared: str | None = None
    failed: bool = False


def remove(db: Database, settings: Settings, items: Sequence[Item]) -> list[Done]:
    """Removes items, each after a last look at the results store; what the file system refuses is said of the item.

    Raises:
        WorkFailed: nothing can be moved aside, since the folder for it cannot be made.
    """
    if not items:
        return []
    try:
        return _remove_all(db, settings, items)
    except OSError as error:
        raise WorkFailed(f"cannot work in {settings.outputs / TRASH}: {error.strerror}") from error


def _remove_all(db: Database, settings: Settings, items: Sequence[Item]) -> list[Done]:
    with _folder(settings.outputs) as outputs:
        with contextlib.suppress(FileExistsError):
            os.mkdir(TRASH, dir_fd=outputs)
        with _inside(outputs, TRASH) as trash:
            done = [_remove(db, outputs, trash, item) for item in items]
        with contextlib.suppress(OSError):
            os.rmdir(TRASH, dir_fd=outputs)
    return done


def _remove(db: Database, outputs: int, trash: int, item: Item) -> Done:
    place = PurePosixPath(item.path).relative_to("outputs")
    aside = place.name if item.sort is Sort.TRASH else uuid.uuid4().hex

    def take() -> None:
        with _parents(outputs, place) as parent:
            if stat.S_ISLNK(os.stat(place.name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise NotADirectoryError(f"{item.path} has become a link")
            os.rename(place.name, aside, src_dir_fd=parent, dst_dir_fd=trash)

    try:
        if item.run is not None:
            if item.sort is Sort.CHECKPOINTS and not retention.forget_checkpoints(db, item.run, item.path):
                return Done(item, CHANGED)
            taken = retention.while_unchanged(db, item.run, item.path, take)
        elif item.sort is Sort.UNKNOWN:
            taken = retention.while_unknown(db, place.parts[0], int(place.parts[1]), take)
        else:
            if item.sort is not Sort.TRASH:
                take()
            taken = True
        if not taken:
            return Done(item, CHANGED)
        _delete(aside, trash)
    except FileNotFoundError:
        return Done(item, "it was gone already")
    except OSError as error:
        return Done(item, f"{error.strerror or error}", failed=True)
    return Done(item)


def _delete(name: str, parent: int) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


@contextlib.contextmanager
def _parents(outputs: int, place: PurePosixPath) -> Iterator[int]:
    """The folder that holds a path, opened part by part, so that no part of the way can be a link."""
    with contextlib.ExitStack() as opened:
        at = outputs
        for part in place.parts[:-1]:
            at = opened.enter_context(_inside(at, part))
        yield at


@contextlib.contextmanager
def _inside(parent: int, name: str) -> Iterator[int]:
    handle = os.open(name, _OPEN, dir_fd=parent)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield handle
    finally:
        os.close(handle)
