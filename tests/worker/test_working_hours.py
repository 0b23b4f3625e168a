"""The worker's hours: nothing starts outside them, nothing starts that cannot finish in them."""

from __future__ import annotations

import datetime
import time
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.domain.waiting import describe
from labqueue.system import clock
from labqueue.worker.working_hours import Hours, parse
from tests.conftest import Lab, wait_until

DAY = datetime.datetime(2026, 3, 4, tzinfo=datetime.UTC)


def at(hours: int, minutes: int = 0) -> datetime.datetime:
    return DAY.replace(hour=hours, minute=minutes)


@pytest.mark.parametrize(
    ("now", "left_h"),
    [(at(21, 59), 0), (at(22), 10), (at(23, 30), 8.5), (at(0), 8), (at(7, 30), 0.5), (at(8), 0), (at(12), 0)],
)
def test_a_window_over_midnight_is_open_on_both_sides_of_it(now: datetime.datetime, left_h: float) -> None:
    assert parse("22:00-08:00", None, now).left_s(now) == left_h * 3600


@given(minute=st.integers(0, 24 * 60 - 1), first=st.integers(0, 24 * 60 - 1), length=st.integers(1, 24 * 60 - 1))
def test_the_time_left_is_what_remains_of_the_window_counted_minute_by_minute(
    minute: int, first: int, length: int
) -> None:
    """The oracle walks the clock one minute at a time."""
    last = (first + length) % (24 * 60)
    inside = {(first + step) % (24 * 60) for step in range(length)}
    walked = 0
    while (minute + walked) % (24 * 60) in inside:
        walked += 1
    now = DAY + datetime.timedelta(minutes=minute)
    window = parse(f"{first // 60:02}:{first % 60:02}-{last // 60:02}:{last % 60:02}", None, now)
    assert window.left_s(now) == walked * 60


BERLIN = ZoneInfo("Europe/Berlin")
"""Clocks go from 02:00 to 03:00 on 2026-03-29 and from 03:00 to 02:00 on 2026-10-25, both at 01:00 UTC."""


