"""Compares where a base and two models tuned from it attend: which heads moved, and what that is worth."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from labqueue.domain import artifacts, kind
from labqueue.domain.declarations import ArtifactUse, Metric
from labqueue.kinds import _inside
from labqueue.kinds.finetune.data import Data

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.interp.encoding import Encoded
    from labqueue.llm.interp.moved_heads import Changes, PatchedBack
    from labqueue.llm.types import Tokenizer

METRICS = {
    "moved_share": Metric(
        "", None, "diagnostic", "share", about="heads that tuning moves more than another seed does; a third by chance"
    ),
    "moved_seeds_rank": Metric("", None, "held_out", about="rank correlation of heads' changes between two seeds"),
    "moved_seeds_null": Metric("", None, "diagnostic", about="97.5 % of it with heads exchanged within layers"),
    "moved_texts_rank": Metric("", None, "held_out", about="rank correlation of heads' changes between task and text"),
    "moved_texts_null": Metric("", None, "diagnostic", about="97.5 % of it with heads exchanged within layers"),
    "tuned_gain": Metric("nats/token", "higher", "held_out", about="what tuning took off the loss of held-out answers"),
    "given_back": Metric("", None, "held_out", nullable=True, about="share of it lost with moved heads patched back"),
    "given_back_random": Metric(
        "", None, "diagnostic", nullable=True, about="mean share lost with others of the same layers patched back"
    ),
    "given_back_random_high": Metric("", None, "diagnostic", nullable=True, about="the largest of their draws"),
    "given_back_excess": Metric("", None, "held_out", nullable=True, about="given_back less given_back_random"),
}
ARTIFACTS = {
    "moved": ArtifactUse(about="change of each head over what another seed changes, layer by head"),
    "moved_heads": ArtifactUse("samples", about="heads that tuning moved most"),
}

Texts = Callable[["Tokenizer"], list[str]]
"""Natural texts, cut by a model's tokens."""

MAX_LENGTH = 512
"""Tokens of a row, as many as it may have; a longer one loses its end."""


class Moved(kind.Params):
    """What base and tuned are compared on."""

    data: Data
    """What the adapters were trained on: half of its held-out rows tell which heads moved, the others what it costs."""
    heads: int = Field(default=15, ge=1, le=10_000)
    """How many of the most moved heads are patched back."""
    draws: int = Field(default=5, ge=1, le=1000)
    """How often as many others of the same layers are."""


def look(params: _inside.LookedInto, moved: Moved, rival: str, texts: Texts, rec: Recorder) -> None:
    """Records which heads moved over the task's rows and natural texts, and the loss with them patched back.

    Raises:
        LabError: adapters that are not there or none of the model's, that attend alike, fewer than two held-out rows.
        Stopped: asked to stop.
    """
    from labqueue.domain.errors import LabError
    from labqueue.llm.data import tokenize
    from labqueue.llm.interp import moved_heads
    from labqueue.llm.interp.encoding import of_rows
    from labqueue.llm.models import adapter_folder, load

    assert params.adapter is not None
    loaded = load.load_model(
        params.model,
        pin=params.model_pin,
        backend="hf",
        quantization=params.quantization,
        device=rec.device,
        dtype=params.dtype,
    )
    rec.note(f"{loaded.name}: {loaded.weights}; computed in {loaded.dtype}; eager attention")
    tokenizer = adapter_folder.with_tokenizer(loaded, Path(params.adapter)).tokenizer
    adapted = adapter_folder.load(loaded, Path(params.adapter), Path(rival))
    base, tuned = moved_heads.variants(adapted, ["default", "other_1"])
    split = moved.data.load()
    rows = tokenize.encode(tokenizer, split.held_out, MAX_LENGTH, "held-out", loss="answer").rows
    if len(rows) < 2:
        raise LabError("one held-out row cannot tell both which heads moved and what it costs: give two", key="moved")
    half = len(rows) // 2
    counted = [(row["input_ids"], [label >= 0 for label in row["labels"]]) for row in rows]
    # As tokens: a text that is decoded and encoded again need not be what training saw.
    shown: dict[str, list[str | Encoded]] = {
        "task": [of_rows([row])[0] for row in counted[:half]],
        "text": [*texts(tokenizer)],
    }
    done, total = 0, sum(len(each) for each in shown.values()) + moved.draws + 3

    def tell() -> None:
        nonlocal done
        done += 1
        _inside.tell(rec, done, total)

    rec.progress(0, total)
    changes = moved_heads.changes(base, tuned, tokenizer, shown, tell)
    _record_changes(rec, changes)
    batch, scored = of_rows(counted[half:])
    patched = moved_heads.patch_back(
        base, tuned[0], batch, scored, changes.moved, count=moved.heads, draws=moved.draws, seed=rec.seed, tell=tell
    )
    _record_patched(rec, changes, patched)


def _record_changes(rec: Recorder, changes: Changes) -> None:
    rec.metric("moved_share", changes.above_floor, 0)
    rec.metric("moved_seeds_rank", changes.between_seeds(), 0)
    rec.metric("moved_seeds_null", changes.null("seeds", seed=rec.seed)[1], 0)
    rec.metric("moved_texts_rank", changes.between_texts(), 0)
    rec.metric("moved_texts_null", changes.null("texts", seed=rec.seed)[1], 0)
    layers, heads = changes.share.shape
    values = [[float(each) for each in row] for row in changes.share]
    grid = artifacts.Grid(
        row_label="layer",
        column_label="head",
        rows=tuple(map(str, range(layers))),
        columns=tuple(map(str, range(heads))),
        values=tuple(tuple(None if math.isnan(each) else round(each, 4) for each in row) for row in values),
        value_label="change over what another seed changes",
    )
    rec.artifact("moved", grid)


def _record_patched(rec: Recorder, changes: Changes, patched: PatchedBack) -> None:
    def known(value: float) -> float | None:
        return None if math.isnan(value) else value

    rec.metric("tuned_gain", patched.base - patched.tuned, 0)
    rec.metric("given_back", known(patched.given_back), 0)
    at_random = patched.given_back_at_random
    mean = sum(at_random) / len(at_random)
    rec.metric("given_back_random", known(mean), 0)
    rec.metric("given_back_random_high", known(max(at_random)), 0)
    rec.metric("given_back_excess", known(patched.given_back - mean), 0)
    rows = [
        (
            f"{layer}.{head}",
            round(float(changes.moved[layer, head]), 4),
            round(float(changes.floor[layer, head]), 4),
        )
        for layer, head in patched.heads
    ]
    columns = ("layer.head", "change", "another seed's")
    rec.artifact("moved_heads", artifacts.Table(columns=columns, rows=tuple(rows)))
