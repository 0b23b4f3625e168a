"""Rows as they stand in files: one object each, with a question and an answer, or with messages. No torch.

A row without an answer is not a row to learn from; it is counted, and ``sources`` decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm.tasks import Row

QUESTION_KEYS = ("question", "prompt")
ANSWER_KEYS = ("answer", "completion")
ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Columns:
    """Which columns of a row are what. ``question`` columns are joined by an empty line, empty ones left out."""

    question: tuple[str, ...] = ()
    answer: str | None = None
    messages: str | None = None


@dataclass(frozen=True)
class Found:
    """Rows of one source, and the numbers of those that have no answer. ``place`` says where a number points."""

    rows: list[Row]
    unanswered: list[int]
    name: str
    place: str


def check_file(path: Path, key: str = "data.path") -> None:
    """Does nothing for a readable file.

    Raises:
        LabError: there is no such file, or it is a folder.
    """
    path = path.expanduser()
    if path.is_dir():
        raise LabError(f"data file {str(path)!r} is a folder; name a JSONL file in it", key=key)
    if not path.is_file():
        raise LabError(
            f"data file {str(path)!r} does not exist (relative paths start at {str(Path.cwd())!r}); "
            "write one JSON object a line with question and answer, or use data.task",
            key=key,
        )


def read_file(path: Path, columns: Columns | None = None, key: str = "data.path") -> Found:
    """Rows of a JSONL file: ``{"question" or "prompt": text, "answer" or "completion": text}`` a line, or
    ``{"messages": [{"role": …, "content": …}, …]}``, or as ``columns`` say.

    Raises:
        LabError: a missing file or a bad row, with its line.
    """
    check_file(path, key)
    path = path.expanduser()
    return collect(_lines(path, key), columns, path.name, "line", lambda line: {"file": str(path), "line": line})


def collect(
    values: Iterable[tuple[int, Any]],
    columns: Columns | None,
    name: str,
    place: str,
    where: Callable[[int], dict[str, Any]],
) -> Found:
    """Rows from ``(number, object)``; ``where(number)`` are the keyword arguments that place a ``LabError``.

    Raises:
        LabError: a bad row.
    """
    found = Found([], [], name, place)
    for number, value in values:
        try:
            if not isinstance(value, dict):
                raise LabError(f"a row is an object, not {type(value).__name__}")
            row = _row(value, columns or Columns(), number)
        except LabError as error:
            raise LabError(error.message, **where(number)) from None
        if row is None:
            found.unanswered.append(number)
        else:
            found.rows.append(row)
    return found


def _lines(path: Path, key: str) -> Iterator[tuple[int, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise LabError(f"is not UTF-8 text: {error}", file=str(path), key=key) from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise LabError(f"is not JSON: {error.msg} at column {error.colno}", file=str(path), line=number) from error


def _row(value: dict[str, Any], columns: Columns, number: int) -> Row | None:
    """The row, or None where it has no answer."""
    messages = columns.messages or ("messages" if "messages" in value and not columns.question else None)
    if messages is not None:
        return _conversation(_cell(value, messages), number)
    if columns.question:
        parts = [_text(_cell(value, name), name) for name in columns.question]
        question = "\n\n".join(part for part in parts if part.strip())
    else:
        question = _text(*_one_of(value, QUESTION_KEYS))
    if not question.strip():
        raise LabError(f"the question must be text that is not empty, got {question!r}")
    if columns.answer is not None:
        answer = _text(_cell(value, columns.answer), columns.answer)
    else:
        given = [key for key in ANSWER_KEYS if key in value]
        answer = _text(*_one_of(value, ANSWER_KEYS)) if given else ""
    return Row(question, answer, number) if answer.strip() else None


def _conversation(value: Any, number: int) -> Row | None:
    if not isinstance(value, list) or not value:
        raise LabError(f"messages is a list of {{role, content}}, got {value!r}")
    turns: list[tuple[str, str]] = []
    for turn in value:
        if not isinstance(turn, dict) or turn.get("role") not in ROLES or not isinstance(turn.get("content"), str):
            raise LabError(f"a message has a role ({', '.join(ROLES)}) and a text content, got {turn!r}")
        turns.append((turn["role"], turn["content"]))
    while turns and turns[-1][0] != "assistant":
        turns.pop()  # what nobody answers carries no loss and is no prompt of anything
    if not turns or not all(content.strip() for role, content in turns if role == "assistant"):
        return None
    question = "\n".join(content for role, content in turns[:-1] if role != "assistant")
    if not question.strip():
        raise LabError("a conversation begins with what is asked; here nobody asks anything")
    return Row(question, turns[-1][1], number, tuple(turns))


def _one_of(value: dict[str, Any], keys: tuple[str, ...]) -> tuple[Any, str]:
    given = [key for key in keys if key in value]
    if len(given) != 1:
        found = ", ".join(map(str, value)) or "nothing"
        words = f"needs exactly one of {' or '.join(keys)}"
        raise LabError(f"{words}; found {found}. It can have messages instead, and data.columns can name other columns")
    return value[given[0]], given[0]


def _cell(value: dict[str, Any], name: str) -> Any:
    if name not in value:
        raise LabError(f"has no column {name!r} (data.columns); found {', '.join(map(str, value)) or 'nothing'}")
    return value[name]


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise LabError(f"{name} must be text, got {value!r}")
    return value
