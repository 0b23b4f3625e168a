"""Files that survive a power cut, and their hashes. Knows nothing of runs.

Whatever is believed later is written aside, synced, renamed into place, and its folder synced: a reader finds the
whole file or none.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

WAIT_S = 0.1
"""Between two looks at a lock that another process holds."""


def sync(path: Path) -> None:
    """Forces a file or folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Forces every file below a folder, then every folder, then itself to the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(parent) / name)
        sync(Path(parent))


def make_folder(folder: Path, root: Path) -> None:
    """Makes a folder below ``root``, durably: a power cut that took it away would take what is published in it."""
    folder.mkdir(parents=True, exist_ok=True)
    while folder != root:
        folder = folder.parent
        sync(folder)


def publish(aside: Path, target: Path) -> None:
    """Moves a complete file or folder into its place, durably; what stood there before is replaced."""
    if aside.is_dir():
        sync_tree(aside)
        if target.exists():
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            aside.rename(target)
            sync(target.parent)
            shutil.rmtree(old, ignore_errors=True)
            return
    else:
        sync(aside)
    os.replace(aside, target)
    sync(target.parent)


@contextlib.contextmanager
def exclusive(lock: Path, ask: Callable[[], None]) -> Iterator[None]:
    """Waits until this process alone holds a lock's file, and keeps it for the context; ``ask`` is called while it
    waits, and raises to give up. Whoever dies gives it back. On a disk without locks there is none.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        while not _locked(handle):
            ask()
            time.sleep(WAIT_S)
        yield
    finally:
        os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise
    return True


def write_bytes(target: Path, content: bytes, *, shared: bool = False) -> None:
    """Writes a whole file, durably. ``shared``: others may write it at the same time; the last one's stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # A writer that is alone finds what it left when it was killed; others must not write into each other's.
    mine = f".{os.getpid()}-{threading.get_native_id()}" if shared else ""
    aside = target.with_name(f".{target.name}{mine}.partial")
    try:
        aside.write_bytes(content)
        publish(aside, target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file; of a folder, that of its sorted ``relative path, file hash`` lines."""
    if path.is_dir():
        lines = [f"{name}\0{sha256(path / name)}\n" for name in tree(path)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree(folder: Path) -> list[str]:
    """Relative paths of all files below a folder, sorted."""
    return sorted(
        (Path(parent) / name).relative_to(folder).as_posix() for parent, _, names in os.walk(folder) for name in names
    )


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum((path / name).stat().st_size for name in tree(path)) if path.is_dir() else path.stat().st_size


def free_bytes(path: Path) -> int:
    """Bytes that this user can still write on the disk of ``path``."""
    return shutil.disk_usage(path).free


def cache_folder() -> Path:
    """Where converted weights, hashes and measured speeds are kept: ``LABQUEUE_CACHE``, else ``labqueue`` in the
    user's cache folder."""
    given = os.environ.get("LABQUEUE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(given).expanduser() if given else base.expanduser() / "labqueue"
