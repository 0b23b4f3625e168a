"""Which metrics a report shows first. Knows names and values only."""

from __future__ import annotations

import re

from labqueue.domain import loss_curve
from labqueue.domain.views import ExperimentView

_HELD_OUT = re.compile(r"^(eval|exact)_|_(loss|exact|accuracy|score)$|^(loss|accuracy|score)$")
_TRAINING = re.compile(r"^(train|merge)_")
_COSTS = re.compile(
    r"^(learning_rate|grad_norm|train_tokens|tokens_per_s(econd)?|wall_s|step_s)$|^trainable_|_[gm]ib$|_perplexity$"
)
"""And perplexities, which are the losses again."""


def metric_names(experiment: ExperimentView) -> list[str]:
    """All recorded metrics: those that predictions and plots name, held-out ones, the others, costs, curve readings."""
    recorded = {name for run in experiment.runs for name, metric in run.metrics.items() if metric.points}
    rest = sorted(recorded, key=lambda name: (_rank(name), not name.startswith("eval"), "loss" not in name, name))
    # What was varied has a column of its own; a metric of the same name is what became of it.
    varied = {key for run in experiment.runs for key in run.varied} - set(named(experiment))
    return [name for name in dict.fromkeys([*named(experiment), *rest]) if name in recorded and name not in varied]


def named(experiment: ExperimentView) -> list[str]:
    """The metrics that predictions name, then those that the spec's plots name; recorded or not."""
    tests = [test for claim in experiment.predictions for test in claim.values() if isinstance(test, dict)]
    asked = [test["metric"] for test in tests if "metric" in test]
    asked += [plot.get(side) for plot in experiment.plots if isinstance(plot, dict) for side in ("x", "y")]
    return list(dict.fromkeys(name for name in asked if isinstance(name, str)))


def worth_a_figure(experiment: ExperimentView, limit: int) -> list[str]:
    """The first ``limit`` metrics in that order, of those that are named, or that differ between runs and are neither
    costs nor curve readings."""
    chosen = set(named(experiment))
    names = []
    for name in metric_names(experiment):
        values = {run.metrics[name].last for run in experiment.runs if name in run.metrics}
        if name in chosen or len(experiment.runs) == 1 or (len(values) > 1 and _rank(name) < 2):
            names.append(name)
    return names[:limit]


def _rank(name: str) -> int:
    """0 held-out, 1 other, 2 what a run costs, 3 what is read off its curves."""
    if name in loss_curve.MEASURED:
        return 3
    if _COSTS.search(name):
        return 2
    return int(not _HELD_OUT.search(name) or bool(_TRAINING.search(name)))
