import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as oracle

from labqueue.report.statistics import intervals
from labqueue.report.statistics.intervals import Region

VALUES = st.lists(st.floats(-100, 100), min_size=2, max_size=12).filter(lambda v: max(v) - min(v) > 1e-3)


@given(VALUES, st.floats(-100, 100))
def test_interval_and_tails_are_those_of_students_t(values, bound):
    found = intervals.sample(values)
    interval = oracle.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval() == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)
    below = oracle.ttest_1samp(values, bound, alternative="less").pvalue
    above = oracle.ttest_1samp(values, bound, alternative="greater").pvalue
    assert found.p_below(bound) == pytest.approx(below, rel=1e-6, abs=1e-12)
    assert found.p_above(bound) == pytest.approx(above, rel=1e-6, abs=1e-12)


@given(VALUES, st.floats(0.01, 50))
def test_the_p_value_and_the_interval_always_decide_alike(values, margin):
    found, region = intervals.sample(values), Region(-margin, margin)
    low, high = found.interval()
    if min(abs(abs(low) - margin), abs(abs(high) - margin)) < 1e-9:
        return
    assert (intervals.p_inside(found, region) <= 0.05) == (-margin < low and high < margin)
    assert (intervals.p_outside(found, region) <= 0.05) == (low > margin or high < -margin)


def test_a_paired_interval_matches_numbers_worked_by_hand():
    # differences 1, 2, 3: mean 2, sd 1, se 1/√3; t(2, 0.975) = 4.302653
    low, high = intervals.sample([1.0, 2.0, 3.0]).interval()
    assert (low, high) == pytest.approx((2 - 4.302653 / math.sqrt(3), 2 + 4.302653 / math.sqrt(3)), abs=1e-6)


def test_holm_steps_down_and_leaves_out_what_could_not_be_tested():
    # Holm 1979: sorted p times (m − rank), made monotone.
    assert intervals.holm([0.01, None, 0.04, 0.03]) == [
        pytest.approx(0.03),
        None,
        pytest.approx(0.06),
        pytest.approx(0.06),
    ]
    assert intervals.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_nor_raises_it_past_bonferroni(ps):
    for p, adjusted in zip(ps, intervals.holm(ps), strict=True):
        assert p <= adjusted <= min(1.0, p * len(ps))


def test_a_slope_is_per_decade_on_a_log_like_axis_and_per_unit_on_another():
    assert intervals.slope([1, 10, 100], [3.0, 2.0, 1.0]) == pytest.approx(-1)
    assert intervals.slope([1, 2, 3], [2.0, 4.0, 6.0]) == pytest.approx(2)
    assert intervals.slope([0, 10], [0.0, 5.0]) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="two different values"):
        intervals.slope([3, 3], [1.0, 2.0])


def test_a_coarse_metric_shows_its_step_and_a_continuous_one_none():
    assert intervals.quantum([0.5, 0.55, 0.65]) == pytest.approx(0.05)
    assert intervals.quantum(list(np.random.default_rng(0).normal(2, 0.1, 6))) == 0
    assert intervals.quantum([0.5, 0.5]) == 0


def test_a_variance_that_is_known_to_be_there_stands_in_where_seeds_agree():
    found = intervals.sample([0.5, 0.5], least=0.02)
    low, high = found.interval()
    half = oracle.t.ppf(0.975, 1) * math.sqrt(0.02 / 2)
    assert (low, high) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert intervals.sample([0.1, 0.9], least=0.02) == intervals.sample([0.1, 0.9])


def test_one_value_or_a_nan_is_refused_with_the_cure():
    with pytest.raises(ValueError, match="more seeds"):
        intervals.sample([1.0])
    with pytest.raises(ValueError, match="leave out"):
        intervals.sample([1.0, math.nan])


def test_fiellers_interval_covers_the_true_ratio_95_percent_of_the_time():
    source = np.random.default_rng(0)
    hits = 0
    for _ in range(1000):
        b = source.normal(5, 0.5, 6)
        _, interval = intervals.ratio_of_means(list(0.5 * b + source.normal(0, 0.2, 6)), list(b))
        hits += interval is not None and interval[0] <= 0.5 <= interval[1]
    assert 930 <= hits <= 970
