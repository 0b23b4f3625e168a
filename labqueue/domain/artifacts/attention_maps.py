"""Stores attention maps: one file per text, heads readable one by one, written a layer at a time.

A head is the lower triangle of its map, row by row, float16, deflated (zlib) or not. All heads once more, max-pooled to
32 x 32 and coded as ``round(255 * sqrt(w))``, are the atlas. Linear uint8 is no codec here: it turns two thirds of real
weights into 0 and a row's entropy off by 0.1 nats; the square root keeps it within 0.01.

Layout: 8 bytes ``LABMAPS1``, two little-endian uint64 (where the header begins, how long it is), blocks, the atlas, and
last the header, JSON: offsets of deflated heads are known only once they are written. ``heads[layer][head]`` is
``[offset, bytes]`` from the file's start. Scores are taken from the live weights, never from here.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from labqueue.domain.errors import LabError

MAGIC = b"LABMAPS1"
_PREFIX = struct.Struct("<8sQQ")

SIDE = 32
"""Rows and columns of a head in the atlas."""

TOLERANCE = 0.01
"""How far a row may sum from 1 before it is no attention: bfloat16 rounds each weight by up to 0.4 %."""

Float = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


class Header(BaseModel):
    """What a file of maps says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    codec: str
    """``float16-triangle`` or ``float16-triangle+zlib``."""
    atlas_codec: str
    """``uint8-sqrt``: ``round(255 * sqrt(w))``."""
    layers: tuple[int, ...]
    """Numbers of the layers kept, in the order of ``heads``."""
    heads_per_layer: int
    tokens: tuple[str, ...]
    """A label per token; as many as a map has rows."""
    implementation: str
    """Whose arithmetic the weights are."""
    model: str
    heads: tuple[tuple[tuple[int, int], ...], ...]
    """``[layer][head]``: offset and bytes."""
    atlas: tuple[int, int]
    """Offset and bytes of ``[layer, head, 32, 32]``."""


class MapWriter:
    """Writes one file of maps, a layer after the other; holds one layer's triangle of one head at a time.

    Used as a context: the file is complete once it is left; left by an error, it is removed.
    """

    def __init__(
        self,
        path: Path,
        tokens: Sequence[str],
        *,
        implementation: str,
        model: str,
        deflated: bool = True,
    ) -> None:
        """``tokens`` are the labels of the text's tokens, one per row of a map."""
        if not tokens:
            raise LabError("maps of a text without tokens cannot be stored", key="texts")
        self.path, self.tokens = path, tuple(tokens)
        self.implementation, self.model, self.deflated = implementation, model, deflated
        self._layers: list[int] = []
        self._heads: list[list[tuple[int, int]]] = []
        self._atlas: list[Bytes] = []
        self._below = np.tri(len(tokens), dtype=bool)  # [query, key]
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._file = self.path.open("wb")
        self._file.write(_PREFIX.pack(MAGIC, 0, 0))
        return self

    def add(self, layer: int, weights: Float) -> None:
        """Appends a layer; ``weights`` [head, query, key], fp32.

        Raises:
            LabError: a layer that is there already, another number of heads or tokens than before, weights that are no
                causal attention: not finite, below 0, above the diagonal, or rows that do not sum to 1.
        """
        assert self._file is not None
        size = len(self.tokens)
        heads = len(self._heads[0]) if self._heads else weights.shape[0]
        if layer in self._layers:
            raise LabError(f"layer {layer} is stored already", key="layers")
        if weights.shape != (heads, size, size):
            raise LabError(f"layer {layer} has shape {weights.shape}, not {(heads, size, size)}: [head, query, key]")
        row: list[tuple[int, int]] = []
        for number, head in enumerate(weights):
            self._check(layer, number, head)
            body = head[self._below].astype("<f2").tobytes()
            body = zlib.compress(body, 6) if self.deflated else body
            row.append((self._file.tell(), len(body)))
            self._file.write(body)
        self._layers.append(layer)
        self._heads.append(row)
        self._atlas.append(companded(pooled(weights)))

    def _check(self, layer: int, number: int, head: Float) -> None:
        name = f"head {layer}.{number}"
        if not np.isfinite(head).all() or head.min() < 0:
            raise LabError(f"weights of {name} are not all finite and 0 or more: they are no attention")
        if head[~self._below].any():
            raise LabError(f"{name} looks ahead of its query: only causal attention is stored")
        if (off := float(np.abs(head.sum(1) - 1).max())) > TOLERANCE:
            raise LabError(f"a row of {name} is {off:.3f} off a sum of 1: attention with a sink is not stored")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            if kind is None:
                self._finish(self._file)
        except BaseException:
            self._file.close()
            self.path.unlink(missing_ok=True)
            raise
        self._file.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)

    def _finish(self, file: BinaryIO) -> None:
        if not self._layers:
            raise LabError("no layer was stored: run the model while the writer is open", key="layers")
        at = file.tell()
        atlas = np.stack(self._atlas).tobytes()  # [layer, head, 32, 32]
        file.write(atlas)
        header = Header(
            codec="float16-triangle+zlib" if self.deflated else "float16-triangle",
            atlas_codec="uint8-sqrt",
            layers=tuple(self._layers),
            heads_per_layer=len(self._heads[0]),
            tokens=self.tokens,
            implementation=self.implementation,
            model=self.model,
            heads=tuple(map(tuple, self._heads)),
            atlas=(at, len(atlas)),
        )
        where, text = file.tell(), json.dumps(header.model_dump(mode="json")).encode()
        file.write(text)
        file.seek(0)
        file.write(_PREFIX.pack(MAGIC, where, len(text)))


