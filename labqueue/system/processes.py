"""Identifies processes and locks devices. Knows processes and locks; knows nothing of runs' content.

A process is named by boot id, process id and start time together: ids are used again, and after a reboot they mean
nothing. The lock is a flock on a file per device that the kernel gives back when its holder dies; for a GPU the file
is one for the whole machine, since two workspaces share the card.

Numbers of processes lie in files that can be copied, so no process is ended for being named in one: it must also be of
this workspace (``belongs``).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from stat import S_IWUSR

from labqueue.settings import Place
from labqueue.system.clock import Deadline, boot_id
from labqueue.system.lock_files import open_lock


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for a later one with the same number."""

    boot_id: str
    pid: int
    start: int
    """Clock ticks from boot to the process's start: field 22 of ``/proc/PID/stat``, proc(5)."""

    @property
    def alive(self) -> bool:
        """Whether that very process still exists; a zombie is dead."""
        return self.boot_id == boot_id() and start_of(self.pid) == self.start


END_S = 1.0
"""How long a process that has closed its files may take to be gone. Assumption: it is a matter of milliseconds."""


def kill(identity: Identity) -> None:
    """Kills that very process, if it still lives; a later one with its number is never met."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(identity.pid)
        try:
            if identity.alive:
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)


def start_of(pid: int) -> int | None:
    """Start time of a living process in clock ticks after boot; None when there is none, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name may hold spaces and brackets, so fields are counted from its closing bracket.
    fields = stat[stat.rindex(")") + 2 :].split(" ")
    return None if fields[0] in ("Z", "X") else int(fields[19])


def myself() -> Identity:
    """The identity of this process."""
    pid = os.getpid()
    start = start_of(pid)
    assert start is not None, "this process is alive"
    return Identity(boot_id(), pid, start)


def die_with_parent(parent: int) -> None:
    """Asks the kernel for SIGTERM when the parent dies (prctl(2), PR_SET_PDEATHSIG = 1); raises if it already has.

    The signal comes when the parent's *thread* ends, so whoever spawns this process does so from its main thread.
    """
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit(f"the worker (process {parent}) died before its child started")


def end_group(pid: int, signum: int) -> None:
    """Sends a signal to a process group; one that is gone already is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)


MARK = "LABQUEUE_CHILD"
"""Environment variable of a run's process: ``mark_of`` its workspace and device, then a name of its own."""


