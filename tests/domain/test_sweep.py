"""Sweeps against a plain product of their axes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.domain.spec.schema import Spec
from labqueue.domain.spec.sweep import MAX_RUNS, axes, count, expand

KEYS = st.sampled_from(["a", "b", "c.d", "c.e", "f"])
VALUES = st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True)
GRID = st.dictionaries(KEYS, VALUES, min_size=1, max_size=4)
SEEDS = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True)


def spec(**fields: Any) -> Spec:
    return Spec.model_validate({"name": "x", "kind": "drill", **fields}, strict=False)


@given(GRID, SEEDS)
def test_a_grid_is_every_combination_with_every_seed_seed_by_seed(grid: dict[str, list[int]], seeds: list[int]) -> None:
    runs = expand(spec(sweep={"grid": grid}, seeds=tuple(seeds)))
    expected = [
        (seed, dict(zip(grid, values, strict=True))) for seed in seeds for values in itertools.product(*grid.values())
    ]
    assert [(run.seed, run.varied) for run in runs] == expected
    assert len(runs) == count(spec(sweep={"grid": grid}).sweep) * len(seeds)


@given(GRID)
def test_a_point_is_written_into_its_parameters_and_leaves_the_others(grid: dict[str, list[int]]) -> None:
    base = {"c": {"kept": 1}, "other": "x"}
    for run in expand(spec(sweep={"grid": grid}, params=base)):
        assert run.params["other"] == "x"
        assert run.params["c"]["kept"] == 1
        for key, value in run.varied.items():
            found: Any = run.params
            for part in key.split("."):
                found = found[part]
            assert found == value
    assert base == {"c": {"kept": 1}, "other": "x"}, "the spec's own parameters are not changed"


def test_zip_takes_first_with_first_and_blocks_are_combined() -> None:
    sweep = {"grid": {"a": [1, 2]}, "zip": {"b": [3, 4], "c": [5, 6]}}
    points = [run.varied for run in expand(spec(sweep=sweep))]
    assert points == [{"a": a, "b": b, "c": c} for a in (1, 2) for b, c in ((3, 5), (4, 6))]
    assert axes(spec(sweep=sweep).sweep) == ["a", "b", "c"]


def test_a_list_is_its_points_and_no_sweep_is_one_run() -> None:
    points = [{"a": 1}, {"b": 2, "c": 3}]
    assert [run.varied for run in expand(spec(sweep={"list": points}))] == points
    assert [(run.varied, run.seed) for run in expand(spec(seeds=(7, 8)))] == [({}, 7), ({}, 8)]


@given(st.integers(1, 40), st.integers(0, 1000))
def test_random_points_are_the_same_again_and_lie_within_their_space(samples: int, seed: int) -> None:
    space = {
        "u": {"uniform": [0.5, 2.0]},
        "l": {"log_uniform": [1e-5, 1e-1]},
        "i": {"int": [3, 10**9]},
        "c": {"choice": ["x", "y"]},
    }
    wanted = spec(sweep={"random": {"samples": samples, "seed": seed, "space": space}})
    points = [run.varied for run in expand(wanted)]
    assert points == [run.varied for run in expand(wanted)]
    assert len(points) == samples
    for point in points:
        assert 0.5 <= point["u"] <= 2.0
        assert 1e-5 * 0.999 <= point["l"] <= 1e-1 * 1.001
        assert 3 <= point["i"] <= 10**9
        assert point["c"] in ("x", "y")


def test_log_uniform_draws_as_much_below_the_geometric_middle_as_above() -> None:
    space = {"l": {"log_uniform": [1e-4, 1.0]}}
    points = expand(spec(sweep={"random": {"samples": 2000, "space": space}}))
    below = sum(run.varied["l"] < 1e-2 for run in points)
    assert 900 < below < 1100, "binomial(2000, 1/2): five standard deviations are 112"


def test_the_most_runs_are_accepted_and_one_more_is_refused_with_the_count() -> None:
    most = spec(sweep={"grid": {"a": list(range(MAX_RUNS))}})
    assert len(expand(most)) == MAX_RUNS
    with pytest.raises(LabError, match=f"{MAX_RUNS + 1:,} runs"):
        expand(spec(sweep={"grid": {"a": list(range(MAX_RUNS + 1))}}))


@pytest.mark.parametrize("block", [{"zip": {"b": [1, 1], "c": [2, 2]}}, {"list": [{"b": 1}, {"c": 2}, {"b": 1}]}])
def test_a_repeated_point_is_refused_also_where_it_is_combined_with_a_grid(block: dict[str, Any]) -> None:
    with pytest.raises(LabError, match=r'"b":1.* twice'):
        expand(spec(sweep={"grid": {"a": [1, 2]}, **block}))
