"""The memory estimate against the allocator: what fine-tuning runs really reserve, and what was predicted.

    python -m benchmarks.memory make FOLDER SHAPE...        random checkpoints FOLDER/SHAPE of models' shapes
    python -m benchmarks.memory grid [ROWS]                 the configurations to measure (that ROWS lacks), as JSON
    python -m benchmarks.memory measure CONFIGS.json OUT.jsonl [--folder F] [--jobs 8] [--cap-gib 14.5] [--stop-s S]
    python -m benchmarks.memory longest FOLDER BACKEND [--cap-gib 14.5]   the longest sequence of a 7B shape that trains
    python -m benchmarks.memory rows OUT.jsonl... [--date D]   measured rows as the repository keeps them, JSON
    python -m benchmarks.memory fit ROWS                    coefficients of the estimate, from measured rows
    python -m benchmarks.memory score ROWS                  errors of the estimate on the held-out rows

ROWS is benchmarks/memory/rows.json or a file that ``measure`` wrote; docs/memory.md says how to refit.

Each configuration is a process of its own that runs the kind ``finetune``; several run side by side on a large
card, each under its own cap, which changes neither's peak. ``--device cpu`` tries all of it without a GPU. Weights are
random: memory is that of the real model, losses mean nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib.metadata as installed
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

from benchmarks.memory import fit, grid, rows, shapes

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth", "unsloth_zoo", "triton")


def child(config: dict[str, Any], folder: Path, device: str, timeout_s: float) -> dict[str, Any]:
    """Runs one configuration in a process of its own; returns its row."""
    begun = time.perf_counter()
    words = [sys.executable, "-m", "benchmarks.memory", "one", json.dumps(config), "--folder", str(folder)]
    env = os.environ | {"TORCHINDUCTOR_COMPILE_THREADS": "2", "OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[2]), env.get("PYTHONPATH", "")])
    found: dict[str, Any] = {"outcome": "error", "error": "no result"}
    try:
        done = subprocess.run(
            [*words, "--device", device], capture_output=True, text=True, env=env, timeout=timeout_s, check=False
        )
        lines = [line for line in done.stdout.splitlines() if line.startswith('{"result"')]
        if lines:
            found = json.loads(lines[-1])["result"]
        if found["outcome"] == "error":
            found["log"] = (done.stdout + done.stderr)[-3000:]
    except subprocess.TimeoutExpired:
        found["error"] = f"not done after {timeout_s:.0f} s"
    versions = {name: _version(name) for name in PACKAGES}
    return {**config, **found, "wall_s": round(time.perf_counter() - begun, 1), "versions": versions}


def _version(name: str) -> str | None:
    try:
        return installed.version(name)
    except installed.PackageNotFoundError:
        return None


def measure(configs: list[dict[str, Any]], out: Path, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs configurations ``asked.jobs`` at a time, in order; each row is appended to ``out`` as it is known."""
    begun, lock, done = time.monotonic(), threading.Lock(), []

    def measured(config: dict[str, Any]) -> None:
        left_s = asked.stop_s - (time.monotonic() - begun)
        if left_s < 30:
            return  # said by its absence from the rows
        while not (asked.folder / config["shape"]).is_dir() and time.monotonic() - begun < asked.stop_s - 30:
            time.sleep(0.5)
        left_s = asked.stop_s - (time.monotonic() - begun)
        config = {"cap_gib": asked.cap_gib} | config
        row = child(config, asked.folder, asked.device, min(asked.timeout_s, left_s))
        late = str(row.get("error", "")).startswith("not done")
        small = asked.device.startswith("cuda") and not config.get("sees_whole_card")
        if row["outcome"] == "error" and small and not late:
            print("again, without showing it a smaller card:", row.get("log", "")[-600:], flush=True)
            row = child(config | {"sees_whole_card": True}, asked.folder, asked.device, asked.timeout_s)
        with lock:
            done.append(row)
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            keys = ("shape", "backend", "batch", "sequence", "rank", "outcome", "peak_gib", "wall_s")
            print(*(f"{key}={row.get(key)}" for key in keys), (row.get("error") or "")[-200:], flush=True)

    with concurrent.futures.ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(measured, configs))
    return done


