"""What a shared computer costs: runs of the quickstart, quiet and beside one idle-priority neighbour on each core.

    python benchmarks/neighbours.py             # as the lab runs them: two runs each way, some minutes
    python benchmarks/neighbours.py --waiting   # also with other ways in which OpenMP's threads wait for each other
    python benchmarks/neighbours.py --dtype float32

For a computer that does nothing else: what is measured is the ratio, and it must not exceed 2.5.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BOUND = 2.5
"""What a run may take beside such neighbours, in quiet runs."""

WAITING: dict[str, dict[str, str]] = {
    "libgomp's default": {"GOMP_SPINCOUNT": "300000"},
    "1000 spins": {"GOMP_SPINCOUNT": "1000"},
    "30000 spins": {"GOMP_SPINCOUNT": "30000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
}
"""Ways to wait, as libgomp is told them; the lab's own is 3000 spins (labqueue/llm/processor.py)."""


def main() -> int:
    """Measures, and returns 1 where the bound was not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", action="store_true")
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    given = parser.parse_args()
    ways: dict[str, dict[str, str]] = {"the lab's": {}, **(WAITING if given.waiting else {})}
    worst = 0.0
    for name, environment in ways.items():
        quiet_s = runs_s(given.dtype, environment)
        neighbours = [subprocess.Popen(["nice", "-n", "19", "sh", "-c", "while :; do :; done"]) for _ in cores()]
        try:
            beside_s = runs_s(given.dtype, environment)
        finally:
            for each in neighbours:
                each.kill()
                each.wait()
        ratio = beside_s / quiet_s
        worst = ratio if not environment else worst
        sys.stdout.write(f"{name:<20} quiet {quiet_s:6.1f} s, beside neighbours {beside_s:6.1f} s: {ratio:.2f}\n")
        sys.stdout.flush()
    sys.stdout.write(f"bound {BOUND}: {'held' if worst <= BOUND else 'NOT held'}\n")
    return 0 if worst <= BOUND else 1


def cores() -> set[int]:
    """Those that this process may be placed on."""
    return os.sched_getaffinity(0)


def runs_s(dtype: str, environment: dict[str, str]) -> float:
    """Median wall seconds of the quickstart's two runs of one seed, in a workspace of their own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "labqueue", "--root", folder]
        words = ["submit", str(ROOT / "jobs" / "quickstart.yaml"), "--profile", "cpu", "--seeds", "0", "--json"]
        env = {**os.environ, "LABQUEUE_LOCKS": f"{folder}/locks", **environment}
        subprocess.run([*command, *words, "--set", f"dtype={dtype}"], check=True, env=env, stdout=subprocess.DEVNULL)
        subprocess.run([*command, "worker", "--drain", "--device", "cpu"], check=True, env=env, capture_output=True)
        done = subprocess.run([*command, "runs", "--json"], check=True, env=env, capture_output=True, text=True)
        return statistics.median(float(run["wall_s"]) for run in json.loads(done.stdout)["runs"])


if __name__ == "__main__":
    sys.exit(main())
