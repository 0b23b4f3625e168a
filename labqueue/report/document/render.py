"""Blocks as Markdown that GitHub and editors read, with links to the figures beside it; and as one HTML file that needs
nothing else: figures inside, light and dark, no script, no network."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape as html_escape

from labqueue.domain.text import one_line, printable
from labqueue.report.document.blocks import Block, Bullets, Figure, Heading, Paragraph, Prose, Rows

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fff; --soft: #667; --line: #dcdfe4; --band: #f5f6f8;
  --yes: #00664a; --no: #a23b00; --open: #5b5f6b; --apart: #6a3fb0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181c; --soft: #9aa0aa; --line: #343841;
  --band: #1e2127; --yes: #4fd1a5; --no: #ff9a5c; --open: #aab0bb; --apart: #c3a5ff; } }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.25rem 5rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.9rem; margin: 0 0 .2rem; } h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); } h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem; }
p { margin: .4rem 0 .8rem; } .prose { white-space: pre-wrap; }
.badge { display: inline-block; margin-left: .6rem; padding: .05rem .55rem; border: 1px solid; border-radius: 1rem;
  font-size: .8rem; font-weight: 600; color: var(--open); }
.badge.supported, .badge.succeeded { color: var(--yes); } .badge.refuted, .badge.failed { color: var(--no); }
.badge.exploratory { color: var(--apart); border-style: dashed; }
.badge.withdrawn { text-decoration: line-through; border-style: dotted; }
.scroll { overflow-x: auto; max-height: 40rem; border: 1px solid var(--line); border-radius: .4rem; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: left; padding: .3rem .7rem; vertical-align: top; white-space: nowrap; }
th { position: sticky; top: 0; background: var(--band); white-space: normal; vertical-align: bottom; }
td.text { min-width: 12rem; white-space: pre-wrap; }
tr + tr td { border-top: 1px solid var(--line); }
figure { margin: 1rem 0 1.6rem; } figure img { max-width: 100%; height: auto; background: #fff; border-radius: .4rem; }
figcaption { color: var(--soft); font-size: .84rem; margin-top: .3rem; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } figure { overflow-x: auto; }
  figure img { max-width: none; height: 13rem; } }
@media print { body { max-width: none; }
  .scroll { max-height: none; overflow: visible; } figure { break-inside: avoid; } }
"""


def html(title: str, blocks: Sequence[Block]) -> str:
    """One HTML document. The policy in its head forbids scripts and every request, whatever a name contains."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    body = "\n".join(_html_block(block) for block in blocks)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_in_html(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _html_block(block: Block) -> str:
    if isinstance(block, Heading):
        badge = f'<span class="badge {_in_html(block.badge)}">{_in_html(block.badge)}</span>' if block.badge else ""
        return f"<h{block.level}>{_in_html(block.text)}{badge}</h{block.level}>"
    if isinstance(block, Paragraph):
        return f"<p>{_in_html(block.text)}</p>"
    if isinstance(block, Prose):
        return f'<div class="prose">{_in_html(block.text.strip())}</div>'
    if isinstance(block, Bullets):
        return f"<ul>{''.join(f'<li>{_in_html(item)}</li>' for item in block.items)}</ul>"
    if isinstance(block, Rows):
        head = "".join(f"<th>{_in_html(cell)}</th>" for cell in block.columns)
        rows = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>\n" for row in block.rows)
        return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{rows}</tbody></table></div>'
    assert isinstance(block, Figure)
    # An image rather than inline elements: figures share ids, and a name in one cannot become markup.
    image = base64.b64encode(block.plot.svg).decode()
    return (
        f'<figure><img alt="{_in_html(block.plot.title)}" src="data:image/svg+xml;base64,{image}">'
        f"<figcaption>{_in_html(block.plot.caption)}</figcaption></figure>"
    )


def _cell(cell: str) -> str:
    return f'<td class="text">{_in_html(cell)}</td>' if len(cell) > 40 else f"<td>{_in_html(cell)}</td>"


def _in_html(text: str) -> str:
    """Text as HTML shows it, control characters written out."""
    return html_escape(printable(text))


def markdown(blocks: Sequence[Block]) -> str:
    """One Markdown document; figures are found at ``plots/NAME.svg``."""
    return "\n\n".join(_markdown_block(block) for block in blocks) + "\n"


def _in_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\|`*\[\]])", r"\\\1", one_line(" ".join(text.split()))).replace("<", "&lt;")


def _markdown_block(block: Block) -> str:
    if isinstance(block, Heading):
        badge = f": **{block.badge}**" if block.badge else ""
        return f"{'#' * block.level} {_in_markdown(block.text)}{badge}"
    if isinstance(block, Paragraph):
        return _in_markdown(block.text)
    if isinstance(block, Prose):
        return printable(block.text.strip())
    if isinstance(block, Bullets):
        return "\n".join(f"- {_in_markdown(item)}" for item in block.items)
    if isinstance(block, Rows):
        lines = [block.columns, ["---"] * len(block.columns), *block.rows]
        return "\n".join(f"| {' | '.join(_in_markdown(cell) for cell in line)} |" for line in lines)
    assert isinstance(block, Figure)
    return f"![{_in_markdown(block.plot.title)}](plots/{block.plot.name}.svg)\n\n*{_in_markdown(block.plot.caption)}*"
