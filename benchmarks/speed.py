"""How fast the lab is beside what a user could take instead, in the same run on the same machine.

Every line is a ratio against a named peer and the bound that the lab has set itself. Exit 1 when one is missed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from huey import SqliteHuey

from labqueue.execution import plan as planning
from labqueue.execution import specfile, submit
from labqueue.settings import Settings
from labqueue.store.db import open_existing

TIMES = 25
"""Of each command; the machine may be busy, and medians of interleaved runs bear that."""

DRILL = "name: {name}\nkind: drill\nparams: {{steps: {steps}, step_s: {step_s}}}\n"
missed: list[str] = []


def report(what: str, value: float, unit: str, bound: float, peer: str) -> None:
    """Prints a figure with its bound and the peer's figure beside it."""
    good = value <= bound
    print(f"{'ok  ' if good else 'MISS'} {what}: {value:.4g} {unit} (bound {bound:.4g}); {peer}", flush=True)
    if not good:
        missed.append(what)


def p50(run: Callable[[], object], times: int) -> float:
    """Median seconds of a call."""
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


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

    @huey.task()
    def nothing() -> None:
        """The peer's task."""

    peer = p50(nothing, 300)
    settings = Settings(root)
    drill(settings, "one", 1, 0)
    ours = p50(lambda: drill(settings, "one", 1, 0), 200)
    words = f"Huey's durable enqueue {peer * 1e3:.2f} ms, ratio {ours / peer:.2f}"
    report("submit one run, p50", ours * 1e3, "ms", 5, words)

    axes = f"steps: [{numbers(100)}], allocate_mib: [{numbers(100)}]"
    text = f"name: many\nkind: drill\nsweep: {{grid: {{{axes}}}}}\n"
    start = time.perf_counter()
    answer = submit.submit(settings, [plan(text)], planning.Request())[0]
    ours = time.perf_counter() - start
    assert len(answer.runs) == 10_000
    start = time.perf_counter()
    for _ in range(2_000):
        nothing()
    peer = (time.perf_counter() - start) * 5
    report(
        "submit 10,000 runs", ours, "s", min(2.0, peer / 5), f"10,000 Huey enqueues {peer:.1f} s, {peer / ours:.0f}×"
    )


def commands(root: Path) -> None:
    """Start-up of the commands that people type most, beside the import of the ORM that they stand on."""
    settings = Settings(root)
    thousand = plan(f"name: thousand\nkind: drill\nsweep: {{grid: {{steps: [{numbers(1000)}]}}}}\n")
    submit.submit(settings, [thousand], planning.Request())
    script = str(Path(sys.executable).with_name("labqueue"))
    environment = {**os.environ, "LABQUEUE_ROOT": str(root)}

    def wall(command: list[str]) -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    orm, status, helped = [], [], []
    for _ in range(TIMES):
        orm.append(wall([sys.executable, "-c", "import sqlalchemy.orm"]))
        status.append(wall([script, "status"]))
        helped.append(wall([script, "--help"]))
    base = statistics.median(orm)
    words = f"python -c 'import sqlalchemy.orm' {base * 1e3:.0f} ms"
    report("status of 1,000 runs / import sqlalchemy.orm", statistics.median(status) / base, "×", 1.5, words)
    report("--help / import sqlalchemy.orm", statistics.median(helped) / base, "×", 0.4, words)


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
        ledger = root / "gaps.txt"
        text = f"name: gaps\nkind: drill\nseeds: [{numbers(8)}]\nparams: {{steps: 5, step_s: 0.2, ledger: {ledger}}}\n"
        runs = submit.submit(settings, [plan(text)], planning.Request())[0].runs
        until(runs[-1])
        gaps, last = [], None
        for line in ledger.read_text().splitlines():
            run, _, _, moment = line.split()
            if last is not None and run != last[0]:
                # A step's line is written at its end, so one step's own time is no gap.
                gaps.append(float(moment) - last[1] - 0.2)
            last = (run, float(moment))
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
    for part in (submitting, commands, picking_up):
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder))
    print("missed: " + ", ".join(missed) if missed else "every bound met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
