"""Makes a page of stored attention maps: all heads, one head, one token; nothing else is needed to open it.

Heads travel as ``round(255 * sqrt(w))`` of the lower triangle, deflated and in base64, each in its own element: the
browser inflates the one that is looked at. Scores come from whoever measured them on the live weights.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from labqueue.domain.artifacts import attention_maps
from labqueue.domain.errors import LabError

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
"""Of the page: it runs its own script and asks for nothing."""

Grid = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class HeadScore:
    """What was measured of every head, shown beside its weights."""

    name: str
    values: Grid
    """[layer][head]; None where it was not measured."""
    nulls: Grid | None = None
    """What it would be without the effect, [layer][head]; None where there is none, as of an ablation."""
    about: str = ""
    """What it is, in a few words."""


def attention_page(maps: Path, *, adapter: Path | None = None, scores: Sequence[HeadScore] = ()) -> str:
    """Makes the page.

    Args:
        maps: a file of ``attention_maps``.
        adapter: maps of the same text by the same model with an adapter; base, adapter and their difference are shown.
        scores: of the heads of ``maps``, one row per layer stored.

    Returns:
        One HTML document without a reference to anything outside it.

    Raises:
        LabError: a file that cannot be read, two files that are not of the same tokens, layers and implementation,
            scores of another number of layers or heads.
    """
    header = attention_maps.read_header(maps)
    files = {"base": maps} if adapter is None else {"base": maps, "adapter": adapter}
    headers = {name: attention_maps.read_header(path) for name, path in files.items()}
    if adapter is not None:
        _check_alike(header, headers["adapter"], adapter)
    for score in scores:
        for grid in (score.values, score.nulls or score.values):
            if len(grid) != len(header.layers) or any(len(row) != header.heads_per_layer for row in grid):
                raise LabError(
                    f"score {score.name!r} is not of {len(header.layers)} layers of {header.heads_per_layer} heads"
                )
    about = {
        "model": header.model,
        "implementation": header.implementation,
        "tokens": header.tokens,
        "layers": header.layers,
        "heads": header.heads_per_layer,
        "variants": list(files),
        "scores": [
            {"name": each.name, "values": each.values, "nulls": each.nulls, "about": each.about} for each in scores
        ],
    }
    # What is painted first comes first: it does not wait for megabytes of other heads.
    first: list[str] = [_element("about", _script_safe(json.dumps(about, allow_nan=False)), "application/json")]
    rest: list[str] = []
    for name, path in files.items():
        atlas = attention_maps.read_atlas(path, header=headers[name])
        first.append(_element(f"atlas-{name}", _packed(atlas.tobytes())))
        for at, layer in enumerate(header.layers):
            for head in range(header.heads_per_layer):
                kept = _element(f"head-{name}-{at}-{head}", _head(path, layer, head, headers[name]))
                (rest if at or head else first).append(kept)
    parts = {
        "policy": POLICY,
        "title": html.escape(f"Attention of {header.model}"),
        "style": _part("page.css"),
        "script": _part("page.js"),
        "first": "\n".join(first),
        "data": "\n".join(rest),
    }
    # In one pass: a token may say {data}.
    return re.sub(r"\{(" + "|".join(parts) + r")\}", lambda found: parts[found[1]], _part("page.html"))


def _check_alike(base: attention_maps.Header, other: attention_maps.Header, path: Path) -> None:
    for what in ("tokens", "layers", "heads_per_layer", "implementation"):
        if getattr(base, what) != getattr(other, what):
            raise LabError(
                f"{path} has other {what.replace('_', ' ')} than the base's maps: store both from the same text, "
                "layers and implementation"
            )


def _head(path: Path, layer: int, head: int, header: attention_maps.Header) -> str:
    weights = attention_maps.read_head(path, layer, head, header=header)  # [query, key]
    return _packed(attention_maps.companded(weights[np.tri(len(weights), dtype=bool)]).tobytes())


def _packed(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body, 6)).decode()


def _script_safe(text: str) -> str:
    """JSON that ends no element and begins no comment, whatever a token says."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _element(name: str, body: str, kind: str = "text/plain") -> str:
    return f'<script type="{kind}" id="{name}">{body}</script>'


def _part(name: str) -> str:
    return resources.files("labqueue.llm.interp.page").joinpath(name).read_text("utf-8")
