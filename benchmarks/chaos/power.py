"""Power loss: from traces, whether what is believed later was on the disk before anybody could believe it.

SIGKILL never tests a missing fsync: the kernel keeps what was written. So the order of calls is judged: content is
synced before its rename; the rename's folder, and every folder made on the way to it, before the next commit of the
database by the same thread.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos import judge, tracing
from benchmarks.chaos.workspace import WORKER, Workspace, lines, until

CALLS = (
    "open", "openat", "creat", "write", "writev", "pwrite64", "ftruncate", "copy_file_range", "sendfile",
    *tracing.SYNCS, *tracing.RENAMES, *tracing.FOLDERS, *tracing.REMOVALS,
)  # fmt: skip

WRITING = ("write", "writev", "pwrite64", "ftruncate", "copy_file_range", "sendfile")

DISPOSABLE = re.compile(r"/(outputs/wakeups\.db|outputs/locks/|\.site/|commands\.log|__pycache__/)")
"""Never believed: wake-ups, locks, what this proof itself writes."""


@dataclass
class Disk:
    """What a power cut would leave, as far as the calls of a trace promise it."""

    root: str
    unsynced: set[str] = field(default_factory=set)
    """Files with content that is not on the disk."""
    entries: dict[str, set[str]] = field(default_factory=dict)
    """By folder, names in it that are not on the disk."""
    renamed: dict[str, list[str]] = field(default_factory=dict)
    """By thread, what was renamed into place since its last commit."""
    renames: int = 0
    commits: int = 0
    broken: list[str] = field(default_factory=list)

    def call(self, thread: str, name: str, rest: str) -> None:
        """Takes one successful call into account; ``rest`` is what strace prints after the bracket."""
        if name in tracing.SYNCS:
            self._sync(thread, _handle(rest))
        elif name in tracing.RENAMES:
            source, target = _paths(rest)
            self._rename(thread, source, target)
        elif name in tracing.FOLDERS:
            self._enter(_paths(rest)[0])
        elif name in ("open", "openat", "creat"):
            if "O_CREAT" in rest or name == "creat":
                self._enter(_handle(rest.rpartition("=")[2]))
        elif name in WRITING:
            path = _written(name, rest)
            if self._ours(path):
                self.unsynced.add(path)

    def _ours(self, path: str) -> bool:
        return path.startswith(self.root + "/") and not DISPOSABLE.search(path[len(self.root) :])

    def _enter(self, path: str) -> None:
        if self._ours(path):
            folder, _, name = path.rpartition("/")
            self.entries.setdefault(folder, set()).add(name)

    def _sync(self, thread: str, path: str) -> None:
        self.unsynced.discard(path)
        self.entries.pop(path, None)
        if path in (f"{self.root}/results.db-wal", f"{self.root}/results.db"):
            self.commits += 1
            for target in self.renamed.pop(thread, []):
                self.believe(target)

    def _rename(self, thread: str, source: str, target: str) -> None:
        if not self._ours(target):
            return
        self.renames += 1
        inside = [path for path in self.unsynced if path == source or path.startswith(source + "/")]
        inside += [folder for folder in self.entries if folder == source or folder.startswith(source + "/")]
        if inside:
            self.broken.append(f"renamed before it was synced: {self._short(target)}: {self._short(inside[0])}")
        self._enter(target)
        # Only what stays under its final name is believed.
        if not Path(target).name.startswith("."):
            self.renamed.setdefault(thread, []).append(target)

    def believe(self, target: str) -> None:
        """Checks that whoever now finds ``target`` would find it after a power cut too."""
        folder, _, name = target.rpartition("/")
        while len(folder) >= len(self.root):
            if name in self.entries.get(folder, ()):
                words = f"committed before the folder {self._short(folder)} was synced, which holds {name}"
                self.broken.append(f"{words} (for {self._short(target)})")
            folder, _, name = folder.rpartition("/")

    def _short(self, path: str) -> str:
        return re.sub(r"(/|-)\d+", r"\1N", path.removeprefix(self.root + "/"))


def _paths(rest: str) -> list[str]:
    return [path for path in re.findall(r'"([^"]*)"', rest) if path.startswith("/")]


def _handle(text: str) -> str:
    found = re.search(r"<(/[^>]*)>", text)
    return found[1] if found else ""


def _written(name: str, rest: str) -> str:
    """The file that a call writes to: the first handle, but ``copy_file_range(in, …, out, …)``."""
    handles: list[str] = re.findall(r"\d+<(/[^>]*)>", rest)
    if not handles or (name not in ("sendfile", "copy_file_range") and not re.match(r"\(\d+<", rest)):
        return ""
    return handles[-1] if name == "copy_file_range" else handles[0]


def calls(text: str) -> Iterator[tuple[str, str, str]]:
    """(process, call, rest) of every call that succeeded, in the order in which they ended."""
    begun: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        found = re.match(r"(\d+) +(?:(<\.\.\.) )?(\w+)(.*)", line)
        if found is None:
            continue
        process, resumed, name, rest = found.groups()
        if rest.endswith("<unfinished ...>"):
            begun[process] = (name, rest.removesuffix("<unfinished ...>"))
            continue
        if resumed:
            name, before = begun.pop(process, (name, ""))
            rest = before + rest.replace(" resumed>", "", 1)
        if not re.search(r"= -1 E|= \?", rest):
            yield process, name, rest


def judged(text: str, root: str) -> Disk:
    """The disk at the end of a trace, with every broken promise."""
    disk = Disk(root)
    for thread, name, rest in calls(text):
        disk.call(thread, name, rest)
    return disk


def trace(workspace: Workspace, log: Path, *words: str, python: str | None = None) -> subprocess.Popen[bytes]:
    """Starts a command, or a line of Python, with every call of its processes written to ``log``."""
    command = [
        tracing.needed(), "-f", "--seccomp-bpf", "-y", "-o", str(log), "-e", f"trace={','.join(CALLS)}",
    ]  # fmt: skip
    program = [sys.executable, "-c", python] if python else [sys.executable, "-m", "labqueue", *words]
    with (workspace.root / "commands.log").open("ab") as said:
        return subprocess.Popen(
            [*command, *program], cwd=workspace.root, env=workspace.environment(), stdout=said, stderr=said
        )


def run() -> tuple[dict[str, Any], list[str]]:
    """Traces a submission, an interrupted and a resumed attempt, a report and a backup; judges all."""
    broken: list[str] = []
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="power-") as folder:
        root = Path(folder) / "lab"
        workspace = Workspace(root).with_kinds()
        for name, disk in _scenes(workspace):
            figures[name] = {"renames": disk.renames, "commits": disk.commits, "broken": len(disk.broken)}
            broken += [f"{name}: {words}" for words in disk.broken]
        broken += judge.results(root, steps=40, runs=1)
    figures["broken laws"] = sorted(set(broken))
    return figures, sorted(set(broken))


def _scenes(workspace: Workspace) -> Iterator[tuple[str, Disk]]:
    root = str(workspace.root)
    spec = workspace.root / "power.yaml"
    spec.write_text(
        '{"name": "power", "kind": "drill_files", "params": '
        '{"witness": "witness.txt", "steps": 40, "step_s": 0.02, "checkpoint_every": 5}}'
    )

    def scene(name: str, *words: str, python: str | None = None) -> tuple[str, Disk]:
        log = workspace.root / f"{name}.trace"
        process = trace(workspace, log, *words, python=python)
        if name == "interrupted":
            until(lambda: lines(workspace.witness) >= 12)
            for pid in workspace.processes():
                if b"\0worker\0" in Path(f"/proc/{pid}/cmdline").read_bytes() and pid != process.pid:
                    os.kill(pid, signal.SIGTERM)
        status = process.wait(120)
        if status != 0:
            raise RuntimeError(f"{name} ended with status {status}: {workspace.said()[-500:]}")
        return name, judged(log.read_text(errors="replace"), root)

    yield scene("submitted", "submit", str(spec), "--profile", "cpu")
    yield scene("interrupted", *WORKER)
    yield scene("resumed", *WORKER)
    yield scene("reported", "report", "power", "--html", "--output", str(workspace.root / "outputs" / "report"))
    backup = "import pathlib, labqueue.store.backup as b; b.take(pathlib.Path('results.db').resolve(), 'power')"
    name, disk = scene("backed_up", python=backup)
    # Nothing commits after it here, so the folder must have been synced at the end.
    for target in disk.renamed.pop(next(iter(disk.renamed), ""), []):
        disk.believe(target)
    yield name, disk
