"""Blocks as Markdown that GitHub and editors read. Figures are links to the files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from labqueue.domain.text import one_line, printable
from labqueue.report.document.blocks import Block, Bullets, Figure, Heading, Paragraph, Prose, Rows


def render(blocks: Sequence[Block]) -> str:
    """One Markdown document; figures are found at ``plots/NAME.svg``."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\|`*\[\]])", r"\\\1", one_line(" ".join(text.split()))).replace("<", "&lt;")


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        badge = f": **{block.badge}**" if block.badge else ""
        return f"{'#' * block.level} {escape(block.text)}{badge}"
    if isinstance(block, Paragraph):
        return escape(block.text)
    if isinstance(block, Prose):
        return printable(block.text.strip())
    if isinstance(block, Bullets):
        return "\n".join(f"- {escape(item)}" for item in block.items)
    if isinstance(block, Rows):
        lines = [block.columns, ["---"] * len(block.columns), *block.rows]
        return "\n".join(f"| {' | '.join(escape(cell) for cell in line)} |" for line in lines)
    assert isinstance(block, Figure)
    return f"![{escape(block.plot.title)}](plots/{block.plot.name}.svg)\n\n*{escape(block.plot.caption)}*"
