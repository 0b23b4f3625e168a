"""Opens the lock files of a machine's cards. Knows nothing of who holds it.

Users share a machine's cards, so its locks lie where all of them can make and open files. Such a folder may hold
anything: what is opened there is looked at first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from labqueue.domain.errors import LabError

OPEN_TO_ALL = (Path("/run/lock"), Path("/tmp"))  # noqa: S108  # the machine's own, whatever $TMPDIR says
"""Where every user of a machine can make a folder. The first is never tidied up, and no service has one of its own, but
some distributions keep it to the system."""

SHARED = 0o1777
"""Everybody makes files, and nobody removes another's."""

_STRANGE = "is no plain file with one name, as a lock is that the lab has made"

CURE = "Have it put right, or set LABQUEUE_LOCKS to a folder that everybody who uses the card can write"


def lock_folder() -> Path:
    """Where the locks of cards live: one place for all workspaces, sessions and users of this machine.

    ``LABQUEUE_LOCKS`` names another. $TMPDIR does not count, since sessions differ in it, and so would the locks of
    one card. A container has files of its own: mount the folder into it, or let only one side use the card.

    Raises:
        LabError: there is no such place, or something else stands there.
    """
    given = os.environ.get("LABQUEUE_LOCKS")
    if given:
        return Path(given)
    for place in OPEN_TO_ALL:
        if place.is_dir() and place.stat().st_mode & SHARED == SHARED:
            return _shared(place / "labqueue")
    raise LabError(f"neither {' nor '.join(map(str, OPEN_TO_ALL))} is open to every user (drwxrwxrwt). {CURE}")


def _shared(folder: Path) -> Path:
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and found.st_mode & SHARED != SHARED:
            folder.chmod(SHARED)  # new, or whoever made it died in between
            found = folder.lstat()
    except OSError as error:
        raise LabError(f"cannot make {folder}, where the locks of cards live: {error.strerror}. {CURE}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & SHARED != SHARED:
        raise LabError(
            f"{folder} should be a folder open to every user (drwxrwxrwt), and is {stat.filemode(found.st_mode)} of "
            f"user {found.st_uid}. {CURE}"
        )
    return folder


def open_lock(path: Path) -> int:
    """Opens a lock's file, made where it is missing, for whoever may at least read it: a flock needs no more.

    Never through a link, and never another thing than a plain file with one name: it will be written to.

    Raises:
        LabError: it cannot be opened, or is something else.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
            if path.parent.stat().st_mode & stat.S_IWOTH:
                os.fchmod(handle, 0o666)  # whatever the umask, so that who comes next can say who holds it
        except FileExistsError:
            # In a sticky folder the kernel refuses O_CREAT for another's file (fs.protected_regular).
            try:
                handle = os.open(path, os.O_RDWR | flags)
            except PermissionError:
                handle = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise LabError(f"{path} {_STRANGE}. {CURE}") from error
        raise LabError(f"cannot open the lock {path}: {error.strerror}. {CURE}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(handle)
        raise LabError(f"{path} {_STRANGE}. {CURE}")
    return handle
