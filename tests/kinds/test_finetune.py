"""Fine-tuning: what a run measures, what it refuses, and that an interruption changes nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Files, Json, Table
from labqueue.domain.kind import Diverged, Stopped, UserError
from labqueue.kinds import finetune
from labqueue.kinds.finetune.callbacks import MissingEvaluations, Watch
from tests.helpers_recorder import MemoryRecorder

TASK = {"task": "chain_sum", "options": {"max_terms": 2, "max_digits": 2}, "train_items": 40, "eval_items": 6}


TINY = {
    "model": "random-tiny",
    "data": TASK,
    "steps": 6,
    "batch": 2,
    "learning_rate": 1e-2,
    "evaluations": 2,
    "samples": 2,
    "scored": 2,
    "max_new_tokens": 4,
    "gradient_checkpointing": False,
    "max_length": 512,
    "lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1},
}
"""A training of seconds."""


def params(**changes: Any) -> finetune.Params:
    return finetune.Params.model_validate(TINY | changes)


def series(rec: MemoryRecorder, name: str) -> dict[int, float | None]:
    return rec.metrics[name]


def adapter(rec: MemoryRecorder) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = rec.artifacts["adapter"]
    assert isinstance(files, Files)
    return load_file(files.path / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> MemoryRecorder:
    rec = MemoryRecorder(tmp_path_factory.mktemp("finished"))
    finetune.run(params(checkpoint_every=2), rec)
    return rec


def test_held_out_loss_is_measured_first_in_between_and_last(finished: MemoryRecorder) -> None:
    assert sorted(series(finished, "eval_loss")) == [0, 2, 4, 6]
    assert sorted(series(finished, "train_loss")) == [1, 2, 3, 4, 5, 6]
    assert all(value is not None and value > 0 for value in series(finished, "tokens_per_second").values())


def test_the_adapter_and_what_the_trainer_holds_are_kept(finished: MemoryRecorder) -> None:
    import torch

    assert {value.dtype for value in adapter(finished).values()} == {torch.float32}
    config = finished.artifacts["trainer_config"]
    assert isinstance(config, Json)
    assert config.data["max_steps"] == 6
    assert config.data["lora"]["scale"] == [2.0]  # type: ignore[index]
    assert "training_args.bin" not in {path.name for path in finished.directory.rglob("*")}
    samples, preview = finished.artifacts["samples"], finished.artifacts["token_preview"]
    assert isinstance(samples, Table)
    assert len(samples.rows) == 2
    assert isinstance(preview, Table)
    assert {row[4] for row in preview.rows} == {True, False}


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw_8bit", "quantization": "none", "accumulation": 2}])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path, changes: dict[str, Any]) -> None:
    import torch

    whole = MemoryRecorder(tmp_path / "whole")
    finetune.run(params(**changes), whole)
    first = MemoryRecorder(tmp_path / "part", stop_at=3)
    with pytest.raises(Stopped):
        finetune.run(params(**changes), first)
    torch.manual_seed(99)  # whatever else happened in between
    second = MemoryRecorder(tmp_path / "part", resume_from=first.checkpoints[-1], attempt=2)
    finetune.run(params(**changes), second)
    assert first.checkpoints[-1].step == 3
    one, other = adapter(whole), adapter(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("train_loss", "eval_loss", "grad_norm", "learning_rate", "exact_answers"):
        assert series(first, name) | series(second, name) == series(whole, name), name
        assert not series(first, name).keys() & series(second, name).keys(), f"{name} was recorded twice"
    assert whole.artifacts["samples"] == second.artifacts["samples"]


def test_the_peak_of_an_earlier_attempt_is_carried_along_but_not_of_a_larger_batch(tmp_path: Path) -> None:
    first = MemoryRecorder(tmp_path, stop_at=3)
    with pytest.raises(Stopped):
        finetune.run(params(), first)
    kept = first.checkpoints[-1]
    about = json.loads((kept.path / "about.json").read_text())
    assert 0 < about["peak_gib"] < 20
    (kept.path / "about.json").write_text(json.dumps(about | {"peak_gib": 99.5}))
    for changes, carried in (({}, True), ({"batch": 1, "accumulation": 2}, False)):
        second = MemoryRecorder(tmp_path, resume_from=kept, attempt=2)
        finetune.run(params(**changes), second)
        assert (series(second, "peak_memory_gib")[6] == 99.5) is carried


def contents(checkpoint: Path) -> tuple[tuple[str, str], ...]:
    """What a run would read of a checkpoint, but for what was measured of the machine: memory and speed."""
    found = []
    for path in sorted(checkpoint.iterdir()):
        content = path.read_bytes()
        if path.name == "about.json":
            content = json.dumps({**json.loads(content), "peak_gib": None}).encode()
        if path.name == "trainer_state.json":
            state = json.loads(content)
            for entry in state["log_history"]:
                for name in ("train_runtime", "train_samples_per_second", "train_steps_per_second"):
                    entry.pop(name, None)
            content = json.dumps(state).encode()
        found.append((path.name, hashlib.sha256(content).hexdigest()))
    return tuple(found)


def test_a_stop_in_the_middle_of_any_measurement_is_heeded_at_once_and_changes_no_number(tmp_path: Path) -> None:
    """Asked to stop at each batch of it: before training, in between, after the last step and while merging.

    What goes on from equal checkpoints is one computation, and is carried out once.
    """
    import torch

    extra = ({"name": "other", "task": "word_sequence_reversal", "items": 3, "score_always": True},)
    asked = params(steps=2, evaluations=1, samples=2, scored=2, extra_evals=extra, merge=True, quantization="none")
    whole = MemoryRecorder(tmp_path / "whole")
    finetune.run(asked, whole)
    assert whole.asks > 20
    left = set()
    resumed: dict[Any, MemoryRecorder] = {}
    for asks in range(0, whole.asks, 3):
        folder = tmp_path / str(asks)
        first = MemoryRecorder(folder, stop_after_asks=asks)
        with pytest.raises(Stopped):
            finetune.run(asked, first)
        assert first.asks <= asks + 3, f"went on after ask {asks}"
        kept = first.checkpoints[-1] if first.checkpoints else None
        left.add(kept and kept.step)
        start = kept and contents(kept.path)
        if start not in resumed:
            resumed[start] = MemoryRecorder(folder, resume_from=kept, attempt=2)
            finetune.run(asked, resumed[start])
        second = resumed[start]
        for name in whole.metrics.keys() - {"tokens_per_second", "step_s", "peak_memory_gib"}:
            together = first.metrics.get(name, {}) if kept else {}
            assert together | second.metrics.get(name, {}) == whole.metrics[name], (asks, name)
        for name in ("samples", "item_scores", "curve_reading", "update_by_layer", "update_norm_over_steps"):
            assert second.artifacts[name] == whole.artifacts[name], (asks, name)
        assert all(torch.equal(value, adapter(second)[name]) for name, value in adapter(whole).items()), asks
    assert left == {None, 1, 2}


def test_a_checkpoint_holds_no_pickle_that_anyone_could_feed(finished: MemoryRecorder) -> None:
    import torch

    folder = finished.checkpoints[0].path
    assert {path.name for path in folder.iterdir()} == {
        "trainable.safetensors", "state.pt", "trainer_state.json", "about.json",
    }  # fmt: skip
    torch.load(folder / "state.pt", weights_only=True)


def test_a_checkpoint_after_the_last_step_only_finishes_the_run(finished: MemoryRecorder, tmp_path: Path) -> None:
    import torch

    again = MemoryRecorder(tmp_path, resume_from=finished.checkpoints[-1])
    assert finished.checkpoints[-1].step == 6
    finetune.run(params(checkpoint_every=2), again)
    assert "train_loss" not in again.metrics
    assert all(torch.equal(value, adapter(again)[name]) for name, value in adapter(finished).items())


def test_a_run_that_missed_an_evaluation_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    due = Watch.evaluate_after
    monkeypatch.setattr(Watch, "evaluate_after", lambda self, step: step != 4 and due(self, step))
    with pytest.raises(MissingEvaluations, match=r"\[4\] of \[0, 2, 4, 6\]"):
        finetune.run(params(), MemoryRecorder(tmp_path))


def test_a_diverged_run_ends_where_it_diverged(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path)
    with pytest.raises(Diverged):
        finetune.run(params(learning_rate=1e30, max_grad_norm=1e30), rec)
    assert any(None in values.values() for values in rec.metrics.values())


def test_sampling_and_evaluating_before_training_change_no_later_loss(tmp_path: Path) -> None:
    quiet = MemoryRecorder(tmp_path / "quiet")
    finetune.run(params(evaluations=0, samples=0, scored=0), quiet)
    busy = MemoryRecorder(tmp_path / "busy")
    finetune.run(params(evaluations=4, samples=6, scored=6), busy)
    assert series(quiet, "train_loss") == series(busy, "train_loss")


def test_a_smaller_run_keeps_its_effective_batch() -> None:
    step: Any = params(batch=12, accumulation=2)
    seen = []
    while step is not None:
        assert step.batch * step.accumulation == 24
        seen.append((step.batch, step.gradient_checkpointing))
        step = finetune.with_less_memory(step)
    assert seen == [(12, False), (6, False), (3, False), (1, False), (1, True)]


def test_bad_parameters_are_refused_with_the_reason() -> None:
    for changes, reason in (
        ({"evaluations": 6}, "only 5 steps lie in between"),
        ({"warmup_steps": 7}, "more than the 6 steps"),
        ({"samples": 7}, "6 rows of data.eval_items"),
        ({"data": {"task": "chain_sum", "path": "x"}}, "exactly one of task, path"),
        ({"data": {"path": "x"}}, "a file has no scorer"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"rank": 3}, "Extra inputs"),
    ):
        with pytest.raises(ValueError, match=reason):
            params(**changes)


def test_a_question_that_fills_max_length_is_a_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token of its answer would be trained on"):
        finetune.run(params(max_length=16), MemoryRecorder(tmp_path))


def test_a_bad_row_of_a_file_is_a_users_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"question": "1+1", "answer": "2"}) + "\n" + '{"answer": "3"}\n')
    data = {"path": str(file), "eval_items": 1}
    with pytest.raises(UserError, match=r"rows.jsonl:2: needs exactly one of question or prompt"):
        finetune.run(params(data=data, samples=0, scored=0), MemoryRecorder(tmp_path / "run"))


def test_the_module_head_imports_no_torch() -> None:
    code = "import sys, labqueue.kinds.finetune; sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
