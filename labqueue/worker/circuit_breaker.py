"""Pauses the queue when a night is not worth going on with: three runs in a row fail alike, a full disk, a lost card.

The queue is then paused with the reason, instead of spending every other run on the same cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.queries import past_runs, read
from labqueue.store.queries.past_runs import Ended
from labqueue.store.runs import control
from labqueue.system import cards, disk
from labqueue.system.devices import Device

IN_A_ROW = 3
"""Different runs that must fail alike, with nothing else between them (the design's figure)."""

LOOK_BACK = 24
"""Attempts looked at: the retries of a few runs lie between them."""

FAILURES = frozenset({"failed", "crashed", "timed_out", "out_of_memory"})
"""Endings that count. A diverged run is a result, and cancelled, paused and interrupted ones had a person's reason."""

_PARTICULAR = re.compile(r"0x[0-9a-f]+|/\S+|\d+(\.\d+)?", re.IGNORECASE)


class Breaker:
    """Looks after one worker's queue. ``say`` prints what it does; ``halted`` hears why it has paused the queue."""

    def __init__(
        self,
        settings: Settings,
        db: Database,
        device: Device,
        say: Callable[[str], None],
        halted: Callable[[str], None],
    ) -> None:
        self._root, self._db, self._device, self._card = settings.root, db, device.name, device.card
        self._say, self._halted = say, halted

    def before(self) -> None:
        """Before a claim: pauses while the disk is nearly full, and goes on by itself once there is room."""
        words = disk.shortage(self._root)
        if words is not None:
            self._halt(words, "disk")
            return
        paused = read.control(self._db, "pause")
        if paused is not None and paused.get("cause") == "disk":
            roomy = disk.shortage(self._root, disk.reserve_bytes(self._root) // 2) is None
            if roomy and control.go_on(self._db, "disk"):
                self._say("there is room on the disk again: the queue goes on")

    def after(self) -> None:
        """After an attempt: pauses when going on would only repeat what has just gone wrong."""
        ended = past_runs.latest(self._db, self._device.partition(":")[0], LOOK_BACK)
        if not ended:
            return
        if ended[0].outcome == "disk_full":
            self._halt(f"run {ended[0].run_id} could not write: {ended[0].reason}", "disk_full")
        elif ended[0].outcome in FAILURES and self._card is not None and cards.card(self._card) is None:
            self._halt(f"{self._device} no longer answers its driver; look at `dmesg`, then reset it or reboot", "card")
        elif (alike := same_failure(ended)) is not None:
            self._halt(f"{alike}. Mend the cause (`labqueue logs {ended[0].run_id}`)", "failures")

    def _halt(self, reason: str, cause: str) -> None:
        if control.halt(self._db, reason, cause):
            self._say(f"the queue is paused: {reason}")
            self._halted(reason)


def same_failure(ended: Sequence[Ended]) -> str | None:
    """What three different runs, one after another, ended of; None when they did not. ``ended``: newest first.

    Two reasons are alike when they differ in numbers, addresses and paths only.
    """
    runs: list[int] = []
    alike: str | None = None
    for one in ended:
        if one.outcome not in FAILURES or (one.outcome == "out_of_memory" and not one.final):
            return None
        words = f"{one.outcome}: {_general(one.reason)}"
        if alike is not None and words != alike:
            return None
        alike = words
        if one.run_id not in runs:
            runs.append(one.run_id)
        if len(runs) == IN_A_ROW:
            listed = ", ".join(str(run) for run in sorted(runs))
            return f"runs {listed} failed alike, the last one {one.outcome}: {ended[0].reason}"
    return None


def _general(reason: str | None) -> str:
    return _PARTICULAR.sub("…", reason or "")