def utc(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(f"{text}Z")


# (the machine's time in UTC, the option, hours until its end)
UNTIL = {
    "a night an hour shorter": ("2026-03-28T21:00", "07:30", 8.5),  # 22:00 +1 to 07:30 +2
    "a night an hour longer": ("2026-10-24T20:00", "07:30", 10.5),  # 22:00 +2 to 07:30 +1
    "the evening before, to that evening": ("2026-03-28T22:00", "22:30", 22.5),
    "a night without a change": ("2026-03-29T20:00", "07:30", 9.5),
    "a time that the clock leaves out": ("2026-03-28T23:00", "02:30", 2.5),  # counted with the offset before
    "a time that comes twice is the first": ("2026-10-24T23:00", "02:30", 1.5),
    "after the first of two the second is next": ("2026-10-25T00:45", "02:30", 0.75),
    "after both the next day's is": ("2026-10-25T01:30", "02:30", 24.0),
}
BETWEEN = {
    "a night an hour shorter": ("2026-03-28T21:00", "22:00-08:00", 9.0),
    "a night an hour longer": ("2026-10-24T20:00", "22:00-08:00", 11.0),
    "after the change forward": ("2026-03-29T01:30", "22:00-08:00", 4.5),
    "after the change back": ("2026-10-25T01:30", "22:00-08:00", 5.5),
    "before it opens": ("2026-03-28T20:59", "22:00-08:00", 0.0),
    "when it has closed": ("2026-03-29T06:00", "22:00-08:00", 0.0),
    "closes at a time that is left out": ("2026-03-29T00:30", "22:00-02:30", 1.0),
    "closes at the first of two equal times": ("2026-10-25T00:00", "22:00-02:30", 0.5),
    "is not open again at the second": ("2026-10-25T01:10", "22:00-02:30", 0.0),
    "opens at the first of two and closes after both": ("2026-10-25T00:30", "02:30-03:30", 2.0),
    "within the hour that comes twice": ("2026-10-25T01:20", "02:30-03:30", 7 / 6),
}


@pytest.mark.parametrize("case", UNTIL)
def test_until_is_a_moment_of_the_wall_clock_across_its_changes(case: str) -> None:
    moment, until, hours = UNTIL[case]
    now = utc(moment).astimezone(BERLIN)
    found = parse(None, until, now)
    assert found.left_s(now) == hours * 3600
    end = (utc(moment) + datetime.timedelta(hours=hours)).astimezone(BERLIN)
    assert found.over(end)
    assert not found.over((utc(moment) + datetime.timedelta(hours=hours, seconds=-1)).astimezone(BERLIN))
    assert found.refusal(now, hours * 3600) is None
    refusal = found.refusal(now, hours * 3600 + 1)
    assert refusal is not None
    assert f"{end:%Y-%m-%d %H:%M}" in describe(refusal), "what is said is the machine's time"


@pytest.mark.parametrize("case", BETWEEN)
def test_a_window_ends_by_the_wall_clock_and_so_does_the_estimate_inside_it(case: str) -> None:
    moment, between, hours = BETWEEN[case]
    now = utc(moment).astimezone(BERLIN)
    found = parse(between, None, now)
    assert found.left_s(now) == pytest.approx(hours * 3600)
    assert (found.refusal(now, hours * 3600 - 1) is None) == (hours > 0)
    assert found.refusal(now, hours * 3600 + 1) is not None


@given(unix_s=st.integers(int(utc("2024-01-01T00:00").timestamp()), int(utc("2030-01-01T00:00").timestamp())))
def test_the_machines_clock_knows_the_rules_of_its_zone_on_every_day(unix_s: int) -> None:
    """The oracle reads the zone's own file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Europe/Berlin")
        time.tzset()
        ours = datetime.datetime.fromtimestamp(unix_s, clock.local().tzinfo)
        theirs = datetime.datetime.fromtimestamp(unix_s, BERLIN)
        assert ours.timestamp() == unix_s
        for days in (0, 1, 30, 180):
            later = datetime.timedelta(days=days)
            assert (ours + later).utcoffset() == (theirs + later).utcoffset()
            assert (ours + later).timestamp() == (theirs + later).timestamp()
        assert ours.replace(tzinfo=None, fold=0) == theirs.replace(tzinfo=None, fold=0)
    time.tzset()


def test_a_run_that_would_pass_the_end_is_not_started_and_one_that_fits_is() -> None:
    hours = parse(None, "07:30", at(6, 30))
    assert hours.refusal(at(6, 30), 3500) is None
    refusal = hours.refusal(at(6, 31), 3600)
    assert refusal is not None
    assert "60 min" in describe(refusal)
    assert hours.refusal(at(7, 29), None) is None, "at the end it checkpoints"
    assert hours.over(at(7, 30))
    assert Hours().refusal(at(3), 10**9) is None


@pytest.mark.parametrize("words", ["22-08:00", "25:00-08:00", "22:00", "22:00-22:00", "22:00 08:00"])
def test_a_wrong_window_is_refused_with_an_example(words: str) -> None:
    with pytest.raises(LabError, match="--between"):
        parse(words, None, at(1))


def test_a_wrong_time_on_the_command_line_ends_with_status_2(lab: Lab) -> None:
    answer = lab.run("worker", "--until", "soon")
    assert answer.code == 2
    assert "'soon' is not a time of day" in answer.err


def test_outside_its_hours_a_worker_starts_nothing_and_says_so(lab: Lab) -> None:
    now = datetime.datetime.now().astimezone()
    window = "-".join(f"{now + datetime.timedelta(hours=h):%H:%M}" for h in (5, 6))
    assert lab.run("submit", lab.spec()).code == 0
    worker = lab.start("worker", "--between", window)
    try:
        waiting = wait_until(lambda: lab.run("show", "1", "--json").json["waiting"])
        assert waiting["code"] == "hours"
        assert window.partition("-")[0] in waiting["text"]
    finally:
        worker.terminate()
        assert worker.wait(20) == 0
    assert lab.run("show", "1", "--json").json["attempts"] == []
    assert lab.run("worker", "--drain").code == 0
