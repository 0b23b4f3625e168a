"""The lab's pretraining beside nanoGPT's ``train.py`` (with compile), on one card, in one session.

    python -m benchmarks.pretraining pack DATA --shakespeare FILE --nanogpt DIR [--books FILE…]   here, before
    python -m benchmarks.pretraining baby_speed --data DATA --out FOLDER      tokens/s, alone on the card, one by one
    python -m benchmarks.pretraining gpt2_speed --data DATA --out FOLDER      likewise, 124M
    python -m benchmarks.pretraining books --data DATA --out FOLDER           loss after equal and half the time
    python -m benchmarks.pretraining losses --data DATA --out FOLDER          side by side: what only losses and memory
                                                                              decide (baby, modern, resume, memory, first)
    python -m benchmarks.pretraining PART --device cpu --tiny                 everything once, small, without a GPU

Each part writes FOLDER/PART.json after every job, and starts no job that might not end before ``--limit-s``. nanoGPT is
read from DATA/nanoGPT and never committed. Bars and what came out: docs/results/pretraining/.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pretraining import packed

Job = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]

TINY: Job = {"config": {"layers": 2, "heads": 2, "width": 32, "context": 16}, "recipe": {"batch": 4, "accumulation": 1}}
"""Of the lab's side; ``TINY_NANOGPT`` is the same of nanoGPT's."""

TINY_NANOGPT = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "batch_size": 4}

BABY = {"config": ["config/train_shakespeare_char.py"], "arguments": {}}

SMALL_STEP = {"batch_size": 12, "gradient_accumulation_steps": 5, "warmup_iters": 100}
"""nanoGPT's 124M with the micro-steps that each of its eight GPUs takes: 61,440 tokens a step."""


