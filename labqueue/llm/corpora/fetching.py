"""Brings a corpus onto this machine: an archive by its SHA-256, read as text, never built or installed. No torch.

Sources are tried in their order. Whatever one gives must have the archive's hash, and the text read from it the
corpus's, so that it does not matter which.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.corpora.downloads import Download, Unreachable
from labqueue.llm.corpora.pieces import SEPARATOR
from labqueue.system import files


@dataclass(frozen=True)
class Source:
    """A file that has the corpus in it."""

    download: Download
    sha256: str
    """Of the file (hex)."""
    documents: Callable[[Path], Iterable[str]]
    """Reads the corpus's documents out of it."""


def fetch(name: str, sources: Iterable[Source], target: Path, sha256: str, key: str = "corpus") -> None:
    """Writes the text file of a corpus, which has ``sha256`` (hex), from the first source that can be had.

    Raises:
        LabError: none can; says why of each, and what to do.
    """
    cure = (
        f"Connect once and submit again; or bring its text here by other means, as {target} (SHA-256 {sha256}); or, "
        "where any text will do, use corpus: python_docs, which needs no network"
    )

    def write(source: Source, archive: Path) -> None:
        text = archive.with_name("text")
        with text.open("w", encoding="utf-8", newline="") as file:
            file.writelines(joined(source.documents(archive)))
        _check(text, sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.publish(text, target)

    _first(sources, write, f"corpus {name!r}", cure, key)


def bring(download: Download, sha256: str, use: Callable[[Path], None], what: str, cure: str, key: str) -> None:
    """Hands a file that has ``sha256`` (hex) to ``use``.

    Raises:
        LabError: it cannot be had; says why, then ``cure``.
    """
    _first((Source(download, sha256, plain),), lambda _, file: use(file), what, cure, key)


def _first(sources: Iterable[Source], use: Callable[[Source, Path], None], what: str, cure: str, key: str) -> None:
    reasons = []
    cache = files.cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    for source in sources:
        with tempfile.TemporaryDirectory(prefix=".download-", dir=cache) as folder:
            archive = Path(folder) / "archive"
            try:
                source.download.bring(archive)
                _check(archive, source.sha256)
                use(source, archive)
                return
            except (Unreachable, OSError) as error:
                reasons.append(f"{source.download.about}: {error}")
    listed = "".join(f"\n  {reason}" for reason in reasons)
    raise LabError(f"{what} is not on this machine, and none of its sources gave it:{listed}\n{cure}", key=key)


def plain(file: Path) -> Iterator[str]:
    """The one document of a file of UTF-8 text."""
    yield file.read_bytes().decode()


def joined(documents: Iterable[str]) -> Iterator[str]:
    """The text of a corpus's file: its documents with a line ``<|endoftext|>`` between them."""
    for number, document in enumerate(documents):
        yield f"{SEPARATOR}\n{document}" if number else document


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise Unreachable(f"SHA-256 is {found[:16]}…, not {sha256[:16]}…")
