import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as oracle

from labqueue.domain.declarations import Metric, Metrics
from labqueue.report.statistics.pairing import apart
from labqueue.report.statistics.scales import LOG_ALLOWANCE
from labqueue.report.statistics.verdicts import judge
from tests.report.factories import Series, make_experiment, make_run, prediction, sweep

A, B = {"rank": 16}, {"rank": 64}


def compare(**bound):
    return prediction(compare={"metric": "loss", "a": A, "b": B, **bound})


def two_arms(a, b, test, **changes):
    """Runs with the losses of two arms, seed by seed; None is a run that has not ended."""
    arms = {16: a, 64: b}
    runs = [
        make_run(10 * rank + seed, {"rank": rank}, seed, {"loss": value}, outcome="succeeded" if value else None)
        for rank, values in arms.items()
        for seed, value in enumerate(values)
    ]
    return judge(make_experiment(runs, [test], **changes), Series())[0]


def test_a_difference_is_judged_by_the_paired_t_interval_over_seeds():
    a, b = [1.0, 1.21, 1.4, 1.62], [1.5, 1.74, 1.88, 2.11]
    found = two_arms(a, b, compare(difference_below=0))
    expected = oracle.ttest_rel(a, b).confidence_interval(0.95)
    assert found.verdict == "supported"
    assert found.ci == pytest.approx([expected.low, expected.high])
    assert (found.estimate, found.n) == (pytest.approx(np.mean(a) - np.mean(b)), 4)
    assert "n = 4 seeds" in found.why
    assert two_arms(a, b, compare(difference_above=0)).verdict == "refuted"


def test_pairing_removes_what_seeds_share():
    a = [1.0, 2.01, 3.0, 4.02]
    b = [value + 0.1 for value in [1.01, 2.0, 3.01, 4.0]]
    assert two_arms(a, b, compare(difference_below=0)).verdict == "supported"
    assert oracle.ttest_ind(a, b).pvalue > 0.9


def test_two_arms_are_named_by_what_tells_them_apart_and_what_they_share_is_said_once():
    a = {"rank": 16, "rate": 0.01, "warmup": 0}
    b = {"rate": 0.01, "rank": 16, "warmup": 10}
    assert apart(a, b) == ("warmup=0", "warmup=10", " (rank=16, rate=0.01)")
    assert apart({"method": "full", "rate": 0.1}, {"method": "lora", "rank": 2, "rate": 0.1}) == (
        "method=full", "method=lora, rank=2", " (rate=0.1)"
    )  # fmt: skip
    assert apart({"rank": 16}, {"rank": 64}) == ("rank=16", "rank=64", "")
    assert apart({"rank": 16}, {"rank": 16, "rate": 0.1}) == ("rank=16", "rank=16, rate=0.1", "")
    assert apart({}, {"rank": 16}) == ("all runs", "rank=16", "")


def test_equivalence_needs_the_whole_interval_inside_the_margin():
    a = [1.000, 1.011, 1.020, 1.031]
    near = [1.001, 1.010, 1.022, 1.030]
    assert two_arms(a, near, compare(within=0.02)).verdict == "supported"
    assert two_arms(a, [v + 0.5 for v in near], compare(within=0.02)).verdict == "refuted"
    assert two_arms(a, near, compare(within=0.0005)).verdict == "inconclusive"


def test_a_ratio_is_judged_on_logs_when_all_values_are_positive():
    b = [1.0, 10.0, 100.0]
    a = [0.5, 5.1, 49.0]
    found = two_arms(a, b, compare(ratio_below=0.9))
    logs = oracle.ttest_rel(np.log(a), np.log(b)).confidence_interval(1 - 0.05 / LOG_ALLOWANCE)
    assert found.verdict == "supported"
    assert found.estimate == pytest.approx(math.exp(np.mean(np.log(a) - np.log(b))))
    assert found.ci == pytest.approx([math.exp(logs.low), math.exp(logs.high)])


def test_a_ratio_with_a_zero_in_a_uses_the_means_and_with_one_in_b_is_not_judged():
    runs = [make_run(seed, A, seed, {"loss": v}) for seed, v in enumerate([0.0, 0.01, 0.0])]
    runs += [make_run(10 + seed, B, seed, {"loss": v}) for seed, v in enumerate([1.0, 1.1, 0.9])]
    view = make_experiment(runs, [compare(ratio_below=0.5)])
    assert judge(view, Series())[0].verdict == "supported"
    flipped = prediction(compare={"metric": "loss", "a": B, "b": A, "ratio_below": 0.5})
    found = judge(make_experiment(runs, [flipped]), Series())[0]
    assert found.verdict == "inconclusive"
    assert "above 0 in b" in found.why


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ([1.0, 1.1], [], "no result for b: rank=64"),
        ([1.0], [2.0], "one seed only"),
        ([1.0, 1.1], [2.0, None], "1 of its runs has yet to end"),
        ([1.0, 1.2, 0.9], [1.1, 0.95, 1.0], "within noise"),
        ([1.0, 1.1, 1.2], [1.0, 1.1, 1.2], "below what the metric resolves"),
        ([1.0, 1.1, 1.2], [1.0 + 1e-8, 1.1 + 1e-8, 1.2 + 1e-8], "below what the metric resolves"),
    ],
)
def test_it_is_inconclusive_with_the_reason(a, b, reason):
    found = two_arms(a, b, compare(difference_below=0))
    assert found.verdict == "inconclusive"
    assert reason in found.why


