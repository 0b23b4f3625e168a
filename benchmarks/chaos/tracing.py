"""strace: killing a process at its N-th call of one kind, and telling what it was about to do."""

from __future__ import annotations

import collections
import re
import shutil
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos.workspace import Workspace

CURE = "install it with `apt-get install strace` (Debian, Ubuntu) or `dnf install strace` (Fedora), then run this again"

SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
SPAWNS = ("fork", "vfork", "clone", "clone3", "execve")
WRITES = ("pwrite64",)
"""SQLite writes its pages, its log and its header with these alone."""
REMOVALS = ("unlink", "unlinkat", "rmdir", "ftruncate")
FOLDERS = ("mkdir", "mkdirat")
MARK = "LABQUEUE_CHILD"
"""``labqueue.system.processes.MARK``; nothing of the lab is imported here."""

EVERY = (*SYNCS, *RENAMES, *SPAWNS, *WRITES, *REMOVALS, *FOLDERS)


class Missing(Exception):
    """A program that these proofs need is not on this machine."""


def needed() -> str:
    """The path of strace.

    Raises:
        Missing: it is not installed; the message says the cure.
    """
    found = shutil.which("strace")
    if found is None:
        raise Missing(f"strace is not installed: {CURE}")
    return found


def kill_at(call: str, n: int, log: Path, *, detach: bool) -> tuple[str, ...]:
    """The command that runs another one and kills whichever of its threads first makes its ``n``-th ``call``.

    The kernel does not execute a call at whose entry the process was killed. Counts are per thread. Threads and
    children are followed up to the point where they execute another program.
    """
    return (
        needed(), *(["-DDD"] if detach else []), "-f", *(["-b", "execve"] if call != "execve" else []), "--seccomp-bpf",
        "-y", "-o", str(log), "-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={n}",
    )  # fmt: skip


def watch(calls: tuple[str, ...], log: Path, *, detach: bool) -> tuple[str, ...]:
    """The command that runs another one and writes down its calls."""
    return (
        needed(), *(["-DDD"] if detach else []), "-f", "-b", "execve", "--seccomp-bpf", "-y", "-o", str(log),
        "-e", f"trace={','.join(calls)}",
    )  # fmt: skip


def most(log: Path) -> dict[str, int]:
    """By call, how often the thread that makes it most often makes it."""
    made = collections.Counter(re.findall(r"^(?:(\d+) +)?(\w+)\(", log.read_text(errors="replace"), re.M))
    counts: dict[str, int] = {}
    for (_, call), times in made.items():
        counts[call] = max(times, counts.get(call, 0))
    return counts


def first_child(workspace: Workspace, before: tuple[str, ...]) -> str:
    """The ``CHAOS_CHILD`` with which a worker starts its first child, and no later one, by the command ``before``.

    That interpreter is a script: the child stays the worker's own, with its own number.
    """
    script = workspace.root / ".site" / "python"
    taken = workspace.root / ".site" / "taken"
    # The lab ends every process that carries its mark as soon as the child is dead; a tracer without it can still write
    # down how the child died.
    tracer, *rest = (f"'{word}'" for word in before)
    quoted = " ".join(["env", "-u", MARK, tracer, "-E", f'"{MARK}=${MARK}"', *rest])
    script.write_text(
        f'#!/bin/sh\nif mkdir "{taken}" 2>/dev/null; then exec {quoted} "{sys.executable}" "$@"; fi\n'
        f'exec "{sys.executable}" "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@dataclass(frozen=True)
class Death:
    """What a traced process was about to do when it was killed."""

    thread: str
    """``main``, or ``other`` for any later thread or a child that had not executed its program yet."""
    call: str
    target: str
    """The file or folder, by its role; empty where there is none."""


def death(log: Path, root: Path) -> Death | None:
    """The death in a trace of ``kill_at``; None when the process survived."""
    text = log.read_text(errors="replace") if log.exists() else ""
    if not re.search(r"^(\d+ +)?\+\+\+ killed by SIGKILL", text, re.M):
        return None
    # The fatal call is the one that never returned.
    called = re.findall(r"^(?:(\d+) +)?(\w+)\((.*)= \?", text, re.M)
    if not called:
        called = re.findall(r"^(?:(\d+) +)?(\w+)\((.*)", text, re.M)
    thread, call, rest = called[-1] if called else ("", "?", "")
    return Death("main" if text.startswith(thread) else "other", call, role(rest, root))


def role(line: str, root: Path) -> str:
    """What a traced call works on, with numbers and names of runs taken out."""
    named = re.search(r"<(/[^>]*)>", line) or re.search(r'"(/[^"]*)"', line)
    if named is None:
        return ""
    path = named[1].removeprefix(str(root)).lstrip("/")
    return re.sub(r"\d+", "N", path) or "."
