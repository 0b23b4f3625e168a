"""Compares the rule as stated here with ``judge()``, experiment by experiment."""

from __future__ import annotations

import itertools
import math
import zlib
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from benchmarks.verdicts import cells, rule, rule_axis
from benchmarks.verdicts.cells import FORMS, STEPS, Draw, Form
from benchmarks.verdicts.data import LAWS, Law, Losses, lose
from benchmarks.verdicts.data import law as law_of
from benchmarks.verdicts.statistic import Array
from labqueue.domain.declarations import Metric, Metrics
from labqueue.domain.views import ExperimentView
from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run

WORDS = {1: "supported", -1: "refuted", 0: "inconclusive"}
ENDINGS: dict[str, str] = {"crashed": "crashed", "diverged": "diverged", "lost alike": "out_of_memory"}
"""How a run without a value ended; ``never reached`` is one that succeeded without the metric."""


@dataclass(frozen=True)
class Group:
    """Experiments of one form, law, size and way to lose runs, with the rule's verdicts."""

    name: str
    views: list[tuple[ExperimentView, Series]]
    verdicts: list[str]
    metrics: Metrics


@dataclass(frozen=True)
class Difference:
    """One experiment on which the two disagree."""

    group: str
    rule: str
    judge: str
    why: str


def declared(law: Law) -> Metrics:
    """What a kind would declare of the law's metric."""
    scale = law.scale
    items = "items" if scale.form == "share" else None
    return Metrics(
        {"m": Metric(scale=scale.form, items=items, deterministic=scale.deterministic, nullable=scale.nullable)}
    )


def clause(form: Form, law: Law) -> dict[str, Any]:
    """The registered prediction of a form."""
    pair = {"metric": "m", "a": {"x": 1}, "b": {"x": 2}}
    edge = cells.edge_of_first(law)
    best = "min" if law.low else "max"
    test: dict[str, dict[str, Any]] = {
        "difference_below 0": {"compare": {**pair, "difference_below": 0.0}},
        "difference_below margin": {"compare": {**pair, "difference_below": edge}},
        "within": {"compare": {**pair, "within": abs(edge)}},
        "ratio_below": {"compare": {**pair, "ratio_below": law.ratio}},
        "threshold": {"threshold": {"metric": "m", "where": {"x": 1}, "below": law.middle}},
        "rises": {"trend": {"metric": "m", "over": "x", "shape": "rises"}},
        "flat": {"trend": {"metric": "m", "over": "x", "shape": "flat", "tolerance": abs(cells.edge(law))}},
        "minimum_inside": {"trend": {"metric": "m", "over": "x", "shape": f"{best}imum_inside"}},
        "best_at, two claimed": {"best_at": {"metric": "m", "over": "x", "values": [1, 2], "direction": best}},
    }
    one = {"best_at": {"metric": "m", "over": "x", "values": [1], "direction": best}}
    return {"id": "p", "claim": "as stated", **test.get(form.name, one)}


def moved(law: Law, places: list[float], by: int) -> list[float]:
    """Places whose first is better (-1) or worse (1) than at the edge, clearly."""
    if not by:
        return places
    first = places[0]
    if law.rates:
        first = min(max(first + 0.35 * by, 0.02), 0.99)
    elif law.scale.form == "positive":
        first *= math.exp((4 * law.spread * law.first + 0.5) * by)
    else:
        first += 5 * law.first * by
    return [first, *places[1:]]


def titles() -> list[str]:
    """The names of groups of experiments of each form and law."""
    found = [
        f"{form.name} · {law.name} · {how} · n={n} · {by:+d}"
        for form, law in itertools.product(FORMS, LAWS)
        if not (form.name == "threshold" and "10:1" in law.name)
        for n, how, by in MIXES
    ]
    return found + [
        f"crosses · {name} · {how} · n={n} · +0"
        for name in STEPS
        for n, how in itertools.product((3, 5, 6, 8), ("complete", "some never", "crashed", "half never"))
    ]


def group(title: str, times: int) -> Group:
    """The experiments of a title: its share of ``times`` for each form and law."""
    form, law, how, n, by = title.split(" · ")
    each, size = math.ceil(times / len(MIXES)), int(n.removeprefix("n="))
    if form == "crosses":
        return _crossing(title, law, size, how, each)
    found = next(one for one in FORMS if one.name == form)
    return _group(title, found, law_of(law), size, cast(Losses, how), int(by), each)


