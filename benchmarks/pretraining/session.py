"""A measurement session: jobs of both sides, each in a process of its own, alone on the card or side by side."""

from __future__ import annotations

import argparse
import concurrent.futures
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Job = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]

TINY: Job = {"config": {"layers": 2, "heads": 2, "width": 32, "context": 16}, "recipe": {"batch": 4, "accumulation": 1}}
"""Of the lab's side; ``TINY_NANOGPT`` is the same of nanoGPT's."""

TINY_NANOGPT = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "batch_size": 4}


class Session:
    """Where a part runs and writes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.begin = time.monotonic()
        self.device, self.tiny, self.limit_s = given.device, given.tiny, given.limit_s
        self.rates = given.nanogpt_rate, given.our_rate
        self.data, self.out = Path(given.data).resolve(), Path(given.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        """Seconds until the limit."""
        return float(self.limit_s - (time.monotonic() - self.begin))

    def corpus(self, name: str) -> str:
        """Folder of a corpus."""
        return str(self.data / ("tiny" if self.tiny else name))

    def ours(self, preset: str, corpus: str, **more: Any) -> Job:
        """A job of the lab's side."""
        job: Job = {"side": "ours", "preset": preset, "corpus": self.corpus(corpus), "seed": 0, "device": self.device}
        job |= more
        if self.tiny:
            job["config"] = job.get("config", {}) | TINY["config"]
            job["recipe"] = job.get("recipe", {}) | TINY["recipe"] | {"warmup_steps": 1}
        return job

    def nanogpt(self, corpus: str, base: Job, **more: Any) -> Job:
        """A job of nanoGPT's side."""
        arguments = base["arguments"] | more.pop("arguments", {})
        if self.device == "cpu":
            arguments |= {"compile": False, "dtype": "float32"}
        if self.tiny:
            arguments |= TINY_NANOGPT | {"gradient_accumulation_steps": 1, "warmup_iters": 1}
        return {
            "side": "nanogpt",
            "source": str(self.data / "nanoGPT"),
            "corpus": self.corpus(corpus),
            "seed": 1337,
            "device": self.device,
            "config": base["config"],
            "arguments": arguments,
        } | more

    def run(self, name: str, job: Job) -> Job:
        """Runs a job in a process of its own; its result, or what went wrong."""
        begin = time.monotonic()
        words = [sys.executable, "-m", f"benchmarks.pretraining.{job['side']}", json.dumps(job)]
        # An empty OMP_NUM_THREADS would leave 16 threads to each of the processes side by side.
        env = os.environ | {"OMP_NUM_THREADS": "2", "TORCHINDUCTOR_COMPILE_THREADS": "4", "PYTHONPATH": str(ROOT)}
        try:
            done = subprocess.run(
                words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=max(5.0, self.left_s), check=False
            )
        except subprocess.TimeoutExpired as late:
            told = [line for line in _text(late.stdout).splitlines() if line.startswith("SO FAR ")]
            losses = json.loads(told[-1].removeprefix("SO FAR ")) if told else {}
            log = _text(late.stdout)[-1500:] + _text(late.stderr)[-1500:]
            return {"name": name, "error": "not done in time", "losses_so_far": losses, "log": log}
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        took = {"name": name, "process_s": round(time.monotonic() - begin, 1)}
        if not lines:
            return took | {"error": f"exit status {done.returncode}", "log": (done.stdout + done.stderr)[-4000:]}
        result: Job = json.loads(lines[-1].removeprefix("RESULT "))
        return took | result

    def write(self, part: str, found: list[Job], summary: Job | None = None) -> None:
        """Writes what there is by now."""
        versions = {"part": part, "device": self.device, "seconds": round(time.monotonic() - self.begin, 1)}
        text = json.dumps(versions | {"summary": summary or {}, "jobs": found}, indent=1)
        (self.out / f"{part}.json").write_text(text + "\n")

    def one_by_one(self, part: str, jobs: dict[str, Job], least_s: float) -> list[Job]:
        """Runs jobs alone on the card; none is started with less than ``least_s`` left."""
        found: list[Job] = []
        for name, job in jobs.items():
            if self.left_s < least_s:
                found.append({"name": name, "error": f"left out: only {self.left_s:.0f} s were left"})
                continue
            found.append(self.run(name, job))
            self.write(part, found)
            print(f"{time.monotonic() - self.begin:6.0f} s  {line(found[-1])}", flush=True)
        return found

    def side_by_side(self, part: str, jobs: dict[str, Job], at_once: int) -> list[Job]:
        """Runs jobs together, where their speed does not matter."""
        found: list[Job] = []
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            waiting = [pool.submit(self.run, name, job) for name, job in jobs.items()]
            for done in concurrent.futures.as_completed(waiting):
                found.append(done.result())
                self.write(part, found)
                print(f"{time.monotonic() - self.begin:6.0f} s  {line(found[-1])}", flush=True)
        return sorted(found, key=lambda each: list(jobs).index(each["name"]))


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def line(found: Job) -> str:
    """A job in one line, or what went wrong with the end of its output."""
    if "error" in found:
        return f"{found['name']}: {found['error']} {found.get('losses_so_far', '')}\n{found.get('log', '')}"
    words = [f"{found['name']}:"]
    if rate := tokens_a_second(found):
        words.append(f"{rate:,.0f} tokens/s")
    if found["losses"]:
        words.append(f"lowest {min(found['losses'].values()):.4f}, last {list(found['losses'].values())[-1]:.4f}")
    if found.get("peak_gib"):
        words.append(f"{found['peak_gib']:.2f} GiB")
    return " ".join([*words, f"({found['process_s']} s)"])


def tokens_a_second(found: Job) -> float | None:
    """Median over the stretches between two readings of the clock; None without two."""
    times = sorted((int(step), at) for step, at in found.get("times_s", {}).items())
    rates = [
        (later - step) * found["tokens_a_step"] / (until - at)
        for (step, at), (later, until) in itertools.pairwise(times)
    ]
    return statistics.median(rates) if rates else None
