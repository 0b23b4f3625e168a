"""The hours in which a worker may use its device: ``--between 22:00-08:00`` and ``--until 07:30``. Pure functions.

Local time, as people mean it, by the rules of the time zone of the moments given. Both ends are moments of the wall
clock, so a night with a clock change is an hour longer or shorter. A time that the clock leaves out counts by the
offset before the change, and of two equal ones the first is meant (RFC 5545, section 3.3.5).
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from labqueue.domain.errors import LabError
from labqueue.domain.state import Waiting
from labqueue.domain.waiting import Reason

_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class Hours:
    """When work is allowed. ``between`` repeats daily and may pass midnight; ``until`` is one moment."""

    between: tuple[datetime.time, datetime.time] | None = None
    until: datetime.datetime | None = None

    @property
    def always(self) -> bool:
        """Whether there is no limit at all."""
        return self.between is None and self.until is None

    def over(self, now: datetime.datetime) -> bool:
        """Whether ``until`` has come: no later moment is allowed."""
        return self.until is not None and now.timestamp() >= self.until.timestamp()

    def left_s(self, now: datetime.datetime) -> float | None:
        """Seconds of allowed time from ``now`` on; 0 outside, None without an end."""
        now_s = now.timestamp()
        ends = [] if self.until is None else [self.until.timestamp()]
        if self.between is not None:
            first, last = self.between
            # The window of today, and the one that began yesterday evening.
            days = [(_at(first, now, day), _at(last, now, day + (last < first))) for day in (-1, 0)]
            inside = [closes for opens, closes in days if opens <= now_s < closes]
            if not inside:
                return 0.0
            ends += inside
        return max(0.0, min(ends) - now_s) if ends else None

    def refusal(self, now: datetime.datetime, expected_s: float | None) -> Reason | None:
        """Why a run that takes ``expected_s`` (None: not known) may not start now; None when it may.

        One whose duration is not known starts at any allowed moment: at the end of the hours it checkpoints.
        """
        left_s = self.left_s(now)
        if left_s is None or (left_s > 0 and (expected_s is None or expected_s <= left_s)):
            return None
        between = None if self.between is None else [f"{moment:%H:%M}" for moment in self.between]
        until = None if self.until is None else f"{self.until:%Y-%m-%d %H:%M}"
        long = None if left_s == 0 or expected_s is None else round(expected_s / 60)
        return Reason(Waiting.HOURS, {"between": between, "until": until, "expected_min": long})


def parse(between: str | None, until: str | None, now: datetime.datetime) -> Hours:
    """Reads what stood on the command line. ``until`` is the next such moment after ``now``.

    Raises:
        LabError: it is not a time, or a window without length.
    """
    window = None
    if between is not None:
        first, sign, last = between.partition("-")
        if not sign:
            raise LabError(f"--between {between!r}: give two times, for example --between 22:00-08:00")
        window = (_time(first, "--between"), _time(last, "--between"))
        if window[0] == window[1]:
            raise LabError(f"--between {between!r} is a window without length; leave it out to work always")
    return Hours(window, None if until is None else _next(_time(until, "--until"), now))


def _time(text: str, option: str) -> datetime.time:
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise LabError(f"{option}: {text!r} is not a time of day; give hours and minutes, for example 22:00")
    return datetime.time(int(found[1]), int(found[2]))


def _next(moment: datetime.time, now: datetime.datetime) -> datetime.datetime:
    """The next moment after ``now`` at which the clock shows this time, in its time zone."""
    found = min(at for day in (0, 1) for fold in (0, 1) if (at := _at(moment, now, day, fold)) > now.timestamp())
    return datetime.datetime.fromtimestamp(found, now.tzinfo)


def _at(moment: datetime.time, now: datetime.datetime, day: int, fold: int = 0) -> float:
    """Unix time at which the clock shows a time, ``day`` days after the date of ``now``; of two the one that ``fold``
    chooses."""
    date = now.date() + datetime.timedelta(days=day)
    first, second = (datetime.datetime.combine(date, moment, now.tzinfo).replace(fold=n).timestamp() for n in (0, 1))
    # Of a time that the clock leaves out the "second" comes before the first, by the offset after the change.
    return max(first, second) if fold else first
