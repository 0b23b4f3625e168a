"""Views as plain data: JSON objects and CSV. Field names are the contract's; numbers that are not finite are null."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any

from labqueue.domain.text import printable, safe_json
from labqueue.domain.views import ExperimentView, RunView, VerdictView
from labqueue.report import declarations
from labqueue.report.statistics.pairing import MISSING, effective


def plain(value: Any) -> Any:
    """A view, or anything inside one, as what ``json`` can write. Copies nothing but containers."""
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        data = {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
        return _with_units(data) if isinstance(value, RunView) else data
    return str(value)


def _with_units(run: dict[str, Any]) -> dict[str, Any]:
    """A run with the ``unit`` of each of its metrics, "" without one."""
    if run["metrics"]:
        known = declarations.of(run["kind"]).metrics
        for name, metric in run["metrics"].items():
            metric["unit"] = known[name].unit
    return run


def report_data(experiment: ExperimentView, verdicts: Sequence[VerdictView]) -> dict[str, Any]:
    """The JSON object of ``labqueue report NAME --json``."""
    data: dict[str, Any] = {"schema": 1, **plain(experiment), "verdicts": plain(list(verdicts))}
    data["runs"] = data.pop("runs")  # the long part last but one, where people look for it
    data["verdicts"] = data.pop("verdicts")
    return data


def dumps(data: Any) -> str:
    """One JSON document, as people can read it."""
    return safe_json(json.dumps(data, ensure_ascii=False, indent=2, allow_nan=False)) + "\n"


def varied_keys(runs: Sequence[RunView], axes: Sequence[str] = ()) -> list[str]:
    """The keys that a table of runs needs a column for: the registered axes, then any other varied key."""
    return list(dict.fromkeys([*axes, *(key for run in runs for key in run.varied)]))


def runs_csv(runs: Sequence[RunView], axes: Sequence[str] = ()) -> str:
    """One row per run: id, seed, outcome, what was varied, the last value of every metric, time, memory and provenance.

    Values are whole, never shortened; an empty cell is "not measured". Lists and folders are JSON.
    """
    keys = varied_keys(runs, axes)
    metrics = sorted({name for run in runs for name in run.metrics})
    fixed = ["id", "seed", "state", "outcome", "reason", "profile", "device", "wall_s", "peak_memory_gib"]
    fixed += ["spec_hash", "commit"]
    head = [*fixed, *(f"param.{key}" if key in fixed else key for key in keys)]
    head += [f"metric.{name}" if name in head else name for name in metrics]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for run in runs:
        row = [_cell(getattr(run, name)) for name in fixed]
        row += [_cell(effective(run, key)) for key in keys]
        row += [_cell(run.metrics[name].last) if name in run.metrics else "" for name in metrics]
        writer.writerow(map(printable, row))
    return out.getvalue()


def _cell(value: Any) -> str:
    if value is None or value is MISSING or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str):
        return value
    return repr(value) if isinstance(value, float) else json.dumps(plain(value), ensure_ascii=False)
