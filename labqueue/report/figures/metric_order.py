"""Orders the metrics of a report: by what predictions and plots name, then by role, as the kind declares it."""

from __future__ import annotations

from labqueue.domain.declarations import ROLES, Metrics
from labqueue.domain.views import ExperimentView

_RANKS = {role: rank for rank, role in enumerate(ROLES)}
_UNDECLARED = _RANKS["training"]


def metric_names(experiment: ExperimentView, known: Metrics) -> list[str]:
    """All recorded metrics: those that predictions and plots name, then by role and in the order of the declaration
    (held-out ones, those of training and undeclared ones, costs, diagnostics)."""
    recorded = {name for run in experiment.runs for name, metric in run.metrics.items() if metric.points}
    rest = sorted(recorded, key=lambda name: (_rank(name, known), known.place(name), name))
    # What was varied has a column of its own; a metric of the same name is what became of it.
    varied = {key for run in experiment.runs for key in run.varied} - set(named(experiment))
    return [name for name in dict.fromkeys([*named(experiment), *rest]) if name in recorded and name not in varied]


def named(experiment: ExperimentView) -> list[str]:
    """The metrics that predictions name, then those that the spec's plots name; recorded or not."""
    tests = [test for claim in experiment.predictions for test in claim.values() if isinstance(test, dict)]
    asked = [test["metric"] for test in tests if "metric" in test]
    asked += [plot.get(side) for plot in experiment.plots if isinstance(plot, dict) for side in ("x", "y")]
    return list(dict.fromkeys(name for name in asked if isinstance(name, str)))


def worth_a_figure(experiment: ExperimentView, known: Metrics, limit: int) -> list[str]:
    """The first ``limit`` metrics in that order, of those that are named, or that differ between runs and are neither
    costs nor diagnostics."""
    chosen = set(named(experiment))
    names = []
    for name in metric_names(experiment, known):
        values = {run.metrics[name].last for run in experiment.runs if name in run.metrics}
        if name in chosen or len(experiment.runs) == 1 or (len(values) > 1 and _rank(name, known) < _RANKS["cost"]):
            names.append(name)
    return names[:limit]


def _rank(name: str, known: Metrics) -> int:
    metric = known[name].metric
    return _UNDECLARED if metric is None else _RANKS[metric.role]
