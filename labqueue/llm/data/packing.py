"""Packing: several rows (documents) in one sequence, so that little is padded, and no document sees another. No runs.

A packed row is a token row with ``seq_lengths``: the tokens of each of its documents, which follow each other. Nothing
is dropped and nothing is split.

Three things keep documents apart, and all are needed: positions restart with each document; the attention is told
where they begin (transformers 5.17 reads it from the positions, but only without an attention mask and without a KV
cache, masking_utils.create_causal_mask; Unsloth reads ``packed_seq_lengths``); the first token of each document carries
no loss. ``check_isolated`` measures that they were enough, on the very model that is about to be trained.

The loss of a step is the sum over its tokens that carry loss, divided by their number (transformers' and TRL's
``num_items_in_batch``), so a step over the same rows has the same loss and gradient, packed or not.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Sequence
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm.data.tokenize import IGNORED, Collator, TokenRow
from labqueue.llm.training.recipe import LOGITS_ROWS, release_cache

TOLERANCES = {"torch.float32": 1e-4, "torch.bfloat16": 0.05, "torch.float16": 0.02}
"""How far a document's mean loss, nats, may differ packed and alone, by the dtype of the computation. fp32: what the
lab promises. The others: other shapes round differently in half precision (measured on SmolLM2-135M in bf16 and in
NF4, on a CPU, packs of 256 and 1024 tokens: 0.006 to 0.013, where a leak makes 2 to 3)."""

INFLUENCE = 1e-5
"""How far a document's mean loss, nats, may move when its neighbours' tokens change. The shapes are the same and the
masked weights are exact zeros, so it should not move at all, in any dtype."""

CHECKED_ROWS = 2
"""Packed rows that ``check_isolated`` looks at: those with the most documents."""

CHECKED_ALONE = 8
"""Documents of theirs that it runs alone, spread evenly; a forward pass each."""


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

    def __call__(self, rows: Sequence[TokenRow]) -> dict[str, Any]:
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


def check_isolated(
    model: Any, collator: PackedCollator, rows: Sequence[TokenRow], tolerance: float | None = None
) -> dict[str, float]:
    """Measures on packed rows that no document of a batch sees another; changes no random number, mode and weight.

    Two things: each document's mean loss is that of the document alone (within ``tolerance`` nats, by default the one
    of the model's dtype), and it does not move when the tokens of all other documents change. Returns the largest
    difference of each (``alone``, ``influence``), nats; nothing where no row holds two documents.

    Raises:
        LabError: documents see each other: packing must not be used with this model and backend.
    """
    import torch

    chosen = sorted(rows, key=lambda row: -len(row["seq_lengths"]))[:CHECKED_ROWS]
    if not chosen or len(chosen[0]["seq_lengths"]) < 2:
        return {}
    bound = tolerance if tolerance is not None else max(TOLERANCES[str(dtype)] for dtype in _computed_in(model))
    training = model.training
    model.eval()  # dropout would draw random numbers, and packed and alone would not draw the same
    try:
        with torch.no_grad():
            packed = _document_losses(model, collator, chosen)
            disturbed = _document_losses(model, collator, [_disturbed(row) for row in chosen])
            documents = [document for row in chosen for document in unpack(row)]
            every = -(-len(documents) // CHECKED_ALONE)
            alone = {
                number: _document_losses(model, collator, [packed_alone(documents[number])])[0]
                for number in range(0, len(documents), every)
            }
    finally:
        model.train(training)
        release_cache()
    places = [place for row in chosen for place in range(len(row["seq_lengths"]))]
    kept = [number for number, place in enumerate(places) if place % 2 == 0]
    found = {
        "alone": max(abs(packed[number] - loss) for number, loss in alone.items()),
        "influence": max(abs(packed[number] - disturbed[number]) for number in kept),
    }
    if not found["alone"] <= bound or not found["influence"] <= INFLUENCE:  # NaN is refused as well
        raise LabError(
            f"packed documents see each other on {type(model).__name__}: a document's loss differs by "
            f"{found['alone']:.2g} nats from that of the document alone (at most {bound:g}), and by "
            f"{found['influence']:.2g} when its neighbours change (at most {INFLUENCE:g}). Set data.packing: false, or "
            "use another backend",
            key="data.packing",
        )
    return found


def _disturbed(row: TokenRow) -> TokenRow:
    """The row with the tokens of every second document in reverse, the others as they are."""
    ids: list[int] = []
    for number, document in enumerate(unpack(row)):
        ids += document["input_ids"] if number % 2 == 0 else document["input_ids"][::-1]
    return row | {"input_ids": ids}


def _document_losses(model: Any, collator: PackedCollator, rows: Sequence[TokenRow]) -> list[float]:
    """Mean loss of each document of the batch, nats, over every token that can carry loss: an answer alone is often a
    few tokens, too few to tell a leak from rounding."""
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings()
    batch = {name: value.to(model.device) if hasattr(value, "to") else value for name, value in collator(rows).items()}
    del batch["labels"]
    dtype = _dtype(model)
    with torch.autocast(torch.device(model.device).type, dtype=dtype, enabled=dtype != torch.float32):
        states = inner.base_model(**batch)[0]  # [batch, position, hidden]
    losses = []
    for place, start, length in _spans(rows, flat=collator.flat):
        total = 0.0
        for first in range(start, start + length - 1, LOGITS_ROWS):  # a few at a time: it must not set the run's peak
            last = min(first + LOGITS_ROWS, start + length - 1)
            targets = batch["input_ids"][place, first + 1 : last + 1]  # [token]
            logits = head(states[place, first:last].to(head.weight.dtype)).float()  # [token, vocabulary]
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        losses.append(total / max(1, length - 1))
    return losses


def _spans(rows: Sequence[TokenRow], *, flat: bool) -> list[tuple[int, int, int]]:
    """``(row of the batch, first position, tokens)`` of each document."""
    spans, start = [], 0
    for number, row in enumerate(rows):
        start = start if flat else 0
        for length in row["seq_lengths"]:
            spans.append((0 if flat else number, start, length))
            start += length
    return spans


def _computed_in(model: Any) -> set[Any]:
    """The types of number of a model's products: its 4-bit layers' may be coarser than its hidden states'."""
    layers = (module for module in model.modules() if getattr(module, "quant_state", None) is not None)
    return {_dtype(model), *(layer.compute_dtype for layer in layers)}


def _dtype(model: Any) -> Any:
    """The dtype that hidden states have: that of the embeddings."""
    return model.get_input_embeddings().weight.dtype
