"""From measured rows to the ledger's coefficients, and its errors on the rows that they were not fitted to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy
from memory import ALIASES
from scipy.optimize import least_squares

from labqueue.llm.coefficients import FITTED, Coefficients
from labqueue.llm.ledger import CARD_GIB, Plan, predict
from labqueue.llm.shapes import shape_of

Row = dict[str, Any]
WHOLE_CARD_GIB = 139.8


def plan_of(row: Row) -> Plan:
    """What the ledger is told of a configuration: nothing that was measured."""
    more = row.get("params") or {}
    return Plan(
        backend=row["backend"],
        sequence=row["sequence"],
        batch=row["batch"],
        accumulation=row.get("accumulation", 1),
        method="full" if (row.get("method") or more.get("method")) == "full" else "lora",
        rank=row.get("rank", 16),
        quantization=row.get("quantization", "4bit"),
        optimizer=row.get("optimizer", "adamw"),
        checkpointing=row.get("checkpointing", True),
        card_gib=WHOLE_CARD_GIB if row.get("sees_whole_card") else CARD_GIB,
    )


def predicted(row: Row, fitted: Coefficients | None = None) -> float:
    """The ledger's total for a row, GiB."""
    return predict(shape_of(ALIASES[row["shape"]]), plan_of(row), fitted).total_gib


def fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Nonnegative least squares of the relative error over the fitting set, per backend."""
    found: dict[str, Any] = {}
    for backend in FITTED:
        mine = [r for r in rows if r["set"] == "fit" and r["backend"] == backend and r["outcome"] == "ok"]
        if not mine:
            continue
        start = FITTED[backend]
        numbers = [start.constant_bytes / 2**30, start.fragmentation]
        if backend == "unsloth":
            numbers += [*start.layer, *start.saved, start.buffers]

        def made(values: Any, backend: str = backend) -> Coefficients:
            if backend == "hf":
                return Coefficients(values[0] * 2**30, values[1])
            return Coefficients(values[0] * 2**30, values[1], tuple(values[2:6]), tuple(values[6:10]), values[10])

        def off(values: Any, mine: list[Row] = mine, made: Any = made) -> Any:
            fitted = made(values)
            return numpy.array([predicted(row, fitted) / row["peak_gib"] - 1 for row in mine])

        done = least_squares(
            off, numpy.maximum(numbers, 1e-3), bounds=(0, numpy.inf), x_scale=numpy.maximum(numbers, 0.05)
        )
        found[backend] = {
            "coefficients": [round(float(value), 4) for value in done.x],
            "rows": len(mine),
            "mean_error": float(numpy.abs(done.fun).mean()),
            "worst_error": float(numpy.abs(done.fun).max()),
        }
    return found


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """Errors on the held-out rows that ran, and verdicts on all held-out rows."""
    held_out = [row for row in rows if row["set"] == "held-out" and row["outcome"] in ("ok", "out_of_memory")]
    told: list[dict[str, Any]] = []
    for row in held_out:
        total = predicted(row)
        ran = row["outcome"] == "ok"
        keys = ("backend", "shape", "batch", "sequence", "rank", "checkpointing", "quantization", "optimizer")
        told.append(
            {key: row[key] for key in keys if key in row}
            | {
                "predicted_gib": round(total, 3),
                "peak_gib": round(row["peak_gib"], 3) if ran else None,
                "error": round(total / row["peak_gib"] - 1, 4) if ran else None,
                "predicted_fits": total <= row["cap_gib"],
                "ran": ran,
            }
        )
    document: dict[str, Any] = {"rows": told}
    for backend in (*FITTED, None):
        errors = [abs(t["error"]) for t in told if t["error"] is not None and backend in (None, t["backend"])]
        if errors:
            document[backend or "all"] = {
                "configurations": len(errors),
                "mean": math.fsum(errors) / len(errors),
                "worst": max(errors),
            }
    document["fits that did not"] = [t for t in told if t["predicted_fits"] and not t["ran"]]
    document["does not fit that did"] = [t for t in told if not t["predicted_fits"] and t["ran"]]
    return document
