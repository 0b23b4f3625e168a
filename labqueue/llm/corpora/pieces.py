"""Documents as a stream of pieces, so that one of any length passes through a constant memory. No torch, no files.

A piece ends where the pre-tokenizers of the field end a word whatever follows: after a letter, before white space or
punctuation. So the pieces of a document, tokenized one by one, give the tokens of the whole.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PIECE = 2**16
"""Characters of a piece, about: so that a batch of them keeps many cores busy."""

LONGEST = 2**20
"""A run of so many characters without a place to cut is cut where it is. It is no prose; its text comes back all the
same, its tokens may differ from the whole's there."""

SEPARATOR = "<|endoftext|>"
"""Stands between the documents of a text file, as TinyStories' and others' have it."""

APOSTROPHES = "'’"
"""Some pre-tokenizers keep ``don't`` together."""


class Piece(NamedTuple):
    """A part of a document, and whether the document ends with it."""

    text: str
    last: bool


def of_document(text: str) -> Iterator[Piece]:
    """The pieces of a document that is in memory; none of white space alone."""
    return of_blocks((text,), separator=None)


def of_blocks(blocks: Iterable[str], separator: str | None = SEPARATOR) -> Iterator[Piece]:
    """The pieces of the documents in a text that comes in blocks; ``separator`` ends a document and belongs to none,
    nor does the line's end behind it. Documents of white space alone are left out.
    """
    buffer, begun, separated = "", False, False
    for block in blocks:
        buffer += block
        while separator and (at := buffer.find(separator)) >= 0:
            text = _after(buffer[:at], separated)
            if begun or text.strip():
                yield from _cut(text)
            buffer, begun, separated = buffer[at + len(separator) :], False, True
        while len(buffer) > LONGEST + PIECE:  # so that what is kept holds the longest run, and half a separator
            buffer, separated = _after(buffer, separated), False
            at = _place(buffer)
            if begun or buffer[:at].strip():
                yield Piece(buffer[:at], False)
                begun = True
            buffer = buffer[at:]
    buffer = _after(buffer, separated)
    if begun or buffer.strip():
        yield from _cut(buffer)


def _after(text: str, separated: bool) -> str:
    """Without the line's end that belongs to the separator before it."""
    return text.removeprefix("\r").removeprefix("\n") if separated else text


def _cut(text: str) -> Iterator[Piece]:
    start = 0
    while len(text) - start > PIECE + PIECE // 2:
        at = _place(text, start)
        yield Piece(text[start:at], False)
        start = at
    yield Piece(text[start:], True)


def _place(text: str, start: int = 0) -> int:
    """Where the piece that begins at ``start`` ends: at a line's end if there is one to cut at, else at white space,
    else before punctuation."""
    low, high = start + PIECE // 2, start + PIECE
    for mark in "\n ":
        at = text.rfind(mark, low, high)
        while at > low:
            if text[at - 1].isalpha():
                return at
            at = text.rfind(mark, low, at)
    end = min(len(text), start + LONGEST)
    return next((at for at in range(low + 1, end) if text[at - 1].isalpha() and _parts(text[at])), end)


def _parts(character: str) -> bool:
    """Whether a word ends before it: no letter, digit, apostrophe or mark upon a letter."""
    return not (character.isalnum() or character in APOSTROPHES or unicodedata.category(character)[0] == "M")
