"""Tables and values as text. Knows views, asks nothing."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from labqueue.domain.text import one_line, printable
from labqueue.domain.views import ProgressView

LONG = 60
"""Rows from which a table is printed without frames, colours and folding."""

DASH = "–"
"""What "not measured" looks like; never 0."""


def cell(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    text = one_line(str(value))
    # Shortened in the middle: long values of one sweep often differ only at their end.
    return text if len(text) <= 60 else f"{text[:40]}…{text[-19:]}"


def duration(seconds: float | None) -> str:
    """Seconds as ``1 h 02 min``, ``3 min 05 s`` or ``4.2 s``."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Prints text that may hold what runs, imports or files wrote; control characters are written out."""
    click.echo(printable(text), err=err, nl=nl)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints a table; numbers stand to the right, and a row is one line.

    A terminal shows the columns that fit it, from the left, and says which do not; a pipe or a file gets all of them.
    A long table is plain text, which is ten times as quick.
    """
    listed = [list(row) for row in rows]
    if not sys.stdout.isatty():
        _plain(columns, listed, title)
        return
    shown = _fitting(columns, listed, shutil.get_terminal_size().columns)
    hidden = columns[shown:]
    columns, listed = columns[:shown], [row[:shown] for row in listed]
    if len(listed) > LONG:
        _plain(columns, listed, title)
    else:
        _framed(columns, listed, title)
    if hidden:
        click.echo(f"not shown for want of room: {', '.join(hidden)} (a wider window, a pipe or --json has them)")


def _fitting(columns: Sequence[str], rows: list[list[Any]], width: int) -> int:
    """How many columns from the left fit a line; the first two always."""
    total = 0
    for at, name in enumerate(columns):
        total += max(len(name), *(len(cell(row[at])) for row in rows), 0) + 3
        if total > width and at >= 2:
            return at
    return len(columns)


def _framed(columns: Sequence[str], rows: list[list[Any]], title: str | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(columns):
        numeric = any(isinstance(row[at], int | float) for row in rows)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(cell(value).replace("[", "\\[") for value in row))
    Console(highlight=False, soft_wrap=False).print(shown)


def _plain(columns: Sequence[str], rows: list[list[Any]], title: str | None) -> None:
    # The last column is as long as it is: nothing stands behind it.
    texts = [
        [*map(cell, row[:-1]), *(one_line(v) if isinstance(v, str) else cell(v) for v in row[-1:])] for row in rows
    ]
    widths = [max(len(name), *(len(row[at]) for row in texts), 0) for at, name in enumerate(columns)]
    numeric = [any(isinstance(row[at], int | float) for row in rows) for at in range(len(columns))]

    def line(parts: Sequence[str]) -> str:
        cells = (p.rjust(w) if right else p.ljust(w) for p, w, right in zip(parts, widths, numeric, strict=True))
        return "  ".join(cells).rstrip()

    if title is not None:
        click.echo(one_line(title))
    click.echo("\n".join([line(columns), line(["─" * width for width in widths]), *map(line, texts)]))


def progress(view: ProgressView) -> str:
    """How far a run is: ``step 3/12``, or ``tokenizing 3/12`` in a phase of its own."""
    return f"{view.phase or 'step'} {view.done}/{view.total}"


def varied(values: dict[str, Any]) -> str:
    """A sweep point in short: ``rank=16 scaling=rslora`` (the last parts of the keys, where they are distinct)."""
    short = {key: key.rpartition(".")[2] for key in values}
    names = list(short.values())
    return " ".join(f"{short[key] if names.count(short[key]) == 1 else key}={cell(v)}" for key, v in values.items())
