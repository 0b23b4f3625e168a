"""What ends a trial early, against Optuna's own pruners in a study that was never interrupted."""

from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest

from labqueue.search import pruning
from labqueue.store.db import Database
from labqueue.store.runs import attempts, results
from tests.store.factories import results_store, submitted, worker
from tests.store.searching import carried_out, searched

optuna.logging.set_verbosity(optuna.logging.ERROR)

TRIALS = 14
STEPS = range(1, 28)


def curves(seed: int, sign: int) -> list[list[float]]:
    """Falling curves that cross, some far above the others."""
    source = random.Random(seed)
    made = []
    for _ in range(TRIALS):
        floor, speed = source.uniform(0, 3), source.uniform(0.05, 0.5)
        made.append([sign * (floor + 3 * (1 - speed) ** step + source.gauss(0, 0.05)) for step in STEPS])
    return made


def by_optuna(
    pruner: optuna.pruners.BasePruner, direction: str, made: list[list[float]], name: str
) -> list[int | None]:
    """The step at which each trial is pruned; None where it is not."""
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(study_name=name, direction=direction, pruner=pruner, sampler=sampler)
    answers: list[int | None] = []
    for curve in made:
        trial = study.ask()
        for step, value in zip(STEPS, curve, strict=True):
            trial.report(value, step)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                answers.append(step)
                break
        else:
            study.tell(trial, curve[-1])
            answers.append(None)
    return answers


def by_store(
    db: Database, pruner: str, direction: str, made: list[list[float]], prune_after: int = 0
) -> list[int | None]:
    """The same, every trial judged by what the results store says of those before it."""
    points = [{"distance": float(number)} for number in range(TRIALS)]
    searched(db, points, trials=TRIALS, pruner=pruner, direction=direction, prune_after=prune_after)
    answers: list[int | None] = []
    for curve in made:
        claim = _next_run(db)
        judge = pruning.judge(db, claim, 0, None)
        assert judge is not None
        ended = None
        for step, value in zip(STEPS, curve, strict=True):
            if judge.refuse(step, value) is not None:
                ended = step
                break
        kept = list(zip(STEPS, curve, strict=True))[:ended]
        carried_out(db, kept, "pruned" if ended else "succeeded")
        answers.append(ended)
    return answers


def _next_run(db: Database) -> int:
    with db.read() as connection:
        return int(connection.exec_driver_sql("SELECT min(id) FROM runs WHERE state = 'queued'").scalar_one())


@pytest.mark.parametrize("prune_after", [0, 12])
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", range(3))
def test_the_median_rule_ends_the_trials_that_optunas_ends(
    tmp_path: Path, direction: str, seed: int, prune_after: int
) -> None:
    made = curves(seed, 1 if direction == "minimize" else -1)
    # Optuna counts completed trials; ours counts values at the step, so both are asked for.
    oracle = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=prune_after, n_min_trials=5)
    expected = by_optuna(oracle, direction, made, "any")
    assert by_store(results_store(tmp_path), "median", direction, made, prune_after) == expected
    assert any(expected), "the curves are such that some are ended"
    assert not all(expected[5:])


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("seed", range(3))
def test_hyperband_replayed_for_each_trial_ends_those_that_one_long_study_ends(
    tmp_path: Path, direction: str, seed: int
) -> None:
    made = curves(seed, 1 if direction == "minimize" else -1)
    expected = by_optuna(optuna.pruners.HyperbandPruner(), direction, made, "searched.0")
    assert by_store(results_store(tmp_path), "hyperband", direction, made) == expected
    assert any(expected)


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_a_resumed_trial_is_judged_as_if_it_had_not_stopped(tmp_path: Path, pruner: str) -> None:
    db = results_store(tmp_path)
    made = curves(0, 1)
    points = [{"distance": float(number)} for number in range(TRIALS)]
    searched(db, points, trials=TRIALS, pruner=pruner)
    for curve in made[:-1]:
        carried_out(db, list(zip(STEPS, curve, strict=True)))
    poor = [9.0 - step / 10 for step in STEPS]
    run = _next_run(db)
    judge = pruning.judge(db, run, 0, None)
    assert judge is not None
    whole = [judge.refuse(step, value) for step, value in zip(STEPS, poor, strict=True)]
    at = next(at for at, words in enumerate(whole) if words)
    claim = attempts.claim(db, device="cpu", worker_id=worker(db))
    assert claim is not None
    assert claim.run_id == run
    before = [("loss", step, value) for step, value in zip(STEPS, poor, strict=True)][:at]
    results.flush(db, claim.ref, before, None, [])
    resumed = pruning.judge(db, run, 0, STEPS[at - 1] if at else None)
    assert resumed is not None
    assert resumed.refuse(STEPS[at], poor[at]) == whole[at]


def test_only_earlier_runs_of_the_same_seed_are_compared(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    searched(db, [{"distance": float(n)} for n in range(6)], trials=6, seeds=(0, 1), pruner="median")
    for _ in range(5):
        carried_out(db, [(1, 1.0)])
        carried_out(db, [(1, 100.0)])
    run = _next_run(db)
    first, second = pruning.judge(db, run, 0, None), pruning.judge(db, run + 1, 1, None)
    assert first is not None
    assert second is not None
    assert first.refuse(1, 50.0) is not None
    assert second.refuse(1, 50.0) is None


def test_a_run_without_a_pruner_has_no_judge(tmp_path: Path) -> None:
    db = results_store(tmp_path)
    (plain,) = submitted(db).runs
    assert pruning.judge(db, plain, 0, None) is None
    (run,) = searched(db, [{"distance": 0.0}], trials=2, pruner="none").runs
    assert pruning.judge(db, run, 0, None) is None
