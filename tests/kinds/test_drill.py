"""The fire drill: what it counts, how it goes on, and that it needs no model library, not even on a GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from labqueue.domain.kind import Stopped
from labqueue.kinds import drill
from tests.helpers_recorder import MemoryRecorder

ON_A_GPU = """
import pathlib, sys
from labqueue import kinds
from labqueue.attempt import runner
from tests.helpers_recorder import MemoryRecorder

kind = kinds.get("drill")
rec = MemoryRecorder(pathlib.Path(sys.argv[1]), device="cuda:0")
limits = {"memory_gib": "auto", "wall_minutes": None, "attempts": 3}
assert runner._cap(kind, "cuda:0", limits, None) == {}
kind.run(kind.params(steps=3, step_s=0.0), rec)
assert sorted(rec.metrics["value"]) == [1, 2, 3]
assert runner._peak_gib("cuda:0") is None, "not measured is not 0"
sys.exit("torch" in sys.modules)
"""


def test_a_drill_on_a_gpu_never_imports_torch(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", ON_A_GPU, tmp_path], check=False, cwd=root).returncode == 0


def test_a_stopped_drill_goes_on_to_the_values_of_one_that_was_not(tmp_path: Path) -> None:
    params = drill.Params(steps=12, step_s=0.0)
    whole = MemoryRecorder(tmp_path / "whole", seed=7)
    drill.run(params, whole)
    first = MemoryRecorder(tmp_path / "part", seed=7, stop_at=4)
    with pytest.raises(Stopped):
        drill.run(params, first)
    second = MemoryRecorder(tmp_path / "part", seed=7, resume_from=first.checkpoints[-1], attempt=2)
    drill.run(params, second)
    assert first.metrics["value"] | second.metrics["value"] == whole.metrics["value"]
    assert sorted(first.metrics["value"]) == [1, 2, 3, 4]
    assert sorted(second.metrics["value"]) == list(range(5, 13))


def test_a_drill_tells_its_phases_and_keeps_what_it_has_when_asked(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path, keep_at=4)
    drill.run(drill.Params(steps=6, step_s=0.0, prepare=3, sample_every=2), rec)
    assert rec.phases == ["preparing", None]
    assert list(rec.artifacts) == ["step_000005"]
    assert sorted({step for step, _ in rec.samples}) == [2, 4, 6]
