"""Rows of text as token rows with labels on the answer only. Knows tokenizers, no models and no runs.

A token row is ``{"input_ids": [token], "labels": [token or -100]}``; -100 carries no loss. The same rows serve every
backend: Unsloth and TRL prepare data differently, so neither is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm.tasks import Row

IGNORED = -100
"""The label that cross-entropy leaves out (torch's default ``ignore_index``)."""

TokenRow = dict[str, list[int]]


@dataclass(frozen=True)
class Encoded:
    """Token rows, and how many answers were cut by ``max_length``."""

    rows: tuple[TokenRow, ...]
    truncated: int


def messages(row: Row, *, answer: bool) -> list[dict[str, str]]:
    """The row as a conversation, with or without its answer."""
    asked = {"role": "user", "content": row.question}
    return [asked, {"role": "assistant", "content": row.answer}] if answer else [asked]


def prompt_ids(tokenizer: Any, row: Row) -> list[int]:
    """The tokens that the answer follows: the chat template up to the assistant's turn, or the question and a newline
    for a base model without a template."""
    if tokenizer.chat_template:
        return _template(tokenizer, messages(row, answer=False), add_generation_prompt=True)
    return list(tokenizer(row.question + "\n")["input_ids"])


def encode(tokenizer: Any, rows: Sequence[Row], max_length: int, what: str = "training") -> Encoded:
    """Tokens and labels of every row; labels begin where the prompt ends and run through the end of the turn.

    Rows longer than ``max_length`` tokens lose the end of their answer.

    Raises:
        LabError: a row that would carry no loss at all, since its prompt fills ``max_length``, or a chat template that
            renders the prompt differently once an answer follows it.
    """
    encoded: list[TokenRow] = []
    truncated = 0
    for number, row in enumerate(rows):
        prompt = prompt_ids(tokenizer, row)
        if tokenizer.chat_template:
            whole = _template(tokenizer, messages(row, answer=True))
        else:
            whole = list(tokenizer(row.question + "\n" + row.answer + tokenizer.eos_token)["input_ids"])
        start = _common_prefix(prompt, whole)
        if start < len(prompt) - 1:  # one token may merge across the boundary
            raise LabError(
                f"the chat template renders the prompt of {what} row {number} differently once its answer follows "
                f"(after token {start}): training would see another prompt than sampling. Use another model's template",
                key="model",
            )
        if start >= min(len(whole), max_length):
            raise LabError(
                f"{what} row {number} (source {row.key}) has a prompt of {len(prompt)} tokens, max_length is "
                f"{max_length}: no token of its answer would be trained on. Raise max_length above {len(whole)}, or "
                "take the row out",
                key="max_length",
            )
        truncated += len(whole) > max_length
        labels = [IGNORED] * start + whole[start:]
        encoded.append({"input_ids": whole[:max_length], "labels": labels[:max_length]})
    return Encoded(tuple(encoded), truncated)


def loss_tokens(row: TokenRow) -> int:
    """How many tokens of a row carry loss: the first token of a row is never predicted."""
    return sum(label != IGNORED for label in row["labels"][1:])


class Collator:
    """Pads rows of a batch on the right to the longest; padding is masked and carries no loss whichever token pads."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[TokenRow]) -> dict[str, Any]:
        """``input_ids``, ``attention_mask`` and ``labels`` of a batch, each ``[batch, position]``, padded right."""
        import torch

        width = max(len(row["input_ids"]) for row in rows)

        def stack(name: str, fill: int) -> Any:
            padded = [list(row[name]) + [fill] * (width - len(row[name])) for row in rows]
            return torch.tensor(padded, dtype=torch.long)  # [batch, position]

        mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        return {
            "input_ids": stack("input_ids", self.pad_token_id),
            "attention_mask": torch.tensor(mask, dtype=torch.long),  # [batch, position]
            "labels": stack("labels", IGNORED),
        }


def preview(tokenizer: Any, rows: Sequence[TokenRow], count: int) -> list[tuple[int, int, str, int, bool]]:
    """``(row, position, token text, token id, carries loss)`` of the first rows: what the loss really looks at."""
    return [
        (number, position, tokenizer.decode([token]), token, position > 0 and label != IGNORED)
        for number, row in enumerate(rows[:count])
        for position, (token, label) in enumerate(zip(row["input_ids"], row["labels"], strict=True))
    ]


def _template(tokenizer: Any, conversation: list[dict[str, str]], *, add_generation_prompt: bool = False) -> list[int]:
    encoded = tokenizer.apply_chat_template(
        conversation, tokenize=True, return_dict=True, add_generation_prompt=add_generation_prompt
    )
    return list(encoded["input_ids"])


def _common_prefix(one: list[int], other: list[int]) -> int:
    for position, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return position
    return min(len(one), len(other))
