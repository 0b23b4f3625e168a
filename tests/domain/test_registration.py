"""What makes two predictions the same claim."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from labqueue.domain.spec import registration
from labqueue.domain.spec.predictions import Prediction
from labqueue.domain.spec.schema import Spec

CLAUSES: dict[str, dict[str, Any]] = {
    "compare": {"metric": "loss", "a": {"lr": 0.1}, "b": {"lr": 1.0}, "difference_below": 0},
    "trend": {"metric": "loss", "over": "lr", "shape": "flat", "tolerance": 0.1},
    "threshold": {"metric": "loss", "below": 2, "where": {"lr": None}},
    "best_at": {"metric": "loss", "over": "lr", "values": [0.1, 1.0]},
    "crosses": {"metric": "loss", "below": 1, "before": 100},
}


def made(form: str, **changes: Any) -> Prediction:
    """A prediction of one form as a spec's text states it."""
    fields = {"id": "first", "claim": "In words.", form: CLAUSES[form]} | changes
    return Prediction.model_validate_json(json.dumps(fields))


@pytest.mark.parametrize("form", CLAUSES)
def test_another_wording_is_the_same_claim_and_another_id_is_not(form: str) -> None:
    assert made(form).digest() == made(form, claim="In other words.").digest()
    assert made(form).digest() != made(form, id="second").digest()


@pytest.mark.parametrize(
    ("form", "change"),
    [
        ("compare", {"difference_below": 0.1}),
        ("compare", {"at": 5}),
        ("compare", {"b": {"lr": 2.0}}),
        ("trend", {"tolerance": 0.2}),
        ("threshold", {"below": 2.5}),
        ("threshold", {"where": {}}),
        ("threshold", {"relative_to": "first"}),
        ("best_at", {"values": [0.1]}),
        ("best_at", {"direction": "max"}),
        ("crosses", {"before": 101}),
        ("crosses", {"metric": "accuracy"}),
    ],
)
def test_every_field_of_the_clause_makes_another_claim(form: str, change: dict[str, Any]) -> None:
    assert made(form, **{form: CLAUSES[form] | change}).digest() != made(form).digest()


@pytest.mark.parametrize("form", CLAUSES)
def test_a_default_that_is_spelt_out_or_frozen_is_the_same_claim(form: str) -> None:
    spelt = {"compare": {"at": "last"}, "best_at": {"direction": "min", "where": {}}}.get(form, {})
    frozen = json.loads(json.dumps(made(form).model_dump(mode="json", by_alias=True)))
    assert made(form, **{form: CLAUSES[form] | spelt}).digest() == made(form).digest()
    assert registration.digest(frozen) == made(form).digest()


def test_the_digests_of_a_version_never_change() -> None:
    """Stored registrations rest on them."""
    assert {form: made(form).digest()[:16] for form in CLAUSES} == {
        "compare": "ffdb005e88ab95b0",
        "trend": "c01ef31deb2f769a",
        "threshold": "9aa4750978fa060e",
        "best_at": "114909e40c375307",
        "crosses": "543f70ce4ebb5892",
    }


def spec(**fields: Any) -> Spec:
    return Spec.model_validate_json(json.dumps({"name": "drill", "kind": "drill"} | fields))


@pytest.mark.parametrize("looks", [[], [2], [3, 5], [3, 5, 8]])
def test_looks_that_rise_are_taken(looks: list[int]) -> None:
    assert spec(looks=looks).looks == tuple(looks)


@pytest.mark.parametrize(
    ("looks", "words"),
    [
        ([5, 3], r"\[5, 3\] do not rise"),
        ([3, 3], r"\[3, 3\] do not rise"),
        ([1, 3], "greater than or equal to 2"),
        ([2, 3, 4, 5], "at most 3 items"),
        ([3.5], "valid integer"),
    ],
)
def test_looks_that_fall_or_are_none_are_refused(looks: list[Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        spec(looks=looks)


def test_two_claims_with_one_id_are_refused() -> None:
    one = {"id": "first", "claim": "In words.", "threshold": CLAUSES["threshold"]}
    with pytest.raises(ValidationError, match=r"prediction ids \['first'\] are listed twice"):
        spec(predictions=[one, one | {"threshold": {"metric": "loss", "above": 3}}])
