"""Deadlines count on the machine's boot clock; the wall clock may jump."""

from __future__ import annotations

import datetime
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.system import clock
from labqueue.system.clock import Deadline


@pytest.mark.parametrize("jump_s", [-1e8, -3600.0, 3600.0, 1e8])
def test_a_jump_of_the_wall_clock_moves_no_deadline(monkeypatch: pytest.MonkeyPatch, jump_s: float) -> None:
    soon, passed = Deadline.after(100.0), Deadline.after(-1.0)
    real = time.time
    monkeypatch.setattr(clock, "now", lambda: real() + jump_s)
    assert 99.0 < soon.left_s <= 100.0
    assert not soon.passed
    assert passed.passed


def test_a_deadline_survives_being_stored() -> None:
    deadline = Deadline.after(12.5)
    again = Deadline.parse(str(deadline))
    assert again.boot_id == deadline.boot_id
    assert again.left_s == pytest.approx(deadline.left_s, abs=0.01)


def test_after_a_reboot_a_deadline_falls_back_to_wall_time() -> None:
    before = Deadline("another boot", boot_s=1e9, unix_s=clock.now() + 50)
    assert 49 < before.left_s <= 50
    assert Deadline("another boot", boot_s=1e9, unix_s=clock.now() - 1).passed


@given(st.integers(0, 4_000_000_000_000))
def test_times_are_written_as_utc_and_read_back(milliseconds: int) -> None:
    text = clock.iso(milliseconds / 1000)
    assert text is not None
    assert text.endswith("Z")
    moment = datetime.datetime.fromisoformat(text)
    assert moment.utcoffset() == datetime.timedelta(0)
    assert abs(moment.timestamp() - milliseconds / 1000) <= 0.001


def test_no_time_stays_none() -> None:
    assert clock.iso(None) is None
