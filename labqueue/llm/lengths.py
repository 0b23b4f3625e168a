"""How many tokens a row of text has at most, asked before anything is loaded. Knows no torch and no transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm import convert, models
from labqueue.llm.tasks import Row

TEMPLATE_TOKENS = 52
"""What a chat template adds to a row: up to 51 (Llama 3's system turn with its dates). Assumption for others."""

TURN_TOKENS = 8
"""What it adds for each further turn (at most 5 in the catalogue's)."""

SAMPLED = 256
"""Rows of a generated task that stand for all of it."""

SPARE = 1.15
"""The longest of all rows of a task is taken to be at most this much longer than the longest of those. Assumption."""


def longest(model: str, rows: Iterable[Row]) -> int:
    """Tokens of the longest row with its template; a little more than really, never fewer.

    Counted by the model's own tokenizer where it is on this machine, else by bytes: a byte-level tokenizer, as all of
    the catalogue's are, never makes two tokens of one byte.
    """
    counted = _tokenizer(model)
    size = _bytes if counted is None else lambda text: len(counted.encode(text, add_special_tokens=False).ids)
    return max((_row(row, size) for row in rows), default=0) + TEMPLATE_TOKENS


def _row(row: Row, size: Callable[[str], int]) -> int:
    turns = row.turns or (("user", row.question), ("assistant", row.answer))
    return sum(size(content) + TURN_TOKENS for _, content in turns[2:]) + sum(size(text) for _, text in turns[:2])


def _bytes(text: str) -> int:
    return len(text.encode())


@functools.cache
def _tokenizer(model: str) -> Any | None:
    """The fast tokenizer of a model, from its one file; None where that is not on this machine."""
    folder = _folder(model)
    if folder is None or not (folder / "tokenizer.json").is_file():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _folder(model: str) -> Path | None:
    try:
        entry = models.find(model)
        if entry.where == "random":
            return None
        return convert.folder(entry) if entry.where == "package" else models.local(model)
    except LabError:
        return None
