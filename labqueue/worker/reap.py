"""Records how an attempt ended whose process could not record it: how it died, or why it was stopped."""

from __future__ import annotations

import signal

from labqueue.attempt import exit_codes, retry_policy
from labqueue.domain.state import Ending
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import attempts
from labqueue.worker import child_process as children
from labqueue.worker.child_process import Child

_WHY = {
    "pause": "paused by a person",
    "shutdown": "the worker was stopped",
    "hours": "the worker's hours are over",
    "moved": "the workspace was moved, removed or replaced under it",
}


def settle(
    db: Database,
    claim: attempts.Claim,
    running: Child,
    status: int,
    *,
    oom_kills_before: int | None,
    device: str,
    grace_s: float,
) -> None:
    """Ends the attempt in the results store, unless its process has told the ending itself, as it nearly always does.

    Raises:
        Fenced: the run was taken away meanwhile.
    """
    if not attempts.under_way(db, claim.ref):
        return
    why = running.ending or read.asked(db, claim.ref).stop
    if status == exit_codes.STOPPED or running.killed or (why is not None and status not in (0, exit_codes.DISK_FULL)):
        forced = f"; it did not stop within {grace_s:.0f} s and was killed" if running.killed else ""
        if why == "cancel":
            retry_policy.conclude(db, claim, Ending.CANCELLED, f"cancelled by a person{forced}")
        elif why == "timeout":
            words = f"ran longer than limits.wall_minutes = {claim.limits['wall_minutes']:g}{forced}"
            retry_policy.conclude(db, claim, Ending.TIMED_OUT, words)
        else:
            interrupt(db, claim, _WHY.get(why or "", "SIGTERM") + forced, asked=why is not None)
    elif status == exit_codes.BUSY:
        interrupt(db, claim, f"device {device} was not free", asked=False)
    elif status == exit_codes.DISK_FULL:
        retry_policy.conclude(
            db, claim, Ending.DISK_FULL, "the disk was full, and the results store could not be written"
        )
    elif status == 0:
        retry_policy.conclude(db, claim, Ending.FAILED, "the process exited 0 without a result")
    elif status == -signal.SIGKILL and _killed_for_memory(oom_kills_before):
        retry_policy.conclude(db, claim, Ending.OUT_OF_MEMORY, "killed by the kernel: the machine ran out of memory")
    else:
        how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
        said = children.last_words(running.log)
        retry_policy.conclude(db, claim, Ending.CRASHED, f"died of {how}" + (f"; last words: {said}" if said else ""))


def interrupt(db: Database, claim: attempts.Claim, words: str, *, asked: bool) -> None:
    """Takes the run back, uncounted; the third time in a row without progress it is a crash."""
    if attempts.interrupt(db, claim.ref, words, asked=asked):
        again = f"{words}, {attempts.MAX_STALLS} times in a row without a new step or checkpoint"
        retry_policy.conclude(db, claim, Ending.CRASHED, again)


def _killed_for_memory(before: int | None) -> bool:
    return before is not None and (children.oom_kills() or 0) > before
