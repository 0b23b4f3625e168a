"""Numbers, times, sweep points and run ids as a report writes them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from labqueue.domain.views import RunView
from labqueue.report.statistics.pairing import text


def number(value: float | None) -> str:
    """Four significant digits; a dash for what was not measured."""
    return f"{value:.4g}" if value is not None and math.isfinite(value) else "—"


def duration(seconds: float | None) -> str:
    """``12.3 s``, ``4 min 05 s``, ``2 h 07 min``."""
    if seconds is None:
        return "—"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def size(count: int) -> str:
    """``812 B``, ``3.4 MB``, ``1.25 GB``."""
    unit, much = "B", float(count)
    for larger in ("kB", "MB", "GB"):
        if much < 1000:
            break
        unit, much = larger, much / 1000
    return f"{much:.3g} {unit}"


def point(run: RunView) -> str:
    """``lora.rank=16, method=lora``: what was varied."""
    return ", ".join(f"{key}={text(value, 30)}" for key, value in run.varied.items()) or "the only one"


def spans(runs: Sequence[RunView]) -> str:
    """Run ids, neighbours joined: ``3–17, 19``."""
    found: list[list[int]] = []
    for number_ in sorted(run.id for run in runs):
        if found and number_ == found[-1][-1] + 1:
            found[-1].append(number_)
        else:
            found.append([number_])
    return ", ".join(f"{span[0]}–{span[-1]}" if len(span) > 1 else str(span[0]) for span in found)


def ids(runs: Sequence[RunView], limit: int = 12) -> str:
    """Run ids, the first few of many."""
    listed = ", ".join(str(run.id) for run in runs[:limit])
    return f"{listed} and {len(runs) - limit} more" if len(runs) > limit else listed
