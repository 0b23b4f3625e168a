"""Experiments side by side: a mean holds nothing that the other side lacks."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from scipy import stats

from labqueue.domain.views import ExperimentView
from labqueue.report.compare.experiments import compare_experiments
from tests.report.factories import make_experiment, make_run

RATES, RANKS, SEEDS = (0.1, 0.2), (1, 2, 4), (0, 1, 2)


def value(rate: float, rank: int, seed: int) -> float:
    return math.sin(rate * 31 + rank * 7 + seed * 3)


def side(name: str, runs: list[tuple[dict[str, Any], int, float]], **changes: Any) -> ExperimentView:
    made = [make_run(at, point, seed, {"loss": number}) for at, (point, seed, number) in enumerate(runs, 1)]
    axes = list(runs[0][0]) if runs else []
    return make_experiment(made, experiment=name, axes=axes, **changes)


def compared(one: ExperimentView, other: ExperimentView) -> dict[str, Any]:
    (row,) = compare_experiments([one, other])["metrics"]
    return row


def test_a_point_that_one_side_lacks_is_in_neither_mean() -> None:
    points = list(itertools.product(RATES, SEEDS))
    full = side("full", [({"lr": rate}, seed, value(rate, 0, seed)) for rate, seed in points])
    gone = {(0.2, 1), (0.1, 2), (0.2, 2)}
    part = [({"lr": rate}, seed, value(rate, 9, seed)) for rate, seed in points if (rate, seed) not in gone]
    row = compared(full, side("part", part))
    # Seed 0 has both points, seed 1 the first, seed 2 none.
    firsts = [(value(0.1, 0, 0) + value(0.2, 0, 0)) / 2, value(0.1, 0, 1)]
    others = [(value(0.1, 9, 0) + value(0.2, 9, 0)) / 2, value(0.1, 9, 1)]
    assert row["first"] == pytest.approx(sum(firsts) / 2)
    assert row["other"] == pytest.approx(sum(others) / 2)
    assert row["difference"] == pytest.approx(row["other"] - row["first"])
    assert (row["n"], row["pairs"]) == (2, 3)
    expected = stats.ttest_1samp([b - a for a, b in zip(firsts, others, strict=True)], 0).confidence_interval(0.95)
    assert row["ci"] == pytest.approx([expected.low, expected.high])


def test_a_point_of_an_axis_that_one_side_alone_varies_counts_where_every_seed_has_it() -> None:
    swept = [({"lr": rate, "rank": rank}, seed, value(rate, rank, seed))
             for rate, rank, seed in itertools.product(RATES, RANKS, SEEDS)]  # fmt: skip
    plain = side(
        "plain", [({"lr": rate}, seed, value(rate, 9, seed)) for rate, seed in itertools.product(RATES, SEEDS)]
    )
    lost = [run for run in swept if not (run[0] == {"lr": 0.1, "rank": 4} and run[1] == 1)]
    row = compared(plain, side("lost", lost))
    kept = {0.1: (1, 2), 0.2: RANKS}
    others = [
        sum(sum(value(rate, rank, seed) for rank in kept[rate]) / len(kept[rate]) for rate in RATES) / 2
        for seed in SEEDS
    ]
    assert row["other"] == pytest.approx(sum(others) / 3)
    assert (row["n"], row["pairs"]) == (3, 6)


def test_what_one_side_measures_beyond_the_other_changes_nothing() -> None:
    drawn = random.Random(1)
    for _ in range(30):
        both = [(rate, seed) for rate, seed in itertools.product(RATES, SEEDS) if drawn.random() < 0.8]
        if not both:
            continue
        one = [({"lr": rate}, seed, drawn.random()) for rate, seed in both]
        other = [({"lr": rate}, seed, drawn.random()) for rate, seed in both]
        more = [({"lr": 0.3}, seed, 1e6) for seed in SEEDS] + [({"lr": 0.1}, 7, 1e6)]
        assert compared(side("a", one), side("b", other)) == compared(side("a", [*one, *more]), side("b", other))
        assert compared(side("a", one), side("b", other)) == compared(side("a", one), side("b", [*other, *more]))


def test_experiments_without_a_common_seed_have_no_difference() -> None:
    row = compared(side("a", [({"lr": 0.1}, 0, 1.0)]), side("b", [({"lr": 0.1}, 1, 2.0)]))
    assert (row["first"], row["other"], row["difference"], row["n"], row["pairs"]) == (None, None, None, 0, 0)
