"""Rows of files and datasets: split by question, and clear about what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import assets
from labqueue.llm.data import hub_datasets, overlap
from labqueue.llm.data.files.records import Columns
from labqueue.llm.data.split import load


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def qa(question: str, answer: str = "a") -> dict[str, str]:
    return {"question": question, "answer": answer}


def test_a_file_is_split_by_question_whatever_the_spaces_and_capitals(tmp_path: Path) -> None:
    rows = [{"prompt": f"Q {n % 10}" if n % 2 else f"q  {n % 10} ", "completion": f"a{n}"} for n in range(30)]
    split = load(path=str(write(tmp_path / "rows.jsonl", *rows)), eval_items=3)
    held_out = {overlap.normal(row.question) for row in split.held_out}
    assert len(held_out) == 3
    assert len(split.train) == 21
    assert not held_out & {overlap.normal(row.question) for row in split.train}
    assert split.notes == (
        "rows.jsonl is read as JSON lines: 30 rows of prompt and completion",
        "6 rows left out of training: they ask a held-out question again",
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("{", r"rows.jsonl:2: is not JSON"),
        ("[1]", r"rows.jsonl:2: a row is an object, not list"),
        ({"question": "q", "prompt": "p", "answer": "a"}, r"rows.jsonl:2: needs exactly one of question or prompt"),
        ({"text": "q"}, r"rows.jsonl:2: needs exactly one of question or prompt; found text"),
        ({"question": "q", "answer": 3}, r"rows.jsonl:2: answer must be text, got 3"),
        ({"question": " ", "answer": "a"}, r"rows.jsonl:2: the question must be text that is not empty"),
        ({"messages": [{"role": "human", "content": "q"}]}, r"rows.jsonl:2: a message has a role \(system, user,"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, r"rows.jsonl:2: .* nobody asks anything"),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path: Path, row: Any, reason: str) -> None:
    path = write(tmp_path / "rows.jsonl", qa("q"), row)
    with pytest.raises(LabError, match=reason):
        load(path=str(path), eval_items=1)


def test_rows_without_an_answer_are_refused_with_their_count_and_lines(tmp_path: Path) -> None:
    unanswered: list[Any] = [{"question": "q1"}, qa("q2", " "), qa("q3") | {"answer": None}, qa("q4", "")]
    asked = {"messages": [{"role": "user", "content": "q"}]}
    path = write(tmp_path / "rows.jsonl", qa("q"), *unanswered, qa("p"), asked)
    with pytest.raises(LabError, match=r"5 of 7 rows of rows.jsonl have no answer: line 2, 3, 4 …\. Give them one, or"):
        load(path=str(path), eval_items=1)
    split = load(path=str(path), eval_items=1, empty_answers="leave_out")
    assert len(split.train) + len(split.held_out) == 2
    assert split.notes[-1] == "5 of 7 rows of rows.jsonl have no answer and were left out: line 2, 3, 4 …"


def test_a_missing_file_a_folder_an_empty_file_and_too_few_rows_are_said(tmp_path: Path) -> None:
    for path, eval_items, reason in (
        (tmp_path / "none.jsonl", 1, r"none.jsonl' does not exist .* or use data.task"),
        (tmp_path, 1, "is a folder"),
        (write(tmp_path / "empty.jsonl", "", " "), 1, "empty.jsonl has no rows"),
        (write(tmp_path / "one.jsonl", qa("q")), 1, "has 1 rows, 0 of them"),
        (write(tmp_path / "two.jsonl", qa("q"), qa("p")), 3, "has 2 rows, .* 3 held out"),
    ):
        with pytest.raises(LabError, match=reason):
            load(path=str(path), eval_items=eval_items)


def test_held_out_questions_of_an_own_file_that_are_trained_on_are_refused_with_the_first(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", qa("one"), qa("two"), qa("three"), qa("TWO "))
    held_out = write(tmp_path / "held_out.jsonl", qa("four"), qa("two", "other"))
    reason = r"2 rows of train.jsonl ask a question that is held out, first its line 2 \('two'\), .* line 2 of held_out"
    with pytest.raises(LabError, match=reason) as raised:
        load(path=str(train), eval_path=str(held_out), eval_items=1)
    assert raised.value.key == "data.eval_path"


def test_held_out_rows_of_an_own_file_are_that_files(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", *(qa(f"q{n}") for n in range(9)))
    held_out = write(tmp_path / "held_out.jsonl", *(qa(f"h{n}") for n in range(4)))
    split = load(path=str(train), eval_path=str(held_out), eval_items=3, train_items=8)
    assert {row.question[0] for row in split.held_out} == {"h"}
    assert (len(split.train), len(split.held_out)) == (8, 3)
    with pytest.raises(LabError, match=r"held_out.jsonl has 4 rows, data.eval_items asks for 5"):
        load(path=str(train), eval_path=str(held_out), eval_items=5)
    write(held_out)
    with pytest.raises(LabError, match=r"held_out.jsonl has no rows"):
        load(path=str(train), eval_path=str(held_out), eval_items=1)


def test_conversations_keep_their_turns_and_end_with_an_answer(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "+1?"), ("assistant", "3")]
    talk = [{"role": role, "content": content} for role, content in turns]
    path = write(tmp_path / "talk.jsonl", {"messages": [*talk, {"role": "user", "content": "thanks"}]}, qa("q"))
    split = load(path=str(path), eval_items=1)
    (row,) = [row for row in (*split.train, *split.held_out) if row.turns]
    assert row.turns == tuple(turns)
    assert (row.question, row.answer) == ("Be brief.\n1+1?\n+1?", "3")


ALPACA_ROWS = [{"instruction": f"do {n}", "input": "x" * (n % 2), "output": f"done {n}"} for n in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset as the hub would hold it: two subsets, one of them with an unanswered row and two splits."""
    import datasets

    more = [*ALPACA_ROWS, {"instruction": "do 10", "input": "", "output": ""}]
    for name, rows in (("a/train", ALPACA_ROWS), ("b/train", more), ("b/test", ALPACA_ROWS[:4])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        datasets.Dataset.from_list(rows).to_parquet(str(tmp_path / f"{name}.parquet"))
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: a\n  data_files: a/*.parquet\n- config_name: b\n  data_files:\n"
        "  - {split: train, path: b/train.parquet}\n  - {split: test, path: b/test.parquet}\n---\n"
    )
    (tmp_path / "dataset.py").write_text("raise SystemExit('code of a dataset was run')")
    return tmp_path


ALPACA = Columns(question=("instruction", "input"), answer="output")


def test_parquet_of_a_dataset_is_read_by_subset_and_split(folder: Path) -> None:
    found = hub_datasets.read_folder(folder, "d", subset="a", split="train", columns=ALPACA)
    assert [row.question for row in found.rows[:2]] == ["do 0", "do 1\n\nx"]
    assert len(found.rows) == 10
    other = hub_datasets.read_folder(folder, "d", subset="b", split="train", columns=ALPACA)
    assert (len(other.rows), other.unanswered) == (10, [10])
    assert len(hub_datasets.read_folder(folder, "d", subset="b", split="test", columns=ALPACA).rows) == 4


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_json_and_csv_of_a_dataset_are_read(tmp_path: Path, ending: str) -> None:
    import csv

    file = tmp_path / f"train.{ending}"
    if ending == "jsonl":
        write(file, *ALPACA_ROWS)
    elif ending == "json":
        file.write_text(json.dumps(ALPACA_ROWS))
    else:
        with file.open("w", newline="") as opened:
            writer = csv.DictWriter(opened, list(ALPACA_ROWS[0]))
            writer.writeheader()
            writer.writerows(ALPACA_ROWS)
    found = hub_datasets.read_folder(tmp_path, "d", subset=None, split="train", columns=ALPACA)
    assert [row.question for row in found.rows] == [f"do {n}" + "\n\nx" * (n % 2) for n in range(10)]


@pytest.mark.parametrize(
    ("subset", "split", "columns", "reason"),
    [
        ("c", "train", ALPACA, r"dataset d: BuilderConfig 'c' not found\. Available: "),
        ("a", "validation", ALPACA, 'dataset d: Unknown split "validation". Should be one of'),
        ("a", "train", Columns(answer="output"), r"d:0: needs exactly one of question or prompt; found instruction, "),
        ("a", "train", Columns(("instruction",), "answer"), r"d:0: has no column 'answer' \(data.columns\); found"),
    ],
)
def test_a_dataset_without_what_was_asked_for_says_what_there_is(
    folder: Path, subset: str, split: str, columns: Columns | None, reason: str
) -> None:
    with pytest.raises(LabError, match=reason):
        hub_datasets.read_folder(folder, "d", subset=subset, split=split, columns=columns)


def test_assets_know_models_files_tasks_corpora_and_datasets(tmp_path: Path) -> None:
    assert assets.available("random-tiny")
    assert assets.available("task:chain_sum")
    assert assets.available("corpus:python_docs")
    assert not assets.available(f"file:{tmp_path / 'none'}")
    assert not assets.available("hub:nobody/nothing@main#sub")
    with pytest.raises(LabError, match="does not exist"):
        assets.fetch(f"file:{tmp_path / 'none'}")
    with pytest.raises(LabError, match="unknown model 'smollm2-135m'"):
        assets.available("smollm2-135m")
