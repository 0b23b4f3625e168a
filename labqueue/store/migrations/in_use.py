"""Refuses to migrate a database with which somebody of an earlier version still works.

Their statements name the tables of their own version: a run that computes could not tell how it ended.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.settings import Place
from labqueue.store.address import uri
from labqueue.store.sqlite import SQLITE
from labqueue.system import processes
from labqueue.system.clock import iso
from labqueue.system.processes import Identity

# As all versions have them so far.
_WORKERS = "SELECT pid, pid_start, boot_id, device, started_at FROM workers WHERE ended_at IS NULL ORDER BY id"
_RUNS = "SELECT pid, pid_start, boot_id, run_id, started_at FROM attempts WHERE finished_at IS NULL AND pid IS NOT NULL"


def refuse(path: Path) -> None:
    """Refuses a database that a worker, or the process of a run, has open.

    Raises:
        LabError: the first of them: its process id, its device or run, and since when.
    """
    place = Place.of(path)
    with contextlib.closing(SQLITE.connect(uri(path, "ro"), uri=True)) as connection:
        tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('workers', 'attempts')"
        if connection.execute(tables).fetchone()[0] < 2:
            return
        workers = connection.execute(_WORKERS).fetchall()
        runs = connection.execute(_RUNS).fetchall()
    for rows, called in ((workers, "the worker on {}"), (runs, "run {}, whose worker is gone,")):
        for pid, start, boot, what, since in rows:
            if processes.lives(Identity(boot, pid, start), place, wait_s=0):
                raise LabError(
                    f"{path} is of an earlier version of the lab and still in use: {called.format(what)} has process "
                    f"id {pid}, since {iso(since)}. Nothing was changed. End it (`kill {pid}`: a run checkpoints "
                    "first), then try again.",
                    file=str(path),
                )
