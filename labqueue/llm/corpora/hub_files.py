"""Corpora of the hub: Parquet files of one commit, fetched before the night and read where they lie. No torch.

They are read a batch of rows at a time, so that none is converted, copied or held in memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labqueue.llm.corpora import documents
from labqueue.llm.corpora.documents import Opened, Together

CURE = (
    "Connect once and submit again, give a file or folder of text as the corpus, or use one that needs no hub "
    "(corpus: python_docs)"
)


@dataclass(frozen=True)
class HubFiles:
    """Files of a dataset's repository, at one commit."""

    repo: str
    commit: str
    pattern: str
    """Of their names, as the hub's client takes them."""
    together: Together | None = None

    @property
    def about(self) -> str:
        """Where they are."""
        return f"{self.repo}@{self.commit[:12]}, {self.pattern}"

    def here(self) -> list[Path]:
        """The files on this machine, in the order of their names; none where they were not fetched whole."""
        from labqueue.llm.models import hub  # its client takes 0.3 s to import

        folder = hub.here(self.repo, [self.pattern], self.commit, kind="dataset")
        return sorted(folder.glob(self.pattern)) if folder is not None else []

    def fetch(self, key: str) -> None:
        """Brings them here.

        Raises:
            LabError: they cannot be had; the message says what to do.
        """
        from labqueue.llm.models import hub

        hub.download(self.repo, [self.pattern], kind="dataset", revision=self.commit, cure=CURE, key=key)

    def opened(self, key: str) -> Opened:
        """Their documents; they are here."""
        files = self.here()
        folder = Path(files[0].parents[self.pattern.count("/")])
        return documents.open_files(files, folder, key, self.together)


HEADING = re.compile(r" = [^=].* = \n?")
"""The first line of an article in WikiText, whose sections have two marks or more."""


def articles(rows: Iterable[str]) -> Iterator[str]:
    """The articles of WikiText, of which a row is a line."""
    lines: list[str] = []
    for row in rows:
        if HEADING.fullmatch(row) and lines:
            yield "".join(lines)
            lines = []
        lines.append(row)
    if lines:
        yield "".join(lines)
