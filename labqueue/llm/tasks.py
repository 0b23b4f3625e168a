"""Questions and answers to fine-tune on: generated tasks with an exact scorer, or rows of a JSONL file. No torch.

Training and held-out rows are disjoint by construction: no held-out question occurs in training.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError, nearest

QUESTION_KEYS = ("question", "prompt")
ANSWER_KEYS = ("answer", "completion")

DRAWS_PER_ROW = 20
"""A generated task is given up when this many draws per row bring no new question. Assumption."""

HELD_OUT_SEED = 1_000_003
"""Added to the seed for held-out rows. Any other value would do: overlap is removed, not hoped away."""


@dataclass(frozen=True)
class Row:
    """One question with its answer; ``key`` finds it again in its source (an index or a line number)."""

    question: str
    answer: str
    key: int


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out. ``score(row, reply)`` is 1.0 for an exact answer; None: no scorer."""

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    score: Callable[[Row, str], float] | None
    source: str


def names() -> list[str]:
    """All generated tasks."""
    from reasoning_gym.factory import DATASETS

    return sorted(DATASETS)


def check_task(name: str) -> None:
    """Does nothing for a known task.

    Raises:
        LabError: there is none of that name; the message names the nearest.
    """
    if name not in (known := names()):
        raise LabError(f"unknown task {name!r}: {nearest(name, known)}", key="data.task")


def split(
    task: str | None,
    path: str | None,
    *,
    train_items: int | None,
    held_out_items: int,
    options: dict[str, Any] | None = None,
    seed: int = 0,
) -> Split:
    """Rows of a task, or of a file: exactly one is given.

    Raises:
        LabError: as ``generated`` and ``from_file``; or both are given, or neither.
    """
    if task is not None and path is None and train_items is not None:
        return generated(task, train_items=train_items, held_out_items=held_out_items, options=options, seed=seed)
    if path is not None and task is None:
        return from_file(Path(path), train_items=train_items, held_out_items=held_out_items, seed=seed)
    raise LabError(f"data needs a task with train_items, or a path; got task {task!r}, path {path!r}", key="data")


def generated(
    task: str, *, train_items: int, held_out_items: int, options: dict[str, Any] | None = None, seed: int = 0
) -> Split:
    """Rows of a reasoning-gym task (Apache-2.0). Equal arguments give equal rows.

    Raises:
        LabError: unknown task, options that it refuses, or too few different questions for the sizes asked.
    """
    import reasoning_gym

    check_task(task)

    def draw(seed: int, rows: int) -> Any:
        try:
            return reasoning_gym.create_dataset(task, size=rows, seed=seed, **(options or {}))
        except (TypeError, AssertionError, ValueError) as error:
            raise LabError(f"task {task!r} refuses options {options}: {error}", key="data.options") from error

    held_source = draw(seed + HELD_OUT_SEED, held_out_items * DRAWS_PER_ROW)
    train_source = draw(seed, train_items * DRAWS_PER_ROW)
    held_out = _distinct(held_source, held_out_items, set(), distinct=True)
    train = _distinct(train_source, train_items, {row.question for row in held_out}, distinct=False)
    for what, rows, wanted in (("held-out", held_out, held_out_items), ("training", train, train_items)):
        if len(rows) < wanted:
            raise LabError(
                f"task {task!r} has only {len(rows)} {what} questions that overlap with nothing held out, {wanted} "
                "were asked for; ask for fewer, or give options that make it larger",
                key=f"data.{'eval' if what == 'held-out' else 'train'}_items",
            )

    def score(row: Row, reply: str) -> float:
        # Partial credit (a right format, say) is not an answer.
        return float(held_source.score_answer(reply.strip(), held_source[row.key]) >= 1.0)

    return Split(train, held_out, score, f"reasoning-gym:{task}")


def _distinct(source: Any, wanted: int, refused: set[str], *, distinct: bool) -> tuple[Row, ...]:
    rows: list[Row] = []
    seen = set(refused)
    for index in range(len(source)):
        if len(rows) == wanted:
            break
        entry = source[index]
        row = Row(str(entry["question"]), str(entry["answer"]), index)
        if row.question in seen or not row.answer:
            continue
        if distinct:
            seen.add(row.question)
        rows.append(row)
    return tuple(rows)


def check_file(path: Path) -> None:
    """Does nothing for a readable file.

    Raises:
        LabError: there is no such file, or it is a folder.
    """
    path = path.expanduser()
    if path.is_dir():
        raise LabError(f"data file {str(path)!r} is a folder; name a JSONL file in it", key="data.path")
    if not path.is_file():
        raise LabError(
            f"data file {str(path)!r} does not exist (relative paths start at {str(Path.cwd())!r}); "
            "write one JSON object a line with question and answer, or use data.task",
            key="data.path",
        )


def from_file(path: Path, *, train_items: int | None, held_out_items: int, seed: int = 0) -> Split:
    """Rows of a JSONL file, ``{"question" or "prompt": text, "answer" or "completion": text}`` a line.

    The held-out rows are drawn with ``seed``; further copies of their questions are left out of training.

    Raises:
        LabError: a missing file, a bad row (with its line), or fewer rows than asked for.
    """
    check_file(path)
    path = path.expanduser()
    rows = list(_read(path))
    random.Random(seed).shuffle(rows)
    held_out: list[Row] = []
    questions: set[str] = set()
    for row in rows:
        if len(held_out) == held_out_items:
            break
        if row.question not in questions:
            questions.add(row.question)
            held_out.append(row)
    train = [row for row in rows if row.question not in questions]
    if len(held_out) < held_out_items or not train or (train_items and len(train) < train_items):
        raise LabError(
            f"has {len(rows)} rows, {len(train)} of them with questions that are not held out; asked for "
            f"{train_items if train_items else 'at least 1'} to train on and {held_out_items} held out",
            file=str(path),
            key="data",
        )
    return Split(tuple(train[:train_items]), tuple(held_out), None, path.name)


def _read(path: Path) -> Iterator[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise LabError(f"is not UTF-8 text: {error}", file=str(path), key="data.path") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise LabError(f"is not JSON: {error.msg} at column {error.colno}", file=str(path), line=number) from error
        if not isinstance(value, dict):
            raise LabError(f"a row is an object, not {type(value).__name__}", file=str(path), line=number)
        yield Row(_text(value, QUESTION_KEYS, path, number), _text(value, ANSWER_KEYS, path, number), number)


def _text(value: dict[str, Any], keys: tuple[str, ...], path: Path, line: int) -> str:
    given = [key for key in keys if key in value]
    if len(given) != 1:
        found = ", ".join(map(str, value)) or "nothing"
        raise LabError(f"needs exactly one of {' or '.join(keys)}; found {found}", file=str(path), line=line)
    text = value[given[0]]
    if not isinstance(text, str) or not text.strip():
        raise LabError(f"{given[0]} must be text that is not empty, got {text!r}", file=str(path), line=line)
    return text
