"""The statement of the rule that verdicts are measured with: against scipy, and against ``judge``."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.verdicts import equal, rule
from benchmarks.verdicts.cells import cells
from benchmarks.verdicts.measure import FALSE, all_cells, lower, measured
from benchmarks.verdicts.scenarios import scenarios
from benchmarks.verdicts.statistic import Rate, Scale, clopper_pearson
from labqueue.domain.declarations import Metric, Metrics
from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run, prediction

RNG = np.random.default_rng(7)
BELOW_0 = (-math.inf, 0.0)


def test_a_comparison_of_real_values_is_the_paired_t_test() -> None:
    values = RNG.normal(size=(50, 2, 5))
    found = rule.compare(values, Scale("real"), region=BELOW_0)
    known = stats.ttest_rel(values[:, 0], values[:, 1], axis=1)
    assert found.p == pytest.approx(known.pvalue)
    assert found.low == pytest.approx(known.confidence_interval(0.95).low)


def test_a_rate_is_judged_by_the_exact_binomial_test() -> None:
    yes = np.arange(11.0)
    low, high = clopper_pearson(yes, np.full(11, 10.0), 0.95)
    for k in range(11):
        known = stats.binomtest(k, 10, 0.3, alternative="less")
        assert Rate(yes, np.full(11, 10.0)).below(0.3)[k] == pytest.approx(min(1.0, 2 * known.pvalue))
        interval = stats.binomtest(k, 10, 0.3).proportion_ci(0.95)
        assert (low[k], high[k]) == pytest.approx((interval.low, interval.high))


def test_holm_corrects_as_a_closed_test_of_bonferroni_does() -> None:
    """A claim stands when every group of claims with it has a small enough p (Marcus, Peritz and Gabriel 1976)."""
    ps = RNG.random((4, 30)) ** 3
    found = rule.holm(ps)
    for at, claim in np.ndindex(30, 4):
        groups = [group for size in range(1, 5) for group in itertools.combinations(range(4), size) if claim in group]
        closed = max(min(1.0, len(group) * min(ps[one, at] for one in group)) for group in groups)
        assert found[claim, at] == pytest.approx(closed)


def test_a_claim_that_was_not_tested_is_no_part_of_the_family() -> None:
    assert rule.holm(np.array([[0.02], [math.nan], [0.04]]))[:, 0] == pytest.approx([0.04, math.nan, 0.04], nan_ok=True)


def test_every_cell_has_a_name_of_its_own() -> None:
    assert len(all_cells()) == len([*scenarios(), *cells()]) > 1000


@pytest.mark.parametrize("name", ["difference_below 0 · normal · complete", "threshold · lognormal 0.5 · crashed"])
def test_no_cell_of_these_is_false_too_often(name: str) -> None:
    for row in measured(2000, name):
        assert lower(row.false, row.times) <= FALSE
        assert row.times == 2000


@pytest.mark.parametrize("law", ["normal", "t3", "exponential", "lognormal 0.1, nullable", "yes/no at 0.5"])
@pytest.mark.parametrize("form", ["difference_below 0", "rises", "best_at, two claimed", "minimum_inside"])
def test_the_statement_and_judge_agree(form: str, law: str) -> None:
    titles = [title for title in equal.titles() if title.startswith(f"{form} · {law} · ")]
    assert len(titles) == len(equal.MIXES)
    checked, differing = zip(*(equal.compare(2 * len(titles), title) for title in titles), strict=True)
    assert (sum(checked), [one for some in differing for one in some]) == (2 * len(titles), [])


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
def test_the_statement_and_judge_agree_on_values_of_a_lattice(step: float) -> None:
    values = np.rint(RNG.normal(size=(40, 2, 5)) / step) * step
    values[:, 0] -= step * RNG.integers(0, 4, (40, 1))
    expected = rule.decide([rule.compare(values, Scale("real", lattice=step), region=BELOW_0)])[0]
    claim = prediction(compare={"metric": "m", "a": {"x": 0}, "b": {"x": 1}, "difference_below": 0.0})
    for drawn, verdict in zip(values, expected, strict=True):
        runs = [
            make_run(10 * arm + seed, {"x": arm}, seed, {"m": value}) for (arm, seed), value in np.ndenumerate(drawn)
        ]
        (said,) = judge(make_experiment(runs, [claim]), Series(), Metrics({"m": Metric()}))
        assert said.verdict == equal.WORDS[int(verdict)], said.why


def test_a_metric_that_half_of_all_runs_never_get_is_not_judged_on_three_seeds_that_have_it() -> None:
    (name,) = (name for name in all_cells() if "half of all runs never get there" in name)
    rates = {row.column: row.false / row.times for row in measured(2000, name)}
    assert rates["n=2"] == rates["n=3"] == 0
    assert max(rates.values()) <= FALSE
