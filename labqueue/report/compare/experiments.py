"""Two or more experiments side by side: how they were configured, then their metrics, paired. Reads no database.

Runs are paired by seed and by every key that all of the experiments vary; a seed's pairs are averaged first, so that n
counts seeds, as everywhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from labqueue.domain.measured import averageable
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report import declarations
from labqueue.report.compare.runs import described, flatten, labelled
from labqueue.report.document.blocks import Block, Figure, Heading, Paragraph, Rows
from labqueue.report.document.export import plain
from labqueue.report.document.formatting import number
from labqueue.report.figures.style import Plot
from labqueue.report.statistics import intervals
from labqueue.report.statistics.pairing import exact, text


def compare_experiments(views: Sequence[ExperimentView]) -> dict[str, Any]:
    """The JSON object of ``labqueue compare NAME NAME…``; every difference is from the first experiment.

    ``config``: keys whose values differ between experiments, one list of values for each. ``metrics``: for each metric
    and each later experiment ``{"name", "unit", "better", "experiment", "first", "other", "difference", "ci", "n",
    "pairs"}``: means over the paired seeds of last values, the mean difference with its 95 % t interval (null below two
    seeds), seeds, pairs.
    """
    done = [[run for run in view.runs if run.outcome == "succeeded"] for view in views]
    shared = [key for key in views[0].axes if all(key in view.axes for view in views)]
    metrics = []
    names = dict.fromkeys(name for runs in done for run in runs for name in sorted(run.metrics))
    for name in names:
        head = described(declarations.of_runs(name, [run for runs in done for run in runs]))
        first = _values(done[0], name, shared)
        for view, runs in zip(views[1:], done[1:], strict=True):
            metrics.append({**head, "experiment": view.experiment, **_paired(first, _values(runs, name, shared))})
    return {
        "schema": 1,
        "experiments": [view.experiment for view in views],
        "runs": [[run.id for run in runs] for runs in done],
        "paired_by": ["seed", *shared],
        "config": _config(done),
        "metrics": metrics,
    }


def between_blocks(found: Mapping[str, Any], plots: Sequence[Plot] = ()) -> list[Block]:
    """The same as blocks; ``found`` is what ``compare_experiments`` returns."""
    names = found["experiments"]
    blocks: list[Block] = [Heading(f"Comparison of {', '.join(names)}", 1), Heading("What differs")]
    config = [[row["key"], *(", ".join(map(text, values)) for values in row["values"])] for row in found["config"]]
    blocks.append(Rows(["key", *names], config) if config else Paragraph("Nothing: the configurations are the same."))
    blocks += [Heading("Metrics"), Paragraph(f"Last values, paired by {', '.join(found['paired_by'])}.")]
    rows = []
    for row in found["metrics"]:
        ci = "none" if row["ci"] is None else f"{number(row['ci'][0])} to {number(row['ci'][1])}"
        means = [number(row[key]) for key in ("first", "other", "difference")]
        rows.append([labelled(row), row["experiment"], *means, ci, str(row["n"]), str(row["pairs"])])
    heads = ["metric", "experiment", names[0], "this one", "difference", "95 % t interval", "n seeds", "pairs"]
    blocks.append(Rows(heads, rows) if rows else Paragraph("No experiment has a succeeded run with a metric."))
    return [*blocks, *(Figure(plot) for plot in plots)]


def _values(runs: Sequence[RunView], name: str, shared: Sequence[str]) -> dict[tuple[int, str], float]:
    """Mean last value by (seed, point on the shared axes)."""
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for run in runs:
        last = run.metrics[name].last if name in run.metrics else None
        if averageable(last):
            found[run.seed, exact([run.varied.get(key) for key in shared])].append(last)
    return {key: math.fsum(values) / len(values) for key, values in found.items()}


def _paired(first: Mapping[tuple[int, str], float], other: Mapping[tuple[int, str], float]) -> dict[str, Any]:
    pairs = sorted(first.keys() & other.keys())
    if not pairs:
        return {"first": None, "other": None, "difference": None, "ci": None, "n": 0, "pairs": 0}
    by_seed: dict[int, list[float]] = defaultdict(list)
    for key in pairs:
        by_seed[key[0]].append(other[key] - first[key])
    differences = [math.fsum(values) / len(values) for _, values in sorted(by_seed.items())]
    ci = intervals.sample(differences).interval() if len(differences) > 1 else None
    return {
        "first": math.fsum(first[key] for key in pairs) / len(pairs),
        "other": math.fsum(other[key] for key in pairs) / len(pairs),
        "difference": math.fsum(differences) / len(differences),
        "ci": None if ci is None else list(ci),
        "n": len(differences),
        "pairs": len(pairs),
    }


def _config(done: Sequence[Sequence[RunView]]) -> list[dict[str, Any]]:
    """Keys whose sets of values differ between the experiments, with each experiment's values."""
    tables: list[dict[str, dict[str, Any]]] = []
    for runs in done:
        table: dict[str, dict[str, Any]] = defaultdict(dict)
        for run in runs:
            facts = {name: getattr(run, name) for name in ("kind", "profile", "device", "commit", "dirty")}
            for key, value in {**facts, **flatten(run.params)}.items():
                table[key][exact(value)] = value
        tables.append(table)
    rows = []
    for key in dict.fromkeys(key for table in tables for key in table):
        if len({tuple(sorted(table.get(key, {}))) for table in tables}) > 1:
            rows.append({"key": key, "values": [plain(list(table.get(key, {}).values())) for table in tables]})
    return rows
