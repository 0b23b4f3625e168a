"""Finds the newest checkpoint that can be believed, drops those that cannot, and says why."""

from __future__ import annotations

import sys
from pathlib import Path

from labqueue.domain.kind import Checkpoint
from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts, results
from labqueue.system import files


def checkpoint(db: Database, settings: Settings, claim: attempts.Claim) -> Checkpoint | None:
    """The newest checkpoint of a run whose files are what was recorded; None where there is none.

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    rows = read.checkpoints(db, claim.run_id)
    for at, row in enumerate(rows, start=1):
        path = settings.root / row.path
        fault = _fault(path, row.sha256)
        if fault is None:
            return Checkpoint(row.step, path)
        older = f"falling back to that of step {rows[at].step}" if at < len(rows) else None
        instead = older or "starting from the beginning"
        words = f"checkpoint of step {row.step} {fault} ({row.path}); {instead}"
        sys.stderr.write(f"{words}\n")
        results.drop_checkpoint(db, claim.ref, row.step, words)
    return None


def _fault(checkpoint: Path, sha256: str) -> str | None:
    """Why a checkpoint cannot be believed, or None."""
    if not checkpoint.is_dir():
        return "is missing"
    try:
        return None if files.sha256(checkpoint) == sha256 else "does not match its hash"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
