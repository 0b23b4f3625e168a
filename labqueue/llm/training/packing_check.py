"""Measures on the model that is about to be trained that no document of a packed batch sees another. No runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from labqueue.domain.errors import LabError
from labqueue.llm.data.packing import PackedCollator, packed_alone, unpack
from labqueue.llm.data.tokenize import TokenRow
from labqueue.llm.models.load import bare
from labqueue.llm.training.recipe import LOGITS_ROWS, release_cache

if TYPE_CHECKING:
    import torch

    from labqueue.llm.types import Model

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


def check_isolated(
    model: Model, collator: PackedCollator, rows: Sequence[TokenRow], tolerance: float | None = None
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


def _document_losses(model: Model, collator: PackedCollator, rows: Sequence[TokenRow]) -> list[float]:
    """Mean loss of each document of the batch, nats, over every token that can carry loss: an answer alone is often a
    few tokens, too few to tell a leak from rounding."""
    import torch

    inner = bare(model)
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


def _computed_in(model: Model) -> set[torch.dtype]:
    """The types of number of a model's products: its 4-bit layers' may be coarser than its hidden states'."""
    layers = (module for module in model.modules() if getattr(module, "quant_state", None) is not None)
    return {_dtype(model), *(cast("torch.dtype", layer.compute_dtype) for layer in layers)}


def _dtype(model: Model) -> torch.dtype:
    """The dtype that hidden states have: that of the embeddings."""
    return bare(model).get_input_embeddings().weight.dtype
