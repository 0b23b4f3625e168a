"""What can be set of a run that looks where heads attend, and what it declares to leave."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind
from labqueue.domain.declarations import ArtifactUse, Metric
from labqueue.domain.errors import Conflict
from labqueue.kinds import _inside
from labqueue.kinds._pins import Pin
from labqueue.kinds.finetune.data import Data

_NATS: Final = "nats/token"
_SHARE: Final = "share"

METRICS = {
    "repeat_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of random tokens the second time"),
    "text_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of natural text"),
    "repeat_loss_change": Metric(_NATS, None, "held_out", about="what silencing the heads adds to repeat_loss"),
    "text_loss_change": Metric(_NATS, None, "held_out", about="what silencing the heads adds to text_loss"),
    "induction_best": Metric("", None, "diagnostic", _SHARE, about="highest induction score of a head"),
    "induction_null": Metric("", None, "diagnostic", _SHARE, about="the largest of any head where nothing repeats"),
    "induction_heads": Metric("", None, "diagnostic", about="heads 0.2 above their null and best other distance"),
    "induction_of_best_ablated": Metric(
        "", None, "diagnostic", _SHARE, nullable=True, about="score of the best head with the others silenced"
    ),
    "previous_token_best": Metric("", None, "diagnostic", _SHARE, about="highest weight on the previous token"),
    "previous_token_null": Metric("", None, "diagnostic", _SHARE, about="weight of that head two or three before"),
    "duplicate_best": Metric("", None, "diagnostic", _SHARE, about="highest duplicate score of a head"),
    "sink_layer_*": Metric("", None, "diagnostic", _SHARE, about="mean weight of a layer's heads on the first token"),
    "sink_null": Metric("", None, "diagnostic", _SHARE, about="mean weight on each of the next three tokens"),
    # Of what fine-tuning moved.
    "change": Metric("", None, "diagnostic", _SHARE, about="total variation of a row from base to tuned, all heads"),
    "change_floor": Metric("", None, "diagnostic", _SHARE, about="the same between two training seeds"),
    "above_floor": Metric(
        "", None, "diagnostic", _SHARE, about="heads whose least change exceeds all of the floor; a third by chance"
    ),
    "seed_rank": Metric("", None, "diagnostic", about="rank correlation of the heads' changes between two seeds"),
    "seed_rank_null": Metric("", None, "diagnostic", about="97.5 % of it with heads exchanged within layers"),
    "text_rank": Metric("", None, "diagnostic", about="rank correlation of the heads' changes between kinds of text"),
    "text_rank_null": Metric("", None, "diagnostic", about="97.5 % of it with heads exchanged within layers"),
    "base_loss": Metric(_NATS, "lower", "held_out", "positive", about="the base's loss on held-out answers"),
    "tuned_loss": Metric(_NATS, "lower", "held_out", "positive", about="the tuned model's"),
    "given_back": Metric(
        "", None, "held_out", nullable=True, about="share of the gain lost with the most moved heads patched back"
    ),
    "given_back_random": Metric("", None, "held_out", nullable=True, about="with others of their layers, mean"),
    "given_back_random_high": Metric("", None, "held_out", nullable=True, about="the largest of their draws"),
    "given_back_excess": Metric("", None, "held_out", nullable=True, about="given_back less given_back_random"),
}
ARTIFACTS = {
    "heads": ArtifactUse("samples", about="heads with the highest scores, each beside its null"),
    "induction": ArtifactUse(about="induction score, layer by head"),
    "previous_token": ArtifactUse(about="weight on the previous token, layer by head"),
    "duplicate": ArtifactUse(about="duplicate score, layer by head"),
    "sink": ArtifactUse(about="weight on the first token, layer by head"),
    "entropy": ArtifactUse(about="entropy of a row, layer by head"),
    "distance": ArtifactUse(about="mean distance looked back, layer by head"),
    "change_over_floor": ArtifactUse(about="change as a multiple of what another training seed changes, by head"),
    "change_by_head": ArtifactUse(about="total variation from base to tuned, layer by head"),
    "moved": ArtifactUse("samples", about="the most moved heads, each beside its floor"),
    "by_layer": ArtifactUse(about="means of each layer's heads"),
}


class Ablate(kind.Params):
    """Which heads are silenced, chosen by scores on one draw and silenced on another."""

    by: Literal["induction", "previous_token", "duplicate", "sink", "random"] = "induction"
    """The score whose highest heads are taken; ``random``: as many others of the layers of induction's best."""
    heads: int = Field(default=5, ge=1, le=10_000)
    """How many."""
    how: Literal["zero", "mean", "resample"] = "zero"
    """What stands in for what they add: nothing, its mean, or another sequence's."""


class Moved(kind.Params):
    """Which heads fine-tuning moved, and what they are worth."""

    rival: str
    """Adapter of the same fine-tuning with another training seed: usually ``{from_run: {…, seed: next}}``."""
    rival_pin: Pin | None = None
    """SHA-256 of its files, filled in at submission."""
    data: Data
    """What both were trained on, as in the spec of their fine-tuning: its held-out rows are looked at and scored."""
    rows: int = Field(default=6, ge=2, le=10_000)
    """Held-out rows whose attention is compared."""
    scored_rows: int = Field(default=8, ge=1, le=10_000)
    """Other held-out rows, on whose answers the loss is measured."""
    max_length: int = Field(default=256, ge=8, le=1_000_000)
    """Tokens of a row; what is longer loses its end."""
    heads: int = Field(default=15, ge=1, le=10_000)
    """How many of the most moved heads are patched back to the base, at most half of a layer's."""
    draws: int = Field(default=10, ge=2, le=1000)
    """Draws of as many others from the same layers: the null."""


class Params(_inside.LookedInto):
    """Parameters of one run."""

    texts: Annotated[tuple[str, ...], Field(strict=False, max_length=1000)] = ()
    """Natural texts to score on; none: passages of ``corpus``, drawn by the seed."""
    corpus: str = "python_docs"
    """A text of ``labqueue corpora`` that is on this computer."""
    passages: int = Field(default=4, ge=2, le=1000)
    """Passages of the corpus, each of another document."""
    passage_tokens: int = Field(default=96, ge=8, le=100_000)
    """Tokens of a passage."""
    repeat_tokens: int = Field(default=50, ge=4, le=10_000)
    """Random tokens that are repeated, drawn by the seed."""
    repeat_batch: int = Field(default=4, ge=2, le=1000)
    """Sequences of them."""
    ablate: Ablate | None = Ablate()
    """Heads to silence; null for none."""
    moved: Moved | None = None
    """Compares base and ``adapter`` instead of scoring heads, over ``texts`` (or passages) and held-out rows."""
    chunk: int | None = Field(default=None, ge=1)
    """Queries at a time; null for all at once. Bounds the memory to chunk x keys of one layer."""

    @model_validator(mode="after")
    def _enough_texts(self) -> Self:
        if len(self.texts) == 1:
            raise Conflict("texts", "texts has one entry: give two or more, so that a mean is of more than one text")
        return self

    @model_validator(mode="after")
    def _something_tuned(self) -> Self:
        if self.moved is not None and self.adapter is None:
            raise Conflict("adapter", "moved compares a base with its adapter, and adapter is null: name one")
        return self
