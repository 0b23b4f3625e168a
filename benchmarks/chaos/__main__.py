"""``python -m benchmarks.chaos NAME``: one JSON document of figures; exit 1 when a law is broken."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.chaos import environment, peers, points, power, recovery, storm
from benchmarks.chaos.tracing import Missing

Part = Callable[[argparse.Namespace], tuple[dict[str, Any], list[str]]]

PARTS: dict[str, Part] = {
    "points": lambda given: points.run(lanes=given.lanes, quick=given.quick, roles=tuple(given.roles)),
    "storm": lambda given: storm.run(
        kills=given.kills, runs=given.runs, lanes=given.lanes, seed=given.seed, limit_s=given.minutes * 60
    ),
    "power": lambda _: power.run(),
    "environment": lambda given: environment.run(tuple(given.scenes)),
    "recovery": lambda given: recovery.run(times=given.times),
    "peers": lambda _: peers.run(),
}


def main() -> int:
    """Runs one part, or all of them one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.chaos", description=importlib.import_module("benchmarks.chaos").__doc__
    )
    parser.add_argument("name", choices=[*PARTS, "all"])
    parser.add_argument("--lanes", type=int, default=max(1, (os.cpu_count() or 1)), help="trials at once")
    parser.add_argument("--quick", action="store_true", help="points: syncs and renames only, everything dies")
    parser.add_argument(
        "--roles", nargs="+", choices=points.ROLES, default=points.ROLES, help="points: which processes"
    )
    parser.add_argument("--kills", type=int, default=1000, help="storm: SIGKILLs")
    parser.add_argument("--runs", type=int, default=220, help="storm: runs")
    parser.add_argument("--seed", type=int, default=0, help="storm: of victims and moments")
    parser.add_argument("--minutes", type=float, default=25.0, help="storm: the longest time under fire")
    parser.add_argument("--times", type=int, default=10, help="recovery: crashes")
    parser.add_argument("--scenes", nargs="+", choices=list(environment.SCENES), default=list(environment.SCENES))
    given = parser.parse_args()
    started = time.monotonic()
    document: dict[str, Any] = {"machine": f"{os.cpu_count()} cores, {platform.platform()}"}
    broken: list[str] = []
    for name in PARTS if given.name == "all" else (given.name,):
        print(f"{name} …", file=sys.stderr, flush=True)
        try:
            document[name], laws = PARTS[name](given)
        except Missing as error:
            # A proof that cannot be led is not a proof.
            document[name], laws = {"broken laws": [str(error)]}, [str(error)]
        broken += [f"{name}: {law}" for law in laws]
        print(f"{name}: {len(laws)} broken laws", file=sys.stderr, flush=True)
    document["minutes"] = round((time.monotonic() - started) / 60, 1)
    print(json.dumps(document, ensure_ascii=False, indent=1))
    for law in broken:
        print(f"BROKEN {law}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
