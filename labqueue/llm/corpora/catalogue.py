"""The catalogue of corpora: what can be named, under which licence, where it comes from. No torch.

A name is one of ``CATALOGUE``, or a file or folder of text. What is downloaded is fetched at submission and becomes a
text file of the cache whose SHA-256 is the catalogue's, whatever source it came from.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.corpora import documents, fetching
from labqueue.llm.corpora.documents import Opened
from labqueue.llm.corpora.downloads import Url
from labqueue.llm.corpora.fetching import Source
from labqueue.llm.models import pins
from labqueue.system.files import cache_folder


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be named."""

    name: str
    licence: str
    about: str
    """What it is, and from where."""
    characters: int | None = None
    sha256: str | None = None
    """Of its text file (hex): documents with ``<|endoftext|>`` between them."""
    sources: tuple[Source, ...] = ()
    """In the order in which they are tried."""
    embedded: Callable[[], Sequence[str]] | None = None
    """Documents that ship with something installed."""
    cut_exactly: bool = False
    """Whether validation is its last characters, to the character."""

    @property
    def file(self) -> Path:
        """Its text file, where it is or will be."""
        return cache_folder() / "corpora" / "texts" / f"{self.name}-{(self.sha256 or '')[:16]}.txt"


def _python_docs() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    return tuple(topics[name] for name in sorted(topics))


SHAKESPEARE_CHAR = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
"""karpathy's file, as nanoGPT's figures are of it: 1,115,394 characters."""

_KARPATHY = "karpathy/char-rnn", "data/tinyshakespeare/input.txt"

CATALOGUE = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "python_docs",
            "PSF-2.0",
            "Python's language reference, as pydoc_data.topics of CPython",
            embedded=_python_docs,
        ),
        Corpus(
            "shakespeare_char",
            "public domain",
            "a million characters of Shakespeare's plays, karpathy/char-rnn's input.txt; validation is its last 10 %",
            1_115_394,
            SHAKESPEARE_CHAR,
            tuple(
                Source(Url(address), SHAKESPEARE_CHAR, fetching.plain)
                for address in (
                    f"https://raw.githubusercontent.com/{_KARPATHY[0]}/master/{_KARPATHY[1]}",
                    f"https://cdn.jsdelivr.net/gh/{_KARPATHY[0]}@master/{_KARPATHY[1]}",
                )
            ),
            cut_exactly=True,
        ),
    )
}
"""Corpora that a spec can name; any file or folder of text can stand in their place by its path."""


def open_corpus(corpus: str, key: str = "corpus") -> Opened:
    """A corpus of that name, or of that path, to be read.

    Raises:
        LabError: neither; not on this machine, which says what to do; not text by its name, or being written to.
    """
    known = CATALOGUE.get(corpus)
    if known is None:
        return documents.open_path(_path(corpus, key), key)
    if known.embedded is not None:
        return documents.of_texts(corpus, known.licence, _embedded_sha256(corpus), known.embedded())
    if not available(corpus):
        raise LabError(
            f"corpus {corpus!r} is not on this machine: submit an experiment that names it while connected, bring its "
            f"text here as {known.file} (SHA-256 {known.sha256}), or use corpus: python_docs, which needs no network",
            key=key,
        )
    found = documents.open_path(str(known.file), key)
    return replace(found, name=corpus, licence=known.licence, cut_exactly=known.cut_exactly)


def available(corpus: str, key: str = "corpus") -> bool:
    """Whether the corpus is on this machine.

    Raises:
        LabError: there is no corpus of that name or path.
    """
    known = CATALOGUE.get(corpus)
    if known is None:
        return Path(_path(corpus, key)).exists()
    return known.embedded is not None or (known.file.is_file() and pins.sha256(known.file, key) == known.sha256)


def fetch(corpus: str, key: str = "corpus") -> None:
    """Brings the corpus onto this machine if it is not there.

    Raises:
        LabError: it cannot be had; the message says what to do.
    """
    if available(corpus, key):
        return
    known = CATALOGUE[corpus]
    assert known.sha256 is not None
    fetching.fetch(corpus, known.sources, known.file, known.sha256)


def pin(corpus: str, key: str = "corpus") -> str | None:
    """SHA-256 (hex) of the corpus's content, for a run's parameters: another content is another run. None where it is
    not on this machine yet.

    Raises:
        LabError: as ``open_corpus``.
    """
    return open_corpus(corpus, key).sha256 if available(corpus, key) else None


def _path(corpus: str, key: str) -> str:
    """The path that a corpus is; a mistyped name is none.

    Raises:
        LabError: nothing is there.
    """
    if Path(corpus).expanduser().exists():
        return corpus
    started = f"relative paths start at {str(Path.cwd())!r}"
    raise LabError(
        f"unknown corpus {corpus!r}: {nearest(corpus, CATALOGUE)}, or a file or folder of text on this machine "
        f"({started})",
        key=key,
    )


@functools.cache
def _embedded_sha256(name: str) -> str:
    embedded = CATALOGUE[name].embedded
    assert embedded is not None
    return hashlib.sha256("".join(fetching.joined(embedded())).encode()).hexdigest()
