"""Lists a folder without following a link or leaving its file system. Changes nothing."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Entry:
    """One file or folder. ``kind`` is ``file``, ``folder``, ``link``, or ``other`` (a socket, another file system)."""

    path: str
    """Relative to the workspace, with forward slashes."""
    kind: str
    bytes: int
    """What removing it frees: of a file that has other names too, nothing; of a folder, the sum."""
    modified_s: float
    """Unix time."""
    children: tuple[Entry, ...] = ()

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.path.rpartition("/")[2]

    @property
    def folders(self) -> list[Entry]:
        """The folders in it."""
        return [child for child in self.children if child.kind == "folder"]

    @property
    def removable(self) -> bool:
        """Whether it is a file or folder of this file system alone; links in a folder go without what they lead to."""
        if self.kind == "folder":
            return all(child.kind == "link" or child.removable for child in self.children)
        return self.kind == "file"


def scan(folder: Path, path: str) -> Entry | None:
    """The tree of a folder, which is called ``path``; None when there is none.

    The folder itself may be a link (a workspace whose outputs lie on a larger disk); nothing in it is followed. What
    vanishes meanwhile is left out; what may not be read is ``other``, so that nothing that holds it is removable.
    """
    try:
        return _folder(folder, path, folder.stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _folder(folder: Path, path: str, status: os.stat_result) -> Entry:
    children = []
    with os.scandir(folder) as found:
        for inner in sorted(found, key=lambda inner: inner.name):
            try:
                children.append(_entry(Path(inner.path), f"{path}/{inner.name}", status.st_dev))
            except FileNotFoundError:
                continue
    total = sum(child.bytes for child in children)
    return Entry(path, "folder", total, status.st_mtime, tuple(children))


def _entry(place: Path, path: str, device: int) -> Entry:
    status = place.lstat()
    mode = status.st_mode
    if stat.S_ISDIR(mode) and status.st_dev == device:
        try:
            return _folder(place, path, status)
        except PermissionError:
            return Entry(path, "other", 0, status.st_mtime)
    if stat.S_ISREG(mode):
        return Entry(path, "file", status.st_size if status.st_nlink == 1 else 0, status.st_mtime)
    return Entry(path, "link" if stat.S_ISLNK(mode) else "other", 0, status.st_mtime)
