"""How fast the lab is beside what a user could take instead, in the same run on the same machine.

Every line is a ratio against a named peer and the bound that the lab has set itself. Exit 1 when one is missed.

What is compared alternates with its peer, and the least of several times counts: a machine that does other work too
only ever adds to a time. Wall time decides; processor time (user and system) is shown beside it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huey import SqliteHuey

from labqueue.settings import Settings
from labqueue.store.db import open_existing
from labqueue.store.runs import attempts, control, results
from labqueue.submission import plan as planning
from labqueue.submission import specfile, submit

TIMES = 25
"""Of each command."""

ROUNDS = 5
"""Of each large submission and its peer."""

MANY = 10_000
"""Runs of a large sweep, and enqueues of its peer."""

WAITING = 50_000
"""Runs that wait while claims are measured."""

CLAIMS = 200

DRILL = "name: {name}\nkind: drill\nparams: {{steps: {steps}, step_s: {step_s}}}\n"
missed: list[str] = []


def report(what: str, value: float, unit: str, bound: float, peer: str) -> None:
    """Prints a figure with its bound and the peer's figure beside it."""
    good = value <= bound
    print(f"{'ok  ' if good else 'MISS'} {what}: {value:.4g} {unit} (bound {bound:.4g}); {peer}", flush=True)
    if not good:
        missed.append(what)


@dataclass(frozen=True)
class Cost:
    """Seconds that something took: on the clock, and of processors (this process and the children it waited for)."""

    wall_s: float
    cpu_s: float


def cost(run: Callable[[], object]) -> Cost:
    """Cost of one call."""

    def cpu_s() -> float:
        every = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(each.ru_utime + each.ru_stime for each in every)

    cpu, start = cpu_s(), time.perf_counter()
    run()
    return Cost(time.perf_counter() - start, cpu_s() - cpu)


def alternating(times: int, *runs: Callable[[], object]) -> list[list[Cost]]:
    """What each call of each costs, one after the other and all over again."""
    rounds = [[cost(run) for run in runs] for _ in range(times)]
    return [list(column) for column in zip(*rounds, strict=True)]


def least(costs: list[Cost]) -> Cost:
    """The least wall time and the least processor time; they need not be of the same call."""
    return Cost(min(each.wall_s for each in costs), min(each.cpu_s for each in costs))


def plan(text: str) -> planning.Plan:
    """A plan from YAML text."""
    return planning.plan(specfile.parse(text, "benchmark"), planning.Request(profile="cpu", force=True))


def drill(settings: Settings, name: str, steps: int, step_s: float) -> int:
    """Submits one drill from YAML text, as a program would; returns its run."""
    planned = plan(DRILL.format(name=name, steps=steps, step_s=step_s))
    return submit.submit(settings, [planned], planning.Request())[0].runs[0]


def numbers(count: int) -> str:
    """``1,2,…,count``."""
    return ",".join(str(number) for number in range(1, count + 1))


def submitting(root: Path) -> None:
    """Durable submission of one run and of a 10,000-run sweep, beside Huey's own durable enqueue."""
    huey = SqliteHuey(filename=str(root / "peer.db"), fsync=True)

    @huey.task()  # type: ignore[untyped-decorator]  # huey ships no types
    def nothing() -> None:
        """The peer's task."""

    settings = Settings(root)
    drill(settings, "one", 1, 0)
    one, enqueue = alternating(200, lambda: drill(settings, "one", 1, 0), nothing)
    ours, peer = (statistics.median(each.wall_s for each in costs) for costs in (one, enqueue))
    words = (
        f"least {least(one).wall_s * 1e3:.2f} ms; Huey's durable enqueue {peer * 1e3:.2f} ms, ratio {ours / peer:.2f}"
    )
    report("submit one run, p50", ours * 1e3, "ms", 5, words)

    axes = f"steps: [{numbers(100)}], allocate_mib: [{numbers(100)}]"
    text = f"name: many\nkind: drill\nsweep: {{grid: {{{axes}}}}}\n"

    def sweep() -> None:
        answer = submit.submit(settings, [plan(text)], planning.Request())[0]
        assert len(answer.runs) == MANY

    def enqueues() -> None:
        for _ in range(MANY):
            nothing()

    many, peers = (least(costs) for costs in alternating(ROUNDS, sweep, enqueues))
    report(f"submit {MANY:,} runs", many.wall_s, "s", 2, f"least of {ROUNDS}; processor {many.cpu_s:.2f} s")
    words = (
        f"{peers.wall_s:.2f} s, {peers.wall_s / many.wall_s:.1f} times as long; "
        f"processor {peers.cpu_s:.2f} s, {peers.cpu_s / many.cpu_s:.1f} times as much"
    )
    report(f"submit {MANY:,} runs / {MANY:,} Huey enqueues", many.wall_s / peers.wall_s, "×", 1 / 5, words)