def test_an_arm_that_diverged_is_named_and_blocks_the_verdict():
    runs = [make_run(seed, A, seed, {"loss": 1.0 + seed / 9}) for seed in range(4)]
    runs += [make_run(10 + seed, B, seed, {"loss": 2.0 + seed / 8}) for seed in range(3)]
    runs.append(make_run(13, B, 3, {"loss": [(0, 3.0), (5, None)]}, outcome="diverged"))
    found = judge(make_experiment(runs, [compare(difference_below=0)]), Series())[0]
    assert found.verdict == "inconclusive"
    assert "run 13 (b: rank=64, seed 3) diverged, so what is left is a biased sample" in found.why
    assert found.n == 3


def test_pairs_match_on_every_other_varied_key_and_n_counts_seeds():
    def make(point, seed):
        # The learning rate matters ten times more than the rank; only pairing at equal rates shows the rank.
        effect = (0.1 + 0.002 * seed) * (point["rank"] == 64)
        return {"loss": 1 + 10 * point["lr"] + effect + 0.003 * seed * point["lr"]}

    view, series = sweep({"rank": [16, 64], "lr": [0.1, 0.2, 0.3]}, range(3), make, [compare(difference_below=0)])
    found = judge(view, series)[0]
    assert (found.verdict, found.n, found.estimate) == ("supported", 3, pytest.approx(-0.102))
    assert "mean over 3 sweep points" in found.why


def test_runs_of_two_types_of_number_are_never_pooled_without_a_word():
    def make(point, seed):
        return {"loss": 1 + 0.1 * (point["rank"] == 64) + 0.003 * seed * point["rank"]}

    both = ["bfloat16", "float32"]
    view, series = sweep({"rank": [16, 64], "dtype": both}, range(3), make, [compare(difference_below=0)])
    assert "runs computed in bfloat16 and in float32 are pooled" in judge(view, series)[0].why
    one, of_one = sweep({"rank": [16, 64], "dtype": both[:1]}, range(3), make, [compare(difference_below=0)])
    assert "pooled" not in judge(one, of_one)[0].why
    named = {**compare(difference_below=0)}
    named["compare"] = {**named["compare"], "a": {"rank": 16, "dtype": both[0]}, "b": {"rank": 64, "dtype": both[0]}}
    told, of_named = sweep({"rank": [16, 64], "dtype": both}, range(3), make, [named])
    assert "pooled" not in judge(told, of_named)[0].why


def test_keys_that_move_together_are_said_and_do_not_prevent_pairing():
    runs = [
        make_run(2 * seed + i, {"rank": rank, "alpha": 2 * rank}, seed, {"loss": 1 + i + 0.01 * seed * seed * (i + 1)})
        for seed in range(3)
        for i, rank in enumerate((16, 64))
    ]
    found = judge(make_experiment(runs, [compare(difference_below=0)]), Series())[0]
    assert found.verdict == "supported"
    assert "alpha changes together with rank" in found.why


def test_a_seed_without_all_sweep_points_is_not_counted():
    def make(point, seed):
        value = {"loss": 1 + (point["rank"] == 64) + 0.01 * seed**2 * point["lr"] * (1 + point["rank"])}
        return ("failed", {}) if (seed, point["rank"], point["lr"]) == (2, 64, 1) else value

    view, series = sweep({"rank": [16, 64], "lr": [1, 2]}, range(3), make, [compare(difference_below=0)])
    found = judge(view, series)[0]
    assert found.n == 2
    assert "seeds 2 lack some" in found.why
    assert found.verdict == "inconclusive"
    assert "failed, so what is left is a biased sample" in found.why


def test_only_a_metric_that_its_kind_declares_deterministic_is_certain_where_seeds_agree():
    runs = [make_run(10 * rank + s, {"rank": rank}, s, {"loss": rank / 16}) for rank in (16, 64) for s in range(3)]
    view = make_experiment(runs, [compare(difference_below=0)])
    certain = judge(view, Series(), Metrics({"loss": Metric(deterministic=True)}))[0]
    assert (certain.verdict, certain.ci) == ("supported", [-3.0, -3.0])
    assert "the same in every seed" in certain.why
    found = judge(view, Series(), Metrics({"loss": Metric()}))[0]
    assert (found.verdict, found.ci) == ("inconclusive", None)
    assert "3 seeds that agree are as likely as 0.25 by chance, six are needed" in found.why


