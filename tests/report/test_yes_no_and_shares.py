from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as oracle

from labqueue.domain.declarations import Metric, Metrics
from labqueue.report.statistics.scales import LOG_ALLOWANCE
from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run, prediction

YES_NO = Metrics({"m": Metric(scale="yes_no")})
SHARE = Metrics({"m": Metric(scale="share", items="asked")})
POSITIVE = Metrics({"m": Metric(scale="positive")})
BARE = Metrics()


def verdict(arms, metrics, outcomes=None, **test):
    """The verdict on ``{x: [value per seed]}``; None is a run without the metric, a word how a run ended instead."""
    runs = []
    for x, values in arms.items():
        for seed, value in enumerate(values):
            word = isinstance(value, str)
            known = {} if value is None or word else {"m": value, "asked": 24.0}
            runs.append(make_run(100 * x + seed, {"x": x}, seed, known, value if word else "succeeded"))
    return judge(make_experiment(runs, [prediction(**test)]), Series(), metrics)[0]


def above(bound, **arm):
    return {"threshold": {"metric": "m", "where": {"x": 1}, "above": bound}}


def compare(**bound):
    return {"compare": {"metric": "m", "a": {"x": 1}, "b": {"x": 2}, **(bound or {"difference_below": 0.0})}}


@pytest.mark.parametrize("metrics", [YES_NO, BARE])
def test_a_yes_no_metric_is_judged_by_the_exact_binomial(metrics):
    found = verdict({1: [1.0, 1.0, 1.0]}, metrics, **above(0.5))
    exact = oracle.binomtest(3, 3).proportion_ci(0.95, "exact")
    assert found.verdict == "inconclusive"
    assert found.ci == pytest.approx([exact.low, exact.high])
    assert "3 of 3 runs say yes" in found.why
    found = verdict({1: [1.0] * 6}, metrics, **above(0.5))
    assert found.verdict == "supported"
    assert f"p = {oracle.binomtest(6, 6, 0.5).pvalue:.4g}" in found.why
    assert verdict({1: [0.0] * 5 + [1.0]}, metrics, **above(0.9)).verdict == "refuted"


def test_two_arms_of_yes_and_no_are_judged_by_mcnemars_exact_test():
    five = verdict({1: [0.0] * 5, 2: [1.0] * 5}, YES_NO, **compare())
    six = verdict({1: [0.0] * 6, 2: [1.0] * 6}, YES_NO, **compare())
    assert (five.verdict, six.verdict) == ("inconclusive", "supported")
    mixed = verdict({1: [0.0] * 6 + [1.0, 0.0], 2: [1.0] * 6 + [1.0, 0.0]}, YES_NO, **compare())
    # Pairs that agree say nothing of which is larger.
    assert f"p = {oracle.binomtest(0, 6).pvalue:.4g}" in mixed.why
    one, other = (oracle.binomtest(k, 6).proportion_ci(0.975, "exact") for k in (0, 6))
    assert six.ci == pytest.approx([one.low - other.high, one.high - other.low])


def test_a_margin_says_nothing_of_yes_and_no():
    found = verdict({1: [0.0] * 8, 2: [1.0] * 8}, YES_NO, **compare(within=0.3))
    assert found.verdict == "inconclusive"
    assert "a claim with a margin says nothing" in found.why


def test_shares_at_the_ceiling_are_not_certain_because_they_agree():
    found = verdict({1: [1.0, 1.0]}, SHARE, **above(0.98))
    exact = oracle.binomtest(48, 48).proportion_ci(0.95, "exact")
    assert found.verdict == "inconclusive"
    assert found.ci[0] <= exact.low
    assert found.ci[1] == 1.0, "no share is above 1"
    assert verdict({1: [0.5] * 3}, SHARE, **above(0.05)).verdict == "supported"


def test_a_share_is_never_surer_than_the_exact_test_of_its_items():
    source = np.random.default_rng(0)
    for _ in range(200):
        counts = source.binomial(24, 0.9, 3)
        found = verdict({1: list(counts / 24)}, SHARE, **above(0.8))
        exact = oracle.binomtest(int(counts.sum()), 72, 0.8, "greater").pvalue
        assert found.verdict != "supported" or 2 * exact <= 0.05
        interval = oracle.binomtest(int(counts.sum()), 72).proportion_ci(0.95, "exact")
        assert found.ci[0] <= interval.low + 1e-9
        assert found.ci[1] >= interval.high - 1e-9


