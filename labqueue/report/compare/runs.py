"""Several runs side by side: first how their configurations differ, then their metrics. Reads no database."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from labqueue.domain.declarations import Quantity
from labqueue.domain.views import RunView
from labqueue.report import declarations
from labqueue.report.document.blocks import Block, Figure, Heading, Paragraph, Rows
from labqueue.report.document.export import plain
from labqueue.report.document.formatting import duration, number
from labqueue.report.figures import style
from labqueue.report.figures.choose import METRICS_SHOWN
from labqueue.report.figures.over_steps import thin
from labqueue.report.figures.style import Plot, slug
from labqueue.report.statistics.pairing import MISSING, SeriesReader, exact, text

FACTS = ("experiment", "kind", "profile", "device", "seed", "outcome", "spec_hash", "commit", "dirty")
"""What may differ between runs beside their parameters."""


def compare(runs: Sequence[RunView], series: SeriesReader) -> dict[str, Any]:
    """The JSON object of ``labqueue compare``.

    ``config`` lists only keys that differ: ``{"key", "values"}``, one value per run in the order given, null where a
    run lacks the key. ``metrics`` has one entry per metric: its ``unit``, which direction is ``better`` (null where
    neither is, or the runs' kinds differ in it), ``last`` and ``last_step`` per run and ``difference`` from the first
    run. Where runs ended at different steps, ``at_common_step`` gives ``{"step", "values",
    "difference"}`` at the last step that all of them have (null when there is none), since a longer run is no better
    run.
    """
    names = list(dict.fromkeys(name for run in runs for name in sorted(run.metrics)))
    return {
        "schema": 1,
        "runs": plain(list(runs)),
        "config": [{"key": key, "values": plain(values)} for key, values in _config(runs)],
        "metrics": [_metric(name, runs, series) for name in names],
    }


def comparison_blocks(found: Mapping[str, Any], plots: Sequence[Plot] = ()) -> list[Block]:
    """The same as blocks, for Markdown and HTML; ``found`` is what ``compare`` returns."""
    runs = found["runs"]
    heads = [f"run {run['id']}" for run in runs]
    blocks: list[Block] = [Heading(f"Comparison of {', '.join(heads) or 'no runs'}", 1), Heading("What differs")]
    config = [[row["key"], *("—" if v is None else text(v) for v in row["values"])] for row in found["config"]]
    blocks.append(Rows(["key", *heads], config) if config else Paragraph("Nothing: the configurations are the same."))
    blocks.append(Heading("Metrics"))
    rows = []
    for metric in found["metrics"]:
        label = labelled(metric)
        rows.append(_row(f"{label}, last", metric["last"], metric["difference"]))
        common = metric.get("at_common_step")
        if common:
            rows.append(_row(f"{label}, at step {common['step']}", common["values"], common["difference"]))
    rows.append(["time", *(duration(run["wall_s"]) for run in runs)])
    rows.append(["peak memory (GiB)", *(number(run["peak_memory_gib"]) for run in runs)])
    return [*blocks, Rows(["metric", *heads], rows), *(Figure(plot) for plot in plots)]


def overlaid(runs: Sequence[RunView], series: SeriesReader, *, named: bool = False) -> list[Plot]:
    """One figure per metric that several runs have as a curve, at most METRICS_SHOWN.

    With ``named`` a colour is an experiment and the key names it; else it is a run.
    """
    experiments = list(dict.fromkeys(run.experiment for run in runs))
    from matplotlib.figure import Figure as Canvas

    names = dict.fromkeys(name for run in runs for name, known in sorted(run.metrics.items()) if known.points > 1)
    plots = []
    with style.look():
        for name in list(names)[:METRICS_SHOWN]:
            figure = Canvas(figsize=(6.8, 3.9), layout="constrained")
            axes = figure.add_subplot()
            having = [run for run in runs if name in run.metrics]
            for number_, run in enumerate(having):
                points = [(step, value) for step, value in series.series(run.id, name) if value is not None]
                place = experiments.index(run.experiment) if named else number_
                colour = style.COLOURS[place % len(style.COLOURS)]
                dash = ("-", "--", "-.", ":")[place // len(style.COLOURS) % 4]
                said = run.experiment if named else f"run {run.id}, seed {run.seed}"
                steps, values = thin([step for step, _ in points], [value for _, value in points])
                first = said not in [line.get_label() for line in axes.lines]
                axes.plot(steps, values, color=colour, ls=dash, lw=1.2, label=said if first else None)
            axes.set_xlabel("step")
            axes.set_ylabel(declarations.of_runs(name, having).label())
            if named or len(having) <= 24:
                figure.legend(loc="outside right upper", ncols=1 + (not named and len(having) > 12))
            svg, png = style.save(figure)
            caption = f"{name} over steps, one line per run."
            plots.append(Plot(f"{slug(name)}_compared", f"{name} over steps", caption, svg, png, "curves"))
    return plots


def described(metric: Quantity) -> dict[str, Any]:
    """The head of a metric's entry in a comparison: ``name``, ``unit`` ("" without one), ``better``."""
    return {"name": metric.name, "unit": metric.unit, "better": metric.better}


def labelled(entry: Mapping[str, Any]) -> str:
    """``value (s, lower is better)``, from such a head."""
    better = f"{entry['better']} is better" if entry["better"] else ""
    said = ", ".join(part for part in (entry["unit"], better) if part)
    return f"{entry['name']} ({said})" if said else str(entry["name"])


def _row(name: str, values: Sequence[float | None], differences: Sequence[float | None]) -> list[str]:
    cells = [number(values[0])] if values else []
    for value, difference in zip(values[1:], differences[1:], strict=True):
        cells.append(number(value) if difference is None else f"{number(value)} ({difference:+.3g})")
    return [name, *cells]


def _config(runs: Sequence[RunView]) -> list[tuple[str, list[Any]]]:
    flat = [flatten(run.params) for run in runs]
    rows: list[tuple[str, list[Any]]] = [(name, [getattr(run, name) for run in runs]) for name in FACTS]
    keys = sorted({key for params in flat for key in params})
    rows += [(key, [params.get(key, MISSING) for params in flat]) for key in keys]
    differing = [(key, values) for key, values in rows if len({exact(value) for value in values}) > 1]
    return [(key, [None if value is MISSING else value for value in values]) for key, values in differing]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _metric(name: str, runs: Sequence[RunView], series: SeriesReader) -> dict[str, Any]:
    known = [run.metrics.get(name) for run in runs]
    last = [_finite(metric.last) if metric else None for metric in known]
    steps = [metric.last_step if metric else None for metric in known]
    found: dict[str, Any] = {
        **described(declarations.of_runs(name, runs)),
        "last": last,
        "last_step": steps,
        "difference": _differences(last),
    }
    if all(metric is not None for metric in known) and len(set(steps)) > 1:
        tables = [dict(series.series(run.id, name)) for run in runs]
        shared = [s for s in tables[0] if all(_finite(table.get(s)) is not None for table in tables)]
        values = [_finite(table[max(shared)]) for table in tables] if shared else []
        common = {"step": max(shared), "values": values, "difference": _differences(values)} if shared else None
        found["at_common_step"] = common
    return found


def _differences(values: Sequence[float | None]) -> list[float | None]:
    first = values[0] if values else None
    return [None if value is None or first is None else value - first for value in values]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
