"""A results store of 1,000 runs and 10,000,000 points: how fast it answers and grows, beside MLflow and Trackio.

    python benchmarks/reading.py [--points 10000000] [--peers PYTHON] [--json]

PYTHON is an interpreter that has mlflow and trackio (``python -m venv peers; peers/bin/pip install mlflow trackio``);
without it the peers are left out and said to be. Each peer does the same work on a smaller scale, per point or call,
in the same run. Exit 1 when a bound is missed.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from labqueue.attempt.recorder import RunRecorder
from labqueue.domain.downsample import thin
from labqueue.domain.state import Ending
from labqueue.settings import Settings
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import read
from labqueue.store.runs import attempts, results
from labqueue.store.series import Point
from labqueue.submission import plan, specfile, submit

RUNS, OF_REPORT, LONG_CURVE, TIMES = 1000, 60, 100_000, 7


def fill(settings: Settings, points: int) -> float:
    """Records RUNS finished runs with ``points`` points in all; returns bytes of the database per point."""
    db = create_or_migrate(settings.database)
    many = specfile.parse(f"name: many\nkind: drill\nsweep: {{grid: {{steps: {list(range(1, RUNS - 59))}}}}}\n", "b")
    sixty = (
        "name: sixty\nkind: drill\nsweep: {grid: {steps: [1, 2, 3, 4, 5, 6]}}\nseeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    )
    plans = [plan.plan(s, plan.Request(profile="cpu")) for s in (specfile.parse(sixty, "b"), many)]
    submit.submit(settings, plans, plan.Request())
    worker = results.register_worker(db, device="cpu", host="benchmark", pid=os.getpid(), pid_start=0)
    each = points // RUNS
    before = size(settings)
    for number in range(RUNS):
        claim = attempts.claim(db, device="cpu", worker_id=worker)
        assert claim is not None
        count = LONG_CURVE if number == 0 else each
        for start in range(0, count, 5000):
            part = range(start, min(start + 5000, count))
            values: list[Point] = [
                ("loss", step, 4 * math.exp(-step / each) + 1e-3 * (step * 7919 % 101)) for step in part
            ]
            results.flush(db, claim.ref, values, results.Progress(part[-1], count, None), [])
        attempts.end(db, claim.ref, Ending.SUCCEEDED, None)
    db.close()
    return (size(settings) - before) / points


def size(settings: Settings) -> int:
    """Bytes of the database and its write-ahead log."""
    return sum(path.stat().st_size for path in settings.root.glob("results.db*"))


def least_s(run: Callable[[], object], times: int = TIMES) -> float:
    """The least wall time of several calls."""
    took = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return min(took)


def command(root: Path, *words: str) -> Callable[[], object]:
    """A command as a user gives it."""
    script = str(Path(sys.executable).with_name("labqueue"))
    given = [sys.executable, *words] if words[0] == "-c" else [script, *words, "--root", str(root)]
    return lambda: subprocess.run(given, stdout=subprocess.DEVNULL, check=True)


def logging_us(settings: Settings, db: Database) -> float:
    """Median microseconds of one ``metric`` call in a run's process, flushing thread and all."""
    planned = plan.plan(specfile.parse("name: logging\nkind: drill\n", "b"), plan.Request(profile="cpu"))
    submit.submit(settings, [planned], plan.Request())
    worker = results.register_worker(db, device="cpu", host="benchmark", pid=os.getpid(), pid_start=0)
    claim = attempts.claim(db, device="cpu", worker_id=worker)
    assert claim is not None
    recorder = RunRecorder(settings, db, claim, "cpu")
    recorder.start()
    took = []
    for step in range(50_000):
        start = time.perf_counter_ns()
        recorder.metric("loss", 1.0 / (step + 1), step)
        took.append(time.perf_counter_ns() - start)
    recorder.close()
    assert len(read.series(db, claim.run_id, "loss")) == 50_000
    return statistics.median(took) / 1e3


def lost_s(times: int = 5) -> float:
    """The most seconds of a drill's steps that SIGKILL of worker and child took from the results store."""
    worst = 0.0
    for number in range(times):
        with tempfile.TemporaryDirectory() as folder:
            root, witness = Path(folder), Path(folder) / "witness"
            spec = {"name": "d", "kind": "drill", "params": {"steps": 10**6, "step_s": 0.005, "witness": str(witness)}}
            (root / "d.yaml").write_text(json.dumps(spec))
            command(root, "submit", str(root / "d.yaml"))()
            worker = subprocess.Popen(
                [sys.executable, "-m", "labqueue", "worker", "--device", "cpu", "--root", folder],
                stderr=subprocess.DEVNULL,
            )
            while not witness.exists() or len(witness.read_text().splitlines()) < 200 + 17 * number:
                time.sleep(0.01)
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            for process in family:
                process.send_signal(signal.SIGKILL)
            psutil.wait_procs(family)
            steps = {int(line.split()[2]): float(line.split()[3]) for line in witness.read_text().splitlines()}
            db = create_or_migrate(root / "results.db")
            kept = max(step for step, _ in read.series(db, 1, "value"))
            db.close()
            worst = max(worst, max(steps.values()) - steps[kept])
    return worst


