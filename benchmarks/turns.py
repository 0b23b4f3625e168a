"""Turns on one card for processes that are to be compared: each computes for some seconds while the others stand still.

Two long measurements one after the other compare what the host did meanwhile as much as what they are about: the same
script made 6,855 and 9,167 tokens a second within a day. Stopped and continued every few seconds (SIGSTOP, SIGCONT),
every process sees the same host; what a stopped one has queued on the card ends within a step.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labqueue.report.statistics.intervals import sample

TURN_S = 3.0
"""How long each computes at a time: several steps of the slowest, so that few of them are cut by a stop."""


@dataclass
class Player:
    """One process to compare, leader of its own group. ``groups`` gives the process groups that a stop is meant for,
    ``ready`` whether it has warmed up: from then on it takes turns."""

    name: str
    process: subprocess.Popen[bytes]
    ready: Callable[[], bool]
    groups: Callable[[], Sequence[int]]

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def tell(self, number: int) -> None:
        """Sends a signal to all of it."""
        for group in self.groups():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)


def take_turns(players: Sequence[Player], turn_s: float = TURN_S, limit_s: float = 540.0) -> list[str]:
    """Lets all warm up together, then each in turn until all have ended; returns the names of those that were killed
    since they had not ended after ``limit_s`` seconds."""
    until = time.monotonic() + limit_s
    waiting = list(players)
    while waiting and time.monotonic() < until:
        for player in list(waiting):
            if player.over or player.ready():
                player.tell(signal.SIGSTOP)
                waiting.remove(player)
        time.sleep(0.05)
    while time.monotonic() < until and (left := [player for player in players if not player.over]):
        for player in left:
            player.tell(signal.SIGCONT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                player.process.wait(turn_s if len(left) > 1 else max(0.1, until - time.monotonic()))
            player.tell(signal.SIGSTOP)
    late = [player for player in players if not player.over]
    for player in late:
        player.tell(signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(player.process.pid, signal.SIGKILL)
        player.process.wait()
    return [player.name for player in late]


def own_group(process: subprocess.Popen[bytes]) -> Callable[[], Sequence[int]]:
    """The group of a process that was started with ``start_new_session``."""
    return lambda: [] if process.poll() is not None else [process.pid]


def running_with(*words: str) -> list[int]:
    """Groups of living processes whose command line holds all ``words``."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if all(word in line for word in words):
                    found.add(os.getpgid(int(entry.name)))
    return sorted(found)


def rounds(step_s: Sequence[float], turn_s: float = TURN_S) -> list[list[float]]:
    """Seconds of steps by turn, without those that a stop has cut: such a one lasts longer than another's turn. What
    came before the first stop is left out: the others were still loading then."""
    found: list[list[float]] = [[]]
    for each in step_s:
        if each < turn_s:
            found[-1].append(each)
        else:
            found.append([])
    return found[1:]


def ratio(ours_s: Sequence[float], theirs_s: Sequence[float], turn_s: float = TURN_S) -> tuple[float, float, float]:
    """Speed of ours over theirs, with its 95 % t interval: the geometric mean, over the rounds that both had, of their
    median steps' ratio. What the host did to one round it did to both of its turns.

    Raises:
        ValueError: fewer than two rounds had steps of both.
    """
    turns = zip(rounds(ours_s, turn_s), rounds(theirs_s, turn_s), strict=False)
    both = [(ours, theirs) for ours, theirs in turns if ours and theirs]
    if len(both) < 2:
        raise ValueError(f"{len(both)} rounds had whole steps of both; a ratio takes two")
    found = sample([math.log(statistics.median(theirs) / statistics.median(ours)) for ours, theirs in both])
    low, high = found.interval()
    return math.exp(found.mean), math.exp(low), math.exp(high)
