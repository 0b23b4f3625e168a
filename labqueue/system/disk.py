"""Room on the workspace's disk: how much is kept free, and which errors mean that there was none. No runs."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from labqueue.domain.errors import DiskFull

GIB = 1024**3

RESERVE_BYTES = GIB
"""Kept free for the results store, logs and whatever else is on the disk. Assumption; on small disks RESERVE_SHARE."""

RESERVE_SHARE = 0.05
"""The most of a disk that the reserve may take; file systems keep about as much for themselves."""

_SAID = ("no space left on device", "disk is full", "disk quota exceeded", "no usable temporary directory found")

_TORN = ("PytorchStreamWriter", "unexpected pos")
"""What torch says when a file that it writes ends early, without the cause."""


def reserve_bytes(path: Path) -> int:
    """Bytes that stay free on the disk of ``path``."""
    return min(RESERVE_BYTES, int(shutil.disk_usage(path).total * RESERVE_SHARE))


def shortage(path: Path, more_bytes: int = 0) -> str | None:
    """Why ``more_bytes`` should not be written below ``path``, in words; None when there is room.

    ``path`` must exist.
    """
    free, needed = shutil.disk_usage(path).free, reserve_bytes(path) + more_bytes
    if free >= needed:
        return None
    return (
        f"the disk of {path} is nearly full: {_gib(free)} are free, {_gib(needed)} are needed; "
        "`labqueue gc` shows what may go"
    )


def temporary() -> Path:
    """The folder for temporary files, also when it is full and Python would take another (``tempfile.gettempdir``)."""
    given = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return Path(next(filter(None, given), "/tmp"))  # noqa: S108  # the system's own name for it


def elsewhere(error: BaseException, root: Path) -> str | None:
    """What an error that means a full disk says of another disk than the workspace's, and the cure; None: nothing.

    Where the error names no file, the folder for temporary files is the one that libraries write to unasked.
    """
    scratch = temporary()
    named = getattr(error, "filename", None)
    place = Path(named) if isinstance(named, str) else scratch
    place = next((above for above in (place, *place.parents) if above.is_dir()), scratch)
    try:
        if shortage(root) is not None or place.stat().st_dev == root.stat().st_dev:
            return None
        free = shutil.disk_usage(place).free
    except OSError:
        return None
    cure = f"make room in {place}"
    if place.is_relative_to(scratch):
        cure += ", or set TMPDIR to a folder with room"
    return f"the workspace's disk has room, that of {place} has {free / 1024**2:.1f} MiB free: {cure}"


def is_disk_full(error: BaseException, path: Path) -> bool:
    """Whether an error, or one that it was raised from, says that the disk of ``path`` (or a quota on it) is full."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        words = str(link)
        if isinstance(link, DiskFull) or (isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT)):
            return True
        if not isinstance(link, ValueError | TypeError) and any(said in words.lower() for said in _SAID):
            return True
        if any(said in words for said in _TORN) and shortage(path) is not None:
            return True
        link = link.__cause__ or link.__context__
    return False


def _gib(amount: int) -> str:
    return f"{amount / GIB:.2f} GiB"
