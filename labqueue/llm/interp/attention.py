<<<<<<< HEAD
"""Extracts attention weights: where each head of each layer looks, equal bit for bit to the model's own eager attention."""
=======
"""Extracts attention weights: where each head looks, equal bit for bit to the model's own eager attention."""
>>>>>>> main

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from labqueue.domain.errors import LabError
from labqueue.llm.evaluation.generate import positions
from labqueue.llm.interp.attention_tap import Observer, Seen, attention_modules, bare, observed
from labqueue.llm.interp.encoding import Encoded, encode

if TYPE_CHECKING:
    from labqueue.llm.types import Model, Tokenizer

IMPLEMENTATION = "eager"
"""Whose arithmetic the weights are: base and tuned models are always compared within one."""


@dataclass(frozen=True)
class StoredWeights:
    """Weights of one layer in a file, read when they are asked for."""

    path: Path
    shape: tuple[int, int, int, int]
    """(batch, head, query, key)."""

    def read(self) -> torch.Tensor:
        """[batch, head, query, key], fp32."""
        return torch.from_numpy(np.load(self.path, mmap_mode="r").copy())


@dataclass(frozen=True)
class AttentionOutput:
    """Where a model attended. Rows and columns of padding are 0; every other row sums to 1."""

    weights: dict[int, torch.Tensor | StoredWeights]
    """By number of layer: [batch, head, query, key]; with ``heads`` or ``queries`` only those, in the order asked."""
    tokens: list[list[str]]
    """Of each text, a label per token."""
    offsets: list[list[tuple[int, int]]]
    """Of each text, where its tokens stand, in characters."""
    special_mask: torch.Tensor
    """[batch, seq]: tokens that the tokenizer put, and padding."""
    implementation: str
    """Whose arithmetic it is."""


class AttentionExtractor:
    """One forward pass for several observers. Holds no weights itself."""

    def __init__(
        self, model: Model, tokenizer: Tokenizer, *, layers: Sequence[int] | None = None, chunk: int | None = None
    ) -> None:
        """``layers`` by number, None for all; ``chunk`` queries at a time bounds the memory to chunk x keys a head.

        Raises:
            LabError: a model whose attention cannot be observed, or a layer that is not there.
        """
        self.model, self.tokenizer, self.chunk = model, tokenizer, chunk
        known = attention_modules(bare(model))
        self.layers = list(known) if layers is None else list(layers)
        self.heads = int(bare(model).config.get_text_config().num_attention_heads)
        if wrong := [layer for layer in self.layers if layer not in known]:
            raise LabError(f"layer {wrong[0]} is not there: the model has 0 to {max(known)}", key="layers")

    def observe(self, text: str | Sequence[str] | Encoded, *observers: Observer) -> Encoded:
        """Runs the model once over texts; observers are called with the weights of padding's rows, too.

        Raises:
            LabError: a text without tokens or longer than the model's context; what an observer raises comes through,
                and the model is as it was.
        """
<<<<<<< HEAD
        batch = (
            text if isinstance(text, Encoded) else encode(self.tokenizer, text, limit=positions(self.model))
        )
=======
        batch = text if isinstance(text, Encoded) else encode(self.tokenizer, text, limit=positions(self.model))
>>>>>>> main
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), observed(self.model, observers, layers=self.layers, chunk=self.chunk):
                self.model(**batch.to(self.model.device), use_cache=False)
        finally:
            self.model.train(training)
        return batch


def extract_attention(
    model: Model,
    tokenizer: Tokenizer,
    text: str | Sequence[str],
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    queries: Sequence[int] | None = None,
    *,
    chunk: int | None = None,
    to: Path | None = None,
) -> AttentionOutput:
    """Extracts the attention weights of a text or several.

    Args:
        model: of transformers, quantised or not, with or without adapter.
        tokenizer: the model's.
        text: one or several; what is found of one does not depend on the others.
        layers: by number; None for all.
        heads: by number; None for all.
        queries: places of the queries to keep; None for all.
        chunk: queries at a time; None for all at once.
        to: a folder: each layer goes to a file of its own there, fp32, and ``weights`` are handles.

    Returns:
        ``weights`` {layer: [batch, head, query, key]} and what the tokens are.

    Raises:
        LabError: a text without tokens or beyond the context, a layer, head or query that is not there, a model whose
            attention cannot be observed.
    """
    extractor = AttentionExtractor(model, tokenizer, layers=layers, chunk=chunk)
    batch = encode(tokenizer, text, limit=positions(model))
    longest = batch.input_ids.shape[1]
    kept_heads = _chosen(heads, extractor.heads, "head")
    kept_queries = _chosen(queries, longest, "query")
    store = _Store(batch, kept_heads, kept_queries, to)
    extractor.observe(batch, store)
    return AttentionOutput(store.weights(), batch.tokens, batch.offsets, batch.special_mask, IMPLEMENTATION)


def _chosen(given: Sequence[int] | None, count: int, what: str) -> list[int]:
    if given is None:
        return list(range(count))
    if wrong := [each for each in given if not 0 <= each < count]:
        plural = "queries" if what == "query" else f"{what}s"
        raise LabError(f"{what} {wrong[0]} is not there: there are {count} {plural}, 0 to {count - 1}", key=plural)
    return list(given)


class _Store:
    """An observer that keeps what was asked for, in memory or in a file a layer."""

    def __init__(self, batch: Encoded, heads: list[int], queries: list[int], to: Path | None) -> None:
        self._real = batch.attention_mask.bool()  # [batch, seq]
        self._heads, self._queries, self._to = heads, queries, to
        self._rows = {query: place for place, query in enumerate(queries)}
        keys = batch.input_ids.shape[1]
        self._shape = (len(batch.tokens), len(heads), len(queries), keys)
        self._held: dict[int, torch.Tensor] = {}
        self._files: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = {}

    def __call__(self, seen: Seen) -> None:
        here = [query for query in self._queries if seen.first <= query < seen.first + seen.weights.shape[2]]
        if not here:
            return
        rows = [query - seen.first for query in here]
        if self._heads == list(range(seen.weights.shape[1])) and rows == list(range(seen.weights.shape[2])):
            found = seen.weights.detach().to("cpu", copy=True)  # [batch, head, query, key]
        else:
            found = seen.weights[:, self._heads][:, :, rows].detach().cpu()  # [batch, head, query, key]
        # Padding's own rows are uniform or whatever the mask leaves of them: nothing that a text has to do with.
        found *= self._real[:, None, here, None]
        places = [self._rows[query] for query in here]
        if self._to is None:
            if seen.layer not in self._held:
                self._held[seen.layer] = torch.zeros(self._shape, dtype=found.dtype)
            self._held[seen.layer][:, :, places] = found
            return
        if seen.layer not in self._files:
            self._to.mkdir(parents=True, exist_ok=True)
            self._files[seen.layer] = np.lib.format.open_memmap(
                self._path(seen.layer), mode="w+", dtype=np.float32, shape=self._shape
            )
        self._files[seen.layer][:, :, places] = found.float().numpy()

    def weights(self) -> dict[int, torch.Tensor | StoredWeights]:
        """What was kept, by layer."""
        stored: dict[int, torch.Tensor | StoredWeights] = {}
        for layer, file in sorted(self._files.items()):
            file.flush()  # type: ignore[attr-defined]  # a memory map
            stored[layer] = StoredWeights(self._path(layer), self._shape)
        return stored or dict(sorted(self._held.items()))

    def _path(self, layer: int) -> Path:
        assert self._to is not None
        return self._to / f"layer_{layer:03d}.npy"
