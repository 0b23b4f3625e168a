"""Trials of a search, as the results store's runs tell them: what each was worth, and when to go on. Pure functions.

A trial is one point of the space with all its seeds. Imports no validation library, since a running child and the
commands that people type most ask it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from labqueue.domain.measured import averageable

PRUNE_FROM = 5
"""Earlier runs with a value at the same step before the median rule ends anything: Optuna's own default
(``MedianPruner.n_startup_trials``)."""


class TrialState(Enum):
    """What the sampler is told of a trial, as Optuna's own states have it."""

    OPEN = "open"
    COMPLETE = "complete"
    PRUNED = "pruned"
    UNTRIED = "untried"
    """The search ended before all its seeds had begun: it says nothing of the point."""
    FAILED = "failed"
    """A run failed, crashed, diverged, was cancelled or ran out of memory or time: nothing is learned from its value,
    and the point is not proposed again."""


@dataclass(frozen=True)
class TrialRun:
    """One seed of a trial."""

    id: int
    seed: int
    state: str
    outcome: str | None
    last: float | None
    """The searched metric's last value; None: not measured."""
    last_step: int | None


@dataclass(frozen=True)
class Trial:
    """One point; its number is its place in the order of proposals, from 0."""

    number: int
    point: dict[str, Any]
    runs: tuple[TrialRun, ...]

    @property
    def state(self) -> TrialState:
        """Open while a run is; then pruned where one was cut short, complete where all succeeded and measured.

        Failed otherwise, or untried where runs were ended that had not begun.
        """
        if any(run.state != "finished" for run in self.runs):
            return TrialState.OPEN
        if any(run.outcome == "pruned" for run in self.runs):
            return TrialState.UNTRIED if self.cut_at is None else TrialState.PRUNED
        whole = all(run.outcome == "succeeded" and averageable(run.last) for run in self.runs)
        return TrialState.COMPLETE if whole else TrialState.FAILED

    @property
    def value(self) -> float | None:
        """The mean over seeds; None unless the trial is complete."""
        if self.state is not TrialState.COMPLETE:
            return None
        return statistics.fmean(run.last for run in self.runs if run.last is not None)

    @property
    def cut_at(self) -> tuple[int, float] | None:
        """The step and value at which a pruned trial's run was ended; None where it measured nothing."""
        found = [r for r in self.runs if r.outcome == "pruned" and r.last is not None and r.last_step is not None]
        return (found[0].last_step or 0, found[0].last or 0.0) if found else None


def best(trials: Sequence[Trial], direction: str) -> Trial | None:
    """The complete trial with the best value, the earliest of equal ones; None where none is complete."""
    whole = [trial for trial in trials if trial.value is not None]
    if not whole:
        return None
    sign = 1.0 if direction == "minimize" else -1.0
    return min(whole, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def metric_never_recorded(trials: Sequence[Trial], startup: int, metric: str) -> str | None:
    """Why a search that learns cannot: its first trials succeeded and none measured the metric. None while it can."""
    ended = [trial for trial in trials if trial.state is not TrialState.OPEN]
    unmeasured = [t for t in ended if all(run.outcome == "succeeded" and run.last is None for run in t.runs)]
    if len(unmeasured) < max(startup, 1) or len(unmeasured) < len(ended):
        return None
    first = unmeasured[0].runs[0].id
    return f"{len(unmeasured)} trials succeeded and none measured {metric!r}; see `labqueue show {first}`"


def converged(
    trials: Sequence[Trial], direction: str, patience: int, min_improvement: float, begin: int = 0
) -> str | None:
    """Why a search has converged, in words; None while it has not.

    It has when the last ``patience`` trials, complete or pruned, have together not improved on the best value before
    them by more than ``min_improvement`` (in the metric's unit). Failed trials say nothing and are not counted, and
    those before number ``begin`` are none of the last.
    """
    counted = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if sum(trial.number >= begin for trial in counted) < patience:
        return None
    before, after = best(counted[:-patience], direction), best(counted, direction)
    if before is None or after is None:
        return None
    gain = abs((before.value or 0.0) - (after.value or 0.0))
    if gain > min_improvement:
        return None
    return f"the last {patience} trials improved on {before.value:.6g} (trial {before.number}) by {gain:.3g}"


def median_refusal(
    metric: str, direction: str, step: int, so_far: tuple[float, int], earlier: Sequence[float]
) -> str | None:
    """Why the median rule ends a run at a step, in words; None when it goes on.

    The best value so far (``so_far``: value, step) against the median of earlier runs' values at this step (Golovin
    et al. 2017, "Google Vizier", section 3.2; Optuna's ``MedianPruner``).
    """
    if len(earlier) < PRUNE_FROM:
        return None
    middle = statistics.median(earlier)
    value, at = so_far
    worse, word = (value > middle, "above") if direction == "minimize" else (value < middle, "below")
    if not worse or not math.isfinite(value):
        return None
    shown = f"{metric} {value:.4g} is" if at == step else f"the best {metric} so far, {value:.4g} at step {at}, is"
    return f"at step {step} {shown} {word} the median {middle:.4g} of {len(earlier)} earlier trials"
