"""Small experiments made of plain values, for the tests of reports."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from labqueue import kinds
from labqueue.domain.spec.schema import assign
from labqueue.domain.views import ArtifactView, AttemptView, ExperimentView, MetricView, RunView

FINETUNE = kinds.get("finetune").metrics
"""What the kind of these experiments declares."""

Points = list[tuple[int, float | None]]
Make = Callable[[dict[str, Any], int], Any]


class Series:
    """A SeriesReader over dictionaries; ``reads`` counts what was asked."""

    def __init__(
        self, known: dict[tuple[int, str], Points] | None = None, tables: dict[tuple[int, str], Any] | None = None
    ) -> None:
        self.known = known or {}
        self.tables = tables or {}
        self.reads: list[tuple[int, str]] = []

    def series(self, run_id: int, metric: str) -> Points:
        self.reads.append((run_id, metric))
        return self.known.get((run_id, metric), [])

    def table(self, run: RunView, artifact: str) -> Any:
        return self.tables.get((run.id, artifact))


def summary(points: Points) -> MetricView:
    finite = [(step, value) for step, value in points if value is not None]
    low = min(finite, key=lambda pair: pair[1], default=None)
    return MetricView(
        last=points[-1][1],
        last_step=points[-1][0],
        min=low[1] if low else None,
        min_step=low[0] if low else None,
        max=max((value for _, value in finite), default=None),
        first=points[0][1],
        points=len(points),
    )


def make_run(
    run_id: int = 1,
    varied: Mapping[str, Any] | None = None,
    seed: int = 0,
    metrics: Mapping[str, float | Points | None] | None = None,
    outcome: str | None = "succeeded",
    **changes: Any,
) -> RunView:
    """A run; a metric is its last value at step 100, or its whole series."""
    params: dict[str, Any] = {"model": "tiny"}
    for key, value in (varied or {}).items():
        params = assign(params, key, value)
    series = {name: points if isinstance(points, list) else [(100, points)] for name, points in (metrics or {}).items()}
    finished = outcome is not None
    run = RunView(
        id=run_id,
        job=1,
        experiment="lora_rank",
        kind="finetune",
        state="finished" if finished else "queued",
        outcome=outcome,
        reason=None if outcome in ("succeeded", None) else f"it {outcome} at step 7",
        waiting=None,
        profile="cpu",
        device="cpu",
        priority=0,
        params=params,
        varied=dict(varied or {}),
        seed=seed,
        progress=None,
        eta_s=None,
        queued_at="2026-01-02T03:04:05Z",
        started_at="2026-01-02T03:05:05Z" if finished else None,
        finished_at="2026-01-02T03:06:05Z" if finished else None,
        wall_s=60.0 if finished else None,
        peak_memory_gib=6.28 if finished else None,
        estimated_memory_gib=6.1,
        context_gib=None,
        spec_hash="a" * 64,
        commit="b" * 40,
        dirty=False,
        attempts=[AttemptView(1, outcome, None, "2026-01-02T03:05:05Z", "2026-01-02T03:06:05Z")] if finished else [],
        metrics={name: summary(points) for name, points in series.items()},
        artifacts=[ArtifactView("adapter", "model", f"outputs/lora_rank/{run_id}/adapter", "c" * 64, 1)],
    )
    return replace(run, **changes)


def make_experiment(
    runs: Iterable[RunView] = (), predictions: Iterable[dict[str, Any]] = (), **changes: Any
) -> ExperimentView:
    listed = list(runs)
    axes = list(dict.fromkeys(key for run in listed for key in run.varied))
    view = ExperimentView(
        experiment="lora_rank",
        track="fine_tuning",
        kind="finetune",
        hypothesis="Rank 16 is enough.",
        methodology="A sweep over the rank, three seeds.",
        questions=["Q5"],
        predictions=list(predictions),
        axes=axes,
        job=1,
        profile="cpu",
        device="cpu",
        spec_version="d" * 64,
        runs=listed,
        left_out=[],
    )
    return replace(view, **changes)


def sweep(
    grid: Mapping[str, list[Any]], seeds: Iterable[int], make: Make, predictions: Iterable[dict[str, Any]] = ()
) -> tuple[ExperimentView, Series]:
    """A full grid, seed by seed. ``make(point, seed)`` gives the metrics, or ``(outcome, metrics)``."""
    runs, known = [], {}
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    for number, (seed, point) in enumerate(itertools.product(seeds, points), 1):
        made = make(point, seed)
        outcome, metrics = made if isinstance(made, tuple) else ("succeeded", made)
        runs.append(make_run(number, point, seed, metrics, outcome))
        for name, values in metrics.items():
            known[number, name] = values if isinstance(values, list) else [(100, values)]
    return make_experiment(runs, predictions), Series(known)


def prediction(**test: Any) -> dict[str, Any]:
    return {"id": "p", "claim": "as stated", **test}
