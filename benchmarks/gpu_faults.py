"""What a GPU run survives: SIGKILL, too large a batch, a card that somebody else holds. 7B-shaped, on a capped card.

    python benchmarks/gpu_faults.py FOLDER [--backend hf|unsloth]     one JSON document; exit 1 when a law is broken

FOLDER holds what ``benchmarks/gpu_7b.py make FOLDER`` writes (made here when it is missing). Everything goes through
``labqueue submit`` and ``labqueue worker``, as a user's runs do; device memory is NVML's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from labqueue.system.cards import gpus

CAP_GIB, STEPS, EVERY, LENGTH = 14.5, 12, 4, 1024
BACK_GIB = 0.1
"""How near to its baseline device memory must come back, GiB: the driver's own bookkeeping moves by less."""


class Lab:
    """A workspace and the commands that a user gives in it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.model, self.root = folder, folder / name
        self.root.mkdir(exist_ok=True)
        self._command = [sys.executable, "-m", "labqueue"]

    def submit(self, name: str, *, batch: int, backend: str, steps: int = STEPS) -> int:
        """Records one run and returns its id."""
        spec = {
            "name": name,
            "kind": "finetune",
            "limits": {"memory_gib": CAP_GIB},
            "params": {
                "model": str(self.model / "model"),
                "backend": backend,
                "data": {"path": str(self.model / "rows.jsonl"), "eval_items": 8},
                "steps": steps,
                "batch": batch,
                "max_length": LENGTH,
                "evaluations": 0,
                "samples": 0,
                "checkpoint_every": EVERY,
            },
        }
        path = self.root / f"{name}.yaml"
        path.write_text(json.dumps(spec))
        return int(self.answer("submit", str(path), "--profile", "gpu", "--no-preflight")["runs"][0])

    def answer(self, *words: str) -> Any:
        """What a command prints with ``--json``."""
        done = subprocess.run([*self._command, *words, "--json", "--root", str(self.root)], capture_output=True)
        return json.loads(done.stdout)

    def worker(self) -> subprocess.Popen[bytes]:
        """A worker that drains the queue, in a session of its own."""
        return subprocess.Popen([*self._command, "worker", "--drain", "--root", str(self.root)], start_new_session=True)


def used_gib() -> float:
    """Memory of card 0 that anybody holds."""
    (card, *_) = gpus()
    return card.total_gib - card.free_gib


def until(true: Callable[[], Any], timeout_s: float = 300.0) -> float:
    """Waits for a condition; returns the seconds that it took."""
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > timeout_s:
            raise SystemExit(f"not true within {timeout_s:.0f} s: {true}")
        time.sleep(0.05)
    return time.monotonic() - start


def killed(folder: Path, backend: str) -> dict[str, Any]:
    """SIGKILL of worker and child in the middle: memory comes back, and the resumed curve is the uninterrupted one."""
    whole, torn = Lab(folder, "whole"), Lab(folder, "torn")
    whole.submit("whole", batch=2, backend=backend)
    whole.worker().wait()
    torn.submit("torn", batch=2, backend=backend)
    baseline = used_gib()
    worker = torn.worker()
    until(lambda: ((torn.answer("show", "1")["progress"]) or {"done": 0})["done"] > EVERY)
    held = used_gib()
    children = psutil.Process(worker.pid).children(recursive=True)
    for process in (psutil.Process(worker.pid), *children):
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    back_s = until(lambda: used_gib() < baseline + BACK_GIB, 60)
    worker.wait()
    torn.worker().wait()
    run = torn.answer("show", "1")
    curves = [dict(lab.answer("metrics", "1", "train_loss")) for lab in (whole, torn)]
    differences = [abs(curves[0][step] - curves[1][step]) for step in curves[0]]
    return {
        "baseline_gib": baseline,
        "held_gib": held,
        "memory_back_s": back_s,
        "outcome": run["outcome"],
        "resumed_from": [attempt["resumed_from_step"] for attempt in run["attempts"]],
        "steps_once_each": [len(curve) == STEPS for curve in curves],
        "largest_loss_difference": max(differences),
        "ok": run["outcome"] == "succeeded" and len(curves[1]) == STEPS and max(differences) < 0.05,
    }


def too_large(folder: Path, backend: str) -> dict[str, Any]:
    """A batch that does not fit the cap: the ladder makes a finished run of it."""
    lab = Lab(folder, "ladder")
    lab.submit("ladder", batch=32, backend=backend, steps=2)
    lab.worker().wait()
    run = lab.answer("show", "1")
    tried = [(attempt["adjusted"] or {}).get("tried") for attempt in run["attempts"]]
    return {
        "outcome": run["outcome"],
        "attempts": [[attempt["outcome"], words] for attempt, words in zip(run["attempts"], tried, strict=True)],
        "peak_memory_gib": run["peak_memory_gib"],
        "ok": run["outcome"] == "succeeded" and len(run["attempts"]) > 1,
    }


def held_by_another(folder: Path, backend: str) -> dict[str, Any]:
    """Somebody else holds the card: the run waits with that reason, and starts when the card is free."""
    lab = Lab(folder, "admission")
    leave = 8
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import torch, sys; free, _ = torch.cuda.mem_get_info();"
            f"held = torch.empty(free - {leave} * 2**30, dtype=torch.uint8, device='cuda');"
            "print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    lab.submit("waits", batch=2, backend=backend, steps=4)
    worker = lab.worker()
    until(lambda: lab.answer("show", "1")["waiting"], 60)
    waiting = lab.answer("show", "1")["waiting"]
    holder.stdin.close()
    holder.wait()
    worker.wait()
    run = lab.answer("show", "1")
    ok = waiting["code"] == "memory" and run["outcome"] == "succeeded" and len(run["attempts"]) == 1
    return {
        "waiting": waiting,
        "outcome": run["outcome"],
        "telemetry": run["attempts"][-1]["telemetry"],
        "ok": ok,
    }


def main() -> None:
    """Runs the three parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", choices=("hf", "unsloth"), default="hf")
    given = parser.parse_args()
    folder = given.folder.resolve()
    if not (folder / "rows.jsonl").exists():
        subprocess.run([sys.executable, "benchmarks/gpu_7b.py", "make", str(folder)], check=True)
    found = {}
    for part in (too_large, killed, held_by_another):
        found[part.__name__] = part(folder, given.backend)
        print(part.__name__, json.dumps(found[part.__name__]), flush=True)
    print(json.dumps(found, indent=1))
    sys.exit(not all(part["ok"] for part in found.values()))


if __name__ == "__main__":
    main()
