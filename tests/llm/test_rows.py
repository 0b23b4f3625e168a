"""Rows as public sets write them: the same conversation whatever its keys; what is not used is said, what is broken
refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates
from labqueue.llm.data.files import records
from labqueue.llm.data.generated.tasks import Row
from tests.llm.test_formats import lines, parquet, table

TALK = (("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "+1?"), ("assistant", "3"))

SPOKEN = {"system": "system", "user": "human", "assistant": "gpt"}
FORMS: dict[str, Any] = {
    "messages": {"messages": [{"role": role, "content": text} for role, text in TALK]},
    "parts": {"messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in TALK]},
    "sharegpt": {"conversations": [{"from": SPOKEN[role], "value": text} for role, text in TALK]},
    "sharegpt with a system column": {
        "system": "Be brief.",
        "conversations": [{"from": SPOKEN[role], "value": text} for role, text in TALK[1:]],
    },
    "messages under sharegpt's name": {"conversations": [{"role": role, "content": text} for role, text in TALK]},
    "messages as text": {"messages": json.dumps([{"role": role, "content": text} for role, text in TALK])},
    "alpaca": {"instruction": "+1?", "input": "", "output": "3", "system": "Be brief.", "history": [["1+1?", "2"]]},
}


def read(folder: Path, *values: Any, columns: records.Columns | None = None) -> records.Found:
    (folder / "rows.jsonl").write_bytes(lines(list(values)))
    return records.read_file(folder / "rows.jsonl", columns)


def one(folder: Path, value: Any) -> Row:
    (row,) = read(folder, value).rows
    return row


@pytest.mark.parametrize("form", FORMS)
def test_a_conversation_is_the_same_whatever_its_form(tmp_path: Path, form: str) -> None:
    found = read(tmp_path, FORMS[form])
    assert found.rows == [Row("Be brief.\n1+1?\n+1?", "3", 1, TALK)]
    assert not [note for note in found.notes if "not used" in note]


def test_alpacas_rows_are_instruction_empty_line_input(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"instruction": "Add.", "input": "1 2", "output": "3", "text": "Below is …"},
        {"instruction": "Add.", "input": "", "output": "3"},
        {"instruction": "Add.", "input": None, "output": ""},
    )
    assert [(row.question, row.answer) for row in found.rows] == [("Add.\n\n1 2", "3"), ("Add.", "3")]
    assert found.unanswered == [3]
    assert "rows.jsonl is read as JSON lines: 3 rows of instruction and output" in found.notes
    assert "rows.jsonl has columns that are not used: text (1)" in found.notes


def test_a_conversation_of_a_csv_and_of_a_parquet_is_that_of_json(tmp_path: Path) -> None:
    value = FORMS["messages"]
    (tmp_path / "a.parquet").write_bytes(parquet([value]))
    (tmp_path / "a.csv").write_bytes(table(",")([{"messages": json.dumps(value["messages"])}]))
    (expected,) = read(tmp_path, value).rows
    (of_parquet,) = records.read_file(tmp_path / "a.parquet").rows
    (of_csv,) = records.read_file(tmp_path / "a.csv").rows
    assert of_parquet.turns == of_csv.turns == expected.turns


CALL = {"name": "weather", "arguments": {"city": "Paris"}}
TEXT = CALL | {"arguments": '{"city": "Paris"}'}
TOOL = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object"}}
WRAPPED = {"type": "function", "function": TOOL}
ASKED, TOLD = {"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "No."}


def called(call: dict[str, Any]) -> list[dict[str, Any]]:
    return [ASKED, {"role": "assistant", "content": None, **call}, {"role": "tool", "content": "dry"}, TOLD]


@pytest.mark.parametrize(
    "value",
    [
        {"messages": called({"tool_calls": [{"type": "function", "function": CALL}]}), "tools": [WRAPPED]},
        {"messages": called({"tool_calls": [CALL]}), "tools": [TOOL]},
        {
            "messages": called({"tool_calls": [{"type": "function", "function": TEXT}]}),
            "tools": json.dumps([TOOL]),
        },
        {"messages": called({"function_call": TEXT}), "tools": [TOOL]},
        {
            "conversations": [
                {"from": "human", "value": "Rain?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "dry"},
                {"from": "gpt", "value": "No."},
            ],
            "tools": json.dumps([TOOL]),
        },
    ],
)  # fmt: skip
def test_tool_calls_and_tools_reach_the_template_as_it_expects_them(tmp_path: Path, value: Any) -> None:
    turns, told = chat_templates.parted(one(tmp_path, value).messages())
    assert told["tools"] == [WRAPPED]
    assert turns == [
        ASKED,
        {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]},
        {"role": "tool", "content": "dry"},
        TOLD,
    ]


def test_keys_that_arrow_fills_with_null_are_no_arguments(tmp_path: Path) -> None:
    calls = [{"name": "a", "arguments": {"city": "Paris"}}, {"name": "b", "arguments": {"day": "today"}}]
    asked = [{"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]} for call in calls]
    (tmp_path / "a.parquet").write_bytes(parquet(asked))
    found = records.read_file(tmp_path / "a.parquet").rows
    assert [row.messages()[-1]["tool_calls"][0]["function"] for row in found] == calls


def test_reasoning_is_kept_with_its_turn(tmp_path: Path) -> None:
    thought = TOLD | {"reasoning_content": "It is dry."}
    turns, told = chat_templates.parted(one(tmp_path, {"messages": [ASKED, thought]}).messages())
    assert (turns, told["enable_thinking"]) == ([ASKED, thought], True)
    assert one(tmp_path, {"messages": [ASKED, TOLD | {"reasoning_content": ""}]}).messages() == [ASKED, TOLD]


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"weight": 0, "train": False}])
def test_a_turn_with_weight_0_or_train_false_is_not_learned(tmp_path: Path, mark: dict[str, Any]) -> None:
    again = [{"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes.", "weight": 1.0}]
    found = read(tmp_path, {"messages": [ASKED, TOLD | mark, *again]})
    assert found.rows[0].unlearned == {1}
    assert "1 turns of rows.jsonl have weight 0 or train false and are not learned" in found.notes
    # After the last turn that is learned there is nothing that anything would be learned of.
    found = read(tmp_path, {"messages": [*again, ASKED, TOLD | mark]})
    assert "1 turns of rows.jsonl have weight 0 or train false and are not learned" in found.notes
    (row,) = found.rows
    assert (row.answer, row.turns, row.unlearned) == ("Yes.", (("user", "Sure?"), ("assistant", "Yes.")), frozenset())


def test_what_the_assistant_says_before_anybody_asks_is_shown_and_not_learned(tmp_path: Path) -> None:
    hello = {"role": "assistant", "content": "How can I help?"}
    system = {"role": "system", "content": "Help."}
    found = read(tmp_path, {"messages": [hello, ASKED, TOLD]}, {"messages": [system, hello, ASKED, TOLD]})
    assert [row.unlearned for row in found.rows] == [{0}, {1}]
    assert [row.turns[-3][1] for row in found.rows] == ["How can I help?"] * 2
    assert "2 conversations of rows.jsonl begin with the assistant" in " ".join(found.notes)


def test_columns_and_keys_that_are_not_used_are_noted_with_their_count(tmp_path: Path) -> None:
    values = [{"question": f"q{n}", "answer": "a", "id": n, "source": "x" if n else None, "tags": []} for n in range(3)]
    talk = {
        "messages": [ASKED | {"name": "Ada"}, TOLD | {"refusal": None, "logprobs": [1], "id": "m"}],
        "prompt": "Rain?",
    }
    notes = read(tmp_path, *values, talk).notes
    assert notes[0] == "rows.jsonl is read as JSON lines: 3 rows of question and answer, 1 rows of messages"
    assert notes[1] == "rows.jsonl has columns that are not used: id (3), source (2), prompt (1)"
    assert notes[2] == "rows.jsonl has keys of messages that are not used: logprobs (1), id (1)"
    many = {"question": "q", "answer": "a"} | {f"c{n}": "x" for n in range(40)}
    assert read(tmp_path, many).notes[1].endswith("c11 (1) and 28 more")


PAIR = {"question": "q", "answer": "a"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (
            [{"prompt": "q", "chosen": "a", "rejected": "b"}] * 3,
            "no row of rows.jsonl has a column answer or completion; the columns are prompt, chosen, rejected: name "
            "the one that holds the answers as data.columns.answer, or add it",
        ),
        (
            [{"train": [PAIR, PAIR], "test": [PAIR]}],
            "holds 2 objects under 'train'; save such a list alone as the file",
        ),
        (
            [{"prompt": [ASKED], "completion": [TOLD]}],
            "prompt is a list: write it and its answer as one list of {role,",
        ),
        ([[["q", "a"]]], 'a row is an object, not list: write {"question": "…", "answer": "…"}'),
        ([{"question": "q", "answer": 2}], "answer must be text, got 2; put it in quotes"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_what_to_write(tmp_path: Path, values: Any, reason: str) -> None:
    with pytest.raises(LabError, match=re.escape(reason)):
        read(tmp_path, *values)


def test_some_rows_without_an_answer_are_counted_whatever_columns_they_lack(tmp_path: Path) -> None:
    found = read(tmp_path, PAIR, {"question": "q"}, {"question": "q", "answer": None})
    assert (len(found.rows), found.unanswered) == (1, [2, 3])
    chosen = read(tmp_path, {"prompt": "q", "chosen": "a"}, columns=records.Columns(("prompt",), "chosen"))
    assert [row.answer for row in chosen.rows] == ["a"]


def messages(*turns: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(turns)}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (messages(ASKED, TOLD | {"weight": 0.5}), r"weight is 1 \(learned\) or 0 \(shown only\), got 0.5"),
        (messages(ASKED, TOLD | {"weight": "0"}), r"weight is 1 .*, got '0'"),
        (messages(ASKED, TOLD | {"train": "no"}), "train is true or false, got 'no'"),
        (messages(ASKED, TOLD | {"train": True, "weight": 0}), "weight is 0 and train is True: one of them"),
        (messages(ASKED | {"weight": 1}, TOLD), "a turn of user is to be learned; loss falls on the assistant's turns"),
        (messages(ASKED, TOLD | {"weight": 0}), "every turn of the assistant has weight 0 or train false"),
        (messages(ASKED, TOLD | {"tool_calls": [{"function": {}}]}), "a tool call has a function with a name and arg"),
        (messages(ASKED, TOLD | {"tool_calls": [CALL | {"arguments": "Paris"}]}), "'weather' are an object, got 'P"),
        (messages(ASKED, TOLD | {"tool_calls": [CALL | {"arguments": "{Paris"}]}), "arguments is not JSON: "),
        (messages(ASKED | {"tool_calls": [CALL]}, TOLD), "tool_calls belong to the assistant, .* a turn of user"),
        (messages(ASKED, {"role": "assistant"}), "a message has a role and a text content, got"),
        (messages(ASKED, TOLD | {"content": [{"type": "image"}]}), "content has a part that is no text: {"),
        (messages(ASKED, TOLD) | {"tools": ["weather"]}, "tools is a list of objects, or one as JSON text, got"),
        (messages(ASKED, TOLD) | {"tools": "[weather]"}, "tools is not JSON"),
        ({"conversations": [{"from": "owner", "value": "q"}]}, r"a message has a from \(system, user, .*human, gpt"),
        ({"conversations": "a, b"}, "conversations is a list of {role, content}, got 'a, b'"),
        ({"conversations": [{"from": "function_call", "value": "weather()"}]}, "function_call holds the call as JSON"),
        ({"instruction": "q", "output": "a", "history": ["x"]}, r"history is a list of \[question, answer\], got 'x'"),
        ({"instruction": "q", "output": "a", "history": 7}, r"history is a list of \[question, answer\], got 7"),
        ({"instruction": "q", "output": 3}, "output must be text, got 3"),
        ({"question": "q", "answer": "half \ud83d"}, r"answer has \\ud83d at character 5, half of a pair"),
        (messages(ASKED, TOLD | {"content": "\udc00"}), r"content has \\udc00 at character 0"),
        (messages(ASKED, TOLD | {"tool_calls": [{"name": "x\ud800"}]}), r"tool call has \\ud800"),
    ],
)  # fmt: skip
def test_a_turn_that_cannot_be_honoured_is_refused_with_its_row(tmp_path: Path, value: Any, reason: str) -> None:
    good = json.dumps({"question": "q", "answer": "a"})
    (tmp_path / "rows.jsonl").write_text(f"{good}\n{json.dumps(value)}\n{good}")
    with pytest.raises(LabError, match=rf"rows.jsonl:2: {reason}|rows.jsonl:2: .*{reason}") as raised:
        records.read_file(tmp_path / "rows.jsonl")
    assert "\n" not in str(raised.value)
