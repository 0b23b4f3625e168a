"""Compares verdicts out of a real results store with ``judge()`` on the same numbers in memory, and with the rule."""

from __future__ import annotations

import itertools
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.verdicts import equal, rule
from benchmarks.verdicts.cells import FORMS, Draw, Form
from benchmarks.verdicts.data import Law, Losses, law, lose
from benchmarks.verdicts.statistic import Array
from labqueue.domain.canonical import Canonical, digest
from labqueue.domain.state import Ending
from labqueue.domain.views import VerdictView
from labqueue.report.statistics.verdicts import judge
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries.experiment import Series, experiment
from labqueue.store.runs import attempts, results
from labqueue.store.runs.jobs import NewJob, NewRun, add_jobs
from tests.report.factories import Series as InMemory
from tests.report.factories import make_experiment, make_run

ARMS = 5
LAW_NAMES = (
    "normal",
    "t3",
    "lognormal 0.5",
    "exponential",
    "share of 24 at 0.9",
    "share of 256 at 0.9",
    "yes/no at 0.5",
)
CASES: tuple[tuple[int, Losses, tuple[int, ...]], ...] = (
    (2, "complete", ()),
    (3, "complete", ()),
    (5, "complete", ()),
    (5, "complete", (3, 5)),
    (6, "crashed", ()),
    (8, "complete", (3, 5, 8)),
    (5, "diverged", ()),
    (6, "never reached", (3, 5)),
)
"""Seeds, losses, registered looks."""


@dataclass(frozen=True)
class Trial:
    """One experiment: its numbers, its claims, and what the rule says of them together."""

    name: str
    law: Law
    values: Array
    """[arm, seed]."""
    losses: Losses
    predictions: list[dict[str, Any]]
    looks: tuple[int, ...]
    expected: list[str]

    def runs(self) -> list[tuple[int, int, float, str]]:
        """(arm, seed, value, ending) of each run, by seed."""
        arms, seeds = self.values.shape
        return [
            (arm, seed, float(self.values[arm, seed]), self._ending(float(self.values[arm, seed])))
            for seed, arm in itertools.product(range(seeds), range(arms))
        ]

    def _ending(self, value: float) -> str:
        return equal.ENDINGS.get(self.losses, "succeeded") if math.isnan(value) else "succeeded"

    @property
    def params(self) -> dict[str, Any]:
        """What every run is given beside its arm."""
        return {"steps": 10, "items": self.law.scale.items or 1}


def compare(verdicts: int) -> tuple[int, list[str]]:
    """(verdicts compared, in words those that differ) of as many experiments as make ``verdicts`` claims."""
    checked, differing = 0, []
    with tempfile.TemporaryDirectory() as folder:
        db = create_or_migrate(Path(folder) / "results.db")
        worker = results.register_worker(db, device="cpu", host="here", pid=os.getpid(), pid_start=1)
        for number in itertools.count():
            if checked >= verdicts:
                break
            trial = _trial(number)
            metrics = equal.declared(trial.law)
            _write(db, worker, trial)
            stored = judge(experiment(db, trial.name), Series(db), metrics)
            remembered = judge(_view(trial), InMemory(), metrics)
            for one, other, expected in zip(stored, remembered, trial.expected, strict=True):
                checked += 1
                if _numbers(one) != _numbers(other):
                    differing.append(f"{trial.name} {one.id}: stored {_numbers(one)}, in memory {_numbers(other)}")
                elif one.verdict != expected:
                    differing.append(f"{trial.name} {one.id}: judge {one.verdict}, the rule {expected}: {one.why}")
    return checked, differing


def _numbers(verdict: VerdictView) -> tuple[Any, ...]:
    return verdict.id, verdict.verdict, verdict.estimate, verdict.ci, verdict.n


def _trial(number: int) -> Trial:
    one = law(LAW_NAMES[number % len(LAW_NAMES)])
    n, losses, looks = CASES[number % len(CASES)]
    rng = np.random.default_rng([16, number])
    places = equal.moved(one, [one.middle] * ARMS, number % 3 - 1)
    values = lose(rng, one.draw(rng, 200, n, places), losses)[0][:1]
    judged: list[tuple[str, Callable[[Array], rule.Outcome]]] = []
    predictions = []
    for place, form in enumerate(FORMS):
        if form.name == "best_at, two tied":  # the same clause as the one before
            continue
        predictions.append({**equal.clause(form, one), "id": f"p{place}"})
        judged.append((form.name, _judged(form, one)))
    stages = looks or (n,)
    spent = rule.SHARES_OF_LOOKS[len(stages)]
    decided = [
        rule.decide([claim(values[..., :seen]) for _, claim in judged], share)
        for seen, share in zip(stages, spent, strict=True)
    ]
    verdicts = [equal.WORDS[int(verdict)] for verdict in rule.first_decision(decided)[:, 0]]
    return Trial(f"trial{number}", one, values[0], losses, predictions, looks, verdicts)


def _judged(form: Form, one: Law) -> Callable[[Array], rule.Outcome]:
    arms = {"compare": 2, "threshold": 1}
    (kind,) = equal.clause(form, one).keys() - {"id", "claim"}
    used = arms.get(kind, ARMS)
    return lambda values: form.judge(one, Draw(values[:, :used]))


def _write(db: Database, worker: int, trial: Trial) -> None:
    runs = [
        NewRun(
            kind="drill",
            seed=seed,
            varied=Canonical.of({"x": arm + 1}),
            params=Canonical.of({**trial.params, "x": arm + 1}),
            limits=Canonical.of({"memory_gib": "auto", "wall_minutes": None, "attempts": 3}),
            spec_hash=digest([trial.name, arm, seed]),
        )
        for arm, seed, _, _ in trial.runs()
    ]
    spec = {
        "name": trial.name,
        "track": "lab",
        "kind": "drill",
        "hypothesis": "",
        "methodology": "",
        "questions": [],
        "predictions": trial.predictions,
        "axes": ["x"],
        "looks": list(trial.looks),
    }
    add_jobs(db, [NewJob(trial.name, spec, digest(trial.name), "cpu", "cpu", 0, [], None, None, "s", "p", runs)])
    told = {(arm + 1, seed): (value, ending) for arm, seed, value, ending in trial.runs()}
    while (claim := attempts.claim(db, device="cpu", worker_id=worker)) is not None:
        value, ending = told[claim.varied["x"], claim.seed]
        attempts.attempt_fields(db, claim.ref, sources_hash="s", packages_hash="p")
        results.flush(
            db, claim.ref, [] if math.isnan(value) else [("m", 100, value)], results.Progress(10, 10, None), []
        )
        attempts.end(db, claim.ref, Ending(ending), None)


def _view(trial: Trial) -> Any:
    made = [
        make_run(
            number,
            {"x": arm + 1},
            seed,
            {} if math.isnan(value) else {"m": value},
            ending,
            params={**trial.params, "x": arm + 1},
        )
        for number, (arm, seed, value, ending) in enumerate(trial.runs(), 1)
    ]
    return make_experiment(made, trial.predictions, looks=list(trial.looks))
