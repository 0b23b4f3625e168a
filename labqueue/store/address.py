"""SQLite's names for a database file: to work with, or only to look at where nothing can be written."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from sqlalchemy import URL


def uri(path: Path, mode: str) -> str:
    """SQLite's name of a file, whatever characters its path holds; ``mode``: ``ro`` or ``rw`` (sqlite.org/uri.html).

    Neither makes a file that is not there: a process must not leave an empty database where a workspace used to be.
    """
    return f"{path.absolute().as_uri()}?mode={mode}"


def writable(path: Path) -> bool:
    """Whether this process can write a database: the file, and beside it what SQLite keeps there meanwhile."""
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)


def url(path: Path) -> URL:
    """A file's name for SQLAlchemy: to read and write, or only to read where it cannot be written."""
    if writable(path):
        return _url(path, mode="rw")
    log, shared = Path(f"{path}-wal"), Path(f"{path}-shm")
    if shared.exists() or os.access(path.parent, os.W_OK):
        return _url(path, mode="ro")  # SQLite reads the log by the index that is there, whoever writes meanwhile
    if log.exists() and log.stat().st_size:
        # Without its index (sqlite.org/wal.html, "Read-Only Databases"): nobody has it open, and it holds commits.
        return _url(_copied(path, log), mode="ro")
    # Neither: nobody has it open, and without this word SQLite would want to make them.
    return _url(path, mode="ro", immutable="1")


def _url(path: Path, **query: str) -> URL:
    return URL.create("sqlite", database=path.absolute().as_uri(), query={**query, "uri": "true"})


def _copied(path: Path, log: Path) -> Path:
    """A copy of both where an index can be made; it goes when this process does."""
    folder = Path(tempfile.mkdtemp(prefix="labqueue-read-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in (path, log):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name
