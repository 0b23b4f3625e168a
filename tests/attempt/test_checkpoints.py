"""Damaged checkpoints: never believed, told in the run's history, and the resumed run equals the uninterrupted one."""

from __future__ import annotations

import json
import math
import random
import shutil
import sqlite3
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab, wait_until
from tests.kinds.test_finetune import TINY

STEPS = 20

GATED = """
    import pathlib, time
    from labqueue.kinds import drill
    from labqueue.kinds.drill import Params

    class Gated:
        'A recorder whose run gets no further than step 8 until the gate is open.'
        def __init__(self, rec):
            self.__dict__['rec'] = rec
        def __getattr__(self, name):
            return getattr(self.rec, name)
        def progress(self, done, total):
            self.rec.progress(done, total)
            while done == 8 and self.rec.should_stop is None and not pathlib.Path('gate').exists():
                time.sleep(0.01)

    def run(params, rec):
        drill.run(params, Gated(rec))
"""
"""A drill that cannot be over before it has been interrupted, however busy the machine."""


def flip(checkpoint: Path) -> None:
    """One bit of one byte in the middle of the largest file, which keeps its length."""
    file = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def truncate(checkpoint: Path) -> None:
    file = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def lose_a_file(checkpoint: Path) -> None:
    next(path for path in checkpoint.rglob("*") if path.is_file()).unlink()


def add_a_file(checkpoint: Path) -> None:
    (checkpoint / "extra.json").write_text("{}")


def make_a_file_unreadable(checkpoint: Path) -> None:
    file = next(path for path in checkpoint.rglob("*") if path.is_file())
    file.unlink()
    file.symlink_to(file.name)


def lose_all(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)


DAMAGES = (flip, truncate, lose_a_file, add_a_file, make_a_file_unreadable, lose_all)


def recorded(lab: Lab, run: int) -> list[Path]:
    """A run's checkpoints, oldest first, as the results store names them; read past the lab."""
    connection = sqlite3.connect(lab.settings.database)
    found = connection.execute("SELECT path FROM checkpoints WHERE run_id = ? ORDER BY step", (run,)).fetchall()
    connection.close()
    return [lab.root / path for (path,) in found]


def interrupt(lab: Lab, run: int, timeout_s: float = 30.0) -> list[Path]:
    """Pauses a run once it has two checkpoints; returns those that it then has."""
    wait_until(lambda: len(recorded(lab, run)) == 2, timeout_s)
    assert call(lab, "pause", run, "--json").json["asked"] == [run]
    connection = sqlite3.connect(lab.settings.database)
    wait_until(lambda: connection.execute("SELECT state FROM runs WHERE id = ?", (run,)).fetchone() == ("queued",))
    connection.close()
    return recorded(lab, run)


def stop(worker: subprocess.Popen[str]) -> None:
    worker.terminate()
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 0, said


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def lost(view: dict[str, Any]) -> list[str]:
    return [event["text"] for event in view["history"] if event["kind"] == "checkpoint_lost"]


@dataclass(frozen=True)
class Night:
    lab: Lab
    checkpoints: dict[str, tuple[Path, Path]]
    """Of each experiment when it was interrupted: (the one before, the newest)."""
    runs: dict[str, dict[str, Any]]
    """As ``show --json`` has them in the morning."""


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """A drill for each damage, each interrupted by a pause, damaged, and gone on with."""
    lab = Lab(tmp_path_factory.mktemp("night"))
    extra = own_kinds.install(tmp_path_factory.mktemp("site"), {"gated": GATED})
    params = {"steps": STEPS, "step_s": 0, "checkpoint_every": 3}
    names = [*(damage.__name__ for damage in DAMAGES), "both", "none"]
    specs = [lab.spec(name, kind="gated", params=params) for name in names]
    answer = lab.run("submit", *specs, "--profile", "cpu", **extra)
    assert answer.code == 0, answer.err
    runs = {name: number for number, name in enumerate(names, start=1)}
    worker = lab.start("worker", "--device", "cpu", **extra)
    try:
        found = {name: interrupt(lab, run) for name, run in runs.items()}
        stop(worker)
    finally:
        worker.kill()
    for damage in DAMAGES:
        damage(found[damage.__name__][1])
    flip(found["both"][0])
    truncate(found["both"][1])
    for run in runs.values():
        call(lab, "resume", run)
    (lab.root / "gate").touch()
    answer = lab.run("worker", "--drain", "--device", "cpu", **extra)
    assert answer.code == 0, answer.err
    views = {name: call(lab, "show", run, "--json").json for name, run in runs.items()}
    return Night(lab, {name: (older, newest) for name, (older, newest) in found.items()}, views)


