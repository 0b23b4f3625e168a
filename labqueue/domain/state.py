"""The states of a run and every change between them that is allowed. Knows nothing of who makes the change."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMED_OUT = "timed_out"
    PRUNED = "pruned"
    CRASHED = "crashed"


class Ending(StrEnum):
    """How one attempt ended: an outcome of its run, or a reason to try again."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    DIVERGED = "diverged"
    TIMED_OUT = "timed_out"
    PRUNED = "pruned"
    CRASHED = "crashed"
    INTERRUPTED = "interrupted"
    DISK_FULL = "disk_full"


class Waiting(StrEnum):
    """Why a queued run is not eligible."""

    PAUSED = "paused"
    NEEDS = "needs"
    BACKOFF = "backoff"
    MEMORY = "memory"
    DISK = "disk"
    HOURS = "hours"
    DEVICE = "device"


class ReasonCode(StrEnum):
    """Beside the sentence why a run ended, where a program acts on it."""

    SEARCH_ENDED = "search_ended"
    """Pruned before it began, since its search had ended; queued again when the search goes on."""


# (from, to) -> what does it. Anything else is a bug and is refused by the store.
TRANSITIONS: dict[tuple[State, State], str] = {
    (State.QUEUED, State.RUNNING): "a worker claims the run",
    (State.RUNNING, State.QUEUED): "the attempt was interrupted, or is to be tried again",
    (State.RUNNING, State.FINISHED): "the attempt decided the outcome",
    (State.QUEUED, State.FINISHED): "the run was cancelled before it ran, or its inputs can no longer be had",
    (State.FINISHED, State.QUEUED): "the run was retried; never a succeeded one",
}

SETTLED = frozenset({Outcome.SUCCEEDED, Outcome.PRUNED})
"""Outcomes that satisfy a dependent without being listed under ``accept``."""


def allowed(before: State, after: State) -> bool:
    """Whether a run may go from ``before`` to ``after``."""
    return (before, after) in TRANSITIONS