def claiming(root: Path) -> None:
    """A claim while 50,000 runs wait, half of them held by a pause, beside a dequeue of Huey's with as many tasks.

    Both commit to the disk.
    """
    unsynced, huey = (SqliteHuey(filename=str(root / "peer.db"), fsync=fsync) for fsync in (False, True))

    @unsynced.task()  # type: ignore[untyped-decorator]  # huey ships no types
    def nothing() -> None:
        """The peer's task."""

    for _ in range(WAITING):
        nothing()
    settings = Settings(root)
    for name, priority in (("held", 1), ("ready", 0)):
        axes = f"steps: [{numbers(WAITING // 200)}], allocate_mib: [{numbers(100)}]"
        planned = plan(f"name: {name}\nkind: drill\nsweep: {{grid: {{{axes}}}}}\n")
        job = dataclasses.replace(planned.job, priority=priority)
        submit.submit(settings, [dataclasses.replace(planned, job=job)], planning.Request())
    db = open_existing(settings.database)
    assert db is not None
    control.pause(db, "held", None)
    worker = results.register_worker(db, device="cpu", host="here", pid=os.getpid(), pid_start=0)

    def claim() -> None:
        got = attempts.claim(db, device="cpu", worker_id=worker, admit=lambda _run: None)
        assert got is not None
        assert got.experiment == "ready"

    ours, peer = (
        statistics.quantiles([each.wall_s for each in costs], n=20)
        for costs in alternating(CLAIMS, claim, huey.storage.dequeue)
    )
    words = f"p50 {ours[9] * 1e3:.1f} ms; Huey's dequeue p95 {peer[18] * 1e3:.1f} ms, ratio {ours[18] / peer[18]:.1f}"
    report(f"claim with {WAITING:,} runs waiting, p95 of {CLAIMS}", ours[18] * 1e3, "ms", 50, words)


def commands(root: Path) -> None:
    """Start-up of the commands that people type most, beside the import of an ORM."""
    settings = Settings(root)
    thousand = plan(f"name: thousand\nkind: drill\nsweep: {{grid: {{steps: [{numbers(1000)}]}}}}\n")
    submit.submit(settings, [thousand], planning.Request())
    script = str(Path(sys.executable).with_name("labqueue"))
    environment = {**os.environ, "LABQUEUE_ROOT": str(root)}

    def command(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run(words, env=environment, stdout=subprocess.DEVNULL, check=True)

    peer = command(sys.executable, "-c", "import sqlalchemy.orm")
    ours = {"status of 1,000 runs": (command(script, "status"), 1.5), "--help": (command(script, "--help"), 0.4)}
    # Once each before it counts: whatever has no bytecode yet is compiled.
    alternating(1, peer, *(run for run, _ in ours.values()))
    base, *figures = (least(costs) for costs in alternating(TIMES, peer, *(run for run, _ in ours.values())))
    for (what, (_, bound)), figure in zip(ours.items(), figures, strict=True):
        words = (
            f"{figure.wall_s * 1e3:.0f} ms beside {base.wall_s * 1e3:.0f} ms, least of {TIMES}; "
            f"processor {figure.cpu_s / base.cpu_s:.2f} ×"
        )
        report(f"{what} / import sqlalchemy.orm", figure.wall_s / base.wall_s, "×", bound, words)


def picking_up(root: Path) -> None:
    """From commit to claim on an idle worker, its CPU while idle, and the gap between two runs."""
    settings = Settings(root)
    environment = {**os.environ, "LABQUEUE_ROOT": str(root)}
    drill(settings, "first", 1, 0)
    worker = subprocess.Popen([sys.executable, "-m", "labqueue", "worker", "--device", "cpu"], env=environment,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        db = open_existing(settings.database)
        assert db is not None

        def finished(run: int) -> bool:
            with db.read() as connection:
                row = connection.exec_driver_sql("SELECT state FROM runs WHERE id = ?", (run,)).fetchone()
                return row is not None and row[0] == "finished"

        def until(run: int) -> None:
            give_up = time.monotonic() + 60
            while not finished(run):
                assert time.monotonic() < give_up, "the worker did not finish a drill in 60 s"
                time.sleep(0.01)

        until(1)
        time.sleep(2)
        before, at = cpu_s(worker.pid), time.monotonic()
        time.sleep(20)
        share = (cpu_s(worker.pid) - before) / (time.monotonic() - at)
        report("CPU of an idle worker", 100 * share, "%", 1, "of one core, over 20 s")
        waits = []
        for _ in range(15):
            run = drill(settings, "next", 1, 0)
            committed = time.time()
            until(run)
            with db.read() as connection:
                claimed = connection.exec_driver_sql("SELECT started_at FROM runs WHERE id = ?", (run,)).scalar_one()
            waits.append(claimed - committed)
            time.sleep(0.7)
        report("idle pick-up, worst of 15", max(waits), "s", 0.25, f"median {statistics.median(waits):.3f} s")
        witness = root / "gaps.txt"
        text = (
            f"name: gaps\nkind: drill\nseeds: [{numbers(8)}]\nparams: {{steps: 5, step_s: 0.2, witness: {witness}}}\n"
        )
        runs = submit.submit(settings, [plan(text)], planning.Request())[0].runs
        until(runs[-1])
        gaps, last = [], None
        for line in witness.read_text().splitlines():
            of, _, _, moment = line.split()
            if last is not None and of != last[0]:
                # A step's line is written at its end, so one step's own time is no gap.
                gaps.append(float(moment) - last[1] - 0.2)
            last = (of, float(moment))
        report("gap between two runs, median of 7", statistics.median(gaps), "s", 0.6, f"worst {max(gaps):.2f} s")
    finally:
        worker.terminate()
        worker.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and its living children."""
    import psutil

    process = psutil.Process(pid)
    every = [process, *process.children(recursive=True)]
    return sum(sum(p.cpu_times()[:2]) for p in every)


def main() -> int:
    """Runs every benchmark in a workspace of its own."""
    print(json.dumps({"cores": os.cpu_count(), "python": sys.version.split()[0]}))
    for part in (submitting, claiming, commands, picking_up):
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder))
    print("missed: " + ", ".join(missed) if missed else "every bound met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