def test_six_seeds_that_agree_are_what_a_sign_test_says_of_them():
    assert two_arms([2.0] * 5, [3.0] * 5, compare(difference_below=0)).verdict == "inconclusive"
    found = two_arms([2.0] * 6, [3.0] * 6, compare(difference_below=0))
    assert found.verdict == "supported"
    assert f"p = {oracle.binomtest(0, 6).pvalue:.4g}" in found.why


def test_two_seeds_that_agree_by_coarseness_decide_nothing():
    assert two_arms([0.55, 0.60], [0.60, 0.65], compare(difference_below=0)).verdict == "inconclusive"


def test_holm_turns_a_near_thing_among_many_predictions_inconclusive():
    a, b = [1.0, 1.1, 1.2, 1.3], [1.06, 1.19, 1.23, 1.35]
    assert two_arms(a, b, compare(difference_below=0)).verdict == "supported"
    runs = [make_run(seed, A, seed, {"loss": v}) for seed, v in enumerate(a)]
    runs += [make_run(10 + seed, B, seed, {"loss": v}) for seed, v in enumerate(b)]
    four = [{**compare(difference_below=0), "id": f"p{i}"} for i in range(4)]
    found = judge(make_experiment(runs, four), Series())
    assert {verdict.verdict for verdict in found} == {"inconclusive"}
    assert "Holm's correction for 4 predictions" in found[0].why


def noise(point, seed):
    return math.sin(1 + seed * 7.3 + point["rank"] * 1.7)


def falls(point, seed):
    return {"loss": 3 - 0.5 * math.log10(point["rank"]) + 0.02 * seed + 0.01 * noise(point, seed)}


def valley(point, seed):
    return {"loss": (math.log10(point["rank"]) - 1) ** 2 + 0.02 * seed + 0.01 * noise(point, seed)}


def plain(point, seed):
    return {"loss": 1 + 0.001 * noise(point, seed)}


@pytest.mark.parametrize(
    ("make", "shape", "verdict"),
    [
        (falls, {"shape": "falls"}, "supported"),
        (falls, {"shape": "rises"}, "refuted"),
        (falls, {"shape": "flat", "tolerance": 0.1}, "refuted"),
        (falls, {"shape": "minimum_inside"}, "refuted"),
        (valley, {"shape": "minimum_inside"}, "supported"),
        (valley, {"shape": "maximum_inside"}, "refuted"),
        # A valley has no slope, and must not pass for flat.
        (valley, {"shape": "flat", "tolerance": 0.1}, "refuted"),
        (plain, {"shape": "flat", "tolerance": 0.1}, "supported"),
    ],
)
def test_trends_over_a_log_axis(make, shape, verdict):
    test = prediction(trend={"metric": "loss", "over": "rank", **shape})
    view, series = sweep({"rank": [1, 10, 100]}, range(3), make, [test])
    assert judge(view, series)[0].verdict == verdict


def test_a_trend_over_words_or_over_one_value_says_what_it_needs():
    test = prediction(trend={"metric": "loss", "over": "rank", "shape": "falls"})
    for values, reason in ((["a", "b"], "not a numeric axis"), ([1], "needs at least 2")):
        view, series = sweep({"rank": values}, range(3), lambda p, s: {"loss": 1.0 + s}, [test])
        found = judge(view, series)[0]
        assert found.verdict == "inconclusive"
        assert reason in found.why


def test_the_best_value_must_beat_every_other_over_seeds():
    good = prediction(best_at={"metric": "loss", "over": "rank", "values": [10]})
    bad = prediction(best_at={"metric": "loss", "over": "rank", "values": [1]})
    view, series = sweep({"rank": [1, 10, 100]}, range(3), valley, [good])
    assert judge(view, series)[0].verdict == "supported"
    view, series = sweep({"rank": [1, 10, 100]}, range(3), valley, [bad])
    assert judge(view, series)[0].verdict == "refuted"
    unknown = prediction(best_at={"metric": "loss", "over": "rank", "values": [7]})
    view, series = sweep({"rank": [1, 10, 100]}, range(3), valley, [unknown])
    assert "no run has rank=7" in judge(view, series)[0].why


def test_a_value_that_always_diverges_is_not_the_best():
    def make(point, seed):
        return ("diverged", {}) if point["rank"] == 100 else valley(point, seed)

    test = prediction(trend={"metric": "loss", "over": "rank", "shape": "minimum_inside"})
    view, series = sweep({"rank": [1, 10, 100]}, range(3), make, [test])
    found = judge(view, series)[0]
    assert found.verdict == "supported"
    assert "counted as worse" in found.why


