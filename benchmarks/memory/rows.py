"""Measured rows: how the repository keeps them, and which say the same configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from labqueue.llm.memory.workload import CARD_GIB, usable_gib

Row = dict[str, Any]

PLAN = (
    "backend", "shape", "batch", "sequence", "rank", "accumulation", "checkpointing", "quantization", "optimizer",
    "method", "dora", "card_gib", "allowed_gib", "cap_gib",
)  # fmt: skip
"""What says which configuration a row is; two rows that agree in it are one configuration, measured twice."""

DEFAULTS: Row = {
    "rank": 16, "accumulation": 1, "checkpointing": True, "quantization": "4bit", "optimizer": "adamw",
    "method": "lora", "dora": False, "card_gib": CARD_GIB, "allowed_gib": None, "cap_gib": 14.5,
}  # fmt: skip

H200_GIB = 139.8


def read(path: Path) -> list[Row]:
    """Rows of a file that ``compact`` wrote, or of one that ``measure`` did."""
    text = path.read_text()
    if path.suffix == ".json":
        return [DEFAULTS | row for row in json.loads(text)["rows"]]
    return [small(json.loads(line)) for line in text.splitlines() if line.strip()]


def small(raw: Row) -> Row:
    """A measured row as the repository keeps it."""
    more = raw.get("params") or {}
    row = DEFAULTS | {key: raw[key] for key in PLAN if key in raw}
    row |= {key: raw.get(key) or more.get(key) or row[key] for key in ("method", "quantization", "optimizer")}
    row["dora"] = bool(more.get("lora", {}).get("dora", row["dora"]))
    if row["backend"] == "unsloth":
        row |= _shown(raw)
    else:  # which does not look at the card
        row |= {key: DEFAULTS[key] for key in ("card_gib", "allowed_gib")}
    peak = raw.get("peak_gib")
    return row | {"set": raw.get("set", "held-out"), "outcome": raw["outcome"], "peak_gib": peak and round(peak, 4)}


def _shown(raw: Row) -> Row:
    """The card that Unsloth was shown, and what it was told that it may allocate of it."""
    cap_gib = raw["cap_gib"]
    if "card_gib" in raw:
        card_gib, allowed_gib = round(raw["card_gib"], 1), raw["allowed_gib"]
    elif raw.get("sees_whole_card"):
        card_gib, allowed_gib = H200_GIB, cap_gib
    else:
        # The first sessions showed a small card, and of it the share that the cap was of the real one: next to nothing.
        card_gib = cap_gib + 1.0
        allowed_gib = round(card_gib * cap_gib / H200_GIB, 3)
    as_is = abs(allowed_gib - usable_gib(card_gib)) < 0.01
    return {"card_gib": card_gib, "allowed_gib": None if as_is else allowed_gib}


def compact(files: Sequence[Path], device: str, date: str) -> str:
    """Measured rows as the repository keeps them, JSON: a row a line, without what is default; versions once."""
    raw = [json.loads(line) for path in files for line in path.read_text().splitlines() if line.strip()]
    (versions,) = {json.dumps(row["versions"]) for row in raw}
    rows = [small(row) for row in raw if row["outcome"] != "error"]
    lines = [
        json.dumps({key: row[key] for key in ("set", *PLAN, "outcome", "peak_gib") if row[key] != DEFAULTS.get(key)})
        for row in rows
    ]
    head = {"device": device, "date": date, "versions": json.loads(versions)}
    return json.dumps(head)[:-1] + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"
