"""Laws of training and asking, held to the real small model in 4 bit: its two trainings serve all of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Table
from labqueue.kinds import finetune
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import TASK, params, series
from tests.kinds.test_generate import asked, folder

pytestmark = pytest.mark.model

REAL: dict[str, Any] = {"model": "smollm2-135m-instruct", "quantization": "4bit"}

TRAINING: dict[str, Any] = REAL | {"steps": 4, "learning_rate": 3e-3, "data": TASK | {"eval_items": 3}}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> MemoryRecorder:
    """A training with every measurement."""
    rec = MemoryRecorder(tmp_path_factory.mktemp("busy"))
    finetune.run(params(**TRAINING, evaluations=1, samples=2, scored=2), rec)
    return rec


def test_sampling_and_evaluating_change_no_later_loss(busy: MemoryRecorder, tmp_path: Path) -> None:
    quiet = MemoryRecorder(tmp_path)
    finetune.run(params(**TRAINING, evaluations=0, samples=0, scored=0), quiet)
    assert series(quiet, "train_loss") == series(busy, "train_loss")
    losses = series(busy, "eval_loss")
    assert (losses[4] or math.inf) < 0.8 * (losses[0] or 0)


def test_a_loaded_adapter_answers_as_the_model_that_was_trained(busy: MemoryRecorder, tmp_path: Path) -> None:
    samples = busy.artifacts["samples"]
    assert isinstance(samples, Table)
    questions = [str(row[0]) for row in samples.rows]
    rec, table = asked(tmp_path, **REAL, adapter=folder(busy, "adapter"), questions=questions)
    assert table.columns == ("question", "model", "with adapter")
    assert [row[1:] for row in table.rows] == [row[2:] for row in samples.rows], "before and after"
    changed = sum(row[1] != row[2] for row in table.rows) / len(table.rows)
    assert rec.metrics["answers_changed"] == {0: changed}
    assert changed > 0, "it was trained hard enough to answer otherwise"