def assert_whole(lab: Lab, run: dict[str, Any]) -> None:
    """It ended well, with exactly the values of a drill that was never interrupted, each once."""
    assert (run["outcome"], len(run["attempts"])) == ("succeeded", 2)
    source = random.Random(0)
    expected = [[s, math.exp(-s / STEPS) + 0.01 * source.gauss(0.0, 1.0)] for s in range(1, STEPS + 1)]
    assert call(lab, "metrics", run["id"], "value", "--json").json == expected


@pytest.mark.parametrize("damage", [damage.__name__ for damage in DAMAGES])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(night: Night, damage: str) -> None:
    run, (older, newest) = night.runs[damage], night.checkpoints[damage]
    assert run["attempts"][1]["resumed_from_step"] == step_of(older)
    (told,) = lost(run)
    assert f"checkpoint of step {step_of(newest)} " in told
    assert f"falling back to that of step {step_of(older)}" in told
    assert told in call(night.lab, "show", run["id"]).out
    assert_whole(night.lab, run)


def test_a_run_whose_checkpoints_are_all_damaged_starts_from_the_beginning_and_says_so(night: Night) -> None:
    run = night.runs["both"]
    assert run["attempts"][1]["resumed_from_step"] is None
    assert len(lost(run)) == 2
    assert lost(run)[-1].endswith("starting from the beginning")
    assert_whole(night.lab, run)


def test_a_sound_checkpoint_is_resumed_from_and_nothing_is_told(night: Night) -> None:
    run = night.runs["none"]
    assert run["attempts"][1]["resumed_from_step"] == step_of(night.checkpoints["none"][1])
    assert lost(run) == []
    assert_whole(night.lab, run)


TRAINED = TINY | {"steps": 60, "checkpoint_every": 4}


def trained(lab: Lab, name: str) -> Path:
    return lab.text(json.dumps({"name": name, "kind": "finetune", "params": TRAINED}), name)


def results(lab: Lab, run: int) -> dict[str, Any]:
    """All that a training run leaves, but what is measured of the machine."""
    view = call(lab, "show", run, "--json").json
    measured = {"tokens_per_second", "step_s", "peak_memory_gib"}
    found: dict[str, Any] = {
        name: call(lab, "metrics", run, name, "--json").json for name in view["metrics"] if name not in measured
    }
    (adapter,) = [artifact for artifact in view["artifacts"] if artifact["name"] == "adapter"]
    found["adapter"] = (lab.root / adapter["path"] / "adapter_model.safetensors").read_bytes()
    return found


@pytest.mark.model
def test_a_training_run_that_fell_back_equals_the_uninterrupted_one_bit_for_bit(lab: Lab) -> None:
    answer = lab.run("submit", trained(lab, "part"), trained(lab, "whole"), "--profile", "cpu", "--json")
    assert answer.code == 0, answer.err
    worker = lab.start("worker", "--device", "cpu")
    try:
        older, newest = interrupt(lab, 1, timeout_s=120)
        stop(worker)
    finally:
        worker.kill()
    flip(newest)
    call(lab, "resume", 1)
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    view = call(lab, "show", 1, "--json").json
    assert view["attempts"][1]["resumed_from_step"] == step_of(older)
    assert len(lost(view)) == 1
    expected, got = results(lab, 2), results(lab, 1)
    assert expected.keys() == got.keys()
    assert {name for name in expected if expected[name] != got[name]} == set()
