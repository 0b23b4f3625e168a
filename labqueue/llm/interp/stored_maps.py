"""Stores the attention maps of one text as the model runs; holds one layer at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labqueue.domain.artifacts.attention_maps import Float, MapWriter
from labqueue.llm.evaluation.generate import positions
from labqueue.llm.interp.attention import IMPLEMENTATION, AttentionExtractor
from labqueue.llm.interp.encoding import Encoded, encode

if TYPE_CHECKING:
    from labqueue.llm.interp.attention_tap import Seen
    from labqueue.llm.types import Model, Tokenizer


def store_maps(
    model: Model, tokenizer: Tokenizer, text: str, path: Path, *, name: str, chunk: int | None = None
) -> Encoded:
    """Runs the model once over a text and writes the maps of all heads.

    Args:
        model: with or without adapter.
        tokenizer: the model's.
        text: one; its maps are a row per token.
        path: the file, as ``attention_maps`` describes it.
        name: what the file calls the model.
        chunk: queries at a time; None for all at once.

    Returns:
        The text as the model read it.

    Raises:
        LabError: a text without tokens or beyond the context, a model whose attention cannot be observed.
    """
    batch = encode(tokenizer, text, limit=positions(model))
    with MapWriter(path, batch.tokens[0], implementation=IMPLEMENTATION, model=name) as writer:
        AttentionExtractor(model, tokenizer, chunk=chunk).observe(batch, _Layers(writer, len(batch.tokens[0])))
    return batch


class _Layers:
    """An observer that gathers the rows of a layer and hands it on once it has all."""

    def __init__(self, writer: MapWriter, size: int) -> None:
        self._writer, self._size = writer, size
        self._block: Float | None = None

    def __call__(self, seen: Seen) -> None:
        rows = seen.weights[0].detach().float().cpu().numpy()  # [head, query, key]
        if rows.shape[1] == self._size:
            self._writer.add(seen.layer, rows)
            return
        if self._block is None:
            self._block = np.zeros((len(rows), self._size, self._size), np.float32)
        self._block[:, seen.first : seen.first + rows.shape[1]] = rows
        if seen.first + rows.shape[1] == self._size:
            self._writer.add(seen.layer, self._block)
            self._block = None
