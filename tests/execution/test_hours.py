"""The worker's hours: nothing starts outside them, nothing starts that cannot finish in them."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.execution.hours import Hours, parse
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


def test_a_run_that_would_pass_the_end_is_not_started_and_one_that_fits_is() -> None:
    hours = parse(None, "07:30", at(6, 30))
    assert hours.refusal(at(6, 30), 3500) is None
    assert "60 min" in (hours.refusal(at(6, 31), 3600) or "")
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
