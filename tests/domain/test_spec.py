"""Specs: profiles laid on them, and nothing changed that was handed in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec import Spec, assign, merge, with_profile

TREES = st.recursive(
    st.dictionaries(st.sampled_from("abc"), st.integers(), min_size=1, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner | st.integers(), min_size=1, max_size=3),
    max_leaves=8,
)


def leaves(tree: Any, at: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value that is no folder, by its path."""
    if not isinstance(tree, dict):
        return {at: tree}
    return {path: value for key, inner in tree.items() for path, value in leaves(inner, (*at, key)).items()}


@given(TREES, TREES)
def test_what_lies_above_wins_and_what_it_does_not_name_stays(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merged = leaves(merge(base, over))
    upper = leaves(over)
    assert upper.items() <= merged.items()
    for path, value in leaves(base).items():
        hidden = any(path[: len(other)] == other or other[: len(path)] == path for other in upper)
        assert hidden or merged[path] == value
    assert merged.keys() <= upper.keys() | leaves(base).keys()
    assert (base, over) == before


@given(TREES, st.lists(st.sampled_from("abc"), min_size=1, max_size=3), st.integers())
def test_assigning_sets_one_value_and_changes_nothing_else(tree: dict[str, Any], path: list[str], value: int) -> None:
    before = copy.deepcopy(tree)
    assigned = leaves(assign(tree, ".".join(path), value))
    assert assigned[tuple(path)] == value
    for other, old in leaves(before).items():
        touched = other[: len(path)] == tuple(path) or tuple(path[: len(other)]) == other
        assert touched or assigned[other] == old
    assert tree == before


def spec(**fields: Any) -> Spec:
    return Spec.model_validate({"name": "x", "kind": "drill", **fields}, strict=False)


def test_a_profile_merges_params_and_limits_and_replaces_sweep_and_seeds() -> None:
    registered = spec(
        params={"steps": 100, "lora": {"rank": 16, "alpha": 32}},
        limits={"wall_minutes": 60, "attempts": 5},
        sweep={"grid": {"lora.rank": [1, 2]}},
        seeds=(0, 1, 2),
        profiles={
            "cpu": {
                "params": {"steps": 4, "lora": {"rank": 2}},
                "limits": {"wall_minutes": 5},
                "sweep": {"grid": {"steps": [1]}},
                "seeds": (0,),
            },
            "tiny": {"device": "cpu"},
        },
    )
    small, device = with_profile(registered, "cpu")
    assert device == "cpu"
    assert small.params == {"steps": 4, "lora": {"rank": 2, "alpha": 32}}
    assert (small.limits.wall_minutes, small.limits.attempts) == (5, 5)
    assert small.sweep is not None
    assert small.sweep.grid == {"steps": [1]}
    assert small.seeds == (0,)
    large, device = with_profile(registered, "gpu")
    assert device == "cuda"
    assert large.params == registered.params
    assert large.seeds == (0, 1, 2)
    assert with_profile(registered, "tiny")[1] == "cpu"


def test_an_unknown_profile_is_refused_with_the_nearest() -> None:
    with pytest.raises(LabError, match=r"unknown profile 'smoll'.*did you mean 'smol'\?") as caught:
        with_profile(spec(profiles={"smol": {}}), "smoll")
    assert caught.value.key == "profiles"


def test_the_nearest_word_is_offered_only_where_one_is_near() -> None:
    assert nearest("stesp", ["steps", "seed"]) == "did you mean 'steps'? known: seed, steps"
    assert nearest("zzz", ["steps", "seed"]) == "known: seed, steps"
    assert nearest("zzz", []) == "known: none"


PAIR = {"x": "eval_loss", "y": "kept_loss", "by": "method"}
SWEEP = {"list": [{"method": "lora"}, {"method": "full", "rate": 1}]}


def test_a_plot_survives_freezing_and_older_specs_have_none() -> None:
    frozen, _ = with_profile(spec(sweep=SWEEP, plots=[PAIR]), "cpu")
    again = Spec.model_validate_json(frozen.model_dump_json(by_alias=True))
    assert again.plots == frozen.plots
    assert again.plots[0].by == "method"
    assert spec().plots == ()


def test_a_profile_that_does_not_vary_what_a_plot_is_by_keeps_the_plot_without_colours() -> None:
    registered = spec(sweep=SWEEP, plots=[PAIR], profiles={"one": {"sweep": {"grid": {"steps": [1, 2]}}}})
    frozen, _ = with_profile(registered, "one")
    assert [(pair.x, pair.y, pair.by) for pair in frozen.plots] == [("eval_loss", "kept_loss", None)]
    Spec.model_validate_json(frozen.model_dump_json(by_alias=True))


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ({"y": "eval_loss"}, "both 'eval_loss'"),
        ({"by": "methd"}, "did you mean 'method'"),
        ({"better": "left"}, "lower-left"),
        ({"z": "loss"}, "Extra inputs"),
        ({"x": ""}, "at least 1 character"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused(plot: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(sweep=SWEEP, plots=[PAIR | plot])


def test_a_plot_by_a_key_needs_a_sweep() -> None:
    with pytest.raises(ValueError, match="this spec has no sweep"):
        spec(plots=[PAIR])
