import math

import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy import stats as oracle

from labqueue.report.figures import verdict
from labqueue.report.statistics.verdicts import judge, judgements
from tests.report.factories import FINETUNE, Series, make_experiment, make_run, prediction


def experiment(losses, values, *, fallen=(), direction="min", **test):
    """Runs with the losses of each rate, seed by seed; ``fallen`` are (rate, seed) that diverged by the rule of the
    curve, None is a run that ended as diverged."""
    runs = [
        make_run(
            100 * arm + seed,
            {"rate": rate},
            seed,
            {"loss": loss, "diverged": float((rate, seed) in fallen)},
            "diverged" if loss is None else "succeeded",
        )
        for arm, (rate, found) in enumerate(losses.items(), start=1)
        for seed, loss in enumerate(found)
    ]
    claim = test or {"best_at": {"metric": "loss", "over": "rate", "values": values, "direction": direction}}
    return make_experiment(runs, [prediction(**claim)])


def best_at(losses, values, **more):
    return judge(experiment(losses, values, **more), Series())[0]


# More digits than the seeds differ by: values on a coarse lattice have wider intervals than t alone.
LOW = [1.0013, 1.0228, 1.0507, 1.0331]
NEAR = [1.2119, 1.2004, 1.2713, 1.2528]
WILD = [1.9037, 3.2011, 1.2046, 2.4023]
NOT_WILD = [1.5116, 1.5029, 1.5824, 1.5607]


def test_estimate_interval_and_p_belong_to_the_comparison_that_decides_and_the_factor_is_said():
    losses = {1: NEAR, 2: LOW, 3: [1.01, 1.05, 1.02, 1.06], 4: WILD}
    found = best_at(losses, [2, 3])

    def against(one, other):
        return oracle.ttest_rel(losses[one], losses[other])

    # Of each claimed value its least clear rival counts, and of the claimed values the best.
    one, other = min(
        (max(((g, r) for r in (1, 4)), key=lambda pair: against(*pair).pvalue) for g in (2, 3)),
        key=lambda pair: against(*pair).pvalue,
    )
    expected = against(one, other)
    # One of two claimed values against one of two others: the interval holds for all four pairs (Bonferroni).
    edges = expected.confidence_interval(1 - 0.05 / 4)
    assert other == 4
    assert f"loss of rate={one} minus rate=4 is" in found.why
    assert found.estimate == pytest.approx(np.mean(losses[one]) - np.mean(WILD))
    assert found.ci == pytest.approx([edges.low, edges.high])
    assert f"within noise (p = {2 * expected.pvalue:.4g})" in found.why
    assert f"the least clear of the 2 comparisons of rate={one}, and its own p of {expected.pvalue:.4g}" in found.why
    assert "counts 2 times, once for each claimed value" in found.why
    figure = judgements(experiment(losses, [2, 3]), Series())[0].evidence
    assert list(figure.sample.values()) == pytest.approx(np.subtract(losses[one], WILD))


def test_a_claim_that_is_refuted_shows_the_value_that_beats_the_claimed_ones():
    losses = {1: NEAR, 2: LOW, 3: NOT_WILD}
    found = best_at(losses, [1, 3])
    expected = oracle.ttest_rel(NEAR, LOW)
    assert found.verdict == "refuted"
    assert found.estimate == pytest.approx(np.mean(NEAR) - np.mean(LOW))
    assert f"(p = {expected.pvalue:.4g})" in found.why
    assert "the least clear of the 2 comparisons of rate=2" in found.why


def test_a_rival_that_diverged_by_the_rule_in_every_seed_is_beaten_without_a_test_and_that_is_said():
    losses = {1: NEAR, 2: LOW, 3: WILD}
    assert best_at(losses, [2]).verdict == "inconclusive"
    found = best_at(losses, [2], fallen=[(3, seed) for seed in range(4)])
    assert found.verdict == "supported"
    edges = oracle.ttest_rel(LOW, NEAR).confidence_interval(0.95)
    assert found.ci == pytest.approx([edges.low, edges.high])
    assert "rate=3 diverged by the rule of the curve in every seed: beaten without a test" in found.why


