"""Makes text that others wrote (runs, imports, data files) safe to show on a terminal, a page or a figure."""

from __future__ import annotations

import codecs
import json
import re

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
"""Select graphic rendition (ECMA-48, 8.3.117): colours and weights, which say nothing."""

# C0 and C1 controls, DEL, line and paragraph separators, what turns the direction of writing, lone surrogates, and the
# two characters of the basic plane that are no characters. XML 1.0 (2.2) takes hardly any of them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

_BEYOND_ASCII = re.compile("[^\x00-\x7f]")

_PLAIN = {"─": "-", "–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "≤": "<=", "≥": ">=", "→": "->", "▶": ">"}
_PLAIN |= {"“": '"', "”": '"', "’": "'", "·": ".", "±": "+-", "α": "alpha", "β": "beta"}

HANDLER = "labqueue_plain"
"""Error handler for output streams whose encoding lacks a character."""


def printable(text: str) -> str:
    """The text without colours, and with every other control character but newline and tab written out (``\\x1b``)."""
    return _UNSAFE.sub(lambda found: _escaped(found[0]), _COLOUR.sub("", text.replace("\r\n", "\n")))


def one_line(text: str) -> str:
    """``printable``, with newlines and tabs written out too: a table row stays one row."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def settled(text: str) -> str:
    """Each line as a terminal leaves it: what stands after its last carriage return (the last state of a bar)."""
    return "\n".join(_last_state(line) for line in text.split("\n"))


def safe_json(document: str) -> str:
    """A JSON document whose control characters are ``\\u`` escapes, those too that JSON lets stand in a text."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def ascii_json(document: str) -> str:
    """A JSON document with every letter beyond ASCII as ``\\u`` escapes, those beyond 16 bits as a pair."""
    return json.dumps(document)[1:-1] if len(document) == 1 else _BEYOND_ASCII.sub(lambda c: ascii_json(c[0]), document)


def _last_state(line: str) -> str:
    return next((state for state in reversed(line.split("\r")) if state.strip()), "")


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character) or ascii_json(character) for character in lacking), error.end


codecs.register_error(HANDLER, _replace)
