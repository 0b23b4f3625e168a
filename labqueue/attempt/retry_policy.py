"""Decides when an attempt ends whether its run is final or tried again, and how. One table for child and worker."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from labqueue import kinds
from labqueue.domain.canonical import flat
from labqueue.domain.errors import Unavailable
from labqueue.domain.spec.references import refers
from labqueue.domain.state import Ending
from labqueue.domain.values import written
from labqueue.store.db import Database
from labqueue.store.runs import attempts, search_state
from labqueue.store.runs.attempts import Claim
from labqueue.system import clock

BACKOFF_S = (1.0, 10.0, 60.0, 300.0)
"""Wait before the 2nd, 3rd, 4th and every later attempt after a crash. Assumption: most causes pass in minutes."""


def conclude(
    db: Database, claim: Claim, ending: Ending, reason: str | None, fields: dict[str, Any] | None = None
) -> None:
    """Ends the attempt and decides about its run:

    ============== ==========================================================================
    crashed        again after a back-off, until ``limits.attempts`` are used up
    out_of_memory  again with what the kind's ``with_less_memory`` gives, until that is None
    disk_full      again, not counted; the worker pauses the queue until there is room
    interrupted    again at once, not counted (``attempts.interrupt`` looks for stalls)
    all others     final
    ============== ==========================================================================

    Raises:
        Fenced: the attempt no longer owns its run.
    """
    fields = dict(fields or {})
    reason = reason and written(reason)  # an error may quote what could not be stored
    requeue: dict[str, Any] | None = None
    addition = ""
    if ending is Ending.CRASHED:
        used = claim.attempts_used + 1
        fields["attempts_used"] = used
        fields["stalls"] = 0
        if used < claim.limits["attempts"]:
            wait_s = BACKOFF_S[min(used, len(BACKOFF_S)) - 1]
            requeue = {"not_before": str(clock.Deadline.after(wait_s))}
        elif claim.limits["attempts"] > 1:
            addition = f" (attempt {used} of {claim.limits['attempts']})"
    elif ending is Ending.DISK_FULL:
        requeue = {}
    elif ending is Ending.OUT_OF_MEMORY:
        smaller = _smaller(claim)
        if smaller is not None:
            requeue = {"adjusted": smaller}
        else:
            addition = f"; {_spent(claim)}"
    attempts.end(db, claim.ref, ending, reason, addition=addition, requeue=requeue, fields=fields)
    if ending is Ending.PRUNED:
        # Only saves time: where it cannot be written now, the trial's other seeds run.
        with contextlib.suppress(Unavailable):
            search_state.settle_siblings(db, claim.run_id)


def _smaller(claim: Claim) -> dict[str, Any] | None:
    """The next rung of the memory ladder: ``{"params": …, "tried": [what changed on each rung]}``."""
    kind = kinds.get(claim.kind)
    before = claim.adjusted["params"] if claim.adjusted else claim.params
    if refers(before):
        return None  # what the reference stands for is known to the child only
    after = kind.with_less_memory(kind.params.parse(before))
    if after is None:
        return None
    params = after.model_dump(mode="json")
    changed = {key: value for key, value in flat(params).items() if flat(before).get(key) != value}
    words = ", ".join(f"{key}={json.dumps(value)}" for key, value in changed.items())
    return {"params": params, "tried": [*(claim.adjusted["tried"] if claim.adjusted else []), words]}


def _spent(claim: Claim) -> str:
    """What was tried before memory ran out for good, and what would fit."""
    kind = kinds.get(claim.kind)
    last = claim.adjusted["params"] if claim.adjusted else claim.params
    words = "nothing smaller is known"
    if claim.adjusted:
        words = f"tried {', then '.join(claim.adjusted['tried'])}; {words}"
    advice = None if refers(last) else kind.memory_advice(kind.params.parse(last))
    return words if advice is None else f"{words}. What would fit: {advice}"
