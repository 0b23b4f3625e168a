"""A pretraining run whose process is killed at any step ends as the one that was left alone, bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

from tests.conftest import Lab, wait_until

TEXT = "".join(f"{number} geese flew south, {number % 9} of them in front.\n" for number in range(500))


def spec(lab: Lab, name: str, text: Path) -> Path:
    params = {
        "corpus": str(text),
        "model": {"layers": 1, "heads": 2, "width": 16, "context": 16, "dropout": 0.2},
        "steps": 600,
        "batch": 4,
        "evaluations": 5,
        "sample_tokens": 8,
        "checkpoint_every": 20,
    }
    return lab.text(json.dumps({"name": name, "kind": "pretrain", "params": params, "seeds": [3]}), name)


def shown(lab: Lab, run: int, **extra: str) -> Any:
    return lab.run("show", str(run), "--json", **extra).json


def test_a_killed_run_ends_as_the_uninterrupted_one_bit_for_bit(lab: Lab, tmp_path: Path) -> None:
    extra = {"LABQUEUE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    text = tmp_path / "geese.txt"
    text.write_text(TEXT)
    for name in ("killed", "whole"):
        done = lab.run("submit", spec(lab, name, text), "--profile", "cpu", "--force", **extra)
        assert done.code == 0, done.err
    least = random.Random(os.getpid()).randrange(40, 300)
    worker = lab.start("worker", "--drain", "--device", "cpu", **extra)
    try:
        wait_until(lambda: saved(lab) >= least, timeout_s=200)
        holder = (lab.root / "outputs" / "locks" / "cpu.compute").read_bytes()
        os.kill(int(holder.split(b'"pid": ')[1].split(b",")[0]), signal.SIGKILL)
        worker.communicate(timeout=280)
    finally:
        worker.kill()
    assert worker.returncode == 0
    killed, whole = shown(lab, 1, **extra), shown(lab, 2, **extra)
    assert [each["outcome"] for each in (killed, whole)] == ["succeeded", "succeeded"]
    assert [attempt["outcome"] for attempt in killed["attempts"]] == ["crashed", "succeeded"]
    # A checkpoint's folder is there before the store knows of it: the kill may have come between.
    assert killed["attempts"][-1]["resumed_from_step"] >= least - 20
    for metric in ("train_loss", "eval_loss", "grad_norm"):
        one, other = (lab.run("metrics", str(run), metric, "--json", **extra).json for run in (1, 2))
        assert one == other != [], metric
    models = [
        {kept["name"]: kept["sha256"] for kept in each["artifacts"] if kept["type"] == "model"}
        for each in (killed, whole)
    ]
    assert models[0] == models[1]
    assert len(models[0]) == 4
    samples = [[(each["step"], each["text"]) for each in run["samples"]] for run in (killed, whole)]
    assert samples[0] == samples[1] != []


def saved(lab: Lab) -> int:
    """The step of the newest checkpoint; 0 without one."""
    folder = lab.root / "outputs" / "killed" / "1" / "checkpoints"
    return max((int(path.name.split("-")[1]) for path in folder.glob("step-*")), default=0)
