"""Generated tasks: disjoint by construction, and exactly scored."""

from __future__ import annotations

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import tasks


def test_no_held_out_question_is_trained_on_even_in_a_tiny_space() -> None:
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    split = tasks.generated("chain_sum", train_items=300, held_out_items=40, options=options)
    held_out = {row.question for row in split.held_out}
    assert len(held_out) == 40
    assert not held_out & {row.question for row in split.train}
    assert len(split.train) == 300


def test_equal_arguments_give_equal_rows_and_another_seed_others() -> None:
    one, same, other = (tasks.generated("chain_sum", train_items=9, held_out_items=3, seed=s) for s in (1, 1, 2))
    assert (one.train, one.held_out) == (same.train, same.held_out)
    assert one.train != other.train


def test_the_score_is_exact() -> None:
    split = tasks.generated("chain_sum", train_items=2, held_out_items=4)
    assert split.score is not None
    for row in split.held_out:
        assert split.score(row, f" {row.answer}\n") == 1.0
        assert split.score(row, row.answer + "1") == 0.0
        assert split.score(row, f"the answer is {row.answer}") == 0.0
        assert split.score(row, "") == 0.0


def test_a_space_that_is_too_small_is_refused_with_what_there_is() -> None:
    options = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with pytest.raises(LabError, match=r"has only \d+ held-out questions .* 5000 were asked for"):
        tasks.generated("chain_sum", train_items=5, held_out_items=5000, options=options)


def test_unknown_tasks_and_options_are_named_with_the_nearest() -> None:
    with pytest.raises(LabError, match="did you mean 'chain_sum'"):
        tasks.generated("chain_sums", train_items=2, held_out_items=2)
    with pytest.raises(LabError, match=r"refuses options {'max_term': 2}"):
        tasks.generated("chain_sum", train_items=2, held_out_items=2, options={"max_term": 2})
