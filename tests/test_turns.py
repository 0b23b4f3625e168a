"""Comparing two processes in turns: what is counted, and that the host's drift cancels."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import turns

COUNTING = """
import sys, time
print("warm", flush=True)
for step in range(int(sys.argv[1])):
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    print("step", time.monotonic(), flush=True)
"""


def test_steps_cut_by_a_stop_and_those_before_the_first_are_left_out() -> None:
    assert turns.rounds([0.9, 0.8, 6.1, 0.4, 0.5, 7.0, 0.4, 9.9], turn_s=3.0) == [[0.4, 0.5], [0.4], []]


def test_what_the_host_does_to_a_round_does_not_move_the_ratio() -> None:
    hosts = (1.0, 1.7, 0.6, 2.5)
    ours = [9.0, *(step for host in hosts for step in (0.11 * host, 0.11 * host, 9.0))]
    theirs = [9.0, *(step for host in hosts for step in (0.10 * host, 0.10 * host, 9.0))]
    middle, low, high = turns.ratio(ours, theirs, turn_s=3.0)
    assert middle == pytest.approx(0.10 / 0.11)
    assert low == pytest.approx(high)


def test_one_round_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="1 rounds had whole steps of both"):
        turns.ratio([9.0, 0.1, 9.0], [9.0, 0.1, 9.0], turn_s=3.0)


def _player(folder: Path, name: str, steps: int) -> turns.Player:
    printed = folder / name
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", COUNTING, str(steps)], stdout=out, start_new_session=True, cwd=folder
        )
    return turns.Player(name, process, lambda: "warm" in printed.read_text(), turns.own_group(process))


def test_only_one_computes_at_a_time_and_all_come_to_their_end(tmp_path: Path) -> None:
    players = [_player(tmp_path, name, 60) for name in ("a", "b")]
    assert turns.take_turns(players, turn_s=0.9, limit_s=120) == []
    told = sorted(
        (float(line.split()[1]), name)
        for name in ("a", "b")
        for line in (tmp_path / name).read_text().splitlines()
        if line.startswith("step")
    )
    assert [player.process.returncode for player in players] == [0, 0]
    assert len(told) == 120
    # Were they side by side, nearly every step would follow one of the other; in turns only the first of each does.
    changes = sum(before[1] != after[1] for before, after in itertools.pairwise(told))
    assert changes <= 20


def test_what_has_not_ended_in_time_is_named_and_killed(tmp_path: Path) -> None:
    player = _player(tmp_path, "endless", 10**9)
    assert turns.take_turns([player], turn_s=0.2, limit_s=1.0) == ["endless"]
    assert player.process.returncode == -signal.SIGKILL
