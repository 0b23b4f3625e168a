"""One run of nanoGPT's own ``train.py``, its loop untouched.

Patched at run time are the seed, the evaluation (the whole split, as on our side), the checkpoint file (left out) and a
clock at chosen iterations.

    python -m benchmarks.pretraining.nanogpt '{"source": …, "corpus": …, …}'
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pretraining import packed

PATCHES = (
    ("torch.manual_seed(1337 + seed_offset)", "torch.manual_seed(LAB.seed)"),
    (
        "# learning rate decay scheduler (cosine with warmup)",
        "estimate_loss = lambda: LAB.evaluate(raw_model, iter_num, ctx)\n# learning rate decay scheduler",
    ),
    ("torch.save(checkpoint, os.path.join(out_dir, 'ckpt.pt'))", "pass"),
    ("    # termination conditions", "    LAB.tick(iter_num)\n    # termination conditions"),
)


def patched(source: str) -> str:
    """train.py with the patches; each place must be there exactly once.

    Raises:
        SystemExit: it is another version of nanoGPT.
    """
    for old, new in PATCHES:
        if source.count(old) != 1:
            raise SystemExit(f"train.py has {source.count(old)} times {old!r}, 1 was expected: another nanoGPT?")
        source = source.replace(old, new)
    return source


class Lab:
    """What the patches call."""

    def __init__(self, job: dict[str, Any]) -> None:
        import torch

        self.torch = torch
        self.seed, self.marks, self.device = job["seed"], set(job.get("marks", ())), job["device"]
        self.measure = job.get("evaluate", True)
        self.held_out = packed.read(Path(job["corpus"]))[1]
        self.times: dict[int, float] = {}
        self.losses: dict[int, float] = {}
        self.apart_s = 0.0
        """Time of evaluations, which no clock counts."""

    def now(self) -> float:
        """Seconds without evaluations, once the device is done."""
        if self.device.startswith("cuda"):
            self.torch.cuda.synchronize()
        return time.perf_counter() - self.apart_s

    def tick(self, done: int) -> None:
        """Reads the clock after an iteration, where that was asked for."""
        if done in self.marks:
            self.times[done] = self.now()

    def evaluate(self, model: Any, iteration: int, ctx: Any) -> dict[str, float]:
        """Whole-split loss in windows that never differ, as ``labqueue.llm.pretraining.validation`` has them."""
        if not self.measure:
            return {"train": 0.0, "val": 0.0}
        begin = self.now()
        self.losses[iteration] = split_loss(model, self.held_out, self.device, ctx)
        self.apart_s += self.now() - begin
        print("SO FAR " + json.dumps(self.losses), flush=True)
        return {"train": 0.0, "val": self.losses[iteration]}


def split_loss(model: Any, tokens: packed.Ids, device: str, ctx: Any) -> float:
    """As ``validation.split_loss``, for nanoGPT's model, which returns a mean."""
    import numpy as np
    import torch

    from labqueue.llm.pretraining import validation

    context = model.config.block_size
    model.eval()
    found = validation.windows(len(tokens), context)
    at_once = max(1, validation.TOKENS_AT_ONCE // context)
    whole = [window for window in found if window[1] == context]
    rest = [window for window in found if window[1] < context]
    groups = [whole[at : at + at_once] for at in range(0, len(whole), at_once)]
    total = 0.0
    for group in [*groups, *([rest] if rest else [])]:
        spans = np.stack([tokens[first : first + length + 1] for first, length in group]).astype(np.int64)
        span = torch.from_numpy(spans).to(device)
        with torch.no_grad(), ctx:
            loss = model(span[:, :-1].contiguous(), span[:, 1:].contiguous())[1]
        total += float(loss) * span[:, 1:].numel()
    model.train()
    return total / (len(tokens) - 1)


def main() -> None:
    """Runs train.py in a folder of its own and prints what came out."""
    job = json.loads(sys.argv[1])
    source, corpus = Path(job["source"]).resolve(), Path(job["corpus"]).resolve()
    lab = Lab(job | {"corpus": str(corpus)})
    program = patched((source / "train.py").read_text())
    with tempfile.TemporaryDirectory() as aside:
        for name in packed.NANOGPT_FILES[1:]:
            target = Path(aside) / name
            target.parent.mkdir(exist_ok=True)
            target.symlink_to(source / name)
        packed.nanogpt_data(corpus, Path(aside) / "data" / "packed")
        os.chdir(aside)
        sys.path.insert(0, aside)
        given = {"dataset": "packed", "device": job["device"], "out_dir": "out"} | job["arguments"]
        sys.argv = ["train.py", *job.get("config", ()), *(f"--{name}={value}" for name, value in given.items())]
        names: dict[str, Any] = {"__name__": "__main__", "LAB": lab}
        begin = time.perf_counter()
        exec(compile(program, "train.py", "exec"), names)
        wall_s = time.perf_counter() - begin
        os.chdir("/")
    tokens = names["tokens_per_iter"]
    peak = lab.torch.cuda.max_memory_reserved() / 2**30 if job["device"].startswith("cuda") else None
    found = {
        "who": "nanogpt",
        "tokens_a_step": tokens,
        "times_s": lab.times,
        "losses": lab.losses,
        "peak_gib": peak,
        "wall_s": round(wall_s, 1),
        "parameters": sum(weight.numel() for weight in names["raw_model"].parameters()),
    }
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main()
