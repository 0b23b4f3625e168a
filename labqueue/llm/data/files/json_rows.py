"""JSON as rows stand in it: an array, or one value after the other, a line each or on several. No torch.

A key that stands twice in an object is refused: one of its values would be lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from labqueue.domain.errors import LabError
from labqueue.llm.types import Json


def values(words: str, file: str) -> tuple[str, str, Iterator[tuple[int, object]]]:
    """What form a text has, what its numbers count, and its values with their numbers.

    Raises:
        LabError: it does not begin as JSON; while the values are read, one that is none, with the line it begins on.
    """
    at = _past_space(words, 0)
    if words[at : at + 1] == "[":
        return "a JSON array", "row", enumerate(_array(words, at, file), 1)
    if at < len(words) and words[at] not in '{"-0123456789tfnNI':
        raise LabError(f"begins with {words[at : at + 20].splitlines()[0]!r}, which is no JSON", file=file, line=1)
    return "JSON lines", "line", _lines(words, at, file)


def parsed(words: str) -> object:
    """A JSON value.

    Raises:
        LabError: it is none, or a key stands twice in an object.
    """
    found = [value for _, value in _lines(words, _past_space(words, 0), "")]
    if len(found) != 1:
        raise LabError(f"is {len(found)} JSON values, not one")
    return found[0]


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise LabError(f"has the key {twice!r} twice; one of them would be lost")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _lines(words: str, at: int, file: str) -> Iterator[tuple[int, object]]:
    place = _Lines(words)
    while at < len(words):
        line = place.of(at)
        value, at = _value(words, at, line, file)
        yield line, value
        at = _past_space(words, at)


def _array(words: str, at: int, file: str) -> Iterator[object]:
    place = _Lines(words)
    at = _past_space(words, at + 1)
    while words[at : at + 1] != "]":
        value, at = _value(words, at, place.of(at), file)
        yield value
        at = _past_space(words, at)
        if words[at : at + 1] == ",":
            at = _past_space(words, at + 1)
        elif words[at : at + 1] != "]":
            found = repr(words[at]) if at < len(words) else "the end of the file"
            raise LabError(f"is not JSON: {found} stands where a comma should", file=file, line=place.of(at))
    if words[at + 1 :].strip():
        raise LabError("goes on after the end of its JSON array", file=file, line=place.of(at))


def _value(words: str, at: int, line: int, file: str) -> tuple[object, int]:
    place: Json = {"file": file, "line": line} if file else {}
    try:
        return _DECODER.raw_decode(words, at)
    except json.JSONDecodeError as error:
        where = f"column {error.colno}" if error.lineno == line else f"line {error.lineno}, column {error.colno}"
        raise LabError(f"is not JSON: {error.msg} at {where}", **place) from error
    except LabError as error:
        raise LabError(error.message, **place) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, a thousand brackets
        raise LabError(f"is not JSON that can be read: {error}", **place) from error


class _Lines:
    """The lines of places in a text that are asked for in their order."""

    def __init__(self, words: str) -> None:
        self.words, self.at, self.line = words, 0, 1

    def of(self, at: int) -> int:
        self.line, self.at = self.line + self.words.count("\n", self.at, at), at
        return self.line


def _past_space(words: str, at: int) -> int:
    while at < len(words) and words[at] in " \t\r\n":
        at += 1
    return at
