"""Starting, watching and ending the process that executes one attempt. Knows nothing of what it computes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from labqueue import kinds
from labqueue.domain.text import printable, settled
from labqueue.settings import Settings
from labqueue.store.runs.attempts import Ref
from labqueue.system.devices import INSIDE
from labqueue.system.processes import MARK, adopt, end_group, end_marked
from labqueue.system.provenance import SOURCES, importable

LOG_CAP_BYTES = 64 * 1024**2
"""A log that grows past this keeps its first half; a runaway print must not fill the disk."""

WARM_GIB = 3.0
"""Memory that must be free for a waiting process to import ahead: it holds 0.9 GiB then, and the running run may still
grow. Assumption."""

READY_S = 60.0
"""The longest that the next run waits for the imports of a starter, which take some 10 s; then it is started afresh."""

ANSWER_S = 5.0
"""How long a starter may take to fork; it takes some 0.05 s. A lease outlasts it."""

LOG_LOOK_S = 0.05
"""Between looks at a log's size: what a process can write in that time is what it may exceed the cap by."""


@dataclass
class Forked:
    """A child that a starter forked, as far as a worker deals with a process of ``subprocess``."""

    pid: int
    stdin: BinaryIO
    _status: int | None = None

    def poll(self) -> int | None:
        """Its exit status as that of ``subprocess``; None while it lives."""
        return self._reap(os.WNOHANG)

    def wait(self) -> int:
        """Waits for its end and returns its exit status."""
        status = self._reap(0)
        assert status is not None, "waited for"
        return status

    def kill(self) -> None:
        """Kills it, unless it has been waited for: its number may be another's then."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _reap(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


@dataclass
class Child:
    """A running attempt's process, leader of its own group."""

    process: subprocess.Popen[bytes] | Forked
    log: Path
    handle: int
    """A pidfd: readable once the process has ended."""
    mark: str
    """In the environment of this process and of all that it starts, however they detach themselves."""
    started_s: float = field(default_factory=time.monotonic)
    ending: str | None = None
    """Why we are ending it: ``cancel``, ``pause``, ``timeout``, ``hours``, ``moved`` or ``shutdown``."""
    kill_at_s: float | None = None
    killed: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        # Not in the worker's main thread: that one may wait a minute for a locked database.
        threading.Thread(target=self._keep_log_short, name="log", daemon=True).start()

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_s

    def end(self, why: str, grace_s: float) -> None:
        """Asks it to checkpoint and stop; after ``grace_s`` seconds ``enforce`` kills its group."""
        if self.ending is None:
            self.ending = why
            self.kill_at_s = time.monotonic() + grace_s
            # Its helpers are left alone: a data loader that dies under it would make a failure of a checkpoint.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.handle, signal.SIGTERM)

    def enforce(self) -> None:
        """Kills the group once the grace period is over."""
        if self.kill_at_s is not None and time.monotonic() >= self.kill_at_s:
            self.killed = True
            end_group(self.process.pid, signal.SIGKILL)

    def _keep_log_short(self) -> None:
        while not self.ended.wait(LOG_LOOK_S):
            # A full disk lets nothing be appended, but the cut comes first and makes room.
            with contextlib.suppress(OSError):
                cut(self.log)

    def wait(self, wakeup: int, timeout_s: float) -> int | None:
        """Waits for its end, at most ``timeout_s``, or until ``wakeup`` is readable; returns the exit status."""
        ready, _, _ = select.select([self.handle, wakeup], [], [], timeout_s)
        if self.handle not in ready:
            return None
        # It is dead but not yet reaped, so its number is still its own: what it left in its group ends now.
        end_group(self.process.pid, signal.SIGKILL)
        os.close(self.handle)
        status = self.process.wait()
        end_marked(self.mark)
        self.ended.set()
        with contextlib.suppress(OSError):
            cut(self.log)
        return status


