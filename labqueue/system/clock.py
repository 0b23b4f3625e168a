"""Time as the lab keeps it: wall time for people, boot time for deadlines. Knows nothing of runs.

Wall clocks jump (a dead battery, a time server, a traveller); leases and back-offs must not. They count on the
clock that runs from the machine's boot, suspends included, and fall back to wall time only after a reboot.
"""

from __future__ import annotations

import datetime
import functools
import time
from dataclasses import dataclass
from pathlib import Path


def now() -> float:
    """Unix time, seconds."""
    return time.time()


class _Machine(datetime.tzinfo):
    """The machine's time zone with its rules for every day, as the C library knows them (``TZ``, /etc/localtime).

    A fixed offset, such as ``astimezone()`` gives, is an hour off on the other side of a clock change. A time that the
    clock leaves out counts by the offset before the change, the first of two equal ones unless ``fold`` is 1 (PEP 495).
    """

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, _moment: datetime.datetime | None) -> None:
        return None

    def tzname(self, moment: datetime.datetime | None) -> str | None:
        return None if moment is None else moment.replace(tzinfo=None).astimezone().tzname()

    def fromutc(self, moment: datetime.datetime) -> datetime.datetime:
        unix_s = moment.replace(tzinfo=datetime.UTC).timestamp()
        # Naive, since only that says which of two equal times it is.
        return datetime.datetime.fromtimestamp(unix_s).replace(tzinfo=self)  # noqa: DTZ006


_MACHINE = _Machine()


def local() -> datetime.datetime:
    """Now, in the machine's time zone: what people mean by a time of day. Days may be added to it; the difference of
    two such times is that of their ``timestamp()``."""
    return datetime.datetime.now(_MACHINE)


def iso(unix_s: float | None) -> str | None:
    """UTC ISO 8601 with milliseconds and ``Z``; None stays None."""
    if unix_s is None:
        return None
    moment = datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def boot_s() -> float:
    """Seconds since boot, counting suspends; never jumps. ``clock_gettime(2)``, CLOCK_BOOTTIME."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@functools.cache
def boot_id() -> str:
    """The kernel's name for this boot; a process id means something only together with it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Deadline:
    """A moment that a jump of the wall clock does not move. Stored as text ``boot_id boot_s unix_s``."""

    boot_id: str
    boot_s: float
    unix_s: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment ``seconds`` from now."""
        return cls(boot_id(), boot_s() + seconds, now() + seconds)

    @classmethod
    def parse(cls, text: str) -> Deadline:
        """The inverse of ``str``."""
        boot, boot_seconds, unix_seconds = text.split(" ")
        return cls(boot, float(boot_seconds), float(unix_seconds))

    def __str__(self) -> str:
        return f"{self.boot_id} {self.boot_s:.3f} {self.unix_s:.3f}"

    @property
    def left_s(self) -> float:
        """Seconds until the moment; 0 or less once it has passed."""
        return self.boot_s - boot_s() if self.boot_id == boot_id() else self.unix_s - now()

    def age_s(self, given_s: float) -> float:
        """Seconds since this was made as ``after(given_s)``; 0 when that was before the last boot."""
        return max(0.0, given_s - self.left_s) if self.boot_id == boot_id() else 0.0

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self.left_s <= 0