def write_maps(
    path: Path,
    weights: Iterable[tuple[int, Float]],
    tokens: Sequence[str],
    *,
    implementation: str,
    model: str,
    deflated: bool = True,
) -> None:
    """Writes the maps of one text.

    Args:
        path: the file; replaced where it is there.
        weights: ``(layer, [head, query, key])``, fp32, one after the other.
        tokens: a label per token.
        implementation: whose arithmetic it is.
        model: its name.
        deflated: smaller by about a third; a head then has to be inflated whole.

    Raises:
        LabError: as ``MapWriter.add``, or no layer at all.
    """
    with MapWriter(path, tokens, implementation=implementation, model=model, deflated=deflated) as writer:
        for layer, block in weights:
            writer.add(layer, block)


def read_header(path: Path) -> Header:
    """Reads what a file says of itself.

    Raises:
        LabError: it is not there, is none of this kind, or was cut.
    """
    size = path.stat().st_size if path.is_file() else 0
    if size < _PREFIX.size:
        raise LabError(f"{path} is no file of attention maps: it is missing or has only {size} bytes")
    magic, at, length = _PREFIX.unpack(_read(path, 0, _PREFIX.size))
    if magic != MAGIC:
        raise LabError(f"{path} is no file of attention maps: it does not begin with {MAGIC.decode()}")
    if at < _PREFIX.size or at + length > size:
        raise LabError(f"{path} was cut: its header should end at byte {at + length} of {size}; make it again")
    try:
        return Header.model_validate_json(_read(path, at, length))
    except ValidationError as error:
        raise LabError(f"the header of {path} cannot be read: {error.errors()[0]['msg']}; make it again") from error


def read_head(path: Path, layer: int, head: int, *, header: Header | None = None) -> Float:
    """Reads one head, [query, key], fp32, and no other byte but the header's.

    Raises:
        LabError: as ``read_header``; a layer or head that is not kept; bytes that are no head.
    """
    header = header or read_header(path)
    if layer not in header.layers:
        raise LabError(f"layer {layer} is not in {path}: it has {_ranges(header.layers)}", key="layers")
    if not 0 <= head < header.heads_per_layer:
        raise LabError(f"head {head} is not in {path}: a layer has 0 to {header.heads_per_layer - 1}", key="heads")
    body = _read(path, *header.heads[header.layers.index(layer)][head])
    try:
        flat = np.frombuffer(zlib.decompress(body) if header.codec.endswith("+zlib") else body, "<f2")
        return square(flat.astype(np.float32), len(header.tokens))
    except (zlib.error, ValueError) as error:
        raise LabError(f"head {layer}.{head} of {path} is damaged: {error}; make it again") from error


def read_atlas(path: Path, *, header: Header | None = None) -> Bytes:
    """Reads all heads at once, max-pooled: [layer, head, 32, 32], ``round(255 * sqrt(w))``."""
    header = header or read_header(path)
    body = np.frombuffer(_read(path, *header.atlas), np.uint8)
    return body.reshape(len(header.layers), header.heads_per_layer, SIDE, SIDE)


def companded(weights: Float) -> Bytes:
    """Codes weights of 0 to 1 as ``round(255 * sqrt(w))``: the step is finest where most weights are."""
    return np.rint(255.0 * np.sqrt(np.clip(weights, 0.0, 1.0))).astype(np.uint8)


def expanded(codes: Bytes) -> Float:
    """The weights that codes stand for."""
    weights: Float = np.square(codes.astype(np.float32) / np.float32(255.0))
    return weights


def pooled(weights: Float) -> Float:
    """Takes the largest weight of each of 32 x 32 fields: [..., query, key] to [..., 32, 32].

    A text of fewer than 32 tokens is stretched.
    """
    starts = np.arange(SIDE) * weights.shape[-1] // SIDE
    rows: Float = np.maximum.reduceat(weights, starts, axis=-2)
    fields: Float = np.maximum.reduceat(rows, starts, axis=-1)
    return fields


def square(triangle: Float, size: int) -> Float:
    """A lower triangle, row by row, as [size, size].

    Raises:
        ValueError: it has another number of values.
    """
    if len(triangle) != size * (size + 1) // 2:
        raise ValueError(f"{len(triangle)} values are no triangle of {size} rows")
    whole = np.zeros((size, size), np.float32)
    whole[np.tri(size, dtype=bool)] = triangle
    return whole


def _read(path: Path, at: int, length: int) -> bytes:
    with path.open("rb") as file:
        file.seek(at)
        body = file.read(length)
    if len(body) < length:
        raise LabError(f"{path} was cut: bytes {at} to {at + length} are not there; make it again")
    return body


def _ranges(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) if len(numbers) < 9 else f"{min(numbers)} to {max(numbers)}"