@dataclass(frozen=True)
class Standby:
    """A child that has imported the lab and waits on its standard input to be told which attempt is its own.

    Starting Python and the lab costs some 0.5 s; done while the run before is still computing, it costs the queue
    nothing. It is thrown away when the lab's sources have changed since, so that no process mixes two versions.
    """

    process: subprocess.Popen[bytes] | Forked
    sources_at: float
    mark: str

    @property
    def usable(self) -> bool:
        """Whether it is alive and has the sources as they are now."""
        return self.process.poll() is None and self.sources_at == newest_source()

    def warm(self, kind: str) -> None:
        """Lets it import what runs of a kind need while it waits, where there is memory beside the running run."""
        if psutil.virtual_memory().available > WARM_GIB * 2**30:
            self._send({"ahead": kind})

    def assign(self, ref: Ref, log: Path) -> None:
        """Tells it which attempt is its own; it hears nothing more."""
        self._send({"run": ref.run_id, "attempt": ref.attempt, "log": str(log)})
        assert self.process.stdin is not None, "made with a pipe"
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def _send(self, message: dict[str, object]) -> None:
        assert self.process.stdin is not None, "made with a pipe"
        with contextlib.suppress(BrokenPipeError):
            # One that died meanwhile is found dead by whoever waits for it.
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def discard(self) -> None:
        """Ends it; its input closes, so it would end by itself too."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()


def newest_source() -> float:
    """When a source file of the lab last changed, unix seconds."""
    return max(path.stat().st_mtime for path in SOURCES.rglob("*.py"))


def prepare(settings: Settings, card: str | None, lock: Path, mark: str) -> Standby:
    """Starts a child in waiting, whose own mark begins with ``mark``.

    Call it from the main thread: the child dies with the calling thread. It sees the worker's card (its UUID, None: no
    card) and no other: a library that found two would compute on both.
    """
    sources_at = newest_source()
    mark = f"{mark}{uuid.uuid4().hex}"
    command = [sys.executable, "-m", "labqueue.attempt.runner", *_words(settings, card, lock)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        cwd=settings.root,  # where relative paths of a spec start, wherever the worker was started
        env=_environment(card, mark), start_new_session=True,
    )  # fmt: skip
    return Standby(process, sources_at, mark)


def _words(settings: Settings, card: str | None, lock: Path) -> list[str]:
    words = ["--root", str(settings.root), "--device", "cpu" if card is None else INSIDE]
    words += ["--lock", str(lock), "--parent", str(os.getpid())]
    return words if settings.memory_gib is None else [*words, "--memory-gib", str(settings.memory_gib)]


def _environment(card: str | None, mark: str) -> dict[str, str]:
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": card or "",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": importable(),
        MARK: mark,
    }


class Starter:
    """A process that has imported what runs of a kind need, and forks a child in waiting whenever it is asked.

    Every answer is waited for with a bound; one that does not come ends it, and children are started afresh.
    """

    def __init__(self, settings: Settings, lock: Path, mark: str, kind: str) -> None:
        """Starts it, for attempts on a CPU; call it from the main thread: it dies with the calling thread."""
        self.kind = kind
        self._mark = mark
        self._packages = _packages_now()
        self._sources_at = newest_source()
        self._ready = False
        self._give_up_s = time.monotonic() + READY_S
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", "labqueue.attempt.starter", "--socket", str(theirs.fileno()), "--kind", kind]
        with theirs:
            self._process = subprocess.Popen(
                [*command, *_words(settings, None, lock)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                cwd=settings.root, env=_environment(None, f"{mark}{uuid.uuid4().hex}"),
                start_new_session=True, pass_fds=[theirs.fileno()],
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it is alive, has the sources and packages as they are now, and does not import for too long."""
        fresh = self._sources_at == newest_source() and self._packages == _packages_now()
        on_time = self._ready or time.monotonic() < self._give_up_s
        return fresh and on_time and self._process.poll() is None

    def wait_ready(self, wakeup: int) -> bool:
        """Waits for the end of its imports, at most until they take too long, or until ``wakeup`` is readable."""
        if not self._ready:
            there = self._socket.fileno()
            ready, _, _ = select.select([there, wakeup], [], [], max(0.0, self._give_up_s - time.monotonic()))
            if there in ready:
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    self._ready = json.loads(self._socket.recv(65536)).get("ready") == self.kind
        return self._ready

    def fork(self) -> Standby | None:
        """A child in waiting; None where it does not answer: then it is of no further use."""
        if not self._ready:
            return None
        mark = f"{self._mark}{uuid.uuid4().hex}"
        hears, speaks = os.pipe2(os.O_CLOEXEC)
        pid: int | None = None
        try:
            # Only while a child comes: what others leave behind is the first process's to wait for.
            adopt(True)
            try:
                self._socket.settimeout(ANSWER_S)
                socket.send_fds(self._socket, [json.dumps({"mark": mark}).encode()], [hears])
                answers: dict[str, int] = {}
                while not {"pid", "began"} <= answers.keys():
                    answers |= json.loads(self._socket.recv(65536))
                    pid = answers.get("pid", pid)
            finally:
                os.close(hears)
                adopt(False)
        except (OSError, ValueError):
            os.close(speaks)  # one that was forked after all hears that nothing comes, and ends
            self.discard()
            if pid is not None:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
            return None
        assert pid is not None, "answered"
        return Standby(Forked(pid, os.fdopen(speaks, "wb", 0)), self._sources_at, mark)

    def discard(self) -> None:
        """Ends it; attempts that it forked go on."""
        self._ready = False
        self._socket.close()
        self._process.kill()
        self._process.wait()


