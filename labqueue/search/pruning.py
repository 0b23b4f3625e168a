"""Decides whether a search ends a running trial early: asked at each value of its metric, in the run's own process.

Earlier trials are read from the results store, once per attempt, and only those of the same seed: they saw the same
data in the same order. Of a search without a pruner, and of a run without a search, there is no judge and nothing is
read.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

from labqueue.domain.trials import Trial, TrialState, median_refusal
from labqueue.store import trials
from labqueue.store.db import Database
from labqueue.store.queries import read


class Judge(Protocol):
    """Asked about every value of ``metric``."""

    metric: str

    def refuse(self, step: int, value: float) -> str | None:
        """Why the run must end at this step, in words; None when it goes on."""
        ...


def judge(db: Database, run_id: int, seed: int, resumed_from: int | None) -> Judge | None:
    """The pruner of a run's search; None where it has none. A resumed run brings its values up to that step."""
    found = trials.search_of(db, run_id)
    if found is None or found.search["pruner"] == "none":
        return None
    own = [
        (step, value)
        for step, value in read.series(db, run_id, found.search["metric"])
        if value is not None and resumed_from is not None and step <= resumed_from
    ]
    if found.search["pruner"] == "median":
        return Median(db, found, seed, own)
    return Hyperband(db, found, run_id, seed, own)


class Median:
    """Ends a run whose best value so far is worse than the median of earlier ones at the same step."""

    def __init__(self, db: Database, found: trials.SearchOf, seed: int, own: list[tuple[int, float]]) -> None:
        self.metric: str = found.search["metric"]
        self._direction: str = found.search["direction"]
        self._after: int = found.search["prune_after"]
        self._read = partial(trials.values_by_step, db, found.job, seed, self.metric)
        self._earlier: dict[int, list[float]] | None = None
        self._best: tuple[float, int] | None = None
        for step, value in own:
            self._take(step, value)

    def refuse(self, step: int, value: float) -> str | None:
        """By the rule of ``domain.trials.median_refusal``, from the step ``prune_after`` on."""
        if self._earlier is None:
            self._earlier = self._read()
        best = self._take(step, value)
        if step < self._after:
            return None
        return median_refusal(self.metric, self._direction, step, best, self._earlier.get(step, ()))

    def _take(self, step: int, value: float) -> tuple[float, int]:
        sign = 1.0 if self._direction == "minimize" else -1.0
        if self._best is None or sign * value < sign * self._best[0]:
            self._best = (value, step)
        return self._best


class Hyperband:
    """Optuna's own pruner on a study replayed value by value: its brackets and rungs come out as they were.

    Li et al. 2018, "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization". Optuna is imported at
    the first value, so the run pays for it, some 0.3 s, and no other does.
    """

    def __init__(
        self, db: Database, found: trials.SearchOf, run_id: int, seed: int, own: list[tuple[int, float]]
    ) -> None:
        self.metric: str = found.search["metric"]
        self._found = found
        self._db = db
        self._run_id = run_id
        self._seed = seed
        self._own = own
        self._live: Any = None
        self._earlier = 0

    def refuse(self, step: int, value: float) -> str | None:
        """As ``HyperbandPruner.prune`` decides."""
        if self._live is None:
            self._live = self._replay()
        self._live.report(value, step)
        if not self._live.should_prune():
            return None
        return (
            f"at step {step} {self.metric} {value:.4g} is not in the best third of its bracket's trials at their rung "
            f"(hyperband, {self._earlier} earlier trials)"
        )

    def _replay(self) -> Any:
        from labqueue.search.sampler import quiet

        optuna = quiet()
        state = optuna.trial.TrialState
        replayed = trials.study(self._db, self._found.job)
        assert replayed is not None, "its switch is there"
        # Brackets are drawn from the study's name and the trial's number.
        study = optuna.create_study(
            study_name=f"{replayed.switch.experiment}.{self._seed}",
            direction=self._found.search["direction"],
            sampler=optuna.samplers.RandomSampler(seed=0),
            pruner=optuna.pruners.HyperbandPruner(),
        )
        for trial in replayed.trials:
            asked = study.ask()
            mine = next(run for run in trial.runs if run.seed == self._seed)
            if mine.id == self._run_id:
                for step, value in self._own:
                    asked.report(value, step)
                    asked.should_prune()
                return asked
            ended = _outcome(trial, mine)
            if ended is TrialState.COMPLETE or ended is TrialState.PRUNED:
                self._earlier += 1
                for step, point in read.series(self._db, mine.id, self.metric):
                    if point is not None:
                        asked.report(point, step)
                        asked.should_prune()
            if ended is TrialState.COMPLETE:
                study.tell(asked, mine.last)
            else:
                study.tell(asked, state=state.PRUNED if ended is TrialState.PRUNED else state.FAIL)
        raise AssertionError(f"run {self._run_id} is a trial of its own search")


def _outcome(trial: Trial, mine: Any) -> TrialState:
    """What became of one seed of a trial."""
    return Trial(trial.number, trial.point, (mine,)).state
