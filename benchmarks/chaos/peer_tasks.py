"""What every peer executes: counts, one line in a side-effect file a step. Imports nothing of the lab.

As a module it serves Huey and RQ, as a program (``peer_tasks.py NUMBER``) task-spooler and Slurm.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

STEPS = 10
STEP_S = 0.7


def count(number: int) -> None:
    """Appends ``number execution step`` for each step; an execution is named by its process and its start."""
    execution = f"{os.getpid()}-{time.monotonic_ns()}"
    with Path(os.environ["CHAOS_PEER_WITNESS"]).open("a") as witness:
        for step in range(1, STEPS + 1):
            time.sleep(STEP_S)
            witness.write(f"{number} {execution} {step}\n")
            witness.flush()
            os.fsync(witness.fileno())


if "CHAOS_HUEY" in os.environ:
    from huey import SqliteHuey

    huey = SqliteHuey(filename=os.environ["CHAOS_HUEY"], fsync=True)
    # Retries are on, so that what is lost is not lost for want of them.
    huey_count = huey.task(retries=2)(count)

if __name__ == "__main__":
    count(int(sys.argv[1]))