def curve(point, seed):
    luck = 0.05 * noise(point, seed)
    return {"loss": [(step, 4.0 + luck - (0.02 + luck / 100) * step) for step in range(0, 101, 2)]}


@pytest.mark.parametrize(
    ("test", "verdict"),
    [
        ({"threshold": {"metric": "loss", "below": 2.5}}, "supported"),
        ({"threshold": {"metric": "loss", "above": 2.5}}, "refuted"),
        ({"threshold": {"metric": "loss", "below": 0.6, "relative_to": "first"}}, "supported"),
        ({"threshold": {"metric": "loss", "at": "first", "above": 3.5}}, "supported"),
        ({"threshold": {"metric": "loss", "at": 50, "below": 3.5}}, "supported"),
        ({"threshold": {"metric": "loss", "at": 55, "below": 3.5}}, "inconclusive"),
        ({"crosses": {"metric": "loss", "below": 3.0, "before": 80}}, "supported"),
        ({"crosses": {"metric": "loss", "below": 3.0, "before": 20}}, "refuted"),
        ({"crosses": {"metric": "loss", "below": 1.0, "before": 90}}, "refuted"),
        # Ended, and not there: that is never, however late the claim.
        ({"crosses": {"metric": "loss", "below": 1.0, "before": 500}}, "refuted"),
    ],
)
def test_thresholds_and_crossings(test, verdict):
    view, series = sweep({"rank": [1]}, range(6), curve, [prediction(**test)])
    found = judge(view, series)[0]
    assert found.verdict == verdict, found.why


def test_no_series_is_read_where_the_summary_is_enough():
    tests = [
        {"id": "a", "claim": "", "threshold": {"metric": "loss", "at": "min", "below": 5}},
        {"id": "b", "claim": "", "threshold": {"metric": "loss", "at": 100, "below": 5}},
        {"id": "c", "claim": "", "crosses": {"metric": "loss", "below": 1.0, "before": 90}},
    ]
    view, series = sweep({"rank": [1]}, range(3), curve, tests)
    judge(view, series)
    assert series.reads == []


def test_runs_of_another_profile_are_set_aside_and_said():
    runs = [make_run(seed, A, seed, {"loss": 1.0 + 0.1 * seed}) for seed in range(3)]
    runs += [make_run(10 + seed, B, seed, {"loss": 2.0 + 0.11 * seed}) for seed in range(3)]
    runs += [make_run(20 + seed, B, seed, {"loss": 0.0}, profile="gpu") for seed in range(3)]
    found = judge(make_experiment(runs, [compare(difference_below=0)]), Series())[0]
    assert found.verdict == "supported"
    assert "3 runs of profile gpu are not counted" in found.why


def test_a_prediction_that_no_longer_reads_is_inconclusive_not_an_error():
    found = judge(make_experiment([], [{"id": "old", "claim": "c", "guess": {}}]), Series())[0]
    assert (found.id, found.verdict, found.n) == ("old", "inconclusive", 0)
    assert "cannot be read" in found.why


def simulate(bound, effect, n, times, seed):
    """Share of supported and of refuted over simulated experiments with a known difference of arms."""
    source = np.random.default_rng(seed)
    shared = source.normal(2, 0.3, (times, n))
    a = shared + effect + source.normal(0, 0.05, (times, n))
    b = shared + source.normal(0, 0.05, (times, n))
    found = [two_arms(a[i].tolist(), b[i].tolist(), compare(**bound)).verdict for i in range(times)]
    return found.count("supported") / times, found.count("refuted") / times


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_at_no_effect_a_verdict_is_false_at_most_5_percent_of_the_time(n):
    supported, refuted = simulate({"difference_below": 0.0}, 0.0, n, 1000, seed=n)
    # The allowance is three standard errors of 1,000 simulations.
    assert supported + refuted <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)
    assert max(supported, refuted) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 1000)


def test_at_the_edge_of_the_margin_equivalence_errs_at_most_5_percent_of_the_time():
    supported, refuted = simulate({"within": 0.1}, 0.1, 4, 1000, seed=0)
    assert max(supported, refuted) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 1000)


def test_power_is_high_where_the_effect_is_large():
    supported, refuted = simulate({"difference_below": 0.0}, -0.3, 4, 300, seed=1)
    assert supported > 0.9
    assert refuted == 0


def test_importing_the_report_loads_no_heavy_library():
    code = (
        "import sys, labqueue.report.document.report, labqueue.report.compare.runs\n"
        "heavy = {'numpy', 'scipy', 'matplotlib', 'torch', 'sqlalchemy', 'huey', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
