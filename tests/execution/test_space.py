"""Room on the disk: recognised when it is gone, looked at before anything is written that needs it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from labqueue.domain.errors import DiskFull
from labqueue.execution import space


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
    ],
)
def test_a_full_disk_is_recognised_also_behind_another_error(error: Exception, tmp_path: Path) -> None:
    assert space.is_disk_full(error, tmp_path)
    assert space.is_disk_full(wrapped(error), tmp_path)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        ValueError("no space left on device is what this text says"),
        RuntimeError("unexpected pos 64 vs 0"),
    ],
)
def test_other_errors_are_not_taken_for_it_while_there_is_room(error: Exception, tmp_path: Path) -> None:
    assert not space.is_disk_full(error, tmp_path)


def test_a_shortage_is_told_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert space.shortage(tmp_path) is None
    words = space.shortage(tmp_path, more_bytes=free)
    assert words is not None
    assert "labqueue gc" in words
    assert f"{free / space.GIB:.0f}."[:2] in words


def test_the_reserve_is_never_more_than_a_twentieth_of_the_disk(tmp_path: Path) -> None:
    total = shutil.disk_usage(tmp_path).total
    assert space.reserve_bytes(tmp_path) == min(space.RESERVE_BYTES, int(total * space.RESERVE_SHARE))
