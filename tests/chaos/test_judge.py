"""The judge of crash tests must see each kind of wrong: histories and traces made by hand, each with one fault."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from benchmarks.chaos import judge, power, tracing

GOOD = "1 1 1,1 1 2,1 1 3,1 2 3,1 2 4,1 2 5,1 2 6,2 1 1,2 1 2,2 1 3,2 1 4,2 1 5,2 1 6"
"""Run 1 with a checkpoint at step 2 and a second attempt from there, then run 2; six steps each."""


def judged(tmp_path: Path, history: str) -> list[str]:
    witness = tmp_path / "witness.txt"
    witness.write_text("".join(f"{line} 0.0\n" for line in history.split(",")))
    return judge.history(witness, steps=6, checkpoint_every=2, runs={1, 2})


def test_a_resumed_run_keeps_every_law(tmp_path: Path) -> None:
    assert judged(tmp_path, GOOD) == []


def test_a_run_may_go_on_from_where_it_was_asked_to_stop(tmp_path: Path) -> None:
    assert judged(tmp_path, GOOD.replace("1 2 3,", "")) == []


@pytest.mark.parametrize(
    ("right", "wrong", "fault"),
    [
        ("1 2 6,2 1 1", "1 2 6,1 1 4,2 1 1", "works after attempt 2"),
        ("1 2 3,1 2 4", "1 2 3,2 1 1,1 2 4", "beside another run"),
        ("1 2 4,", "", "leaves steps out"),
        ("1 2 4,", "1 2 4,1 2 4,", "repeats them"),
        ("1 1 1,1 1 2,1 1 3,1 2 3,1 2 4,", "1 1 1,1 1 2,1 2 4,", "only 2 were ever reached"),
        ("1 1 3,1 2 3,", "1 1 3,1 1 4,1 1 5,1 2 4,1 2 5,1 3 3,", "where no checkpoint can have been"),
        ("1 2 6,", "", "never brought to its end"),
        (",2 1 1,2 1 2,2 1 3,2 1 4,2 1 5,2 1 6", "", "run 2 was never"),
    ],
)
def test_a_history_with_a_fault_is_found_out(tmp_path: Path, right: str, wrong: str, fault: str) -> None:
    assert right in GOOD
    broken = judged(tmp_path, GOOD.replace(right, wrong, 1))
    assert any(fault in words for words in broken), broken


@pytest.mark.parametrize("change", ["content", "gone"])
def test_a_recorded_file_with_other_content_is_found_out(tmp_path: Path, change: str) -> None:
    file = tmp_path / "a.json"
    file.write_text("whole")
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    connection.execute("CREATE TABLE artifacts (run_id, name, path, sha256)")
    connection.execute("CREATE TABLE checkpoints (run_id, step, path, sha256)")
    connection.execute("INSERT INTO artifacts VALUES (1, 'a', 'a.json', ?)", (judge.sha256(file),))
    assert list(judge.believed(connection, tmp_path)) == []
    file.write_text("half") if change == "content" else file.unlink()
    assert len(list(judge.believed(connection, tmp_path))) == 1


SAFE = """\
7  mkdir("/lab/outputs/1", 0777) = 0
7  openat(AT_FDCWD, "/lab/outputs/1/.a.partial", O_WRONLY|O_CREAT, 0666) = 3</lab/outputs/1/.a.partial>
7  write(3</lab/outputs/1/.a.partial>, "x", 1) = 1
7  fsync(3</lab/outputs/1/.a.partial>) = 0
7  rename("/lab/outputs/1/.a.partial", "/lab/outputs/1/a") = 0
7  fsync(4</lab/outputs/1>) = 0
7  fsync(5</lab/outputs> <unfinished ...>
8  fsync(6</lab/results.db-wal>) = 0
7  <... fsync resumed>) = 0
7  fsync(6</lab/results.db-wal>) = 0
"""


def test_a_file_that_is_synced_renamed_and_its_folders_synced_survives_a_power_cut() -> None:
    disk = power.judged(SAFE, "/lab")
    assert (disk.renames, disk.commits, disk.broken) == (1, 2, [])


@pytest.mark.parametrize(
    ("left_out", "fault"),
    [
        ("7  fsync(3</lab/outputs/1/.a.partial>) = 0\n", "renamed before it was synced"),
        ("7  fsync(4</lab/outputs/1>) = 0\n", "before the folder outputs/N was synced"),
        ("7  <... fsync resumed>) = 0\n", "before the folder outputs was synced"),
    ],
)
def test_a_sync_that_is_left_out_is_found_out(left_out: str, fault: str) -> None:
    assert left_out in SAFE
    broken = power.judged(SAFE.replace(left_out, ""), "/lab").broken
    assert len(broken) == 1
    assert fault in broken[0]


def test_the_fatal_call_of_a_trace_is_the_one_that_never_returned(tmp_path: Path) -> None:
    log = tmp_path / "trace"
    log.write_text("7  fsync(3</lab/a>) = 0\n8  fsync(4</lab/run-12>) = ?\n7  +++ killed by SIGKILL +++\n")
    assert tracing.death(log, Path("/lab")) == tracing.Death("other", "fsync", "run-N")
    log.write_text("7  fsync(3</lab/a>) = 0\n7  +++ exited with 0 +++\n")
    assert tracing.death(log, Path("/lab")) is None
