"""References among parameters: found typed, replaced and put back whole; one module knows how they are written."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import labqueue
from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import (
    PLACEHOLDER,
    Reference,
    chosen,
    is_unresolved,
    references,
    refers,
    resolved,
    restored,
)
from labqueue.domain.spec.schema import FromRun, Spec, assign, merge

NAMES = st.text("abc", min_size=1, max_size=3)
REFERENCE = st.fixed_dictionaries(
    {"experiment": NAMES, "artifact": NAMES},
    optional={
        "where": st.dictionaries(NAMES, st.integers(0, 3), max_size=2),
        "seed": st.sampled_from([None, "same", "next", 0, 7]),
    },
).map(lambda named: {"from_run": named})
PLAIN = st.none() | st.booleans() | st.integers() | st.text("xyz", max_size=4) | st.lists(st.integers(), max_size=2)
PARAMS = st.recursive(
    st.dictionaries(NAMES, PLAIN | REFERENCE, max_size=3),
    lambda inner: st.dictionaries(
        NAMES, inner | PLAIN | REFERENCE | st.lists(inner | PLAIN | REFERENCE, min_size=1, max_size=3), max_size=3
    ),
    max_leaves=6,
)


def leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key, a reference as one: an oracle that knows no ``Reference``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, list) and value:
            found |= leaves({str(place): inner for place, inner in enumerate(value)}, f"{prefix}{key}.")
        elif isinstance(value, dict) and list(value) != ["from_run"]:
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


@given(PARAMS)
def test_every_reference_is_found_under_its_key_with_what_it_says(params: dict[str, Any]) -> None:
    expected = {key: value["from_run"] for key, value in leaves(params).items() if isinstance(value, dict) and value}
    found = list(references(params))
    assert [each.key for each in found] == list(expected)
    assert refers(params) is bool(expected)
    for each in found:
        checked = FromRun.parse(expected[each.key])
        assert each == Reference(each.key, checked.experiment, checked.artifact, checked.where, checked.seed)
        assert json.loads(each.text) == list(each)
        assert each.seed_for(5, [2, 5]) == {"same": 5, "next": 2}.get(str(each.seed), each.seed)


@given(PARAMS)
def test_what_stands_for_artifacts_is_put_in_and_the_references_are_put_back(params: dict[str, Any]) -> None:
    keys = [each.key for each in references(params)]
    laid = resolved(params, dict.fromkeys(keys, "/some/path"))
    assert leaves(laid) == leaves(params) | dict.fromkeys(keys, "/some/path")
    assert restored(resolved(params, dict.fromkeys(keys, PLACEHOLDER)), params) == params
    assert restored(params, {}) == params


@given(st.sets(st.integers(0, 50), min_size=2), st.integers(0, 50))
def test_the_next_seed_is_never_ones_own_and_each_is_the_partner_of_one(known: set[int], other: int) -> None:
    named = Reference("rival", "a", "adapter", {}, "next")
    assert {named.seed_for(seed, known) for seed in known} == known
    assert all(named.seed_for(seed, known) != seed for seed in {*known, other})
    assert named.seed_for(max(known), known) == min(known)


def test_the_next_of_one_seed_is_refused_with_the_cure() -> None:
    with pytest.raises(LabError, match=r"'a', which has none but 3: submit it with more --seeds"):
        Reference("rival", "a", "adapter", {}, "next").seed_for(3, [3])


TAKEN = {"experiment": "a", "artifact": "b"}


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"lora.rank": 8},
        {"lora": {"rank": 8}},
        {"lora": {"rank": {"deep": 8}}},
    ],
)
def test_a_swept_key_of_where_takes_the_place_of_what_was_written_for_it(written: dict[str, Any]) -> None:
    for params, key in (
        ({"adapter": {"from_run": {**TAKEN, "where": {**written, "steps": 3}}}}, "adapter"),
        ({"adapters": ["plain", {"from_run": {**TAKEN, "where": {**written, "steps": 3}}}]}, "adapters.1"),
    ):
        (found,) = references(assign(params, f"{key}.from_run.where.lora.rank", 1))
        assert (found.key, found.where) == (key, {"lora.rank": 1, "steps": 3})


def test_a_where_written_in_folders_is_read_as_dotted_and_no_key_may_stand_twice() -> None:
    assert chosen({"lora": {"rank": 1, "alpha": {}}, "a.b": 2}) == {"lora.rank": 1, "lora.alpha": {}, "a.b": 2}
    taken = {"from_run": TAKEN}
    assert chosen({"model": taken}) == {"model": taken}
    with pytest.raises(ValidationError, match=r"where names 'lora\.rank' twice"):
        FromRun.parse({**TAKEN, "where": {"lora": {"rank": 1}, "lora.rank": 2}})


def test_a_text_that_stands_for_an_artifact_is_told_from_every_other() -> None:
    assert is_unresolved(PLACEHOLDER)
    assert not any(map(is_unresolved, ["", "smollm2-135m", None, 0, {"from_run": {}}, f"{PLACEHOLDER}s"]))


def test_a_profile_replaces_a_reference_and_merges_folders() -> None:
    taken, other = ({"from_run": {"experiment": name, "artifact": "a"}} for name in ("one", "two"))
    assert merge({"model": taken, "lora": {"rank": 1}}, {"model": other, "lora": {"alpha": 2}}) == {
        "model": other,
        "lora": {"rank": 1, "alpha": 2},
    }


def test_a_spec_reads_lists_as_they_stand_and_a_frozen_one_without_its_axes() -> None:
    spec = Spec.parse({"name": "x", "kind": "drill", "sweep": {"grid": {"b": [1], "a": [2]}}, "seeds": [3, 1]})
    assert spec.sweep is not None
    assert (spec.seeds, spec.sweep.axes) == ((3, 1), ["b", "a"])
    frozen = json.loads(spec.model_dump_json(by_alias=True)) | {"axes": ["b", "a"]}
    assert Spec.of_job(frozen) == spec
    with pytest.raises(ValidationError, match="axes"):
        Spec.parse(frozen)


@given(PARAMS, PARAMS)
def test_models_that_are_equal_hash_alike_whatever_is_in_them(one: dict[str, Any], other: dict[str, Any]) -> None:
    a, again, b = (Spec(name="x", kind="drill", params=params) for params in (one, dict(reversed(one.items())), other))
    assert hash(a) == hash(again)
    assert a == again
    assert (a != b) or hash(a) == hash(b)
    assert {a: 1}[again] == 1


def test_one_module_knows_how_a_reference_is_written() -> None:
    package = Path(labqueue.__file__).parent
    naming = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value == "from_run"
    }
    # A migration knows how they were written in its day.
    assert naming == {"domain/spec/references.py", "store/migrations/version_2_names.py"}
