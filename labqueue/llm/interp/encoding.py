"""Turns texts into one batch of tokens for looking inside: padded on the right, each token with a label of its own.

Padding on the left moves absolute positions (GPT-2) and with them every weight; on the right it changes nothing that
comes before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


@dataclass(frozen=True)
class Encoded:
    """A batch of texts as a model reads it."""

    input_ids: torch.Tensor
    """[batch, seq], padded on the right."""
    attention_mask: torch.Tensor
    """[batch, seq]: 1 where a token is, 0 where padding is."""
    tokens: list[list[str]]
    """Of each text, a label per token, no padding among them."""
    offsets: list[list[tuple[int, int]]]
    """Of each text, where each token stands in it, in characters: (first, behind the last)."""
    special_mask: torch.Tensor
    """[batch, seq]: True where the tokenizer put a token of its own, and at padding."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(each) for each in self.tokens]

    def to(self, device: torch.device | str) -> dict[str, torch.Tensor]:
        """The arguments of a model's forward pass on a device."""
        return {"input_ids": self.input_ids.to(device), "attention_mask": self.attention_mask.to(device)}


def encode(tokenizer: Tokenizer, text: str | Sequence[str], *, limit: int | None = None) -> Encoded:
    """Encodes one text or several. ``limit`` is how many tokens the model has positions for.

    Raises:
        LabError: a text without a token, one longer than ``limit``, or a tokenizer that does not say where its tokens
            stand.
    """
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise LabError("no text is given: name at least one", key="texts")
    if not getattr(tokenizer, "is_fast", False):
        raise LabError(
            "this tokenizer does not say where its tokens stand in the text: take a model with a tokenizer.json",
            key="model",
        )
    rows = [_row(tokenizer, each, number, limit) for number, each in enumerate(texts, start=1)]
    longest = max(len(ids) for ids, _, _ in rows)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0  # masked: which one is no matter
    input_ids = torch.full((len(rows), longest), pad)  # [batch, seq]
    mask = torch.zeros(len(rows), longest, dtype=torch.long)  # [batch, seq]
    special = torch.ones(len(rows), longest, dtype=torch.bool)  # [batch, seq]
    for row, (ids, _, own) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        special[row, : len(ids)] = torch.tensor(own, dtype=torch.bool)
    labels = [_labels(tokenizer, each, ids, offsets) for each, (ids, offsets, _) in zip(texts, rows, strict=True)]
    return Encoded(input_ids, mask, labels, [offsets for _, offsets, _ in rows], special)


def of_ids(ids: torch.Tensor) -> Encoded:
    """A batch of equally long sequences that no text stands behind; ``ids`` [batch, seq]."""
    names = [[str(int(each)) for each in row] for row in ids]
    nowhere = [[(0, 0)] * ids.shape[1] for _ in ids]
    return Encoded(ids, torch.ones_like(ids), names, nowhere, torch.zeros_like(ids, dtype=torch.bool))


def of_rows(rows: Sequence[tuple[list[int], list[bool]]]) -> tuple[Encoded, torch.Tensor]:
    """A batch of sequences of any length, as (tokens, which of them count), and [batch, seq]: 1 at those that count."""
    longest = max(len(ids) for ids, _ in rows)
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)  # [batch, seq]
    mask, counted = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    for row, (ids, counts) in enumerate(rows):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        mask[row, : len(ids)] = 1
        counted[row, : len(ids)] = torch.tensor(counts, dtype=torch.long)
    names = [[str(each) for each in ids] for ids, _ in rows]
    nowhere = [[(0, 0)] * len(ids) for ids, _ in rows]
    return Encoded(input_ids, mask, names, nowhere, mask == 0), counted


def _row(
    tokenizer: Tokenizer, text: str, number: int, limit: int | None
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    found = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    ids = [int(each) for each in found["input_ids"]]
    if not ids:
        raise LabError(f"text {number} ({text[:40]!r}) has no token: write a first letter", key="texts")
    if limit is not None and len(ids) > limit:
        raise LabError(
            f"text {number} ({text[:40]!r}) has {len(ids)} tokens and the model has positions for {limit}: shorten it",
            key="texts",
        )
    return ids, [(int(a), int(b)) for a, b in found["offset_mapping"]], list(found["special_tokens_mask"])


def _labels(tokenizer: Tokenizer, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> list[str]:
    """What each token shows: its piece of the text; the parts of one character numbered, ``你₁ 你₂``."""
    labels = []
    for place, (token, (begin, end)) in enumerate(zip(ids, offsets, strict=True)):
        if end <= begin:
            labels.append(str(tokenizer.convert_ids_to_tokens(token)))
            continue
        piece = text[begin:end]
        alike = [other for other in range(len(ids)) if offsets[other] == (begin, end)]
        labels.append(f"{piece}{str(alike.index(place) + 1).translate(SUBSCRIPTS)}" if len(alike) > 1 else piece)
    return labels
