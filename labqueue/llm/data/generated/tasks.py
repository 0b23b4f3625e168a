"""Questions and answers to fine-tune on, and generated tasks with an exact scorer. No torch.

Training and held-out rows are disjoint by construction: no held-out question occurs in training.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.data.generated import task_list
from labqueue.llm.data.generated.task_source import Source
from labqueue.llm.types import Json

DRAWS_PER_ROW = 20
"""A generated task is given up when this many draws per row bring no new question. Assumption."""

REASONING = ("reasoning_content", "reasoning", "thinking")
"""Under which of them a chat template looks for what was thought before an answer differs; a row's own is passed on."""

TOLD = "told"
"""The key of a row's first message under which stands what is for the chat template and no message."""

HELD_OUT_SEED = 1_000_003
"""Added to the seed for held-out rows. Any other value would do: overlap is removed, not hoped away."""


@dataclass(frozen=True)
class Row:
    """One question with its answer; ``key`` finds it again in its source (an index or a line number).

    ``turns`` is the whole conversation as (role, content), where there is more to it than a question and an answer:
    then ``answer`` is its last turn and ``question`` the turns of others before it. ``extras`` are the other keys of
    each turn that a chat template is given (``tool_calls``, ``reasoning_content``), as JSON, empty where there are
    none; ``tools`` what may be called, likewise. Turns whose numbers are ``unlearned`` carry no loss.
    """

    question: str
    answer: str
    key: int
    turns: tuple[tuple[str, str], ...] = ()
    extras: tuple[str, ...] = ()
    tools: str = ""
    unlearned: frozenset[int] = frozenset()

    def learned(self) -> list[int]:
        """Numbers of the turns that carry loss."""
        roles = [role for role, _ in self.turns] or ["user", "assistant"]
        return [at for at, role in enumerate(roles) if role == "assistant" and at not in self.unlearned]

    def messages(self, *, answer: bool = True) -> list[Json]:
        """The row as messages, with or without its last answer. What a chat template is told besides them (``tools``,
        and that there are thoughts) stands in the first under ``TOLD``; ``templates.parted`` takes it out."""
        turns = self.turns or (("user", self.question), ("assistant", self.answer))
        extras = [json.loads(extra) if extra else {} for extra in self.extras] or [{}] * len(turns)
        whole = [{"role": role, "content": text} | extra for (role, text), extra in zip(turns, extras, strict=True)]
        told: Json = {"tools": json.loads(self.tools)} if self.tools else {}
        if any(key in extra for extra in extras for key in REASONING):
            told["enable_thinking"] = True  # else some templates close an empty thought before each answer
        if told:
            whole[0][TOLD] = told
        return whole if answer else whole[:-1]


@dataclass(frozen=True)
class Split:
    """Rows to train on and rows held out. ``score(row, reply)`` is 1.0 for an exact answer; None: no scorer.

    ``notes`` say what was left out, and why; ``places`` what the keys of training and of held-out rows count.
    """

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    score: Callable[[Row, str], float] | None
    source: str
    notes: tuple[str, ...] = ()
    places: tuple[str, str] = ("row", "row")


def names() -> list[str]:
    """The generated tasks that are offered."""
    return sorted({*task_list.BY_LIBRARY, *task_list.BY_TEXT})


def check_task(name: str) -> None:
    """Does nothing for an offered task, where the version of reasoning-gym is installed that it was proved with.

    Raises:
        LabError: it is unknown, or not offered (the message says why), or another version is installed.
    """
    known = names()
    if (why := task_list.NOT_OFFERED.get(name)) is not None:
        raise LabError(f"task {name!r} is not offered: {why}; {nearest(name, known)}", key="data.task")
    if name not in known:
        raise LabError(f"unknown task {name!r}: {nearest(name, known)}", key="data.task")
    if (installed := importlib.metadata.version("reasoning-gym")) != task_list.VERSION:
        raise LabError(
            f"task {name!r} was proved with reasoning-gym {task_list.VERSION}; installed is {installed}, which may "
            f"draw other rows: pip install reasoning-gym=={task_list.VERSION}",
            key="data.task",
        )


def check_options(task: str, options: Json) -> None:
    """Does nothing for options that the task takes and draws a row with.

    Raises:
        LabError: unknown task, or options that it refuses.
    """
    check_task(task)
    _draw_one(task, json.dumps(options))


@functools.lru_cache(maxsize=256)
def _draw_one(task: str, options: str) -> None:
    """All runs of a sweep ask for the same, and some tasks take half a second for a row."""
    list(Source(task, json.loads(options), seed=0, rows=1).entries())


def generated(task: str, *, train_items: int, held_out_items: int, options: Json | None = None, seed: int = 0) -> Split:
    """Rows of a reasoning-gym task (Apache-2.0). Equal arguments give equal rows, in every process.

    Raises:
        LabError: a task that is not offered, options that it refuses, or too few different questions for the sizes
            asked.
    """
    check_task(task)
    held_source = Source(task, options or {}, seed=seed + HELD_OUT_SEED, rows=held_out_items * DRAWS_PER_ROW)
    train_source = Source(task, options or {}, seed=seed, rows=train_items * DRAWS_PER_ROW)
    held = list(_distinct(held_source, held_out_items, set(), distinct=True))
    held_out = tuple(row for row, _ in held)
    asked = {row.question for row in held_out}
    train = tuple(row for row, _ in _distinct(train_source, train_items, asked, distinct=False))
    for what, rows, wanted in (("held-out", held_out, held_out_items), ("training", train, train_items)):
        if len(rows) < wanted:
            raise LabError(
                f"task {task!r} has only {len(rows)} {what} questions that overlap with nothing held out, {wanted} "
                "were asked for; ask for fewer, or give options that make it larger",
                key=f"data.{'eval' if what == 'held-out' else 'train'}_items",
            )
    entries = {row.key: entry for row, entry in held}
    for row in held_out:
        # Proved for the options that the proof tries; other options may be beyond what the scorer was written for.
        if held_source.score(entries[row.key], row.answer) != 1.0:
            raise LabError(
                f"task {task!r} with options {options or {}} takes its own answer {row.answer!r} for wrong; give other "
                "options",
                key="data.options",
            )

    def score(row: Row, reply: str) -> float:
        return held_source.score(entries[row.key], reply)

    return Split(train, held_out, score, f"reasoning-gym:{task}")


def _distinct(source: Source, wanted: int, refused: set[str], *, distinct: bool) -> Iterator[tuple[Row, Json]]:
    found, seen = 0, set(refused)
    with contextlib.closing(source.entries()) as entries:
        for index, entry in enumerate(entries):
            row = Row(entry["question"], entry["answer"], index)
            if row.question in seen or not row.answer:
                continue
            if distinct:
                seen.add(row.question)
            yield row, entry
            found += 1
            if found == wanted:
                return
