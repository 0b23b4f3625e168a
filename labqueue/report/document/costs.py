"""Memory and time in a report: estimated against measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.document.blocks import Block, Heading, Paragraph, Rows
from labqueue.report.document.formatting import duration, number, point


def memory_and_time(experiment: ExperimentView) -> list[Block]:
    """The section; nothing where nothing ran."""
    ran = [run for run in experiment.runs if run.wall_s is not None]
    if not ran:
        return []
    groups: dict[str, list[RunView]] = {}
    for run in ran:
        groups.setdefault(point(run), []).append(run)
    rows = []
    for name, runs in groups.items():
        peaks = [run.peak_memory_gib for run in runs if run.peak_memory_gib is not None]
        estimates = [run.estimated_memory_gib for run in runs if run.estimated_memory_gib is not None]
        times = [run.wall_s for run in runs if run.wall_s is not None]
        peak, estimate = max(peaks, default=None), max(estimates, default=None)
        ratio = f"{peak / estimate:.2f}" if peak is not None and estimate else "—"
        mean = math.fsum(times) / len(times)
        rows.append([name, str(len(runs)), number(estimate), number(peak), ratio, duration(mean), duration(max(times))])
    columns = ["sweep point", "runs", "estimated (GiB)", "peak (GiB)", "peak / estimate", "mean time", "longest"]
    total = duration(math.fsum(run.wall_s or 0.0 for run in ran))
    note = f"Peaks are the allocator's reserved bytes; the CUDA context is separate. All runs together took {total}."
    judged = _judged(ran)
    return [Heading("Memory and time"), Rows(columns, rows), Paragraph(note), *([Paragraph(judged)] if judged else [])]


def _judged(runs: Sequence[RunView]) -> str | None:
    """How good the predictions of memory were, in words; None where there is none to compare."""
    pairs = [(run.estimated_memory_gib, run.peak_memory_gib) for run in runs if run.outcome == "succeeded"]
    ratios = [peak / estimate for estimate, peak in pairs if estimate and peak]
    if not ratios:
        return None
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    above = sum(ratio > 1 for ratio in ratios)
    said = (
        f"Of {len(ratios)} succeeded runs with both, the peak was {low:.2f} to {high:.2f} of the estimate, in the "
        f"middle {middle:.2f}; {above or 'none'} went above it."
    )
    if middle < 0.8:
        said += " An estimate is for a batch of the longest rows, as far as the data tell, else of the longest allowed."
    return said
