"""Two or more experiments side by side: how they were configured, then their metrics, paired. Reads no database.

Runs are paired by seed and by every key that all of the experiments vary. Only seeds and points that both sides have
enter a mean; a seed's pairs are averaged first, so that n counts seeds, as everywhere.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
    "pairs"}``: means of last values over the seeds and points that both have, the mean difference with its 95 % t
    interval (null below two seeds), seeds, pairs.
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
    paired = (
        f"Last values, paired by {', '.join(found['paired_by'])}; only seeds and points that both have are averaged."
    )
    blocks += [Heading("Metrics"), Paragraph(paired)]
    rows = []
    for row in found["metrics"]:
        ci = "none" if row["ci"] is None else f"{number(row['ci'][0])} to {number(row['ci'][1])}"
        means = [number(row[key]) for key in ("first", "other", "difference")]
        rows.append([labelled(row), row["experiment"], *means, ci, str(row["n"]), str(row["pairs"])])
    heads = ["metric", "experiment", names[0], "this one", "difference", "95 % t interval", "n seeds", "pairs"]
    blocks.append(Rows(heads, rows) if rows else Paragraph("No experiment has a succeeded run with a metric."))
    return [*blocks, *(Figure(plot) for plot in plots)]


Values = Mapping[tuple[int, str], Mapping[str, float]]
"""Last values by (seed, point on the shared axes), then by the point on the experiment's own axes."""


def _values(runs: Sequence[RunView], name: str, shared: Sequence[str]) -> Values:
    found: dict[tuple[int, str], dict[str, float]] = defaultdict(dict)
    for run in runs:
        last = run.metrics[name].last if name in run.metrics else None
        if averageable(last):
            own = exact({key: value for key, value in run.varied.items() if key not in shared})
            found[run.seed, exact([run.varied.get(key) for key in shared])][own] = last
    return found


def _means(values: Values, pairs: Sequence[tuple[int, str]]) -> dict[tuple[int, str], float]:
    """The mean of each pair over those own points that all seeds of its shared point have: a mean over other points is
    another quantity."""
    common: dict[str, set[str]] = {}
    for seed, point in pairs:
        common[point] = common.get(point, set(values[seed, point])) & values[seed, point].keys()
    return {
        (seed, point): math.fsum(values[seed, point][own] for own in sorted(common[point])) / len(common[point])
        for seed, point in pairs
        if common[point]
    }


def _paired(one: Values, another: Values) -> dict[str, Any]:
    both = sorted(one.keys() & another.keys())
    first, other = _means(one, both), _means(another, both)
    by_seed: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for key in sorted(first.keys() & other.keys()):
        by_seed[key[0]].append((first[key], other[key]))
    if not by_seed:
        return {"first": None, "other": None, "difference": None, "ci": None, "n": 0, "pairs": 0}
    # A seed counts once, however many of its points both sides have.
    firsts, others = ([_mean(pair[side] for pair in pairs) for pairs in by_seed.values()] for side in (0, 1))
    differences = [right - left for left, right in zip(firsts, others, strict=True)]
    ci = intervals.sample(differences).interval() if len(differences) > 1 else None
    return {
        "first": _mean(firsts),
        "other": _mean(others),
        "difference": _mean(differences),
        "ci": None if ci is None else list(ci),
        "n": len(differences),
        "pairs": sum(map(len, by_seed.values())),
    }


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / len(listed)


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
