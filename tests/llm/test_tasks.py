"""Generated tasks: disjoint by construction, and exactly scored."""

from __future__ import annotations

import random

import numpy
import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import assets
from labqueue.llm.data.generated import task_list, tasks


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
    with pytest.raises(LabError, match=r"has only \d+ held-out questions .* 500 were asked for"):
        tasks.generated("chain_sum", train_items=5, held_out_items=500, options=options)


def test_unknown_tasks_and_options_are_named_with_the_nearest() -> None:
    with pytest.raises(LabError, match="did you mean 'chain_sum'"):
        tasks.generated("chain_sums", train_items=2, held_out_items=2)
    with pytest.raises(LabError, match=r"refuses options {'max_term': 2}"):
        tasks.generated("chain_sum", train_items=2, held_out_items=2, options={"max_term": 2})


@pytest.mark.parametrize("task", ["list_functions", "pool_matrix", "bf"])
def test_drawing_rows_neither_follows_nor_changes_the_process_random_state_and_prints_nothing(
    task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of these tasks two draw from the process's own state, and one prints dots."""
    splits, states = [], []
    for seed in (1, 2):
        random.seed(seed)
        numpy.random.seed(seed)
        splits.append(tasks.generated(task, train_items=30, held_out_items=3))
        score = splits[-1].score
        assert score is not None
        assert [score(row, row.answer) for row in splits[-1].held_out] == [1.0] * 3
        states.append((random.random(), numpy.random.random()))
    assert (splits[0].train, splits[0].held_out) == (splits[1].train, splits[1].held_out)
    assert states == [(random.Random(seed).random(), numpy.random.RandomState(seed).random()) for seed in (1, 2)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("task", sorted(task_list.NOT_OFFERED))
def test_a_task_that_is_not_offered_is_refused_with_the_reason(task: str) -> None:
    with pytest.raises(LabError) as refused:
        tasks.generated(task, train_items=2, held_out_items=2)
    assert f"{task!r} is not offered: {task_list.NOT_OFFERED[task]}; " in refused.value.message
    assert "chain_sum" in refused.value.message, "what is offered"
    with pytest.raises(LabError, match="not offered"):
        assets.available(f"task:{task}")


def test_another_version_of_the_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_list, "VERSION", "0.1.0")
    with pytest.raises(LabError, match=r"proved with reasoning-gym 0\.1\.0; installed is .* pip install"):
        tasks.generated("chain_sum", train_items=2, held_out_items=2)


@pytest.mark.filterwarnings("ignore:.*randrange:DeprecationWarning")
@pytest.mark.parametrize(
    ("task", "options"),
    [("chain_sum", {"min_terms": 2.5}), ("chain_sum", {"seed": 3}), ("calendar_arithmetic", {"tasks": [1]})],
)
def test_options_that_fail_only_when_a_row_is_drawn_are_refused_before(task: str, options: dict[str, object]) -> None:
    with pytest.raises(LabError, match="refuses options") as refused:
        tasks.check_options(task, options)
    assert refused.value.key == "data.options"


def test_options_with_which_a_task_takes_its_own_answers_for_wrong_are_refused() -> None:
    with pytest.raises(LabError, match=r"takes its own answer '\[\"No solution\"\]' for wrong"):
        tasks.generated("jugs", train_items=1, held_out_items=1, options={"num_jugs": 4}, seed=12 - tasks.HELD_OUT_SEED)


def test_a_reply_that_the_scorer_cannot_read_is_wrong() -> None:
    split = tasks.generated("prime_factorization", train_items=2, held_out_items=2)
    assert split.score is not None
    for reply in ("no number", "", "2 × x", "\0", "9" * 10_000):
        assert split.score(split.held_out[0], reply) == 0.0


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        ("game_of_life_halting", "The quick brown fox jumps over the lazy dog."),
        ("gsm_symbolic", "The answer is {}"),
        ("kakurasu", "The answer is {}"),
        ("knights_knaves", "{} Or not."),
        ("coin_flip", "{}1"),
    ],
)
def test_a_task_with_one_answer_and_a_lenient_scorer_is_scored_by_text(task: str, wrong: str) -> None:
    split = tasks.generated(task, train_items=2, held_out_items=4)
    assert split.score is not None
    for row in split.held_out:
        assert split.score(row, f" {row.answer}\n") == 1.0
        assert split.score(row, wrong.format(row.answer)) == 0.0


def test_by_text_a_number_may_be_written_otherwise() -> None:
    split = tasks.generated("coin_flip", train_items=2, held_out_items=4)
    assert split.score is not None
    for row in split.held_out:
        assert [split.score(row, text) for text in (f"{row.answer}0", f"+{row.answer}", f"0{row.answer}")] == [1.0] * 3
