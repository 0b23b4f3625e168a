"""The checkpoint from which an attempt goes on: the newest whose files are those that were recorded."""

from __future__ import annotations

import sys
from pathlib import Path

from labqueue.domain.kind import Checkpoint
from labqueue.execution import files
from labqueue.settings import Settings
from labqueue.store import read, write
from labqueue.store.db import Database


def newest(settings: Settings, db: Database, run_id: int, token: int) -> Checkpoint | None:
    """The newest checkpoint of a run that can be believed; newer ones are forgotten, and its history says why.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    rows = read.checkpoints(db, run_id)
    for at, row in enumerate(rows, start=1):
        path = settings.root / row.path
        fault = _fault(path, row.sha256)
        if fault is None:
            return Checkpoint(row.step, path)
        older = f"falling back to that of step {rows[at].step}" if at < len(rows) else None
        instead = older or "starting from the beginning"
        words = f"checkpoint of step {row.step} {fault} ({row.path}); {instead}"
        sys.stderr.write(f"{words}\n")
        write.drop_checkpoint(db, run_id, token, row.step, words)
    return None


def _fault(checkpoint: Path, sha256: str) -> str | None:
    """Why a checkpoint cannot be believed, or None."""
    if not checkpoint.is_dir():
        return "is missing"
    try:
        return None if files.sha256(checkpoint) == sha256 else "does not match its hash"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
