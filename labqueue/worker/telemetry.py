"""Measures how warm a run was and whether its card was slowed down: sampled by the worker while the run computes.

A thread of its own asks, since a lost card can leave its driver's calls hanging; then the samples so far count.
Whatever cannot be measured is None, and nothing here can disturb a run.
"""

from __future__ import annotations

import contextlib
import statistics
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

SAMPLE_S = 5.0
"""Between samples: temperatures and clocks of a card under load move in seconds. Assumption."""

PATIENCE_S = 1.0
"""How long the end of a run waits for a sample that is being taken."""

THROTTLE_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "thermal",
    0x40: "thermal",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that take speed from a run (nvml.h, nvmlClocksEventReason*); idle clocks and
clocks that somebody has set do not count."""

PACKAGE_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""Names under which Linux drivers show the temperature of a processor."""


@dataclass(frozen=True)
class Sample:
    """One look; None is "not measured". ``reasons`` are names of THROTTLE_REASONS, empty when not slowed down."""

    temperature_c: float | None = None
    power_w: float | None = None
    sm_mhz: float | None = None
    reasons: frozenset[str] | None = None

    @property
    def measured(self) -> bool:
        """Whether anything was measured at all."""
        return (self.temperature_c, self.power_w, self.sm_mhz, self.reasons) != (None,) * 4


def summarize(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """What an attempt records of its samples; None when nothing was measured.

    ``samples`` (how many), ``temperature_c {max, mean}``, ``power_w {max}``, ``sm_mhz {min, max}``, and
    ``throttled {share, reasons}``: the share of the samples that could be read, in all and by reason (0 to 1).
    """
    good = [sample for sample in samples if sample.measured]
    if not good:
        return None
    warm = [s.temperature_c for s in good if s.temperature_c is not None]
    power = [s.power_w for s in good if s.power_w is not None]
    clock = [s.sm_mhz for s in good if s.sm_mhz is not None]
    looked = [s.reasons for s in good if s.reasons is not None]
    seen = Counter(reason for reasons in looked for reason in reasons)
    return {
        "samples": len(good),
        "temperature_c": {"max": max(warm), "mean": round(statistics.fmean(warm), 1)} if warm else None,
        "power_w": {"max": round(max(power), 1)} if power else None,
        "sm_mhz": {"min": min(clock), "max": max(clock)} if clock else None,
        "throttled": {
            "share": round(sum(map(bool, looked)) / len(looked), 3),
            "reasons": {reason: round(n / len(looked), 3) for reason, n in seen.most_common()},
        }
        if looked
        else None,
    }


Source = Callable[[], Sample]
"""Takes one sample; raises whatever its library raises."""


class Telemetry:
    """Samples while one attempt runs: ``start``, then ``stop`` for the summary. Raises nothing.

    ``card`` is the UUID of the card to look at, None is the processor.
    """

    def __init__(self, card: str | None, interval_s: float = SAMPLE_S) -> None:
        self._card, self._interval_s = card, interval_s
        self._samples: list[Sample] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to sample anew, unless an earlier thread still hangs in a driver."""
        self.stop()
        self._samples = []
        if self._thread is not None and self._thread.is_alive():
            return
        self._over = threading.Event()
        self._thread = threading.Thread(
            target=self._watch, args=(self._samples, self._over), name="telemetry", daemon=True
        )
        self._thread.start()

    def stop(self) -> dict[str, Any] | None:
        """Ends the sampling and returns its summary."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_S)
        return summarize(list(self._samples))

    def _watch(self, samples: list[Sample], over: threading.Event) -> None:
        with contextlib.suppress(Exception), _source(self._card) as take:
            while True:
                # One that fails is a sample that is missing, not the end of sampling.
                with contextlib.suppress(Exception):
                    samples.append(take())
                if over.wait(self._interval_s):
                    return


@contextlib.contextmanager
def _source(card: str | None) -> Any:
    """What to sample on a device; for a card it keeps NVML open meanwhile."""
    if card is None:
        yield _processor
        return
    import pynvml

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(card)
        yield lambda: _card(handle)
    finally:
        pynvml.nvmlShutdown()


def _card(handle: Any) -> Sample:
    import pynvml

    def measured(ask: Callable[[], float]) -> float | None:
        try:
            return ask()
        except pynvml.NVMLError:
            return None

    bits = measured(lambda: pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    return Sample(
        temperature_c=measured(lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)),
        power_w=measured(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        sm_mhz=measured(lambda: pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)),
        reasons=None if bits is None else reasons(int(bits)),
    )


def reasons(bits: int) -> frozenset[str]:
    """The names of the throttle reasons in NVML's bit mask."""
    return frozenset(name for bit, name in THROTTLE_REASONS.items() if bits & bit)


def _processor() -> Sample:
    import psutil

    found = psutil.sensors_temperatures()
    warm = [sensor.current for name in PACKAGE_SENSORS for sensor in found.get(name, []) if sensor.current]
    return Sample(temperature_c=max(warm) if warm else None)
