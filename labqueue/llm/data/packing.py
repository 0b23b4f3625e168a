"""Packing: several rows (documents) in one sequence, so that little is padded, and no document sees another. No runs.

A packed row is a token row with ``seq_lengths``: the tokens of each of its documents, which follow each other. Nothing
is dropped and nothing is split.

Three things keep documents apart, and all are needed: positions restart with each document; the attention is told
where they begin (transformers 5.17 reads it from the positions, but only without an attention mask and without a KV
cache, masking_utils.create_causal_mask; Unsloth reads ``packed_seq_lengths``); the first token of each document carries
no loss. ``training.packing_check`` measures that they were enough, on the very model that is about to be trained.

The loss of a step is the sum over its tokens that carry loss, divided by their number (transformers' and TRL's
``num_items_in_batch``), so a step over the same rows has the same loss and gradient, packed or not.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.llm.data.tokenize import IGNORED, Collator, TokenRow

if TYPE_CHECKING:
    from labqueue.llm.types import Batch


def pack(rows: Sequence[TokenRow], max_length: int, *, seed: int = 0) -> tuple[TokenRow, ...]:
    """Rows packed into sequences of at most ``max_length`` tokens: best fit, longest first.

    Equal arguments give equal packs; ``seed`` draws which of equally long rows share a pack, and the order of packs.

    Raises:
        LabError: a row is longer than ``max_length``.
    """
    longest = max((len(row["input_ids"]) for row in rows), default=0)
    if longest > max_length:
        raise LabError(f"a row of {longest} tokens does not fit a packed sequence of {max_length}", key="max_length")
    source = random.Random(seed)
    numbers = list(range(len(rows)))
    source.shuffle(numbers)
    numbers.sort(key=lambda number: -len(rows[number]["input_ids"]))
    packs: list[list[int]] = []
    room: list[tuple[int, int]] = []  # (tokens left, pack), ascending: the first that suffices fits best
    for number in numbers:
        length = len(rows[number]["input_ids"])
        place = bisect.bisect_left(room, (length, -1))
        if place == len(room):
            packs.append([number])
            left, chosen = max_length - length, len(packs) - 1
        else:
            left, chosen = room.pop(place)
            packs[chosen].append(number)
            left -= length
        if left:
            bisect.insort(room, (left, chosen))
    source.shuffle(packs)
    return tuple(_joined([rows[number] for number in chosen]) for chosen in packs)


def _joined(rows: Sequence[TokenRow]) -> TokenRow:
    return {
        "input_ids": [token for row in rows for token in row["input_ids"]],
        "labels": [label for row in rows for label in (IGNORED, *row["labels"][1:])],
        "seq_lengths": [len(row["input_ids"]) for row in rows],  # the name that TRL and Unsloth keep as a column
    }


def unpack(row: TokenRow) -> list[TokenRow]:
    """The documents of a packed row, as rows of their own; ``pack`` has masked their first label."""
    documents, start = [], 0
    for length in row["seq_lengths"]:
        part = slice(start, start + length)
        documents.append({"input_ids": row["input_ids"][part], "labels": row["labels"][part]})
        start += length
    return documents


def packed_alone(row: TokenRow) -> TokenRow:
    """A row that is not packed, as a pack of one document."""
    return {**row, "seq_lengths": [len(row["input_ids"])]}


class PackedCollator(Collator):
    """Batches packed rows so that no document sees another; rows that are not packed as ``Collator`` does.

    ``flat`` puts all packs of a batch behind each other in one row and names the documents' lengths: Unsloth's form,
    whose attention runs document by document. Otherwise packs are padded to ``[batch, position]``, and the padding is a
    document of its own.
    """

    def __init__(self, pad_token_id: int, *, flat: bool = False) -> None:
        super().__init__(pad_token_id)
        self.flat = flat

    def __call__(self, rows: Sequence[TokenRow]) -> Batch:
        """``input_ids``, ``position_ids`` and ``labels``, each ``[batch, position]``; no attention mask, no cache."""
        if "seq_lengths" not in rows[0]:
            return super().__call__(rows)
        import torch

        if self.flat:
            together: TokenRow = {
                name: [value for row in rows for value in row[name]] for name in ("input_ids", "labels", "seq_lengths")
            }
            rows = [together]
        batch = super().__call__(rows)
        width = batch["input_ids"].shape[1]
        positions = []
        for row in rows:
            lengths = [*row["seq_lengths"], width - len(row["input_ids"])]
            positions.append([position for length in lengths for position in range(length)])
        del batch["attention_mask"]  # transformers looks for packs only where there is none
        batch["position_ids"] = torch.tensor(positions, dtype=torch.long)  # [batch, position]
        batch["use_cache"] = False  # with a cache transformers would not look for packs either
        if self.flat:
            batch["packed_seq_lengths"] = torch.tensor(rows[0]["seq_lengths"], dtype=torch.int32)  # [document]
        return batch
