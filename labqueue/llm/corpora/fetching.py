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


def fetch(name: str, sources: Iterable[Source], target: Path, sha256: str) -> None:
    """Writes the text file of a corpus, which has ``sha256`` (hex), from the first source that can be had.

    Raises:
        LabError: none can; says why of each, and what to do.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    reasons = []
    for source in sources:
        with tempfile.TemporaryDirectory(prefix=".corpus-", dir=target.parent) as folder:
            archive, text = Path(folder) / "archive", Path(folder) / "text"
            try:
                source.download.bring(archive)
                _check(archive, source.sha256)
                _write(text, source.documents(archive))
                _check(text, sha256)
            except (Unreachable, OSError) as error:
                reasons.append(f"{source.download.about}: {error}")
                continue
            files.publish(text, target)
            return
    listed = "".join(f"\n  {reason}" for reason in reasons)
    raise LabError(
        f"corpus {name!r} is not on this machine and none of its sources gave it:{listed}\nConnect once and submit "
        f"again; or bring its text here by other means, as {target} (SHA-256 {sha256}); or use corpus: python_docs, "
        "which needs no network",
        key="corpus",
    )


def plain(file: Path) -> Iterator[str]:
    """The one document of a file of UTF-8 text."""
    yield file.read_bytes().decode()


def joined(documents: Iterable[str]) -> Iterator[str]:
    """The text of a corpus's file: its documents with a line ``<|endoftext|>`` between them."""
    for number, document in enumerate(documents):
        yield f"{SEPARATOR}\n{document}" if number else document


def _write(file: Path, documents: Iterable[str]) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        text.writelines(joined(documents))


def _check(file: Path, sha256: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if found != sha256:
        raise Unreachable(f"SHA-256 is {found[:16]}…, not {sha256[:16]}…")
