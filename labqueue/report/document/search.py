"""What a report says of a search: how far it is, what it found, and what that is worth."""

from __future__ import annotations

from labqueue.domain.views import SearchResult
from labqueue.report.document.blocks import Block, Heading, Paragraph
from labqueue.report.statistics.pairing import label


def searched(search: SearchResult | None) -> list[Block]:
    """The section on a search; nothing where nothing was searched."""
    if search is None:
        return []
    goal = "lowest" if search.direction == "minimize" else "highest"
    pruner = "" if search.pruner == "none" else f", poor trials ended early ({search.pruner})"
    counts = ", ".join(f"{n} {name}" for name, n in search.trials.items() if n) or "none yet"
    state = f"It proposes no more: {search.ended}." if search.ended else "It goes on."
    blocks: list[Block] = [
        Heading("Search"),
        Paragraph(
            f"{search.sampler} for the {goal} {search.metric}{pruner}; of {search.planned} trials planned: {counts}. "
            f"{state}"
        ),
    ]
    if search.best is None:
        return [*blocks, Paragraph(f"No trial has a value of {search.metric} yet.")]
    best = search.best
    runs = ", ".join(map(str, best.runs))
    tried = search.trials.get("complete", 0)
    blocks.append(
        Paragraph(
            f"Best: trial {best.number} with {label(best.point)}: {search.metric} {best.value:.6g}, the mean over its "
            f"seeds (runs {runs}). It is the best of {tried}, so part of its lead is luck: run that point again with "
            "seeds that the search has not seen before you rely on the value. Pruned trials are not in means over "
            "sweep points; what is left is a selection of the better ones."
        )
    )
    return blocks