def longest(backend: Literal["hf", "unsloth"], asked: argparse.Namespace) -> dict[str, Any]:
    """The longest sequence at batch 1 and rank 16 that trains, to 2 %, by measuring around the estimate's answer."""
    from labqueue.llm.memory import estimate, workload
    from labqueue.llm.models.shapes import shape_of

    shape = shape_of(shapes.ALIASES[asked.shape])
    plan = workload.Workload(backend=backend, sequence=1024, batch=1, rank=16)
    predicted = estimate.longest(shape, plan, asked.cap_gib) or 512  # where the estimate sees no room, try all the same
    tried: dict[int, dict[str, Any]] = {}
    factors: tuple[float, ...] = (0.9, 1.0, 1.1, 1.25)
    low, high = 0, shape.max_position + 1
    for _ in range(asked.rounds):
        wanted = [
            min(shape.max_position, max(1, int(predicted * factor) // asked.grain) * asked.grain) for factor in factors
        ]
        wanted = sorted({length for length in wanted if low < length < high} - set(tried))
        if not wanted:
            break
        configs = [{"shape": asked.shape, "backend": backend, "batch": 1, "sequence": n, "rank": 16} for n in wanted]
        for row in measure(configs, asked.out, asked):
            tried[row["sequence"]] = row
        low = max((n for n, row in tried.items() if row["outcome"] == "ok"), default=0)
        high = min((n for n, row in tried.items() if row["outcome"] == "out_of_memory"), default=shape.max_position + 1)
        if low == 0:
            factors = tuple(factor * 0.5 for factor in factors)
            continue
        if high - low <= max(asked.grain, 0.02 * low) or low == shape.max_position:
            break
        predicted = low
        factors = tuple(1 + part / 5 * (high / low - 1) for part in (1, 2, 3, 4))
    return {"backend": backend, "longest": low, "shortest_that_does_not": high, "tried": list(tried.values())}


def _asked(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("make", "grid", "measure", "one", "longest", "rows", "fit", "score"))
    parser.add_argument("args", nargs="*")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/memory-shapes"))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--cap-gib", type=float, default=14.5)
    parser.add_argument("--stop-s", type=float, default=1e9, help="start nothing, and end what runs, after this long")
    parser.add_argument("--timeout-s", type=float, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--grain", type=int, default=128, help="sequences tried are multiples of this")
    parser.add_argument("--shape", default="qwen2.5-7b")
    parser.add_argument("--device-name", default="one H200, driver 580.159.04")
    parser.add_argument("--date", default=time.strftime("%Y-%m-%d"))
    parser.add_argument("--out", type=Path, default=Path("longest.jsonl"))
    return parser.parse_args(words)


def main() -> None:
    """Runs the part that the command line names."""
    asked = _asked(sys.argv[1:])
    rest = asked.args
    if asked.what == "make":
        for name in rest[1:]:
            shapes.make(Path(rest[0]), name)
    elif asked.what == "grid":
        if not rest:
            print(json.dumps(grid.grid(), indent=0))
        else:
            print(json.dumps(grid.missing(rows.read(Path(rest[0]))), indent=0))
    elif asked.what == "measure":
        measure(json.loads(Path(rest[0]).read_text()), Path(rest[1]), asked)
    elif asked.what == "one":
        from benchmarks.memory import run

        print("\n" + json.dumps({"result": run.one(json.loads(rest[0]), asked.folder.resolve(), asked.device)}))
    elif asked.what == "longest":
        asked.folder = Path(rest[0])
        print(json.dumps(longest(rest[1], asked)))
    elif asked.what == "rows":
        print(rows.compact([Path(name) for name in rest], asked.device_name, asked.date), end="")
    else:
        measured = rows.read(Path(rest[0]))
        print(json.dumps(fit.fit(measured) if asked.what == "fit" else fit.score(measured), indent=1))


if __name__ == "__main__":
    main()
