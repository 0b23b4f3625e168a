"""Tables and values as text. Knows views, asks nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

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
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


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


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """Prints a table; numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    listed = [list(row) for row in rows]
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(columns):
        numeric = any(isinstance(row[at], int | float) for row in listed)
        shown.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        shown.add_row(*(cell(value).replace("[", "\\[") for value in row))
    Console(highlight=False, soft_wrap=False).print(shown)


def varied(values: dict[str, Any]) -> str:
    """A sweep point in short: ``rank=16 scaling=rslora`` (the last parts of the keys, where they are distinct)."""
    short = {key: key.rpartition(".")[2] for key in values}
    names = list(short.values())
    return " ".join(f"{short[key] if names.count(short[key]) == 1 else key}={cell(v)}" for key, v in values.items())
