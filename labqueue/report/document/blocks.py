"""The parts a report is made of, the same for Markdown and HTML. All text is plain; renderers escape it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from labqueue.report.figures.style import Plot


@dataclass(frozen=True)
class Heading:
    """``badge`` is a verdict or an outcome to set off with a colour."""

    text: str
    level: int = 2
    badge: str | None = None


@dataclass(frozen=True)
class Paragraph:
    """One paragraph of the lab's own words."""

    text: str


@dataclass(frozen=True)
class Prose:
    """Text as the user wrote it, with its line breaks."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of short statements."""

    items: Sequence[str]


@dataclass(frozen=True)
class Rows:
    """A table; every row has as many cells as there are columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Figure:
    """A figure with its caption."""

    plot: Plot


Block = Heading | Paragraph | Prose | Bullets | Rows | Figure
