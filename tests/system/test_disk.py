"""Room on the disk: recognised when it is gone, looked at before anything is written that needs it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos import environment
from benchmarks.chaos.tracing import Missing
from labqueue.domain.errors import DiskFull
from labqueue.system.disk import GIB, RESERVE_BYTES, RESERVE_SHARE, elsewhere, is_disk_full, reserve_bytes, shortage
from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab
from tests.store.factories import executed, submitted


def wrapped(error: Exception) -> Exception:
    outer = RuntimeError("while saving")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        DiskFull("the disk is nearly full"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("database or disk is full"),
        FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp']"),
    ],
)
def test_a_full_disk_is_recognised_also_behind_another_error(error: Exception, tmp_path: Path) -> None:
    assert is_disk_full(error, tmp_path)
    assert is_disk_full(wrapped(error), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        ValueError("no space left on device is what this text says"),
        RuntimeError("unexpected pos 64 vs 0"),
    ],
)
def test_other_errors_are_not_taken_for_it_while_there_is_room(error: Exception, tmp_path: Path) -> None:
    assert not is_disk_full(error, tmp_path)


def test_a_shortage_is_told_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert shortage(tmp_path) is None
    words = shortage(tmp_path, more_bytes=free)
    assert words is not None
    assert "labqueue gc" in words
    assert f"{free / GIB:.0f}."[:2] in words


def test_the_reserve_is_never_more_than_a_twentieth_of_the_disk(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert reserve_bytes(tmp_path) == min(RESERVE_BYTES, int(total * RESERVE_SHARE))


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB of which 64 KiB are free: something can be begun there, and nothing ended."""
    try:
        with environment.mounted(tmp_path, "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
            (disk / "ballast").write_bytes(b"x" * (1024 - 64) * 1024)
            yield disk
    except Missing as missing:
        pytest.skip(f"A FULL DISK BESIDE THE WORKSPACE IS NOT TESTED: {missing}")


WRITES = """
import tempfile
from labqueue.domain import kind
class Params(kind.Params):
    pass
def run(params, rec):
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x" * 2**20)
        file.write(b"x" * 2**20)
    rec.metric("value", 1.0, 1)
"""


def test_a_run_without_room_for_its_temporary_files_is_kept_and_the_queue_says_which_disk_is_full(
    other_disk: Path, tmp_path: Path
) -> None:
    lab = Lab(tmp_path / "lab")
    lab.root.mkdir()
    extra = own_kinds.install(lab.root, {"writes": WRITES})
    assert lab.run("submit", lab.text("name: w\nkind: writes\n", "w"), "--profile", "cpu", **extra).code == 0
    worker = lab.run("worker", "--drain", "--device", "cpu", **extra, TMPDIR=str(other_disk))
    assert worker.code == 1, worker.err
    assert "the queue is paused: run 1 could not write: " in worker.err
    assert f"that of {other_disk} has 0.1 MiB free: make room in {other_disk}, or set TMPDIR" in worker.err
    assert "the workspace's disk has room" in worker.err
    assert call(lab, "show", 1, "--json").json["state"] == "queued"
    call(lab, "resume", "queue")
    assert lab.run("worker", "--drain", "--device", "cpu", **extra).code == 0
    view = call(lab, "show", 1, "--json").json
    assert [attempt["outcome"] for attempt in view["attempts"]] == ["disk_full", "succeeded"]


def test_commands_work_beside_a_full_folder_for_temporary_files(other_disk: Path, lab: Lab) -> None:
    db = lab.db
    submitted(db)
    executed(db, points=[("value", step, float(step)) for step in range(9_000)])
    file = lab.root / "x.tar"
    answer = call(lab, "export", "--all", "--archive", file, TMPDIR=str(other_disk))
    assert answer.code == 0, answer.err
    assert file.stat().st_size > other_disk.joinpath("ballast").stat().st_size / 8
    assert [path.name for path in lab.root.glob(".x*")] == []
    full = other_disk / "y.tar"
    answer = call(lab, "export", "--all", "--archive", full)
    assert (answer.code, "Traceback" in answer.err) == (2, False)
    assert str(full) in answer.err
    assert os.listdir(other_disk) == ["ballast"]


def test_an_error_names_the_disk_that_it_is_about(other_disk: Path, tmp_path: Path) -> None:
    words = elsewhere(OSError(errno.ENOSPC, "No space left on device", str(other_disk / "cache" / "a")), tmp_path)
    assert words is not None
    assert f"make room in {other_disk}" in words
    assert elsewhere(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "a")), tmp_path) is None