def test_a_share_of_a_family_is_of_the_items_of_its_entry():
    family = Metrics({"*_exact": Metric(scale="share", items="tests.*.items")})
    runs = [
        make_run(seed, {"x": 1}, seed, {"sums_exact": 0.0}, params={"tests": [{"name": "sums", "items": 40}]})
        for seed in range(3)
    ]
    test = prediction(threshold={"metric": "sums_exact", "below": 0.2})
    found = judge(make_experiment(runs, [test]), Series(), family)[0]
    assert found.verdict == "supported"
    assert found.ci[1] >= oracle.binomtest(0, 120).proportion_ci(0.95, "exact").high - 1e-9
    unknown = [replace(run, params={}) for run in runs]
    assert judge(make_experiment(unknown, [test]), Series(), family)[0].verdict == "inconclusive"


def test_shares_of_two_arms_have_at_least_their_binomial_spread():
    found = verdict({1: [20 / 24] * 2, 2: [22 / 24] * 2}, SHARE, **compare())
    rates = [(k * 2 + 0.5) / 49 for k in (20, 22)]
    se = np.sqrt(sum(rate * (1 - rate) / 24 for rate in rates) / 2)
    half = oracle.t.ppf(0.975, 1) * se
    assert found.verdict == "inconclusive"
    assert found.ci == pytest.approx([-2 / 24 - half, -2 / 24 + half])


def test_a_positive_metric_is_judged_on_logs_and_the_claim_says_which_seed_it_is_about():
    values = [0.5, 0.61, 0.48, 0.55]
    found = verdict({1: values}, POSITIVE, threshold={"metric": "m", "where": {"x": 1}, "below": 0.7})
    logs = oracle.ttest_1samp(np.log(values), np.log(0.7))
    assert found.estimate == pytest.approx(oracle.gmean(values))
    assert found.ci == pytest.approx(list(np.exp(logs.confidence_interval(1 - 0.05 / LOG_ALLOWANCE))))
    assert f"p = {LOG_ALLOWANCE * logs.pvalue:.4g}" in found.why
    assert "for the typical seed" in found.why
    ratio = verdict({1: values, 2: [1.0, 1.2, 1.1, 0.9]}, POSITIVE, **compare())
    assert "divided by" in ratio.why
    assert ratio.estimate < 1


def test_a_difference_of_numbers_far_apart_is_refused_and_a_ratio_is_not():
    wild, quiet = [1.0, 9.0, 2.5, 0.4, 5.0], [20.0, 21.0, 19.5, 20.2, 20.8]
    margin = verdict({1: wild, 2: quiet}, POSITIVE, **compare(difference_below=-1.0))
    assert margin.verdict == "inconclusive"
    assert margin.ci is None
    assert "state it as a ratio" in margin.why
    assert verdict({1: wild, 2: quiet}, POSITIVE, **compare(ratio_below=1.0)).verdict == "supported"


LOST = ["crashed", "out_of_memory", "timed_out", "failed", "diverged", "cancelled", "pruned", None]


@pytest.mark.parametrize("how", LOST)
def test_a_run_that_is_missing_in_one_arm_blocks_a_verdict(how):
    a, b = [1.0, 1.1, 1.3, 1.2, how], [2.0, 2.2, 2.1, 2.3, 2.4]
    found = verdict({1: a, 2: b}, BARE, **compare())
    assert found.verdict == "inconclusive"
    assert "so what is left is a biased sample" in found.why
    assert verdict({1: a, 2: [*b[:4], how]}, BARE, **compare()).verdict == "supported"
    alone = verdict({1: a}, BARE, threshold={"metric": "m", "where": {"x": 1}, "below": 5.0})
    assert alone.verdict == "inconclusive"


@pytest.mark.parametrize("how", LOST)
def test_a_share_with_missing_runs_stands_where_it_survives_both_extremes(how):
    high = {1: [0.9, 0.95, 1.0, 0.92, 0.96, 0.9, 0.94] * 2 + [how]}
    assert verdict(high, SHARE, **above(0.5)).verdict == "supported"
    found = verdict(high, SHARE, **above(0.88))
    assert found.verdict == "inconclusive"
    assert "counts as the least and as the largest value in turn" in found.why
    assert verdict({1: [1.0] * 11 + [how]}, YES_NO, **above(0.5)).verdict == "supported"
    assert verdict({1: [1.0] * 6 + [how]}, YES_NO, **above(0.5)).verdict == "inconclusive"


def test_extremes_on_two_sides_of_a_margin_do_not_refute_it():
    a = [0.5, 0.52, None, None, None]
    found = verdict({1: a, 2: [0.5, 0.49, 0.51, 0.5, 0.52]}, SHARE, **compare(within=0.05))
    assert found.verdict == "inconclusive"


def crossing(firsts, before=100):
    """``firsts``: the step at which each seed crosses, None where it ends without, a word where it crashes before."""
    runs, known = [], {}
    for seed, first in enumerate(firsts):
        there = isinstance(first, int)
        points = [(0, 2.0), (first, 0.9), (120, 0.8)] if there else [(0, 2.0), (90, 1.5)]
        outcome = first if isinstance(first, str) else "succeeded"
        runs.append(make_run(seed + 1, {"x": 1}, seed, {"m": points}, outcome))
        known[seed + 1, "m"] = points
    test = {"crosses": {"metric": "m", "where": {"x": 1}, "below": 1.0, "before": before}}
    return judge(make_experiment(runs, [prediction(**test)]), Series(known), BARE)[0]


