"""Running text held in memory: what language modelling is measured on beside a training. No torch, no runs.

Windows are whole runs of tokens of one document each, equally long, the same for every model with the same tokenizer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.corpora import catalogue
from labqueue.llm.data.files import formats
from labqueue.llm.data.tokenize import TokenRow

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer


@dataclass(frozen=True)
class Text:
    """Documents with a name, and the SHA-256 of their text: a number traces to what it was measured on."""

    name: str
    licence: str
    documents: tuple[str, ...]
    sha256: str


def find(name: str | None, path: str | None, key: str = "corpus", sha256: str | None = None) -> Text:
    """A corpus of the catalogue, or any UTF-8 text file as one document; one of the two is given. ``sha256`` (hex):
    what the file must have.

    Raises:
        LabError: the name is unknown (the nearest is named), the corpus is not on this machine or too large, or the
            file is missing, empty, not UTF-8 or another.
    """
    if name is not None:
        known = catalogue.CATALOGUE.get(name)
        if known is None or not known.in_memory:
            small = [corpus.name for corpus in catalogue.CATALOGUE.values() if corpus.in_memory]
            what = "unknown corpus" if known is None else "too large to be measured on as a whole: corpus"
            raise LabError(f"{what} {name!r}: {nearest(name, small)}", key=key)
        opened = catalogue.open_corpus(name, key)
        return _text(name, opened.licence, tuple(opened.documents()))
    assert path is not None
    file = Path(path).expanduser()
    if not file.is_file():
        what = "is a folder" if file.is_dir() else f"does not exist (relative paths start at {str(Path.cwd())!r})"
        cure = "name a UTF-8 text file, or a corpus of `labqueue corpora`"
        raise LabError(f"text file {str(file)!r} {what}; {cure}", key=key)
    whole = formats.text(formats.contents(file, key, sha256), str(file), key)
    if not whole.strip():
        raise LabError("has no text", file=str(file), key=key)
    return _text(file.name, "", (whole,))


def _text(name: str, licence: str, documents: tuple[str, ...]) -> Text:
    return Text(name, licence, documents, hashlib.sha256("\0".join(documents).encode()).hexdigest())


def windows(
    tokenizer: Tokenizer, text: Text, *, tokens: int, window: int, key: str = "extra_evals.tokens"
) -> tuple[TokenRow, ...]:
    """``tokens // window`` windows, evenly spread over the whole windows of all documents; every token but a window's
    first carries loss.

    Raises:
        LabError: the text has fewer such windows; the message says how many tokens there are.
    """
    wanted = tokens // window
    whole: list[Sequence[int]] = []
    for document in text.documents:
        ids = tokenizer(document, add_special_tokens=False)["input_ids"]
        whole += [ids[start : start + window] for start in range(0, len(ids) - window + 1, window)]
    if len(whole) < wanted:
        raise LabError(
            f"{text.name} has {len(whole) * window:,} tokens in whole windows of {window}, {tokens:,} were asked for; "
            "ask for fewer, or for a shorter window",
            key=key,
        )
    chosen = [whole[number * len(whole) // wanted] for number in range(wanted)]
    return tuple({"input_ids": list(ids), "labels": list(ids)} for ids in chosen)