PEERS = {
    "mlflow": """
import json, os, statistics, sys, time, logging
logging.disable(logging.WARNING)
import mlflow
from mlflow.tracking import MlflowClient
from mlflow.entities import Metric
path = sys.argv[1] + "/mlflow.db"
mlflow.set_tracking_uri("sqlite:///" + path)
client = MlflowClient()
experiment = client.create_experiment("e")
run = client.create_run(experiment).info.run_id
took = []
for step in range(500):
    start = time.perf_counter(); client.log_metric(run, "loss", 1.0 / (step + 1), step=step)
    took.append(time.perf_counter() - start)
before = os.path.getsize(path)
for start in range(0, 100_000, 1000):
    client.log_batch(run, [Metric("long", 1.0 / (s + 1), 0, s) for s in range(start, start + 1000)])
grown = (os.path.getsize(path) - before) / 100_000
start = time.perf_counter(); history = client.get_metric_history(run, "long"); curve = time.perf_counter() - start
for _ in range(200):
    client.create_run(experiment)
start = time.perf_counter(); found = client.search_runs([experiment], max_results=1000)
listing = time.perf_counter() - start
print(json.dumps({"version": mlflow.__version__, "log_us": 1e6 * statistics.median(took), "bytes_a_point": grown,
  "curve_s": curve, "points_of_curve": len(history), "listing_s": listing, "runs_listed": len(found)}))
""",
    "trackio": """
import contextlib, io, json, os, pathlib, statistics, sys, time
os.environ["TRACKIO_DIR"] = sys.argv[1] + "/trackio"
with contextlib.redirect_stdout(io.StringIO()):
    import trackio
    trackio.init(project="p", name="r")
    took = []
    for step in range(5000):
        start = time.perf_counter(); trackio.log({"loss": 1.0 / (step + 1)}, step=step)
        took.append(time.perf_counter() - start)
    trackio.finish()
size = sum(f.stat().st_size for f in pathlib.Path(sys.argv[1], "trackio").rglob("*") if f.is_file())
print(json.dumps({"version": trackio.__version__, "log_us": 1e6 * statistics.median(took),
  "bytes_a_point": size / 5000}))
""",
}


def peers(python: str | None) -> dict[str, Any]:
    """What the peers need for the same work; a sentence where one could not be measured."""
    if python is None:
        return dict.fromkeys(PEERS, "not measured: give --peers PYTHON")
    found: dict[str, Any] = {}
    for name, script in PEERS.items():
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run([python, "-c", script, folder], capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        found[name] = json.loads(lines[-1]) if lines else f"not measured: {done.stderr.strip().splitlines()[-1:]}"
    return found


def main() -> None:
    """Measures everything and compares it with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000_000)
    parser.add_argument("--peers")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        settings = Settings(root)
        start = time.monotonic()
        grown = fill(settings, given.points)
        print(f"filled in {time.monotonic() - start:.0f} s: {size(settings) / 2**20:.0f} MiB", flush=True)
        orm = least_s(command(root, "-c", "import sqlalchemy.orm"))
        listing = least_s(command(root, "runs", "--limit", "1000"))
        report = least_s(command(root, "report", "sixty", "--json"), 3)
        db = create_or_migrate(settings.database)
        curve = least_s(lambda: thin(read.series(db, 1, "loss"), 1000))
        log_us = logging_us(settings, db)
        db.close()
    figures = {
        "report of 60 runs, no plots, s": (report, 2.0),
        "listing 1,000 runs / import sqlalchemy.orm": (listing / orm, 2.0),
        "curve of 100,000 points down to 1,000, s": (curve, 0.2),
        "database growth, bytes a point": (grown, 30.0),
        "log call, p50 us": (log_us, 20.0),
        "lost on SIGKILL, s": (lost_s(), 0.5),
    }
    beside = peers(given.peers)
    for what, (value, bound) in figures.items():
        print(f"{'ok  ' if value <= bound else 'MISS'} {what}: {value:.4g} (bound {bound:g})")
    for name, measured in beside.items():
        print(f"beside it, {name}: {json.dumps(measured)}")
    sys.exit(any(value > bound for value, bound in figures.values()))


if __name__ == "__main__":
    main()