def compare(times: int, title: str) -> tuple[int, list[Difference]]:
    """(experiments, those on which the rule and ``judge`` differ) of one group."""
    made = group(title, times)
    return len(made.views), differences(made)


MIXES: tuple[tuple[int, Losses, int], ...] = (
    (2, "complete", 0),
    (3, "complete", -1),
    (5, "complete", 0),
    (5, "complete", 1),
    (6, "complete", -1),
    (8, "complete", 1),
    (3, "crashed", 0),
    (6, "crashed", -1),
    (8, "crashed", 1),
    (5, "diverged", -1),
    (6, "diverged", 1),
    (5, "never reached", -1),
    (8, "never reached", 1),
    (5, "lost alike", -1),
    (8, "lost alike", 0),
    (10, "lost alike", 1),
)
"""Seeds, losses, and on which side of the claim's edge the truth lies."""


def _group(name: str, form: Form, law: Law, n: int, how: Losses, by: int, times: int) -> Group:
    rng = np.random.default_rng([14, zlib.crc32(name.encode())])
    values = law.draw(rng, times, n, moved(law, list(form.places(law)), by))
    marks = None
    if how == "diverged" and form.name.startswith("best_at"):
        _, gone = lose(rng, values[:, [1, 0]], how)
        marks = np.zeros(values.shape, bool)
        marks[:, 1] = gone
    else:
        values, _ = lose(rng, values, how)
    verdicts = rule.decide([form.judge(law, Draw(values, marks))])[0]
    prediction = clause(form, law)
    views = []
    for at in range(times):
        runs = []
        for arm, seed in np.ndindex(values.shape[1:]):
            value = float(values[at, arm, seed])
            lost = math.isnan(value)
            metrics: dict[str, Any] = {} if lost else {"m": value}
            if marks is not None:
                metrics["diverged"] = float(marks[at, arm, seed])
            ending = ENDINGS.get(how, "succeeded") if lost else "succeeded"
            params = {"model": "tiny", "items": law.scale.items or 1, "x": int(arm) + 1}
            number = 100 * int(arm) + int(seed) + 1
            runs.append(make_run(number, {"x": int(arm) + 1}, int(seed), metrics, ending, params=params))
        views.append((make_experiment(runs, [prediction]), Series()))
    return Group(name, views, [WORDS[int(verdict)] for verdict in verdicts], declared(law))


def _crossing(title: str, name: str, n: int, how: str, times: int) -> Group:
    rng = np.random.default_rng([15, zlib.crc32(title.encode())])
    steps: Array = cells.crossing_steps(name, how, rng, times, n) * rng.choice([0.5, 1.0, 2.0], (times, 1))
    steps = np.maximum(np.rint(steps), 1.0)
    verdicts = rule.decide([rule_axis.crosses(steps, 100.0)])[0]
    prediction = {
        "id": "p",
        "claim": "as stated",
        "crosses": {"metric": "m", "where": {"x": 1}, "below": 1.0, "before": 100},
    }
    views = []
    for row in steps:
        runs, known = [], {}
        for seed, step in enumerate(row):
            points: list[tuple[int, float | None]] = [(0, 2.0)]
            if math.isfinite(step):
                points += [(int(step), 0.5), (int(step) + 50, 0.4)]
            else:
                points += [(90 if seed % 2 else 400, 1.5)]
            lost = math.isnan(step)
            run = make_run(seed + 1, {"x": 1}, seed, {} if lost else {"m": points}, "crashed" if lost else "succeeded")
            runs.append(run)
            known[seed + 1, "m"] = points
        views.append((make_experiment(runs, [prediction]), Series(known)))
    return Group(title, views, [WORDS[int(verdict)] for verdict in verdicts], Metrics({"m": Metric()}))


def differences(group: Group) -> list[Difference]:
    """The experiments of a group on which ``judge`` says otherwise."""
    found = []
    for (view, series), expected in zip(group.views, group.verdicts, strict=True):
        (said,) = judge(view, series, group.metrics)
        if said.verdict != expected:
            found.append(Difference(group.name, expected, said.verdict, said.why))
    return found
