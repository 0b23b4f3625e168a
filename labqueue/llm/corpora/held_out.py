"""Which documents validation is on: a pure function of their text, so that equal ones are on one side. No torch.

A document's place is a hash of its text without white space. Places below a bound are held out; the bound is the one
that comes nearest to the share. A corpus of one document is cut instead, and each part is a document.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labqueue.llm.corpora.pieces import Piece

TRAIN, VALIDATION = 0, 1

PLACES = 2**20
"""Places for documents: a bound between two is within a millionth of a large corpus, and two documents alone share one
with a chance of a millionth."""

_SPACES = b" \t\r\n\v\f"


class Long(NamedTuple):
    """A document of several pieces: its place and its length, which only its end tells."""

    place: int
    characters: int


class Part(NamedTuple):
    """A piece of a document, the side it is on, and whether a document ends with it there."""

    side: int
    text: str
    last: bool


@dataclass(frozen=True)
class Scan:
    """What reading a corpus once tells."""

    documents: int
    characters: int
    size: int
    """Bytes of its text as UTF-8."""
    sizes: npt.NDArray[np.int64]
    """Bytes of the documents, by place: [places]."""
    long: tuple[Long, ...]
    """Those of several pieces, in the order in which they come."""
    alphabet: npt.NDArray[np.uint32] | None
    """The code points that occur, sorted; None where nobody asked."""


def scan(read: Iterable[Piece], *, alphabet: bool = False, leave: Callable[[], None] = lambda: None) -> Scan:
    """Reads a corpus once; ``leave`` is called after each piece, and raises to end it."""
    documents = characters = length = size = 0
    sizes = np.zeros(PLACES, np.int64)
    long: list[Long] = []
    seen = np.zeros(0x110000, np.bool_) if alphabet else None
    hasher, several = _hasher(), False
    for text, last in read:
        data = text.encode()
        hasher.update(data.translate(None, _SPACES))
        size, length = size + len(data), length + len(text)
        if seen is not None:
            seen[np.frombuffer(text.encode("utf-32-le"), np.uint32)] = True
        if last:
            place = _place(hasher)
            sizes[place] += size
            documents, characters = documents + 1, characters + length
            if several:
                long.append(Long(place, length))
            hasher, size, length = _hasher(), 0, 0
        several = not last
        leave()
    points = None if seen is None else np.flatnonzero(seen).astype(np.uint32)
    return Scan(documents, characters, int(sizes.sum()), sizes, tuple(long), points)


def sides(found: Scan, share: float, *, cut_exactly: bool = False) -> Sides:
    """Divides a corpus of at least one document, so that ``share`` of its bytes is held out as nearly as its documents
    allow, and neither side is empty."""
    places = np.flatnonzero(found.sizes)
    below = np.cumsum(found.sizes[places])  # bytes of the places up to each
    bound = None
    if len(places) > 1:
        bound = int(places[1 + np.argmin(np.abs(below[:-1] - share * below[-1]))])
    return Sides(bound, share, cut_exactly, found.long, found.sizes)


def _hasher() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=8)


def _place(hasher: hashlib.blake2b) -> int:
    return int.from_bytes(hasher.digest()[:4], "big") * PLACES >> 32


@dataclass(frozen=True)
class Sides:
    """Says of every document on which side it is."""

    bound: int | None
    """Places below it are held out; None: every document is cut at the share."""
    share: float
    cut_exactly: bool
    """At the very character of the share, not at a line's end near it."""
    long: tuple[Long, ...]
    sizes: npt.NDArray[np.int64]
    """Bytes by place, as a scan has them."""

    def of(self, read: Iterable[Piece]) -> Iterator[Part]:
        """The pieces of the corpus that was scanned, in its order, with their sides."""
        return (part for _, part in self._placed(read))

    def sample(self, read: Iterable[Piece], size: int) -> Iterator[str]:
        """Training text of about ``size`` bytes, at most: documents of the highest places, as from all over it."""
        beyond = np.cumsum(self.sizes[::-1])[::-1]  # bytes of each place and those above it: [places]
        lowest = int(np.searchsorted(-beyond, -size))  # the first place with no more than size beyond it
        lowest = min(lowest, int(np.flatnonzero(self.sizes)[-1]))
        for place, part in self._placed(read):
            if size > 0 and part.side == TRAIN and place >= lowest:
                text = part.text[:size]
                size -= len(text.encode())
                yield text

    def _placed(self, read: Iterable[Piece]) -> Iterator[tuple[int, Part]]:
        long = iter(self.long)
        document, at, side = Long(0, 0), 0, TRAIN
        for text, last in read:
            if at == 0:
                document = Long(_place_of(text), len(text)) if last else next(long)
                side = TRAIN if self.bound is None or document.place >= self.bound else VALIDATION
            if self.bound is None and side == TRAIN:
                target = max(1, int(document.characters * (1 - self.share))) - at
                if target <= len(text):
                    cut = target if self.cut_exactly else _line_end(text, target, last)
                    yield document.place, Part(TRAIN, text[:cut], True)
                    text, side, at = text[cut:], VALIDATION, at + cut
            if text or last:
                yield document.place, Part(side, text, last)
            at = 0 if last else at + len(text)


def _place_of(text: str) -> int:
    hasher = _hasher()
    hasher.update(text.encode().translate(None, _SPACES))
    return _place(hasher)


def _line_end(text: str, target: int, last: bool) -> int:
    """The first line's end at ``target`` or behind it, else the last one before it; without any, a word's end, or
    ``target`` itself. Never the document's end."""
    end = len(text) - 1 if last else len(text)
    for mark in "\n ":
        for at in (text.find(mark, max(0, target - 1), end), text.rfind(mark, 0, min(target, end))):
            if at >= 0:
                return at + 1
    return min(target, end) if last else end
