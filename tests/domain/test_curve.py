"""Fewer points show the same curve: spikes and gaps survive, and nothing is invented."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.downsample import thin

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=400)


@given(values=VALUES, wanted=st.integers(5, 120))
def test_extremes_ends_and_gaps_survive_and_every_point_was_measured(values: list[float | None], wanted: int) -> None:
    points = list(enumerate(values))
    kept = thin(points, wanted)
    assert len(kept) <= max(wanted, 5)
    assert set(kept) <= set(points)
    assert [step for step, _ in kept] == sorted({step for step, _ in kept})
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    finite = [value for value in values if value is not None]
    left = [value for _, value in kept if value is not None]
    if finite:
        assert (min(left), max(left)) == (min(finite), max(finite))
    assert (None in values) == any(value is None for _, value in kept)


def test_one_spike_in_a_hundred_thousand_points_is_kept_and_it_is_quick() -> None:
    points: list[tuple[int, float | None]] = [(step, 1.0 / (step + 1)) for step in range(100_000)]
    points[61_803] = (61_803, 7.0)
    began = time.process_time()
    kept = thin(points, 1000)
    assert time.process_time() - began < 0.5
    assert (61_803, 7.0) in kept
    assert len(kept) <= 1000


def test_a_short_curve_is_left_as_it_is() -> None:
    points: list[tuple[int, float | None]] = [(1, 2.0), (5, None), (9, 1.0)]
    assert thin(points, 4) == points
