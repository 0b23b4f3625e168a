"""From measured rows to the coefficients of the estimate, and its errors on the rows that they were not fitted to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from benchmarks.memory.rows import DEFAULTS, PLAN, Row
from benchmarks.memory.shapes import ALIASES
from labqueue.llm.memory.coefficients import FITTED, Coefficients
from labqueue.llm.memory.estimate import longest, predict
from labqueue.llm.memory.workload import Workload
from labqueue.llm.models.shapes import shape_of

TOO_LOW = 3.0
"""In the fit an estimate that is too low counts this often: it costs a night, one that is too high a question."""


def plan_of(row: Row) -> Workload:
    """What the estimate is told of a configuration: nothing that was measured."""
    told = {key: row[key] for key in PLAN if key not in ("shape", "cap_gib")}
    if row["method"] == "full":
        told["quantization"] = "none"
    return Workload(**told)


def predicted(row: Row, fitted: Coefficients | None = None) -> float:
    """The estimate's total for a row, GiB."""
    return predict(shape_of(ALIASES[row["shape"]]), plan_of(row), fitted).total_gib


def fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Nonnegative least squares of the relative error over the fitting set, per backend."""
    import numpy
    from scipy.optimize import least_squares

    found: dict[str, Any] = {}
    for backend in FITTED:
        mine = [r for r in rows if r["set"] == "fit" and r["backend"] == backend and r["outcome"] == "ok"]
        if not mine:
            continue

        def errors(values: Any, mine: list[Row] = mine) -> Any:
            fitted = Coefficients(values[0] * 2**30, values[1], values[2])
            return numpy.array([predicted(row, fitted) / row["peak_gib"] - 1 for row in mine])

        def costs(values: Any, errors: Any = errors) -> Any:
            off = errors(values)
            return numpy.where(off < 0, TOO_LOW * off, off)

        done = least_squares(costs, (0.1, 0.05, 0.3), bounds=(0, numpy.inf), x_scale=(0.1, 0.05, 0.3))
        off = errors(done.x)
        found[backend] = {
            "constant_gib": round(float(done.x[0]), 4),
            "fragmentation": round(float(done.x[1]), 4),
            "tile": round(float(done.x[2]), 4),
            "rows": len(mine),
            "mean_error": float(numpy.abs(off).mean()),
            "worst_error": float(off[numpy.abs(off).argmax()]),
        }
    return found


def configurations(rows: Sequence[Row]) -> list[Row]:
    """Held-out rows, one a configuration: of what was measured more than once the mean peak, and how far apart."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        if row["set"] == "held-out" and row["outcome"] in ("ok", "out_of_memory"):
            groups[tuple(row.get(key) for key in PLAN)].append(row)
    found = []
    for group in groups.values():
        peaks = [row["peak_gib"] for row in group if row["outcome"] == "ok"]
        ran = len(peaks) == len(group)
        found.append(
            group[0]
            | {
                "outcome": "ok" if ran else "out_of_memory",
                "peak_gib": math.fsum(peaks) / len(peaks) if ran else None,
                "measured": len(group),
                "apart": max(peaks) / min(peaks) - 1 if ran else None,
            }
        )
    return found


def judged(rows: Sequence[Row]) -> list[Row]:
    """Per held-out configuration: what was predicted, what was measured, the error, both verdicts."""
    told = []
    for row in configurations(rows):
        total, ran = predicted(row), row["outcome"] == "ok"
        told.append(
            {key: row[key] for key in PLAN if row[key] != DEFAULTS.get(key)}
            | {
                "predicted_gib": round(total, 3),
                "peak_gib": round(row["peak_gib"], 3) if ran else None,
                "error": round(total / row["peak_gib"] - 1, 4) if ran else None,
                "predicted_fits": total <= row["cap_gib"],
                "ran": ran,
                "measured": row["measured"],
                "apart": row["apart"],
            }
        )
    return told


def score(rows: Sequence[Row]) -> dict[str, Any]:
    """Errors on the held-out configurations that ran, verdicts on all of them."""
    told = judged(rows)
    document: dict[str, Any] = {"rows": told}
    for backend in (*FITTED, None):
        errors = [t["error"] for t in told if t["error"] is not None and backend in (None, t["backend"])]
        if errors:
            document[backend or "all"] = {
                "configurations": len(errors),
                "mean": round(math.fsum(map(abs, errors)) / len(errors), 4),
                "lowest": min(errors),
                "highest": max(errors),
            }
    document["fits that did not"] = [t for t in told if t["predicted_fits"] and not t["ran"]]
    document["does not fit that did"] = [t for t in told if not t["predicted_fits"] and t["ran"]]
    document["longest"] = [_longest(rows, backend) for backend in FITTED]
    return document


def _longest(rows: Sequence[Row], backend: str) -> dict[str, Any]:
    """The longest sequence that ran and the shortest that did not, beside what the estimate says of a 16 GB card."""
    plan = Workload(backend=backend)  # type: ignore[arg-type]  # a name of FITTED
    asked = {"backend": backend, "shape": "qwen2.5-7b", "batch": 1, **DEFAULTS}
    del asked["card_gib"], asked["allowed_gib"]  # at such lengths the loss of Unsloth is the same on a large card
    mine = [
        row
        for row in configurations(rows)
        if row["allowed_gib"] in (None, row["cap_gib"]) and all(row[key] == value for key, value in asked.items())
    ]
    return {
        "backend": backend,
        "predicted": longest(shape_of(ALIASES["qwen2.5-7b"]), plan, 14.5),
        "ran": max((row["sequence"] for row in mine if row["outcome"] == "ok"), default=None),
        "did not": min((row["sequence"] for row in mine if row["outcome"] == "out_of_memory"), default=None),
    }