def worth_a_starter(kind: str) -> bool:
    """Whether runs of a kind import enough to fork them: of the lab's own kinds, where there is memory for it.

    Another's kind is read anew for each run, since nobody knows what its module does when it is imported.
    """
    if os.environ.get("LABQUEUE_FRESH_CHILDREN") or psutil.virtual_memory().available <= WARM_GIB * 2**30:
        return False
    own = SOURCES / "kinds"
    if not ((own / f"{kind}.py").is_file() or (own / kind / "__init__.py").is_file()):
        return False
    try:
        return bool(kinds.get(kind).imports("cpu"))
    except Exception:  # whatever is wrong with it is told by its run
        return False


def _packages_now() -> tuple[tuple[str, int], ...]:
    """When the folders that hold packages last changed: another version is another entry there.

    Others that Python imports from do not count: the workspace, in which something is always written, can be one.
    """
    found = []
    for place in map(Path, sys.path):
        with contextlib.suppress(OSError):
            if next(place.glob("*.dist-info"), None) is not None:
                found.append((str(place), place.stat().st_mtime_ns))
    return tuple(found)


def start(standby: Standby, ref: Ref, log: Path) -> Child:
    """Gives a claimed attempt to a waiting child; it opens ``log`` for whatever it prints."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.touch()
    standby.assign(ref, log)
    return Child(standby.process, log, os.pidfd_open(standby.process.pid), standby.mark)


def cut(log: Path) -> None:
    """Cuts a log that has passed its cap to the first half of it."""
    if log.stat().st_size > LOG_CAP_BYTES:
        os.truncate(log, LOG_CAP_BYTES // 2)
        with log.open("ab") as file:
            file.write(f"\n[labqueue: log passed {LOG_CAP_BYTES >> 20} MiB; its later part was cut]\n".encode())


def oom_kills() -> int | None:
    """How often the kernel has killed a process for memory since boot: ``/proc/vmstat``, oom_kill."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def last_words(log: Path, limit: int = 300) -> str:
    """The last line of a log that says something; empty where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 8192))
            tail = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [" ".join(line.split()) for line in printable(settled(tail)).split("\n") if line.strip()]
    return lines[-1][-limit:] if lines else ""
