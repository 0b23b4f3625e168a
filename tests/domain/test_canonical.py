"""Hashes rest on one text for equal values."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.canonical import canonical, digest, digest_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def shuffled(value: Any, source: random.Random) -> Any:
    """An equal value whose mappings were filled in another order."""
    if isinstance(value, dict):
        keys = list(value)
        source.shuffle(keys)
        return {key: shuffled(value[key], source) for key in keys}
    if isinstance(value, list):
        return [shuffled(inner, source) for inner in value]
    return value


@given(JSON, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_change_a_hash(value: Any, source: random.Random) -> None:
    other = shuffled(value, source)
    assert canonical(other) == canonical(value)
    assert digest(other) == digest(value)


@given(JSON)
def test_a_value_can_be_read_back_from_its_text(value: Any) -> None:
    assert json.loads(canonical(value)) == value


@given(JSON, JSON)
def test_different_texts_have_different_hashes(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (canonical(one) == canonical(other))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"deep": [value]})


@given(st.lists(JSON, max_size=5))
def test_a_list_of_texts_has_the_hash_of_the_list_of_their_values(values: list[Any]) -> None:
    assert digest_of(map(canonical, values)) == digest(values)