def test_a_diverged_value_is_never_the_best_though_its_loss_is_the_lowest():
    losses = {1: NEAR, 2: LOW, 3: NOT_WILD}
    assert best_at(losses, [2]).verdict == "supported"
    claimed = best_at(losses, [2], fallen=[(2, 1)])
    assert claimed.verdict == "inconclusive"
    assert "rate=2 diverged by the rule of the curve in seed 1: lost there" in claimed.why
    # As a rival it refutes no more either: the lowest value that never diverged is the best one.
    assert best_at(losses, [1]).verdict == "refuted"
    assert best_at(losses, [1], fallen=[(2, 1)]).verdict == "inconclusive"
    assert best_at(losses, [1], fallen=[(2, seed) for seed in range(4)]).verdict == "supported"


def test_another_claimed_value_can_still_support_and_what_diverged_counts_as_tried():
    losses = {1: NEAR, 2: LOW, 3: [value - 0.5 for value in LOW]}
    own = oracle.ttest_rel(LOW, NEAR).pvalue
    for fallen in ([(3, 0)], [(3, seed) for seed in range(4)]):
        found = best_at(losses, [2, 3], fallen=fallen)
        assert found.verdict == "supported"
        assert f"p = {2 * own:.4g}" in found.why
        assert found.estimate == pytest.approx(np.mean(LOW) - np.mean(NEAR))


def test_a_rival_that_diverged_in_some_seeds_is_tested_on_the_others():
    losses = {1: [1.2, 9.0, 1.28, 1.25], 2: LOW}
    found = best_at(losses, [2], fallen=[(1, 1)])
    kept = [0, 2, 3]
    expected = oracle.ttest_rel([LOW[i] for i in kept], [losses[1][i] for i in kept])
    edges = expected.confidence_interval(0.95)
    assert (found.verdict, found.n) == ("supported", 3)
    assert found.ci == pytest.approx([edges.low, edges.high])
    assert "rate=1 diverged by the rule of the curve in seed 1: lost there, compared in its other seeds" in found.why


def test_one_seed_in_which_a_rival_did_not_diverge_decides_nothing():
    losses = {1: NEAR, 2: LOW, 3: WILD}
    for some in ([0, 1, 2], [1, 2, 3]):
        found = best_at(losses, [2], fallen=[(3, seed) for seed in some])
        assert found.verdict == "inconclusive"
        assert "rate=3 has 1 of two seeds in which it did not diverge" in found.why


def test_where_every_value_diverged_in_some_seed_there_is_no_best():
    found = best_at({1: NEAR, 2: LOW}, [2], fallen=[(1, 0), (2, 1)])
    assert (found.verdict, "none can be the best" in found.why) == ("inconclusive", True)


def test_a_run_that_ended_as_diverged_beside_ones_that_diverged_by_the_rule_has_lost_too():
    losses = {1: NEAR, 2: LOW, 3: [3.0, None, 4.0, None]}
    found = best_at(losses, [2], fallen=[(3, 0), (3, 2)])
    assert found.verdict == "supported"
    assert "rate=3 diverged (run 301): counted as worse than every number" in found.why
    # With a number left that counts, the rest is a biased sample, as for every other claim.
    assert "biased sample" in best_at(losses, [2], fallen=[(3, 0)]).why


def test_the_highest_accuracy_of_a_diverged_value_does_not_count():
    up = {rate: [-loss for loss in found] for rate, found in {1: NEAR, 2: LOW, 3: NOT_WILD}.items()}
    assert best_at(up, [2], direction="max").verdict == "supported"
    assert best_at(up, [1], direction="max").verdict == "refuted"
    assert best_at(up, [1], direction="max", fallen=[(2, seed) for seed in range(4)]).verdict == "supported"


