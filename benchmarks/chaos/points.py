"""Crash points: a process is killed at its first, second, third … call of every kind, until it survives.

Two ways each: only that process dies and the rest of the lab goes on; or everything dies at that moment, as when the
machine is switched off. Then a worker starts, and every law is checked.
"""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.chaos import judge, tracing
from benchmarks.chaos.tracing import Death
from benchmarks.chaos.workspace import WORKER, Workspace, children, lines, until

STEPS = 8
EVERY = 2
"""Steps of the run, and steps between its checkpoints."""

SEEDS = 2
"""Runs of the submission that is killed."""

ROLES = ("worker", "child", "again", "recorder", "submit", "submit_first")
"""``child`` is the process of the first attempt, ``again`` that of the second, which resumes; ``recorder`` the thread
that commits metrics; ``submit_first`` is a submission that makes the database."""
ALONE, MACHINE = "alone", "machine"


@dataclass(frozen=True)
class Trial:
    """One process killed at one point."""

    role: str
    way: str
    call: str
    n: int
    death: Death | None
    broken: list[str]
    seconds: float


def template(root: Path, step_s: float = 0.005) -> Workspace:
    """A workspace with one submitted run."""
    workspace = Workspace(root).with_kinds()
    workspace.submit("points", "drill_files", steps=STEPS, step_s=step_s, checkpoint_every=EVERY)
    return workspace


