"""Reading a loss curve: on curves whose plateau, turn and explosion are known by construction."""

from __future__ import annotations

import math
import random

import pytest

from labqueue.kinds.finetune import loss_curve


def curve(values: list[float], every: int = 10) -> list[loss_curve.Point]:
    return [(number * every, value) for number, value in enumerate(values)]


def trained(values: list[float], every: int = 10) -> loss_curve.Smoothed:
    """Training loss equal to ``values`` between evaluations."""
    train = loss_curve.Smoothed((len(values) - 1) * every)
    for step in range(1, train.steps + 1):
        train.take(step, values[math.ceil(step / every)])
    return train


def decay(points: int, rate: float, floor: float = 1.0, top: float = 4.0) -> list[float]:
    return [floor + (top - floor) * math.exp(-rate * n / (points - 1)) for n in range(points)]


def test_80_percent_of_an_exponential_drop_is_reached_at_its_known_time() -> None:
    values = decay(401, rate=40.0)
    found = loss_curve.steps_to_share(curve(values, every=1), 0.8)
    assert found == pytest.approx(math.log(5) / 40.0 * 400, rel=0.01)


def test_a_plateau_begins_where_the_curve_becomes_flat() -> None:
    falling = [4.0 - 0.15 * n for n in range(20)]
    flat = [falling[-1]] * 20
    found = loss_curve.plateau_step(curve(falling + flat))
    assert found is not None
    assert 170 <= found <= 190


def test_a_noisy_plateau_is_found_and_a_noisy_slope_is_none() -> None:
    source = random.Random(1)
    noisy = [value + source.gauss(0, 0.02) for value in decay(30, rate=12.0)]
    slope = [4.0 - 0.1 * n + source.gauss(0, 0.02) for n in range(30)]
    assert loss_curve.plateau_step(curve(noisy)) is not None
    assert loss_curve.plateau_step(curve(slope)) is None


def test_too_few_points_or_no_drop_are_no_plateau() -> None:
    assert loss_curve.plateau_step(curve(decay(loss_curve.MIN_POINTS, rate=40.0))) is not None
    assert loss_curve.plateau_step(curve(decay(loss_curve.MIN_POINTS - 1, rate=40.0))) is None
    assert loss_curve.plateau_step(curve([4.0] * 30)) is None
    assert loss_curve.steps_to_share(curve([4.0 - 0.001 * n for n in range(30)]), 0.8) is None


def test_a_curve_that_falls_again_after_a_rest_had_no_plateau_there() -> None:
    values = [4.0] + [3.0] * 10 + [3.0 - 0.2 * n for n in range(1, 11)]
    assert loss_curve.plateau_step(curve(values)) is None


def test_an_explosion_is_divergence_and_a_spike_that_heals_is_not() -> None:
    fall = decay(21, rate=10.0)
    exploded = [*fall[:11], *[6.0] * 10]
    given_back = [*fall[:11], *[3.0] * 10]
    healed = [*fall[:8], 6.0, *fall[9:]]
    collapsed = [4.0, *[4.1] * 20]
    brought_back = [4.0, *[20.0] * 8, *[3.0] * 12]
    memorised = [4.0, *[4.5] * 20]
    for train, held_out, expected in (
        (exploded, exploded, True),
        (given_back, given_back, True),
        (collapsed, collapsed, True),
        (brought_back, brought_back, True),
        (healed, fall, False),
        (fall, fall, False),
        (fall, memorised, False),
        ([4.0] * 21, [4.0] * 21, False),
    ):
        assert loss_curve.read(curve(held_out), trained(train)).diverged is expected
    assert loss_curve.read(curve(fall), trained(fall), finite=False).diverged


def test_a_diverged_run_is_never_fast_and_has_no_plateau() -> None:
    # Lowest at once, then up: by the drop alone it would be the fastest of all.
    values = [4.0, 2.0, *[5.0] * 20]
    found = loss_curve.read(curve(values), trained(values))
    assert (found.diverged, found.steps_to_80_percent, found.plateau_step) == (True, None, None)
    assert "diverged" in str(loss_curve.table(found, 210)[0][1])


def test_overfitting_is_a_held_out_rise_while_training_falls() -> None:
    fall = decay(25, rate=5.0, floor=0.0)
    turning = [max(value, 1.0) + max(0, n - 8) * 0.05 for n, value in enumerate(fall)]
    found = loss_curve.read(curve(turning), trained(fall))
    assert found.overfit is True
    assert found.eval_loss_min_step < 100
    assert found.overfit_rise == pytest.approx(turning[-1] - min(turning))
    assert found.gap == pytest.approx(turning[-1] - fall[-1], abs=0.05)
    # The same held-out curve with training loss rising too is no overfitting.
    assert loss_curve.read(curve(turning), trained(turning)).overfit is False


def test_noise_about_a_flat_end_is_hardly_ever_overfitting() -> None:
    source = random.Random(0)
    alarms = 0
    for _ in range(200):
        fall = decay(20, rate=8.0, floor=0.0)
        held_out = [max(value, 1.0) + source.gauss(0, 0.08) for value in fall]
        alarms += loss_curve.read(curve(held_out), trained(fall)).overfit is True
    assert alarms <= 2


def test_training_loss_is_smoothed_over_tenths_whatever_the_length() -> None:
    for steps in (5, 7, 60, 3000):
        train = loss_curve.Smoothed(steps)
        for step in range(1, steps + 1):
            train.take(step, float(step))
        assert sum(train.counts) == steps
        assert len(train.sums) <= loss_curve.PARTS
        last = train.tenth(steps)
        assert last is not None
        assert steps * 0.85 <= last <= steps
        assert train.tenths()[-1] == last


def test_a_curve_without_a_finite_point_is_not_read() -> None:
    for values in ([], [math.nan]):
        with pytest.raises(ValueError, match="finite"):
            loss_curve.read(curve(values), loss_curve.Smoothed(10))
