"""Real results of several specs on one large card: workers side by side, each capped at what a 16 GB card leaves.

    python benchmarks/side_by_side.py ROOT OUT SPEC… --workers 10 --minutes 8 [--profile smol] [--seeds 3,4]

The lab gives one card to one run, and so a small model's sweep of an hour keeps a card of 139 GiB almost idle. Here
each worker has locks of its own (``LABQUEUE_LOCKS``), so that they share the card and one workspace. What a run
computes and the memory of its own allocator are those of a card of its own; **its times are not**: they say how the
card was shared. Ends when nothing is left or the minutes are over (what runs then checkpoints and is queued again), and
writes ``OUT/runs.tar.gz``, which ``labqueue import`` reads. Called again with the same ROOT and no SPEC it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CAP_GIB = 14.5
"""What a 16 GB card leaves to one process."""
LABQUEUE = [sys.executable, "-m", "labqueue"]


def main() -> None:
    """Starts the workers, submits, waits, stops, exports."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("specs", nargs="*")
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--profile", default="smol")
    parser.add_argument("--seeds", help="instead of the specs' own")
    parser.add_argument("--device", default="cuda:0")
    given = parser.parse_intermixed_args()
    root, until = given.root.resolve(), time.monotonic() + 60 * given.minutes
    root.mkdir(parents=True, exist_ok=True)
    given.out.mkdir(parents=True, exist_ok=True)
    # All of them are idle before anything is submitted: a worker that starts takes its device's runs for orphans.
    if not given.specs:
        subprocess.run([*LABQUEUE, "pause", "queue", "--root", str(root)], check=True)
    workers = [_worker(root, number, given.device) for number in range(given.workers)]
    for number in range(given.workers):
        _until_said(root / f"worker-{number}.log", "worker ready", 60)
    if given.specs:
        command = [*LABQUEUE, "submit", *given.specs, "--profile", given.profile, "--no-preflight", "--root", str(root)]
        command += ["--seeds", given.seeds] if given.seeds else []
        subprocess.run(command, check=True)
    else:
        _requeue(root)
    try:
        _watch(root, until)
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(timeout=90)
    target = given.out / "runs.tar.gz"
    target.unlink(missing_ok=True)
    subprocess.run(
        [*LABQUEUE, "export", "--all", "--archive", str(target), "--no-models", "--root", str(root)], check=True
    )


def _worker(root: Path, number: int, device: str) -> subprocess.Popen[bytes]:
    locks = root / "locks" / str(number)
    locks.mkdir(parents=True, exist_ok=True)
    with (root / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(
            [*LABQUEUE, "worker", "--device", device, "--memory-gib", str(CAP_GIB), "--root", str(root)],
            env={**os.environ, "LABQUEUE_LOCKS": str(locks), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def _until_said(log: Path, words: str, limit_s: float) -> None:
    until = time.monotonic() + limit_s
    while words not in (said := log.read_text()):
        if time.monotonic() > until:
            raise SystemExit(f"{log} does not say {words!r} after {limit_s:.0f} s:\n{said[-2000:]}")
        time.sleep(0.1)


def _requeue(root: Path) -> None:
    """The queue, which waited for all workers or was paused by a run of failures, goes on."""
    subprocess.run([*LABQUEUE, "resume", "queue", "--root", str(root)], check=False)


def _watch(root: Path, until: float) -> None:
    while time.monotonic() < until:
        time.sleep(5)
        answer = subprocess.run([*LABQUEUE, "status", "--json", "--root", str(root)], capture_output=True, check=True)
        status = json.loads(answer.stdout)
        words = [len(status["running"]), "running", len(status["queued"]), "queued", status["finished"]]
        print(time.strftime("%H:%M:%S"), *words, flush=True)
        if not status["running"] and not status["queued"]:
            return


if __name__ == "__main__":
    main()
