"""May a run start now? Asked before each claim: the hours of the worker, and free memory on its device.

A run that is passed over waits with the reason given here, and is asked about again; it has not failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from labqueue.domain.state import Waiting
from labqueue.domain.waiting import Reason
from labqueue.llm.memory.workload import CONTEXT_GIB, GIB
from labqueue.store.runs.attempts import Candidate
from labqueue.system import cards, clock
from labqueue.system.cards import Gpu
from labqueue.system.devices import Device
from labqueue.worker.working_hours import Hours

UNKNOWN_SHARE = 0.5
"""The share of a card that must be free for a run with neither limits.memory_gib nor an estimate. Assumption."""

STEP_GIB = 0.5
"""Free memory is told in such steps, so that the reason of a waiting run does not change with every allocation."""


class Admission:
    """Answers for one worker. ``look`` takes a snapshot of the device; calls between two looks share it."""

    def __init__(self, device: Device, hours: Hours, expected_s: Callable[[Candidate], float | None]) -> None:
        self._device, self._hours, self._expected_s = device, hours, expected_s
        self._card: Gpu | None = None
        self._now = clock.local()

    def look(self) -> None:
        """Takes a snapshot of clock and device."""
        self._now = clock.local()
        if self._device.card is not None:
            self._card = cards.card(self._device.card, int(self._device.name.partition(":")[2]))

    def __call__(self, run: Candidate) -> Reason | None:
        """Why a queued run cannot start now, or None."""
        if not self._hours.always:
            refused = self._hours.refusal(self._now, self._expected_s(run))
            if refused is not None:
                return refused
        limit = run.limits["memory_gib"]
        if self._device.card is None:
            return refusal_of_memory(limit, available_gib(), "this machine", fixed=True) if limit != "auto" else None
        if self._card is None:
            return Reason(Waiting.DEVICE, {"device": self._device.name})
        return refusal_on_card(limit, run.estimated_memory_gib, self._card)


def refusal_on_card(limit: float | str, estimated_gib: float | None, card: Gpu) -> Reason | None:
    """Whether a run fits beside what others hold of a card now, GiB."""
    if limit != "auto":
        needed, exact = float(limit) + CONTEXT_GIB, True
    elif estimated_gib is not None:
        needed, exact = estimated_gib + CONTEXT_GIB, True
    else:
        needed, exact = card.total_gib * UNKNOWN_SHARE, False
    if exact and needed > card.total_gib:
        facts = {"needed_gib": needed, "card": card.name, "device": f"cuda:{card.index}", "total_gib": card.total_gib}
        return Reason(Waiting.DEVICE, facts)
    return refusal_of_memory(needed, card.free_gib, f"cuda:{card.index}", fixed=False)


def refusal_of_memory(needed_gib: float, free_gib: float, where: str, *, fixed: bool) -> Reason | None:
    """Compares; ``fixed`` says that the amount is a person's limit rather than a prediction."""
    if free_gib >= needed_gib:
        return None
    free_below_gib = math.floor(free_gib / STEP_GIB) * STEP_GIB + STEP_GIB
    facts = {"needed_gib": needed_gib, "limit": fixed, "free_below_gib": free_below_gib, "where": where}
    return Reason(Waiting.MEMORY, facts)


def available_gib() -> float:
    """Memory that processes can still take without swapping, GiB: MemAvailable of /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / GIB
    return math.inf
