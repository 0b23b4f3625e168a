"""Chooses the SQLite library, and says how it is used.

The standard library's SQLite may be older than the fix for the WAL-reset race (3.51.3), in which two connections
that write and checkpoint at once can corrupt the file. ``pysqlite3`` ships a newer one; without it the lab gives up
WAL and keeps correctness.
"""

from __future__ import annotations

import sqlite3
from types import ModuleType

try:
    import pysqlite3 as _module

    SQLITE: ModuleType = _module
except ImportError:
    SQLITE = sqlite3

SAFE_WAL = (3, 51, 3)
"""The first SQLite whose WAL survives two writers that checkpoint at once (sqlite.org/wal.html, "WAL-reset bug")."""

BUSY_MS = 60_000
"""How long a statement waits for another process's lock."""


def library() -> tuple[str, str, bool]:
    """The SQLite in use: module name, its version, and whether WAL is safe with it."""
    return SQLITE.__name__, SQLITE.sqlite_version, SQLITE.sqlite_version_info >= SAFE_WAL