def test_a_claim_about_divergence_itself_is_about_its_numbers():
    test = {"best_at": {"metric": "diverged", "over": "rate", "values": [3], "direction": "max"}}
    for seeds, expected in ((4, "inconclusive"), (6, "supported")):
        losses = {rate: [1.0 + 0.1 * seed for seed in range(seeds)] for rate in (1, 2, 3)}
        found = best_at(losses, [], fallen=[(3, seed) for seed in range(seeds)], **test)
        # Yes and no: four pairs that agree are as likely as 2/16 by chance, six as 2/64.
        assert found.verdict == expected, found.why


def test_a_trend_is_about_all_numbers():
    losses, fallen = {1: NEAR, 2: LOW, 3: WILD}, [(3, seed) for seed in range(4)]
    test = {"trend": {"metric": "loss", "over": "rate", "shape": "minimum_inside"}}
    with_rule, without = (best_at(losses, [], fallen=some, **test) for some in (fallen, []))
    assert with_rule == without
    assert with_rule.verdict == "inconclusive"


def test_a_rival_that_is_no_worse_than_rounding_is_not_beaten_by_being_alike_in_every_seed():
    found = best_at({1: [value + 1e-9 for value in LOW], 2: LOW, 3: NEAR}, [2])
    assert found.verdict == "inconclusive"
    assert "below what the metric resolves" in found.why


def share_of_verdicts(claimed, others, n, *, diverges, seed, times):
    """Shares of supported and refuted where no value is better than another, diverged or not."""
    source = np.random.default_rng(seed)
    rates = list(range(claimed + others))
    found = []
    for _ in range(times):
        luck = source.normal(2, 0.3, n)
        noise = source.normal(0, 0.05, (len(rates), n))
        fallen = {
            "never": np.zeros_like(noise, bool),
            "at random": source.random(noise.shape) < 0.25,
            "where the loss is high": noise > 0.04,
        }[diverges]
        losses = {rate: (luck + noise[rate]).tolist() for rate in rates}
        lost = [(rate, s) for rate in rates for s in range(n) if fallen[rate, s]]
        found.append(best_at(losses, rates[:claimed], fallen=lost).verdict)
    return found.count("supported") / times, found.count("refuted") / times


@pytest.mark.parametrize("diverges", ["never", "at random", "where the loss is high"])
@pytest.mark.parametrize(("claimed", "others"), [(1, 1), (3, 1), (1, 3), (2, 2)])
def test_where_no_value_is_better_a_claim_is_decided_no_more_often_than_the_level(claimed, others, diverges):
    times = 600
    supported, refuted = share_of_verdicts(claimed, others, 4, diverges=diverges, seed=claimed, times=times)
    # Each side errs 2.5 % of the time at most; the allowance is three standard errors of the simulations.
    assert max(supported, refuted) <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / times)


def left_panel(losses, **more):
    evidence = judgements(experiment(losses, [2], **more), Series())[0].evidence
    axes = Figure().subplots()
    verdict._arms(axes, evidence, FINETUNE[evidence.metric])
    return axes


@pytest.mark.parametrize(
    ("high", "fallen", "scale"),
    [(2.0, [], "linear"), (20.0, [], "log"), (4.0, [], "linear"), (4.0, [(1, 0), (1, 1)], "log")],
)
def test_arms_far_apart_or_lost_are_drawn_on_a_log_scale_that_is_said(high, fallen, scale):
    axes = left_panel({1: [high, high + 0.1], 2: [1.0, 1.1], 3: [1.2, 1.25]}, fallen=fallen)
    assert axes.get_yscale() == scale
    assert ("log scale" in axes.get_ylabel()) == (scale == "log")


def test_seeds_and_means_that_diverged_by_the_rule_are_hollow():
    axes = left_panel({1: [4.0, 4.1], 2: [1.0, 1.1], 3: [1.2, 1.25]}, fallen=[(1, 0), (1, 1)])
    means = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_markerfacecolor() == "white" for line in means] == [True, False, False]