def test_a_run_that_ended_without_crossing_never_crossed():
    assert crossing([40, 44, 48, 52, 41]).verdict == "supported"
    half = crossing([40, 44, 48, None, None, None])
    assert half.verdict == "inconclusive"
    assert "3 of 6 seeds got there in time, 3 never" in half.why
    assert crossing([None] * 6).verdict == "refuted"
    assert "needs 5 seeds" in crossing([40, 44, 48, 52]).why


def test_a_crash_before_the_crossing_counts_as_never_and_as_in_time():
    assert crossing([40, 44, 48, 52, 41, 43, 45, 46, 47, 49, "crashed"]).verdict == "supported"
    assert crossing([40, 44, 48, 52, 41, "crashed"]).verdict == "inconclusive"


def test_a_slope_that_most_neighbours_go_against_is_not_decided():
    def line(heights):
        return {
            x: [height + 0.01 * seed * x for seed in range(4)] for x, height in zip((1, 2, 3, 9), heights, strict=True)
        }

    test = {"trend": {"metric": "m", "over": "x", "shape": "rises"}}
    steady = verdict(line([1.0, 1.2, 1.4, 3.0]), BARE, **test)
    assert steady.verdict == "supported"
    assert "least-squares slope" in steady.why
    jump = verdict(line([1.4, 1.2, 1.0, 3.0]), BARE, **test)
    assert jump.verdict == "inconclusive"
    assert "go the other way between 2 of the 3 neighbouring values" in jump.why


def test_runs_that_have_yet_to_end_leave_a_verdict_open():
    runs = [make_run(10 * x + s, {"x": x}, s, {"m": x + 0.01 * s * x}) for x in (1, 2) for s in range(4)]
    runs.append(make_run(99, {"x": 1}, 4, {}, None))
    found = judge(make_experiment(runs, [prediction(**compare())]), Series(), BARE)[0]
    assert found.verdict == "inconclusive"
    assert "1 of its runs has yet to end" in found.why


def test_a_metric_that_a_run_can_succeed_without_needs_five_seeds():
    nullable = Metrics({"m": Metric("step", scale="positive", nullable=True)})
    test = {"threshold": {"metric": "m", "where": {"x": 1}, "below": 40}}
    four = verdict({1: [11.0, 12.0, 12.5, 11.6]}, nullable, **test)
    assert four.verdict == "inconclusive"
    assert "seeds that never get there could be missed" in four.why
    assert verdict({1: [11.0, 12.0, 12.5, 11.6, 11.9]}, nullable, **test).verdict == "supported"
    assert verdict({1: [11.0, 12.0, 12.5, 11.6, None, 12.2]}, nullable, **test).verdict == "inconclusive"


def test_a_run_that_ended_diverged_answers_the_question_whether_it_diverged():
    asked = {"threshold": {"metric": "diverged", "where": {"x": 1}, "above": 0.5}}
    runs = [make_run(seed, {"x": 1}, seed, {"diverged": 1.0}) for seed in range(5)]
    runs.append(make_run(5, {"x": 1}, 5, {"loss": [(0, 3.0), (5, None)]}, outcome="diverged"))
    found = judge(make_experiment(runs, [prediction(**asked)]), Series(), YES_NO)[0]
    assert (found.verdict, found.n) == ("supported", 6)
    assert "6 of 6 runs say yes" in found.why


@pytest.mark.parametrize("n", [8, 9, 10, 11])
def test_a_bound_that_equals_the_ceilings_logit_is_not_decided_by_rounding(n):
    # log(24.5 / 0.5) is logit(0.98) but for the last place: nothing lies above it.
    found = verdict({1: [1.0] * n}, SHARE, threshold={"metric": "m", "where": {"x": 1}, "below": 0.98})
    assert found.verdict == "inconclusive"


def test_neighbours_whose_means_differ_by_rounding_alone_do_not_go_the_other_way():
    arms = {
        1: [0.1, 0.2, 0.3, 0.1, 0.2],
        2: [0.3, 0.1, 0.2, 0.2, 0.1],  # the same numbers in another order
        3: [0.2, 0.3, 0.1, 0.1, 0.2],
        4: [0.6, 0.7, 0.8, 0.6, 0.7],
    }
    drift = {x: [value - 1e-16 * x for value in values] for x, values in arms.items()}
    drift[4] = arms[4]
    found = verdict(drift, BARE, trend={"metric": "m", "over": "x", "shape": "rises"})
    assert "go the other way" not in found.why