class Session:
    """Where a part runs and writes."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.begin = time.monotonic()
        self.device, self.tiny, self.limit_s = given.device, given.tiny, given.limit_s
        self.data, self.out = Path(given.data).resolve(), Path(given.out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def left_s(self) -> float:
        return float(self.limit_s - (time.monotonic() - self.begin))

    def corpus(self, name: str) -> str:
        return str(self.data / ("tiny" if self.tiny else name))

    def ours(self, preset: str, corpus: str, **more: Any) -> Job:
        job: Job = {"side": "ours", "preset": preset, "corpus": self.corpus(corpus), "seed": 0, "device": self.device}
        job |= more
        if self.tiny:
            job["config"] = job.get("config", {}) | TINY["config"]
            job["recipe"] = job.get("recipe", {}) | TINY["recipe"] | {"warmup_steps": 1}
        return job

    def nanogpt(self, corpus: str, base: Job, **more: Any) -> Job:
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
            log = ((late.stdout or b"")[-1500:] + (late.stderr or b"")[-1500:]).decode(errors="replace")
            return {"name": name, "error": "not done in time", "log": log}
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        took = {"name": name, "process_s": round(time.monotonic() - begin, 1)}
        if not lines:
            return took | {"error": f"exit status {done.returncode}", "log": (done.stdout + done.stderr)[-4000:]}
        return took | json.loads(lines[-1].removeprefix("RESULT "))

    def write(self, part: str, found: list[Job], summary: Job | None = None) -> None:
        versions = {"part": part, "device": self.device, "seconds": round(time.monotonic() - self.begin, 1)}
        text = json.dumps(versions | {"summary": summary or {}, "jobs": found}, indent=1)
        (self.out / f"{part}.json").write_text(text + "\n")

    def one_by_one(self, part: str, jobs: dict[str, Job], least_s: float) -> list[Job]:
        found: list[Job] = []
        for name, job in jobs.items():
            if self.left_s < least_s:
                found.append({"name": name, "error": f"left out: only {self.left_s:.0f} s were left"})
                continue
            found.append(self.run(name, job))
            self.write(part, found)
            print(f"{time.monotonic() - self.begin:6.0f} s  {_line(found[-1])}", flush=True)
        return found

    def side_by_side(self, part: str, jobs: dict[str, Job], at_once: int) -> list[Job]:
        found: list[Job] = []
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            waiting = [pool.submit(self.run, name, job) for name, job in jobs.items()]
            for done in concurrent.futures.as_completed(waiting):
                found.append(done.result())
                self.write(part, found)
                print(f"{time.monotonic() - self.begin:6.0f} s  {_line(found[-1])}", flush=True)
        return sorted(found, key=lambda each: list(jobs).index(each["name"]))


def _line(found: Job) -> str:
    if "error" in found:
        return f"{found['name']}: {found['error']}\n{found.get('log', '')}"
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
        for (step, at), (later, until) in zip(times, times[1:], strict=False)
    ]
    return statistics.median(rates) if rates else None


def baby_speed(session: Session) -> None:
    """nanoGPT, ours, nanoGPT again: what drifts on the card is seen. Bar: 2.3 times."""
    marks = [4, 8, 12] if session.tiny else [200, 500, 800, 1100]
    silent = {"eval_interval": 10**9, "max_iters": marks[-1], "lr_decay_iters": 5000, "log_interval": 10}
    theirs = session.nanogpt("shakespeare_char", BABY, arguments=silent, marks=marks, evaluate=False)
    ours = session.ours("gpt2-10.7m", "shakespeare_char", steps=marks[-1], marks=marks)
    jobs = {
        "nanogpt": theirs,
        "ours": ours,
        "ours compiled": ours | {"way": {"mode": "compiled"}},
        "ours modern": session.ours("modern-10.7m", "shakespeare_char", steps=marks[-1], marks=marks),
        "ours cudnn": ours | {"way": {"attention": "cudnn"}},
        "nanogpt again": theirs,
    }
    if session.tiny:
        jobs = {name: jobs[name] for name in ("nanogpt", "ours", "ours modern")}
        del jobs["ours modern"]["recipe"]["warmup_steps"]
        jobs["ours modern"]["recipe"]["warmup_steps"] = 2
    _speed(session, "baby_speed", jobs, least_s=60)


def gpt2_speed(session: Session) -> None:
    """124M at 61,440 tokens a step on both sides; ours in several micro-batches and kernels. Bar: 1.0 times."""
    marks = [2, 4, 6] if session.tiny else [10, 25, 40, 55]
    silent = {"eval_interval": 10**9, "max_iters": marks[-1], "log_interval": 10} | SMALL_STEP
    corpus = "random-50304"
    theirs = session.nanogpt(corpus, {"config": [], "arguments": {}}, arguments=silent, marks=marks, evaluate=False)

    def ours(batch: int, preset: str = "gpt2-124m", **way: Any) -> Job:
        recipe = {"batch": batch, "accumulation": 60 // batch}
        return session.ours(preset, corpus, steps=marks[-1], marks=marks, recipe=recipe, way=way)

    jobs = {
        "nanogpt": theirs,
        "ours 12": ours(12),
        "ours 30 cudnn": ours(30, attention="cudnn"),
        "ours 60 cudnn graph": ours(60, attention="cudnn", mode="graph"),
        "ours 12 cudnn graph": ours(12, attention="cudnn", mode="graph"),
        "ours 30": ours(30),
        "ours modern 30 cudnn": ours(30, "modern-162m", attention="cudnn"),
    }
    if session.tiny:
        jobs = {name: jobs[name] for name in ("nanogpt", "ours 12", "ours modern 30 cudnn")}
    _speed(session, "gpt2_speed", jobs, least_s=75)


def _speed(session: Session, part: str, jobs: dict[str, Job], least_s: float) -> None:
    found = session.one_by_one(part, jobs, 0 if session.tiny else least_s)
    theirs = [tokens_a_second(each) for each in found if each["name"].startswith("nanogpt") and "error" not in each]
    base = max((rate for rate in theirs if rate), default=None)
    rates = {each["name"]: tokens_a_second(each) for each in found if "error" not in each}
    ratios = {name: rate / base for name, rate in rates.items() if rate and base}
    session.write(part, found, {"tokens_per_s": rates, "ratio_to_the_faster_nanogpt": ratios})
    print(json.dumps({"tokens_per_s": rates, "ratios": ratios}))


def books(session: Session) -> None:
    """Austen, Shakespeare and the World English Bible: nanoGPT's loss after 60 s of steps, ours after 30 s, each with a
    schedule that ends then. Bar: ours at most theirs."""
    seconds = 0.5 if session.tiny else 60.0
    probe = [2, 6] if session.tiny else [10, 30]
    silent = {"eval_interval": 10**9, "max_iters": probe[-1], "log_interval": 10} | SMALL_STEP
    base: Job = {"config": [], "arguments": {}}
    found = session.one_by_one(
        "books",
        {"nanogpt probe": session.nanogpt("books", base, arguments=silent, marks=probe, evaluate=False)},
        0,
    )
    rate = tokens_a_second(found[0])
    if not rate:
        return
    steps = max(probe[-1], round(seconds * rate / found[0]["tokens_a_step"]))
    points = sorted({round(steps * part / 6) for part in range(1, 7)})
    full = silent | {"max_iters": steps, "lr_decay_iters": steps, "eval_interval": max(1, steps // 6)}
    jobs = {"nanogpt 60 s": session.nanogpt("books", base, arguments=full, marks=[1, *points])}
    found += session.one_by_one("books", jobs, 0)

    def ours(name: str, batch: int, accumulation: int, part: float, rate: float, **recipe: Any) -> dict[str, Job]:
        number = max(8, round(part * seconds * rate / (batch * accumulation * (16 if session.tiny else 1024))))
        changed = {"batch": batch, "accumulation": accumulation, "steps": number, "warmup_steps": number // 10} | recipe
        job = session.ours(
            "modern-162m",
            "books",
            recipe=changed,
            way={"attention": "cudnn"},
            marks=[1, number // 2, number],
            evaluations=[number // 2, number],
        )
        return {name: job}

    probe_job = session.ours(
        "modern-162m",
        "books",
        steps=probe[-1],
        marks=probe,
        recipe={"batch": 30, "accumulation": 1},
        way={"attention": "cudnn"},
    )
    probed = session.one_by_one("books", {"ours probe": probe_job}, 0)
    mine = tokens_a_second(probed[0]) or rate
    variants = ours("modern 30 s, 30 a step", 30, 1, 0.5, mine)
    variants |= ours("modern 30 s, 60 a step", 30, 2, 0.5, mine)
    variants |= ours("modern 30 s, 30 a step, twice the rate", 30, 1, 0.5, mine, learning_rate=4e-3, muon_rate=6e-3)
    if session.tiny:
        variants = dict(list(variants.items())[:1])
    found += probed + session.one_by_one("books", variants, 0 if session.tiny else 75)
    ends = {each["name"]: _end(each) for each in found if each.get("losses")}
    session.write("books", found, {"loss_and_seconds_at_the_end": ends})
    print(json.dumps(ends))


def _end(found: Job) -> tuple[float, float | None]:
    """(last loss, seconds of steps from the first to the last)."""
    times = list(found["times_s"].values())
    return list(found["losses"].values())[-1], times[-1] - times[0] if len(times) > 1 else None


def losses(session: Session) -> None:
    """What only losses and memory decide, side by side: three seeds of nanoGPT, of ours and of the modern model over
    5,000 steps with 20 evaluations; variants of the modern one; a resume; memory and first loss of every preset."""
    steps = 20 if session.tiny else 5000
    every = max(1, steps // 20)
    points = list(range(0, steps + 1, every))
    jobs: dict[str, Job] = {}
    for seed in range(1 if session.tiny else 3):
        arguments = {"eval_interval": every, "max_iters": steps, "lr_decay_iters": steps, "log_interval": 1000}
        jobs[f"nanogpt {seed}"] = session.nanogpt("shakespeare_char", BABY, arguments=arguments, seed=1337 + seed)
        for name, preset in (("ours", "gpt2-10.7m"), ("modern", "modern-10.7m")):
            jobs[f"{name} {seed}"] = session.ours(
                preset, "shakespeare_char", seed=seed, steps=steps, recipe={"steps": steps}, evaluations=points
            )
    for name, config, recipe in (
        ("modern dropout .3", {"dropout": 0.3}, {}),
        ("modern muon 4e-3", {}, {"muon_rate": 4e-3}),
        ("modern dropout .3 decay .5", {"dropout": 0.3}, {"weight_decay": 0.5}),
    ):
        jobs[name] = session.ours(
            "modern-10.7m",
            "shakespeare_char",
            steps=steps,
            config=config,
            recipe={"steps": steps} | recipe,
            evaluations=points,
        )
    found: list[Job] = []
    with tempfile.TemporaryDirectory() as aside:
        short = 6 if session.tiny else 200
        for name, preset in (("resume gpt2", "gpt2-10.7m"), ("resume modern", "modern-10.7m")):
            whole = session.ours(preset, "shakespeare_char", seed=5, steps=short, every=True)
            jobs[f"{name} whole"] = whole
            jobs[f"{name} half"] = whole | {"steps": short // 2, "save": f"{aside}/{preset}"}
        for preset in ("gpt2-124m", "modern-162m", "gpt2-10.7m", "modern-10.7m", "gpt2-0.8m", "modern-0.9m"):
            corpus = "random-50304" if preset.endswith(("124m", "162m")) else "shakespeare_char"
            recipe = {"accumulation": 2} if preset.endswith(("124m", "162m")) else {}
            jobs[f"memory {preset}"] = session.ours(
                preset, corpus, steps=3, recipe=recipe, way={"logits_bytes": 0.97 * 2**30}, evaluations=[0]
            )
        if session.tiny:  # one of each form
            few = ("nanogpt 0", "modern 0", "resume modern whole", "resume modern half", "memory gpt2-124m")
            jobs = {name: jobs[name] for name in few}
        found = session.side_by_side("losses", jobs, at_once=1 if session.tiny else 9)
        later = {
            f"{name} resumed": session.ours(
                preset, "shakespeare_char", seed=5, steps=short, every=True, resume=f"{aside}/{preset}"
            )
            for name, preset in (("resume gpt2", "gpt2-10.7m"), ("resume modern", "modern-10.7m"))
            if f"{name} half" in jobs
        }
        found += session.side_by_side("losses", later, at_once=2)
    summary = _losses(found)
    session.write("losses", found, summary)
    print(json.dumps(summary, indent=1))


def _losses(found: list[Job]) -> Job:
    done = {each["name"]: each for each in found if "error" not in each}
    lowest = {name: min(each["losses"].values()) for name, each in done.items() if len(each["losses"]) > 2}
    means = {
        side: statistics.mean(values)
        for side in ("nanogpt", "ours", "modern")
        if (values := [loss for name, loss in lowest.items() if name in {f"{side} {seed}" for seed in range(3)}])
    }
    apart = {}
    for name in ("resume gpt2", "resume modern"):
        whole, again = done.get(f"{name} whole"), done.get(f"{name} resumed")
        if whole and again:
            common = again["train_losses"].keys() & whole["train_losses"].keys()
            apart[name] = max(abs(whole["train_losses"][step] - again["train_losses"][step]) for step in common)
    memory = {
        name: {"measured_gib": each["peak_gib"], "estimated_gib": each["estimated_gib"]}
        for name, each in done.items()
        if name.startswith("memory ")
    }
    first = {
        name: {"measured": list(each["losses"].values())[0], "law": each["initial_law"]}
        for name, each in done.items()
        if name.startswith("memory ")
    }
    return {
        "lowest_of_20": lowest,
        "mean_of_seeds": means,
        "resumed_apart": apart,
        "memory": memory,
        "first_loss": first,
        "failed": [each["name"] for each in found if "error" in each],
    }


PARTS = {"baby_speed": baby_speed, "gpt2_speed": gpt2_speed, "books": books, "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    pack = commands.add_parser("pack")
    pack.add_argument("data", type=Path)
    pack.add_argument("--shakespeare", type=Path)
    pack.add_argument("--nanogpt", type=Path)
    pack.add_argument("--books", type=Path, nargs="*", default=[])
    for name in PARTS:
        part = commands.add_parser(name)
        part.add_argument("--data", default=".gpu")
        part.add_argument("--out", default=os.environ.get("OUT", "outputs/pretraining"))
        part.add_argument("--device", default="cuda")
        part.add_argument("--tiny", action="store_true")
        part.add_argument("--limit-s", type=float, default=540.0)
    given = parser.parse_args()
    if given.part != "pack":
        PARTS[given.part](Session(given))
        return
    packed.tiny(given.data / "tiny")
    packed.random(given.data / "random-50304", 50_304)
    if given.shakespeare:
        packed.shakespeare(given.shakespeare, given.data / "shakespeare_char")
    if given.nanogpt:
        packed.nanogpt(given.nanogpt, given.data / "nanoGPT")
    if given.books:
        packed.books(given.books, given.data / "books")


if __name__ == "__main__":
    main()
