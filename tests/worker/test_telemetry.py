"""From samples to what an attempt records: by hand-made samples, and on a GPU by the card itself."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.canonical import canonical
from labqueue.worker import telemetry
from labqueue.worker.telemetry import Sample, Telemetry, reasons, summarize
from tests.commands import call
from tests.conftest import Lab, wait_until

NONE = frozenset[str]()


def test_samples_become_extremes_means_and_shares() -> None:
    found = summarize(
        [
            Sample(60, 150.04, 2400, NONE),
            Sample(70, 179.96, 2100, frozenset({"power cap"})),
            Sample(80, None, 1800, frozenset({"power cap", "thermal"})),
            Sample(None, 100, None, None),
            Sample(),
        ]
    )
    assert found == {
        "samples": 4,
        "temperature_c": {"max": 80, "mean": 70.0},
        "power_w": {"max": 180.0},
        "sm_mhz": {"min": 1800, "max": 2400},
        "throttled": {"share": 0.667, "reasons": {"power cap": 0.667, "thermal": 0.333}},
    }


def test_what_was_never_measured_is_none_and_never_0() -> None:
    assert summarize([]) is None
    assert summarize([Sample(), Sample()]) is None
    found = summarize([Sample(temperature_c=50)])
    assert found is not None
    assert (found["power_w"], found["sm_mhz"], found["throttled"]) == (None, None, None)
    cold = summarize([Sample(0.0, 0.0, 0.0, NONE)])
    assert cold is not None
    assert (cold["temperature_c"]["max"], cold["throttled"]["share"]) == (0.0, 0.0)


SAMPLES = st.builds(
    Sample,
    st.none() | st.floats(-20, 130),
    st.none() | st.floats(0, 1000),
    st.none() | st.floats(0, 4000),
    st.none() | st.frozensets(st.sampled_from(sorted(set(telemetry.THROTTLE_REASONS.values())))),
)


@given(st.lists(SAMPLES))
def test_a_summary_is_within_its_samples_and_can_be_stored(samples: list[Sample]) -> None:
    found = summarize(samples)
    assert (found is None) == (not any(sample.measured for sample in samples))
    if found is None:
        return
    canonical(found)
    warm = [s.temperature_c for s in samples if s.temperature_c is not None]
    assert (found["temperature_c"] is None) == (not warm)
    if warm:
        assert found["temperature_c"]["max"] == max(warm)
        assert min(warm) - 0.1 <= found["temperature_c"]["mean"] <= max(warm) + 0.1
    if found["throttled"] is not None:
        shares = found["throttled"]["reasons"].values()
        assert max(shares, default=0) <= found["throttled"]["share"] <= min(1, sum(shares) + 0.001 * len(shares))


def test_idle_and_chosen_clocks_are_no_throttling() -> None:
    """Bits by NVIDIA's header nvml.h: idle 1, application clocks 2, sync boost 0x10, display clocks 0x100."""
    assert reasons(0x1 | 0x2 | 0x10 | 0x100) == NONE
    assert reasons(0x4) == {"power cap"}
    assert reasons(0x8) == {"hardware slowdown"}
    assert reasons(0x20) == reasons(0x40) == {"thermal"}
    assert reasons(0x84) == {"power cap", "power brake"}


def sampling(monkeypatch: pytest.MonkeyPatch, *answers: Sample | Exception) -> list[int]:
    """Lets every device answer with these samples, then with none; returns a list as long as what was asked."""
    asked: list[int] = []

    def take() -> Sample:
        asked.append(1)
        answer = answers[len(asked) - 1] if len(asked) <= len(answers) else Sample()
        if isinstance(answer, Exception):
            raise answer
        return answer

    @contextlib.contextmanager
    def source(_device: str) -> Iterator[object]:
        yield take

    monkeypatch.setattr(telemetry, "_source", source)
    return asked


def test_a_sample_that_fails_is_missing_and_sampling_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sampling(monkeypatch, Sample(50), RuntimeError("a card that is lost"), Sample(70))
    watch = Telemetry("cuda:0", interval_s=0.001)
    watch.start()
    wait_until(lambda: len(asked) >= 4)
    found = watch.stop()
    assert found is not None
    assert (found["samples"], found["temperature_c"]) == (2, {"max": 70, "mean": 60.0})
    sampling(monkeypatch)
    watch.start()
    assert watch.stop() is None, "every attempt begins anew"


def test_an_attempt_that_never_began_does_not_cost_the_next_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Telemetry("cuda:0", interval_s=60)
    for temperature in (50, 70):
        asked = sampling(monkeypatch, Sample(temperature))
        watch.start()
        wait_until(lambda asked=asked: asked)
    found = watch.stop()
    assert found is not None
    assert (found["samples"], found["temperature_c"]["max"]) == (1, 70)


def test_a_driver_that_hangs_costs_a_run_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "PATIENCE_S", 0.05)
    lost, free = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def source(_device: str) -> Iterator[object]:
        def take() -> Sample:
            lost.set()
            free.wait(30)
            return Sample(99)

        yield take

    monkeypatch.setattr(telemetry, "_source", source)
    watch = Telemetry("cuda:0")
    for _ in range(3):
        before = threading.active_count()
        watch.start()
        assert lost.wait(10)
        assert watch.stop() is None
    assert threading.active_count() == before, "one thread hangs, not one for each run"
    free.set()


def test_a_device_that_is_not_there_is_not_measured() -> None:
    watch = Telemetry("cuda:7")
    watch.start()
    assert watch.stop() is None


def test_show_has_what_was_measured_and_warns_of_a_card_that_was_slowed_down(lab: Lab) -> None:
    assert call(lab, "submit", lab.spec(params={"steps": 2}), "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    (attempt,) = call(lab, "show", 1, "--json").json["attempts"]
    assert "telemetry" in attempt
    for share, warns in ((0.04, False), (0.25, True)):
        data = summarize(
            [Sample(81.5, 180, 2000, frozenset({"thermal"}) if n < share * 100 else NONE) for n in range(100)]
        )
        with sqlite3.connect(lab.settings.database) as connection:
            connection.execute("UPDATE attempts SET telemetry = ?", (canonical(data),))
        connection.close()
        assert call(lab, "show", 1, "--json").json["attempts"][0]["telemetry"] == data
        answer = call(lab, "show", 1)
        assert "81.5 °C" in answer.out
        assert ("warning: the card was slowed down during attempt 1 (thermal 25%)" in answer.out) == warns


@pytest.mark.gpu
def test_a_run_on_a_card_has_its_temperature_power_and_clock(lab: Lab) -> None:
    assert call(lab, "submit", lab.spec(params={"steps": 20, "step_s": 0.05}), "--profile", "gpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cuda:0").code == 0
    (attempt,) = call(lab, "show", 1, "--json").json["attempts"]
    found = attempt["telemetry"]
    assert found["samples"] >= 1
    assert 10 < found["temperature_c"]["mean"] <= found["temperature_c"]["max"] < 110
    assert 5 < found["power_w"]["max"] < 1500
    assert 0 < found["sm_mhz"]["min"] <= found["sm_mhz"]["max"] < 5000
    assert 0 <= found["throttled"]["share"] <= 1
