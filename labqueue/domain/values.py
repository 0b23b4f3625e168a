"""Checks values that are to be stored: whole numbers of 64 bits, and text that can be encoded. Knows no table."""

from __future__ import annotations

from labqueue.domain.errors import LabError

MAX_INTEGER = 2**63 - 1
"""SQLite's largest whole number (sqlite.org/datatype3.html); the smallest is one further from zero."""

MAX_PRIORITY = 1_000_000_000
"""Either way. Assumption: enough for every order, and a rehearsal's, which is one higher, is a number, too."""


def fault(value: int | str) -> str | None:
    """Why the results store cannot hold a value, as the rest of a sentence that begins with it; None where it can."""
    if isinstance(value, int):
        return None if -MAX_INTEGER - 1 <= value <= MAX_INTEGER else "is no whole number from -2^63 to 2^63 - 1"
    if "\0" in value:
        return "holds a zero byte, which no text does"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no text"
    return None


def check(what: str, value: object, wanted: type) -> None:
    """Refuses a value that is not ``wanted`` (``str`` or ``int``), or that the results store cannot hold.

    Raises:
        LabError: it begins with ``what``, which names the value.
    """
    if not isinstance(value, wanted) or not isinstance(value, int | str):
        raise LabError(f"{what} is no {'text' if wanted is str else 'whole number'}")
    words = fault(value)
    if words is not None:
        raise LabError(written(f"{what} {words}"))


def whole(digits: str) -> int:
    """The number that decimal digits write; of a longer one than can be held, the largest that can."""
    return min(int(digits), MAX_INTEGER) if len(digits) <= len(str(MAX_INTEGER)) else MAX_INTEGER


def written(text: str) -> str:
    """The text with what ``fault`` would refuse shown as an escape, for the words of errors: they are kept anyway."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