def adopt(orphans: bool) -> None:
    """Makes this process the parent of what its descendants leave behind, or no longer (prctl(2), 36).

    Raises:
        OSError: this kernel does not do it.
    """
    if ctypes.CDLL(None, use_errno=True).prctl(36, int(orphans), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def carry_mark(mark: str) -> None:
    """Replaces the mark of this process, a fork, where others see it: ``/proc/PID/environ`` is its own memory.

    Raises:
        OSError: it carries none of the same length, or others would not see the new one.
    """
    shown = Path("/proc/self/environ").read_bytes()
    known = f"{MARK}={os.environ[MARK]}".encode()
    place = (b"\0" + shown).find(b"\0" + known + b"\0")
    wanted = f"{MARK}={mark}".encode()
    if place < 0 or len(known) != len(wanted):
        raise OSError(f"the mark of process {os.getpid()} cannot be replaced")
    stat = Path("/proc/self/stat").read_text()
    # Field 50, env_start: proc(5).
    start = int(stat[stat.rindex(")") + 2 :].split()[47])
    ctypes.memmove(start + place, wanted, len(wanted))
    os.environ[MARK] = mark
    if Path("/proc/self/environ").read_bytes() != shown[:place] + wanted + shown[place + len(wanted) :]:
        raise OSError(f"the mark of process {os.getpid()} was not replaced")


def mark_of(database: Place, lock: Path) -> str:
    """What the marks of all runs of a workspace on a device begin with: files, since paths can come to mean others.

    ``lock`` is the device's compute lock, a file that is there.
    """
    return f"{database}:{Place.of(lock)}:"


def belongs(pid: int, database: Place) -> bool | None:
    """Whether a process is of the workspace with this results store: it has the file open, or a run of it started it.

    None where that cannot be seen: the process is another user's.
    """
    try:
        if b"\0%s=%s:" % (MARK.encode(), str(database).encode()) in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return True
        return _has_open(pid, database)
    except PermissionError:
        return None
    except OSError:
        return False


def lives(identity: Identity, database: Place, wait_s: float = END_S) -> bool | None:
    """Whether a process that this results store names lives and is of its workspace; None: of another, a copy's say.

    One whose workspace cannot be seen, since it is another user's, is taken for this one's.
    """
    give_up = time.monotonic() + wait_s
    while identity.alive:
        if belongs(identity.pid, database) is not False:
            return True
        # A process that ends has closed its files a moment before it is gone.
        if time.monotonic() > give_up:
            return None
        time.sleep(0.02)
    return False


def _has_open(pid: int, place: Place, *, writing: bool = False) -> bool:
    """Whether a process has a file open; ``writing``: so that it may write to it, as who copies it may not."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            path = f"/proc/{pid}/fd/{name}"
            # The mode of the link is that of the open file: proc(5).
            if place.is_that_of(os.stat(path)) and (not writing or os.lstat(path).st_mode & S_IWUSR):
                return True
    return False


def marked(mark: str) -> list[int]:
    """Process ids of this user in whose environment ``MARK`` begins with ``mark``; zombies have none.

    The environment of ``/proc/PID/environ`` is that of the last exec, so forks have their parent's.
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                content = Path(f"/proc/{entry}/environ").read_bytes()
                if content.startswith(wanted) or b"\0" + wanted in content:
                    found.append(int(entry))
    return found


def end_marked(mark: str) -> list[int]:
    """Kills every process that carries ``mark`` and waits until they are gone; returns them.

    A helper that has left its group (setsid, a double fork) would go on computing, and keep memory of the device.
    """
    ended: list[int] = []
    give_up = time.monotonic() + 5.0
    while (alive := marked(mark)) and time.monotonic() < give_up:
        for pid in alive:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended += [pid for pid in alive if pid not in ended]
        time.sleep(0.002)
    return ended


@dataclass
class Lock:
    """An exclusive flock on a device that tells others who holds it."""

    path: Path
    handle: int

    def describe(self, words: dict[str, str | int | float]) -> None:
        """Writes who holds the lock; ``lease`` among the words says until when the holder is believed alive.

        On a full disk nothing is written: the lock holds all the same.
        """
        text = json.dumps({**asdict(myself()), **words}).encode()
        with contextlib.suppress(OSError):
            os.pwrite(self.handle, text.ljust(4096), 0)

    @property
    def place(self) -> Place:
        """The locked file, wherever it is now, and the path where it should be."""
        status = os.fstat(self.handle)
        return Place(self.path, status.st_dev, status.st_ino)

    def release(self) -> None:
        """Gives the device back."""
        os.close(self.handle)
        _held.discard(self.handle)


_held: set[int] = set()


def _close_in_fork() -> None:
    # A forked helper (a data loader's worker, say) would keep the flock after its parent's death.
    for handle in list(_held):
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_fork)


def lock(path: Path, wait_s: float = 0.0) -> Lock | None:
    """Takes the exclusive lock, trying for ``wait_s``; None when somebody else keeps it.

    Raises:
        LabError: the file cannot be opened, or is none of this lab's making.
    """
    handle = open_lock(path)
    give_up = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= give_up:
                os.close(handle)
                return None
            time.sleep(0.02)
        else:
            taken = Lock(path, handle)
            if taken.place.changed:  # removed meanwhile: who comes next would lock another file
                os.close(handle)
                handle = open_lock(path)
                continue
            _held.add(handle)
            return taken


def holder(path: Path) -> dict[str, str | int | float]:
    """What the lock file says of its holder; empty when it says nothing readable."""
    try:
        words = json.loads(path.read_bytes().split(b"\0")[0].strip() or b"{}")
    except (OSError, ValueError):
        return {}
    return words if isinstance(words, dict) else {}


def holders(path: Path) -> list[int]:
    """Process ids that have the lock file open as ``lock`` opens it, as no program that reads or copies it does.

    After a fork, ``/proc/locks`` can name a process that is dead.
    """
    found = []
    try:
        wanted = Place.of(path)
    except FileNotFoundError:
        return []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if _has_open(int(entry), wanted, writing=True):
                found.append(int(entry))
    return found


def identity_in(words: dict[str, str | int | float]) -> Identity | None:
    """The identity that a lock file names, or None."""
    try:
        return Identity(str(words["boot_id"]), int(words["pid"]), int(words["start"]))
    except (KeyError, ValueError):
        return None


def lease_left_s(words: dict[str, str | int | float]) -> float:
    """Seconds for which a holder is still to be believed alive; 0 or less once its lease has lapsed."""
    try:
        return Deadline.parse(str(words["lease"])).left_s
    except (KeyError, ValueError):
        return 0.0