def resuming(root: Path) -> Workspace:
    """A workspace whose one run has been interrupted in its middle."""
    # Slow enough that a machine which stalls for a moment here still finds it in its middle.
    workspace = template(root, 0.3)
    worker = workspace.start(*WORKER)
    until(lambda: lines(workspace.witness) >= STEPS // 2, 60)
    worker.terminate()
    worker.wait(60)
    assert lines(workspace.witness) <= STEPS - EVERY, "it was interrupted too late: little is left to resume"
    return workspace


def empty(root: Path, *, used: bool) -> Workspace:
    """A workspace with a spec to submit; ``used``: its database is there already."""
    workspace = Workspace(root).with_kinds()
    workspace.submit("several", "drill_files", seeds=SEEDS, steps=STEPS, step_s=0.0, checkpoint_every=EVERY)
    for path in (*root.glob("results.db*"), *(root / "outputs").glob("*.db*")):
        path.unlink()
    if used:
        workspace.run("submit", str(root / "several.yaml"), "--profile", "cpu", "--set", "limits.attempts=49")
        workspace.run("cancel", "several")
    return workspace


def made(role: str, root: Path) -> Workspace:
    """The workspace whose copies the trials of a role begin with."""
    if role.startswith("submit"):
        return empty(root, used=role == "submit")
    if role == "again":
        return resuming(root)
    # Slow enough for the recorder to commit between checkpoints.
    return template(root, 0.2 if role == "recorder" else 0.005)


def trial(workspace: Workspace, role: str, way: str, call: str, n: int) -> Trial:
    """Kills one process of the workspace at one point, starts a worker, and judges."""
    started = time.monotonic()
    log = workspace.root / "trace"
    if role.startswith("submit"):
        return _submission(workspace, role, call, n, log, started)
    if role == "worker":
        workspace.start(*WORKER, before=tracing.kill_at(call, n, log, detach=False)).wait(120)
    elif role in ("child", "again"):
        child = tracing.first_child(workspace, tracing.kill_at(call, n, log, detach=True))
        _until_dead(workspace, log, way, workspace.start(*WORKER, CHAOS_CHILD=child))
    else:
        process = workspace.start(*WORKER)
        until(lambda: lines(workspace.witness), 60, 0.002)
        how = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={n}"]
        _trace_recorder(workspace, process.pid, how, log)
        _until_dead(workspace, log, way, process)
    dead = tracing.death(log, workspace.root)
    if way == MACHINE:
        workspace.kill_all()
    else:
        workspace.wait_quiet()
    broken = judge.after_the_crash(workspace.root)
    before = sum(len(block.steps) for block in judge.blocks(workspace.witness))
    status = workspace.run(*WORKER)
    if status != 0:
        broken.append(f"the next worker ended with status {status}: {workspace.said()[-600:]}")
    again = sum(len(block.steps) for block in judge.blocks(workspace.witness))
    broken += judge.history(workspace.witness, steps=STEPS, checkpoint_every=EVERY, runs={1})
    broken += judge.results(workspace.root, steps=STEPS, runs=1)
    if before == again == 0:
        broken.append("nothing was executed")
    return Trial(role, way, call, n, dead, broken, time.monotonic() - started)


def _until_dead(workspace: Workspace, log: Path, way: str, process: Any) -> None:
    """Waits for the traced child's death or for the worker's end; the machine's way kills the rest at that moment."""
    ended = f"{process.pid} "

    def over() -> bool:
        text = log.read_text(errors="replace") if log.exists() else ""
        return process.poll() is not None or "+++ killed by SIGKILL" in text.replace(ended, "")

    until(over, 120, 0.001)
    if way == MACHINE:
        workspace.kill_all()
    process.wait(120)


def _trace_recorder(workspace: Workspace, worker: int, how: list[str], log: Path) -> None:
    """Attaches to the thread that commits metrics; it has just started when the first step is done."""
    child = children(worker)[0]
    threads = sorted(int(entry.name) for entry in Path(f"/proc/{child}/task").iterdir())
    command = [tracing.needed(), "-y", "-o", str(log), "-p", str(threads[-1]), *how]
    with (workspace.root / "strace.log").open("wb") as said:
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
    until(lambda: b"attached" in (workspace.root / "strace.log").read_bytes(), 10, 0.001)


def _submission(workspace: Workspace, role: str, call: str, n: int, log: Path, started: float) -> Trial:
    spec = str(workspace.root / "several.yaml")
    words = ("submit", spec, "--profile", "cpu")
    process = workspace.start(*words, before=tracing.kill_at(call, n, log, detach=False))
    process.wait(120)
    dead = tracing.death(log, workspace.root)
    broken = judge.after_the_crash(workspace.root)
    # A person who was not told that it is recorded types it again, unless the status shows it.
    if queued(workspace) == 0:
        if dead is None:
            broken.append("submit survived and nothing is recorded")
        workspace.run(*words)
    if queued(workspace) != SEEDS:
        broken.append(f"{queued(workspace)} of {SEEDS} runs are queued: a submission is all or nothing")
    workspace.run(*WORKER)
    runs = {block.run for block in judge.blocks(workspace.witness)}
    if len(runs) != SEEDS:
        broken.append(f"runs {sorted(runs)} were executed, {SEEDS} were submitted")
    broken += judge.history(workspace.witness, steps=STEPS, checkpoint_every=EVERY)
    with judge.opened(workspace.database) as connection:
        broken += judge.whole(connection)
    return Trial(role, ALONE, call, n, dead, broken, time.monotonic() - started)


def queued(workspace: Workspace) -> int:
    """Runs that wait, as the database says."""
    if not workspace.database.exists():
        return 0
    with judge.opened(workspace.database) as connection:
        if not judge.made(connection):
            return 0
        return int(connection.execute("SELECT count(*) FROM runs WHERE state = 'queued'").fetchone()[0])


def survey(workspace: Workspace, role: str) -> dict[str, int]:
    """How often each call is made in an undisturbed life of that process."""
    log = workspace.root / "trace"
    if role.startswith("submit"):
        words = ("submit", str(workspace.root / "several.yaml"), "--profile", "cpu")
        workspace.run(*words, before=tracing.watch(tracing.EVERY, log, detach=False))
    elif role == "worker":
        workspace.run(*WORKER, before=tracing.watch(tracing.EVERY, log, detach=False))
    elif role in ("child", "again"):
        child = tracing.first_child(workspace, tracing.watch(tracing.EVERY, log, detach=True))
        workspace.run(*WORKER, CHAOS_CHILD=child)
    else:
        process = workspace.start(*WORKER)
        until(lambda: lines(workspace.witness), 60, 0.002)
        _trace_recorder(workspace, process.pid, ["-e", f"trace={','.join(tracing.EVERY)}"], log)
        process.wait(120)
    counts = tracing.most(log)
    if role not in ("child", "again"):
        # A worker's or command's own execution is its start; those of its children are the child's.
        counts.pop("execve", None)
    return counts


def points(
    folder: Path, roles: tuple[str, ...], ways: tuple[str, ...], calls: tuple[str, ...], *, lanes: int, most: int = 9999
) -> Iterator[Trial]:
    """Every trial: each call of a kind, and one more, which the process must survive. ``most``: of one kind."""
    templates: dict[str, Workspace] = {}
    tasks: list[tuple[str, str, str, int]] = []
    for role in roles:
        templates[role] = made(role, folder / f"template-{role}")
        counts = survey(templates[role].copy(folder / f"survey-{role}"), role)
        for way in ways if not role.startswith("submit") else (ALONE,):
            for call in calls:
                if way == ALONE and call in tracing.WRITES and not role.startswith("submit"):
                    # Half a transaction looks the same to those who live on, whichever page it stops at.
                    continue
                last = counts.get(call, -1) + 1
                every = range(1, last + 1)
                tasks += [(role, way, call, n) for n in every[:: max(1, -(-last // most))]]
    number = itertools.count()

    def one(task: tuple[str, str, str, int]) -> Trial:
        role, way, call, n = task
        workspace = templates[role].copy(folder / f"{role}-{next(number)}")
        try:
            return trial(workspace, role, way, call, n)
        except Exception as error:
            said = f"{type(error).__name__}: {error}; {workspace.said()[-600:]}"
            return Trial(role, way, call, n, None, [said], 0.0)
        finally:
            workspace.kill_all()
            shutil.rmtree(workspace.root, ignore_errors=True)

    with concurrent.futures.ThreadPoolExecutor(lanes) as pool:
        yield from pool.map(one, tasks)


def run(*, lanes: int, quick: bool, roles: tuple[str, ...] = ROLES) -> tuple[dict[str, Any], list[str]]:
    """Figures and what was broken. ``quick``: syncs, renames and spawns only, and everything dies each time."""
    calls = tuple(call for call in tracing.EVERY if not quick or call in (*tracing.SYNCS, *tracing.RENAMES))
    covered: collections.Counter[str] = collections.Counter()
    targets: set[tuple[str, Death]] = set()
    broken: list[str] = []
    trials = 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="points-") as folder:
        ways = (MACHINE,) if quick else (MACHINE, ALONE)
        for done in points(Path(folder), roles, ways, calls, lanes=lanes):
            trials += 1
            if done.death is not None:
                covered[f"{done.role}, {done.way}: {done.call}"] += 1
                targets.add((done.role, done.death))
            broken += [f"{done.role} {done.way} {done.call} {done.n}: {words}" for words in done.broken]
    figures = {
        "crash points": sum(covered.values()),
        "of which distinct by thread, call and file": len(targets),
        "trials (with those that survived)": trials,
        "by process, way and call": dict(sorted(covered.items())),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "broken laws": broken,
    }
    return figures, broken
