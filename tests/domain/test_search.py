"""Searches as a spec writes them, and what their trials say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic import ValidationError

from labqueue.domain.spec.schema import Spec
from labqueue.domain.spec.search import MAX_GRID, STARTUP, Search
from labqueue.domain.spec.sweep import axes, count, expand
from labqueue.domain.trials import Trial, TrialRun, TrialState, best, converged, median_refusal, metric_never_recorded


def search(**fields: Any) -> Search:
    given = {"trials": 8, "metric": "loss", "space": {"a": {"uniform": [0, 1]}}, **fields}
    return Search.model_validate(given)


def trial(number: int, *ends: tuple[str | None, float | None], point: dict[str, Any] | None = None) -> Trial:
    runs = tuple(
        TrialRun(10 * number + seed, seed, "queued" if outcome is None else "finished", outcome, value, 5)
        for seed, (outcome, value) in enumerate(ends)
    )
    return Trial(number, {"a": number} if point is None else point, runs)


def values(*numbers: float) -> list[Trial]:
    return [trial(at, ("succeeded", number)) for at, number in enumerate(numbers)]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"space": {}}, "at least 1 item"),
        ({"space": {"a": {}}}, "exactly one of"),
        ({"space": {"a": {"int": [1, 2], "choice": [1]}}}, "exactly one of"),
        ({"space": {"a": {"choice": []}}}, "choice is empty"),
        ({"space": {"a": {"choice": [1, 2, 1]}}}, "the value 1 twice"),
        ({"space": {"a": {"int": [1]}}}, r"needs \[low, high\]"),
        ({"space": {"a": {"int": [1.5, 3]}}}, r"needs \[low, high\]"),
        ({"space": {"a": {"int": [True, 3]}}}, r"needs \[low, high\]"),
        ({"space": {"a": {"uniform": [2, 1]}}}, "low <= high"),
        ({"space": {"a": {"log_uniform": [0, 1]}}}, "low > 0"),
        ({"space": {"a": {"normal": [0, 1]}}}, "'uniform', 'log_uniform', 'int' or 'choice'"),
        ({"space": {"a.": {"int": [0, 1]}}}, "not a dotted key"),
        ({"space": {"a": {"int": [0, 1]}, "a.b": {"int": [0, 1]}}}, "set the same parameter"),
        ({"sampler": "grid"}, "has no end of values"),
        ({"sampler": "grid", "space": {"a": {"int": [1, MAX_GRID + 1]}}}, "at most 100,000"),
        ({"sampler": "cmaes"}, "'tpe', 'random' or 'grid'"),
        ({"pruner": "asha"}, "'hyperband', 'median' or 'none'"),
        ({"direction": "down"}, "'minimize' or 'maximize'"),
        ({"pruner": "hyperband", "prune_after": 5}, "is of the pruner median"),
        ({"trials": 0}, "greater than or equal to 1"),
        ({"metric": ""}, "at least 1 character"),
        ({"budget": 3}, "Extra inputs"),
    ],
)
def test_a_search_that_cannot_be_carried_out_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        search(**fields)


def test_a_finite_space_has_the_size_of_the_product_of_its_axes() -> None:
    space = {"a": {"int": [3, 7]}, "b": {"choice": ["x", "y", None]}, "c": {"uniform": [2, 2]}}
    listed = list(itertools.product(range(3, 8), ["x", "y", None], [2]))
    assert search(space=space).size == len(listed)
    assert search(space={**space, "c": {"uniform": [2, 3]}}).size is None


def test_no_more_trials_are_planned_than_the_space_has_points() -> None:
    assert search(trials=50, space={"a": {"int": [1, 6]}}).planned == 6
    assert search(trials=5, space={"a": {"int": [1, 6]}}).planned == 5


@pytest.mark.parametrize("trials", range(1, 60))
def test_tpe_draws_at_random_at_first_and_learns_from_at_least_the_second_half(trials: int) -> None:
    drawn = search(trials=trials).startup
    assert 1 <= drawn <= STARTUP
    assert drawn <= (trials + 1) / 2
    assert search(trials=trials, sampler="random").startup == trials


def test_a_search_stands_alone_in_its_sweep() -> None:
    spec = {"name": "x", "kind": "drill", "sweep": {"search": search().model_dump(), "grid": {"b": [1]}}}
    with pytest.raises(ValidationError, match="stands alone"):
        Spec.model_validate(spec)


def test_runs_of_a_search_come_trial_by_trial_with_every_seed() -> None:
    given = {"name": "x", "kind": "drill", "params": {"a": 5, "c": 1}, "sweep": {"search": search().model_dump()}}
    spec = Spec.model_validate({**given, "seeds": (0, 1)})
    plans = expand(spec, [{"a": 0.25}, {"a": 0.75}])
    assert [(plan.params, plan.seed) for plan in plans] == [
        ({"a": 0.25, "c": 1}, 0),
        ({"a": 0.25, "c": 1}, 1),
        ({"a": 0.75, "c": 1}, 0),
        ({"a": 0.75, "c": 1}, 1),
    ]
    assert axes(spec.sweep) == ["a"]
    assert count(spec.sweep) == 8


def test_a_point_is_in_the_space_by_value_and_by_type() -> None:
    space = search(space={"n": {"int": [1, 4]}, "x": {"log_uniform": [0.1, 1]}, "c": {"choice": [1, "one", False]}})
    assert all(space.holds("n", n) for n in (1, 4))
    assert not any(space.holds("n", n) for n in (0, 5, 2.5, "2", True))
    assert space.holds("x", 0.1)
    assert not space.holds("x", 1.01)
    assert space.holds("c", False)
    assert not space.holds("c", 0)
    assert not space.holds("c", "two")


def test_a_trial_is_worth_the_mean_over_its_seeds_once_all_have_succeeded() -> None:
    assert trial(0, ("succeeded", 1.0), ("succeeded", 2.0)).value == 1.5
    assert trial(0, ("succeeded", 1.0), (None, 2.0)).state is TrialState.OPEN
    assert trial(0, ("succeeded", 1.0), ("pruned", 2.0)).state is TrialState.PRUNED
    assert trial(0, ("pruned", 1.0), ("pruned", None)).state is TrialState.PRUNED
    assert trial(0, ("succeeded", 1.0), ("pruned", None)).state is TrialState.UNTRIED, "its second seed never began"
    assert trial(0, ("succeeded", 1.0), ("succeeded", None)).state is TrialState.FAILED
    for outcome in ("failed", "crashed", "diverged", "out_of_memory", "timed_out", "cancelled"):
        ended = trial(0, ("succeeded", 1.0), (outcome, 0.0))
        assert ended.state is TrialState.FAILED
        assert ended.value is None


def test_the_best_trial_is_complete_and_the_earliest_of_equals() -> None:
    trials = [*values(3.0, 1.0, 1.0), trial(3, ("pruned", 0.0)), trial(4, ("failed", 0.0))]
    assert best(trials, "minimize") == trials[1]
    assert best(trials, "maximize") == trials[0]
    assert best(trials[3:], "minimize") is None


def test_a_search_has_converged_when_its_last_trials_improved_on_nothing() -> None:
    assert converged(values(3.0, 2.0, 2.5, 2.1), "minimize", 2, 0.0) is not None
    assert converged(values(3.0, 2.0, 2.5, 1.9), "minimize", 2, 0.0) is None
    assert converged(values(3.0, 2.0, 2.5, 1.875), "minimize", 2, 0.125) is not None, "improved by that, not by more"
    assert converged(values(3.0, 2.0, 2.5, 3.1), "maximize", 2, 0.0) is None
    assert converged(values(3.0, 2.0), "minimize", 2, 0.0) is None, "nothing stood before them"
    cut = [*values(3.0, 2.0), trial(2, ("pruned", 9.0)), trial(3, ("pruned", 9.0))]
    assert converged(cut, "minimize", 2, 0.0) is not None, "a pruned trial has improved on nothing"
    broken = [*values(3.0, 2.0), trial(2, ("failed", None)), trial(3, ("failed", None))]
    assert converged(broken, "minimize", 2, 0.0) is None, "a failed trial says nothing"


def test_a_search_whose_metric_nothing_measures_ends() -> None:
    unmeasured = [trial(at, ("succeeded", None)) for at in range(3)]
    assert metric_never_recorded(unmeasured, 3, "los") is not None
    assert metric_never_recorded(unmeasured, 4, "los") is None, "too few yet"
    assert metric_never_recorded([*unmeasured, *values(1.0)], 3, "los") is None
    assert metric_never_recorded([trial(at, ("failed", None)) for at in range(3)], 3, "los") is None, (
        "failing is another fault"
    )


def test_the_median_rule_needs_five_earlier_runs_and_says_what_it_compared() -> None:
    assert median_refusal("loss", "minimize", 40, (9.0, 40), [1, 2, 3, 4]) is None
    assert median_refusal("loss", "minimize", 40, (2.31, 40), [1, 2, 2.1, 3, 4]) == (
        "at step 40 loss 2.31 is above the median 2.1 of 5 earlier trials"
    )
    assert median_refusal("loss", "minimize", 40, (2.1, 40), [1, 2, 2.1, 3, 4]) is None, "as good is not worse"
    assert median_refusal("loss", "maximize", 40, (2.0, 30), [1, 2, 2.1, 3, 4]) == (
        "at step 40 the best loss so far, 2 at step 30, is below the median 2.1 of 5 earlier trials"
    )
