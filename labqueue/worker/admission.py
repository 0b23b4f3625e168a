"""May a run start now? Asked before each claim: the hours of the worker, and free memory on its device.

A run that is passed over waits with the words given here, and is asked about again; it has not failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labqueue.domain.state import Waiting
from labqueue.system import cards, clock
from labqueue.system.cards import Gpu
from labqueue.system.devices import Device
from labqueue.worker.working_hours import Hours

GIB = 1024**3

CONTEXT_GIB = 0.6
"""A process's CUDA context beside what its allocator reserves: 0.604 GiB measured (torch 2.11, driver 580)."""

UNKNOWN_SHARE = 0.5
"""The share of a card that must be free for a run with neither limits.memory_gib nor an estimate. Assumption."""

STEP_GIB = 0.5
"""Free memory is told in such steps, so that the words of a waiting run do not change with every allocation."""


class Admission:
    """Answers for one worker. ``look`` takes a new picture of the device; calls between two looks share it."""

    def __init__(self, device: Device, hours: Hours, expected_s: Callable[[Any], float | None]) -> None:
        self._device, self._hours, self._expected_s = device, hours, expected_s
        self._card: Gpu | None = None
        self._now = clock.local()

    def look(self) -> None:
        """Takes a new picture of clock and device."""
        self._now = clock.local()
        if self._device.card is not None:
            self._card = cards.card(self._device.card, int(self._device.name.partition(":")[2]))

    def __call__(self, run: Any) -> tuple[str, str] | None:
        """Why a queued run (columns of ``tables.Run``) cannot start: (waiting code, words), or None."""
        if not self._hours.always:
            words = self._hours.refusal(self._now, self._expected_s(run))
            if words is not None:
                return Waiting.HOURS, words
        limit = run.limits["memory_gib"]
        if self._device.card is None:
            return refusal_of_memory(limit, available_gib(), "this machine", fixed=True) if limit != "auto" else None
        if self._card is None:
            return Waiting.DEVICE, f"{self._device.name} does not answer its driver"
        return refusal_on_card(limit, run.estimated_memory_gib, self._card)


def refusal_on_card(limit: float | str, estimated_gib: float | None, card: Gpu) -> tuple[str, str] | None:
    """Whether a run fits beside what others hold of a card now, GiB."""
    if limit != "auto":
        needed, exact = float(limit) + CONTEXT_GIB, True
    elif estimated_gib is not None:
        needed, exact = estimated_gib + CONTEXT_GIB, True
    else:
        needed, exact = card.total_gib * UNKNOWN_SHARE, False
    if exact and needed > card.total_gib:
        words = f"needs {needed:.1f} GiB with its CUDA context; {card.name} (cuda:{card.index}) has"
        return Waiting.DEVICE, f"{words} {card.total_gib:.1f}. Lower limits.memory_gib or make the run smaller"
    return refusal_of_memory(needed, card.free_gib, f"cuda:{card.index}", fixed=False)


def refusal_of_memory(needed_gib: float, free_gib: float, where: str, *, fixed: bool) -> tuple[str, str] | None:
    """Compares; ``fixed`` says that the amount is a person's limit rather than a prediction."""
    if free_gib >= needed_gib:
        return None
    about = math.floor(free_gib / STEP_GIB) * STEP_GIB
    source = " (limits.memory_gib)" if fixed else ""
    words = f"needs {needed_gib:.1f} GiB{source} and less than {about + STEP_GIB:.1f} are free on {where}"
    return Waiting.MEMORY, f"{words}: something else holds the rest"


def available_gib() -> float:
    """Memory that processes can still take without swapping, GiB: MemAvailable of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / GIB
    return math.inf
