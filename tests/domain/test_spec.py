"""Specs: profiles laid on them, and nothing changed that was handed in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.spec.schema import Spec, Sweep, assign, merge, with_profile
from labqueue.domain.spec.sweep import expand

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
        ({"without": [{"methd": "full"}]}, "without 'methd'.*did you mean 'method'"),
        ({"without": [{}]}, "at least 1 item"),
    ],
)
def test_a_plot_that_cannot_be_drawn_is_refused(plot: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec(sweep=SWEEP, plots=[PAIR | plot])


def test_a_plot_by_a_key_needs_a_sweep() -> None:
    with pytest.raises(ValueError, match="this spec has no sweep"):
        spec(plots=[PAIR])


def test_a_plot_is_without_points_that_some_profile_has_and_each_profile_keeps_those_of_its_own() -> None:
    small = {"sweep": {"list": [{"method": "full"}, {"method": "full", "steps": 2}]}}
    registered = spec(
        sweep=SWEEP,
        plots=[PAIR | {"without": [{"method": "full", "rate": 1.0}, {"steps": 2}]}],
        profiles={"small": small, "one": {"sweep": {"grid": {"seed": [1]}}}},
    )
    kept = {name: with_profile(registered, name)[0].plots[0].without for name in ("cpu", "small", "one")}
    assert kept == {"cpu": ({"method": "full", "rate": 1.0},), "small": ({"steps": 2},), "one": ()}


@pytest.mark.parametrize(
    ("sweep", "choice", "nearest_words"),
    [
        (SWEEP, {"method": "ful"}, r"did you mean '{\"method\":\"full\"}'"),
        (SWEEP, {"method": "lora", "rate": 1}, r"did you mean '{\"method\":\"full\",\"rate\":1}'"),
        (SWEEP, {"rate": True}, r"known: {\"rate\":1}"),
        ({"zip": {"a": [1, 2], "b": [30, 40]}}, {"a": 1, "b": 40}, r"did you mean '{\"a\":2,\"b\":40}'"),
        ({"grid": {"a": [0.003, 1.0]}, "list": [{"b": 1}]}, {"a": 0.03, "b": 1}, r"did you mean '{\"a\":0.003}'"),
        (
            {"random": {"samples": 2, "space": {"a": {"uniform": [0, 1]}}}},
            {"a": 2},
            r"drawn from {\"uniform\":\[0,1\]}",
        ),
        ({"search": {"trials": 2, "metric": "m", "space": {"a": {"choice": [1]}}}}, {"a": 2}, r"{\"choice\":\[1\]}"),
    ],
)
def test_a_plot_without_points_that_no_profile_has_is_refused_with_the_nearest(
    sweep: dict[str, Any], choice: dict[str, Any], nearest_words: str
) -> None:
    plots = [{"x": "eval_loss", "y": "kept_loss"}, {"x": "eval_loss", "y": "kept_loss", "without": [choice]}]
    with pytest.raises(LabError, match=rf"^plots\.1: .*matches no sweep point: .*{nearest_words}") as caught:
        with_profile(spec(sweep=sweep, plots=plots), "cpu")
    assert caught.value.key == "plots.1"


CHOICES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from([1, 1.0, True, 2, "u"]), min_size=1)


@given(CHOICES)
def test_a_sweep_lacks_a_choice_exactly_when_none_of_its_points_has_those_values(choice: dict[str, Any]) -> None:
    written = {"grid": {"a": [1, True]}, "zip": {"b": [1, 2], "c": ["u", 1]}, "list": [{"d": 1}, {"d": 2, "e": 1}, {}]}
    sweep = Sweep.model_validate(written)

    def has(point: dict[str, Any]) -> bool:
        return all(k in point and (point[k], type(point[k]) is bool) == (v, v is True) for k, v in choice.items())

    points = [run.varied for run in expand(spec(sweep=written))]
    assert (sweep.lacks(choice) is None) == any(has(point) for point in points)


def test_a_frozen_plot_is_read_again_when_the_command_line_took_its_points_from_the_sweep() -> None:
    registered = spec(sweep={"grid": {"rate": [1, 2]}}, plots=[{"x": "a", "y": "b", "without": [{"rate": 1}]}])
    frozen, _ = with_profile(registered, "cpu")
    asked = frozen.model_copy(update={"sweep": Sweep(grid={"rate": [3]})})
    assert Spec.model_validate_json(asked.model_dump_json(by_alias=True)).plots == asked.plots
