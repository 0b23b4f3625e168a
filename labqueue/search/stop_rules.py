"""Decides when an unattended search may stop, and what it came to. Pure functions of recorded trials; starts nothing.

*Done* is a contract: every trial has ended and the search proposes no more, because all were tried, because the last
ones improved on nothing, or because a registered prediction was decided. A budget that ends first is not done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from labqueue.domain.spec.search import Search
from labqueue.domain.trials import TrialState, converged
from labqueue.domain.views import SearchResult, VerdictView
from labqueue.store.runs.search_state import ALL_RECORDED, NOT_DONE
from labqueue.store.trials import Study

CONVERGED = "converged"
DECIDED = "decided"
BUDGET = "budget"
STUCK = "stuck"
INTERRUPTED = "interrupted"

OURS = frozenset({CONVERGED, DECIDED})
"""Codes of searches that a loop has ended: another loop with other rules may open them again."""


@dataclass(frozen=True)
class Rules:
    """What ends a loop beside its last trial."""

    budget_s: float
    """Of one call, on a clock that does not jump."""
    patience: int | None = None
    """Trials without an improvement after which the search has converged; None: it never has."""
    min_improvement: float = 0.0
    """What counts as one, in the metric's unit."""
    prediction: str | None = None
    """Its id; the loop ends when it is supported or refuted at a registered look."""


@dataclass(frozen=True)
class Stop:
    """Why a loop ended; ``done`` says whether the contract holds."""

    code: str
    why: str
    done: bool


def stop(study: Study, rules: Rules, verdict: Callable[[], str | None]) -> Stop | None:
    """Why the search may end now, None while it may not. ``verdict`` gives that of the rules' prediction."""
    if rules.prediction is not None:
        said = verdict()
        if said in ("supported", "refuted"):
            return Stop(DECIDED, f"prediction {rules.prediction} is {said}", done=True)
    if rules.patience is not None:
        search = Search.parse(study.spec["sweep"]["search"])
        # Points that were drawn before TPE learned say nothing of whether learning has come to its end.
        begin = search.startup if search.sampler == "tpe" else 0
        why = converged(study.trials, search.direction, rules.patience, rules.min_improvement, begin)
        if why is not None:
            return Stop(CONVERGED, why, done=True)
    ended, why = study.switch.ended, study.switch.why or ""
    if ended is None or ended in OURS or not settled(study):
        return None
    if ended == ALL_RECORDED:
        why = f"all {study.switch.trials} trials have ended"
    return Stop(ended, why, done=ended not in NOT_DONE)


def decided(verdict: VerdictView | None, looks: Sequence[int], seeds: int) -> str | None:
    """A verdict as a loop uses it: None for a decision that was not taken at a registered look, one of ``looks``
    seeds, or of all ``seeds`` where none are registered."""
    if verdict is None or verdict.verdict not in ("supported", "refuted"):
        return None
    given = verdict.registration
    look = given.look if given is not None and given.look is not None else verdict.n
    return verdict.verdict if look in (looks or [seeds]) else None


def settled(study: Study) -> bool:
    """Whether every recorded trial has ended."""
    return all(trial.state is not TrialState.OPEN for trial in study.trials)


def summary(result: SearchResult, stopped: Stop) -> tuple[Stop, dict[str, Any]]:
    """What a loop came to, as ``--json`` prints it; the contract of done holds only with a best trial."""
    if stopped.done and result.best is None:
        stopped = Stop(stopped.code, f"{stopped.why}, and none of them has a value of {result.metric}", done=False)
    said = {"done": stopped.done, "stopped": {"code": stopped.code, "why": stopped.why}}
    return stopped, {**said, "search": result}
