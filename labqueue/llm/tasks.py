"""Questions and answers to fine-tune on, and generated tasks with an exact scorer. No torch.

Training and held-out rows are disjoint by construction: no held-out question occurs in training.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labqueue.domain.errors import LabError, nearest

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

    def messages(self, *, answer: bool = True) -> list[dict[str, Any]]:
        """The row as messages, with or without its last answer. What a chat template is told besides them (``tools``,
        and that there are thoughts) stands in the first under ``TOLD``; ``templates.parted`` takes it out."""
        turns = self.turns or (("user", self.question), ("assistant", self.answer))
        extras = [json.loads(extra) if extra else {} for extra in self.extras] or [{}] * len(turns)
        whole = [{"role": role, "content": text} | extra for (role, text), extra in zip(turns, extras, strict=True)]
        told: dict[str, Any] = {"tools": json.loads(self.tools)} if self.tools else {}
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


def check_options(task: str, options: dict[str, Any]) -> None:
    """Does nothing for options that the task takes.

    Raises:
        LabError: unknown task, or options that it refuses.
    """
    check_task(task)
    _source(task, options, seed=0, rows=1)


def _source(task: str, options: dict[str, Any], *, seed: int, rows: int) -> Any:
    import reasoning_gym

    try:
        return reasoning_gym.create_dataset(task, size=rows, seed=seed, **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise LabError(f"task {task!r} refuses options {options}: {error}", key="data.options") from error


def generated(
    task: str, *, train_items: int, held_out_items: int, options: dict[str, Any] | None = None, seed: int = 0
) -> Split:
    """Rows of a reasoning-gym task (Apache-2.0). Equal arguments give equal rows.

    Raises:
        LabError: unknown task, options that it refuses, or too few different questions for the sizes asked.
    """
    check_task(task)
    held_source = _source(task, options or {}, seed=seed + HELD_OUT_SEED, rows=held_out_items * DRAWS_PER_ROW)
    train_source = _source(task, options or {}, seed=seed, rows=train_items * DRAWS_PER_ROW)
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
