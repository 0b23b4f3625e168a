"""Rows of files and hub datasets, split into training and held out. No torch; generated tasks are in ``tasks``.

Rows without an answer, splits without rows and held-out questions that are trained on are refused, with where they
stand; nothing is left out without a note. What makes two rows ask the same is in ``overlap``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from labqueue.domain.errors import LabError
from labqueue.llm.data.files.records import Columns, Found, read_file
from labqueue.llm.data.generated import tasks
from labqueue.llm.data.generated.tasks import Row, Split
from labqueue.llm.data.overlap import Asked, exchanges
from labqueue.llm.types import JsonMapping

NAMED = 3
"""Rows that an error names; it says how many there are."""

EmptyAnswers = Literal["refuse", "leave_out"]


def load(
    *,
    task: str | None = None,
    path: str | None = None,
    hub: str | None = None,
    revision: str = "main",
    subset: str | None = None,
    split: str = "train",
    columns: Columns | None = None,
    options: JsonMapping | None = None,
    sha256: str | None = None,
    eval_path: str | None = None,
    eval_sha256: str | None = None,
    empty_answers: EmptyAnswers = "refuse",
    train_items: int | None = None,
    eval_items: int,
    seed: int = 0,
) -> Split:
    """Rows of a generated task, a file or a hub dataset: exactly one of ``task``, ``path``, ``hub``.

    Held out are ``eval_items`` rows, of ``eval_path`` where it is given, else of the source itself, drawn with
    ``seed``; rows of the source that share a question with them are then left out of training. ``sha256`` and
    ``eval_sha256`` (hex) are those that the bytes that are read must have.

    Raises:
        LabError: a bad row (with its line), rows without an answer, a split without rows or with fewer than asked for,
            held-out questions that occur in training, data that are not on this machine or no longer the same.
    """
    if task is not None and path is None and hub is None and train_items is not None:
        return tasks.generated(
            task, train_items=train_items, held_out_items=eval_items, options=dict(options or {}), seed=seed
        )
    if task is not None or (path is None) == (hub is None):
        given = f"got {task!r}, {path!r}, {hub!r}"
        raise LabError(f"data needs exactly one of task (with train_items), path, hub; {given}", key="data")
    if path is not None:
        found = read_file(Path(path), columns, sha256=sha256)
    else:
        from labqueue.llm.data import hub_datasets

        found = hub_datasets.read(str(hub), revision=revision, subset=subset, split=split, columns=columns)
    notes = list(found.notes)
    rows = _answered(found, empty_answers, notes)
    if eval_path is not None:
        other = read_file(Path(eval_path), columns, key="data.eval_path", sha256=eval_sha256)
        notes += other.notes
        held_out = _answered(other, empty_answers, notes)
        return _with_own_held_out(rows, held_out, found, other, train_items, eval_items, seed, notes)
    made = divided(rows, train_items=train_items, held_out_items=eval_items, seed=seed, name=found.name, notes=notes)
    return replace(made, places=(found.place, found.place))


def from_file(path: Path, *, train_items: int | None, held_out_items: int, seed: int = 0) -> Split:
    """Rows of a file, ``held_out_items`` of them held out; see ``load``."""
    return load(path=str(path), train_items=train_items, eval_items=held_out_items, seed=seed)


def divided(
    rows: Sequence[Row],
    *,
    train_items: int | None,
    held_out_items: int,
    seed: int,
    name: str,
    notes: Iterable[str] = (),
) -> Split:
    """Rows split by question: no held-out question, and no held-out answer to one, occurs in training.

    Raises:
        LabError: fewer rows than asked for; where one question is behind that, it is named.
    """
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    held_out: list[Row] = []
    asked = Asked()
    rest: list[Row] = []
    for row in shuffled:
        if len(held_out) < held_out_items and asked.twin(row) is None:
            asked.add(row)
            held_out.append(row)
        else:
            rest.append(row)
    train = [row for row in rest if asked.twin(row) is None]
    if len(held_out) < held_out_items or not train or (train_items and len(train) < train_items):
        cure = _crowd(rows) or ": give more rows, or lower data.eval_items"
        raise LabError(
            f"{name} has {len(rows)} rows, {len(train)} of them with questions that are not held out; asked for "
            f"{train_items if train_items else 'at least 1'} to train on and {held_out_items} held out{cure}",
            key="data",
        )
    said = list(notes)
    if copies := len(rest) - len(train):
        said.append(f"{copies} rows left out of training: they ask a held-out question again")
    return Split(tuple(train[:train_items]), tuple(held_out), None, name, tuple(said))


def _crowd(rows: Sequence[Row]) -> str:
    """Words on the question that most rows share, where that is why they cannot be told apart."""
    counted = Counter(question for row in rows for question in {asked for asked, _ in exchanges(row)})
    question, count = counted.most_common(1)[0] if counted else ("", 0)
    if count < 2 or 2 * count < len(rows):
        return ""
    return (
        f". {count} rows ask {_short(question)}: where that is only how they begin, give the answer to it weight: 0; "
        "where it is asked of what the system's turn says, put that into the user's turn"
    )


def _with_own_held_out(
    rows: list[Row],
    held_out: list[Row],
    found: Found,
    other: Found,
    train_items: int | None,
    eval_items: int,
    seed: int,
    notes: list[str],
) -> Split:
    asked = Asked.of(held_out)
    overlap = [(row, twin) for row in rows if (twin := asked.twin(row)) is not None]
    if overlap:
        row, twin = overlap[0]
        raise LabError(
            f"{len(overlap)} rows of {found.name} ask a question that is held out, first its {found.place} {row.key} "
            f"({_short(row.question)}), which is {other.place} {twin.key} of {other.name}: held-out loss would be that "
            "of rows that were learned. Take them out of one of the two",
            key="data.eval_path",
        )
    for name, have, wanted, key in (
        (other.name, len(held_out), eval_items, "data.eval_items"),
        (found.name, len(rows), train_items or 1, "data.train_items"),
    ):
        if have < wanted:
            raise LabError(f"{name} has {have} rows, {key} asks for {wanted}", key=key)
    random.Random(seed).shuffle(rows)
    random.Random(seed).shuffle(held_out)
    name = f"{found.name}, held out: {other.name}"
    places = (found.place, other.place)
    return Split(tuple(rows[:train_items]), tuple(held_out[:eval_items]), None, name, tuple(notes), places)


def _answered(found: Found, empty_answers: EmptyAnswers, notes: list[str]) -> list[Row]:
    if not found.rows and not found.unanswered:
        raise LabError(f"{found.name} has no rows: write one JSON object a line with question and answer", key="data")
    if not found.unanswered:
        return found.rows
    count = f"{len(found.unanswered)} of {len(found.rows) + len(found.unanswered)} rows of {found.name} have no answer"
    named = f"{found.place} {', '.join(map(str, found.unanswered[:NAMED]))}"
    more = " …" if len(found.unanswered) > NAMED else ""
    if empty_answers == "refuse":
        raise LabError(
            f"{count}: {named}{more}. Give them one, or set data.empty_answers: leave_out", key="data.empty_answers"
        )
    notes.append(f"{count} and were left out: {named}{more}")
    return found.rows


def _short(text: str, length: int = 60) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
