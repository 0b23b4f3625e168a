"""Training data: disjoint by construction, exactly scored, and clear about what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import assets, tasks


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


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_a_file_is_split_by_question(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 10}", "completion": f"a{n}"} for n in range(30)]
    split = tasks.from_file(write(tmp_path / "rows.jsonl", *rows), train_items=None, held_out_items=3)
    held_out = {row.question for row in split.held_out}
    assert len(held_out) == 3
    assert len(split.train) == 21
    assert not held_out & {row.question for row in split.train}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", r"rows.jsonl:2: is not JSON"),
        ("[1]", r"rows.jsonl:2: a row is an object, not list"),
        ({"question": "q"}, r"rows.jsonl:2: needs exactly one of answer or completion; found question"),
        ({"question": "q", "prompt": "p", "answer": "a"}, r"rows.jsonl:2: needs exactly one of question or prompt"),
        ({"question": "q", "answer": 3}, r"rows.jsonl:2: answer must be text that is not empty, got 3"),
        ({"question": " ", "answer": "a"}, r"rows.jsonl:2: question must be text that is not empty"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Any, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "q", "answer": "a"}, row)
    with pytest.raises(LabError, match=reason):
        tasks.from_file(path, train_items=1, held_out_items=1)


def test_a_missing_file_a_folder_and_too_few_rows_are_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"none.jsonl' does not exist .* or use data.task"):
        tasks.from_file(tmp_path / "none.jsonl", train_items=1, held_out_items=1)
    with pytest.raises(LabError, match="is a folder"):
        tasks.from_file(tmp_path, train_items=1, held_out_items=1)
    path = write(tmp_path / "rows.jsonl", {"question": "q", "answer": "a"})
    with pytest.raises(LabError, match="has 1 rows, 0 of them"):
        tasks.from_file(path, train_items=1, held_out_items=1)


def test_assets_know_models_files_and_tasks(tmp_path: Path) -> None:
    assert assets.available("random-tiny")
    assert assets.available("task:chain_sum")
    assert not assets.available(f"file:{tmp_path / 'none'}")
    with pytest.raises(LabError, match="does not exist"):
        assets.fetch(f"file:{tmp_path / 'none'}")
    with pytest.raises(LabError, match="unknown model 'smollm2-135m'"):
        assets.available("smollm2-135m")
