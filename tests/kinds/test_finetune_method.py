"""Fine-tuning's methods: full, LoRA and DoRA through one recipe, what each records, keeps and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Curve, Files, Grid, Table
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import finetune
from tests.commands import call
from tests.conftest import Lab
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import TINY, params

FULL: dict[str, Any] = {"method": "full", "quantization": "none", "samples": 0, "scored": 0, "save_model": True}


def weights(rec: MemoryRecorder, name: str) -> dict[str, Any]:
    from safetensors.torch import load_file

    files = rec.artifacts[name]
    assert isinstance(files, Files)
    assert files.type == "model"
    (file,) = files.path.glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("model", FULL | {"updates": True, "schedule": "warmup_stable_decay", "warmup_steps": 1, "decay_steps": 2}),
        ("model", FULL | {"optimizer": "adafactor"}),
        ("adapter", {"lora": {"rank": 4, "dropout": 0.2, "scaling": "constant", "dora": True}, "updates": True}),
    ],
)
def test_a_resumed_run_of_any_method_equals_an_uninterrupted_one_bit_for_bit(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    import torch

    whole = MemoryRecorder(tmp_path / "whole")
    finetune.run(params(**changes), whole)
    first = MemoryRecorder(tmp_path / "part", stop_at=3)
    with pytest.raises(Stopped):
        finetune.run(params(**changes), first)
    second = MemoryRecorder(tmp_path / "part", resume_from=first.checkpoints[-1], attempt=2)
    finetune.run(params(**changes), second)
    one, other = weights(whole, name), weights(second, name)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    for metric in ("train_loss", "eval_loss", "update_norm", "stable_rank", "train_tokens"):
        assert first.metrics.get(metric, {}) | second.metrics.get(metric, {}) == whole.metrics.get(metric, {}), metric
    for artifact in ("update_by_layer", "update_norm_over_steps", "stable_rank_over_steps", "update_spectrum"):
        assert whole.artifacts.get(artifact) == second.artifacts.get(artifact), artifact


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> MemoryRecorder:
    rec = MemoryRecorder(tmp_path_factory.mktemp("merged"))
    finetune.run(params(merge=True, learning_rate=0.03), rec)
    return rec


def test_a_merge_is_kept_as_a_model_with_its_measured_error(merged: MemoryRecorder) -> None:
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= {
        path.name
        for path in merged.artifacts["merged"].path.iterdir()  # type: ignore[union-attr]  # files
    }
    assert (
        0 < (merged.metrics["merge_logit_difference_mean"][6] or 0) < (merged.metrics["merge_logit_difference"][6] or 0)
    )
    change = merged.metrics["merge_loss_difference"][6]
    assert change is not None
    assert abs(change) < 0.02
    assert any("the dequantised base in float32" in note for note in merged.notes)


def test_what_training_added_is_recorded_at_each_evaluation_and_by_layer(merged: MemoryRecorder) -> None:
    norms = merged.metrics["update_norm"]
    assert sorted(norms) == sorted(merged.metrics["eval_loss"]) == [0, 2, 4, 6]
    assert norms[0] == 0
    assert 0 < (norms[2] or 0) < (norms[6] or 0)
    assert sorted(merged.metrics["stable_rank"]) == [2, 4, 6], "nothing added has no rank"
    assert all(1 <= (rank or 0) <= 4 for rank in merged.metrics["stable_rank"].values())
    table, grid = merged.artifacts["update_by_layer"], merged.artifacts["update_norm_over_steps"]
    assert isinstance(table, Table)
    assert len(table.rows) == 14
    squares = sum(float(row[2] or 0) ** 2 for row in table.rows)
    assert squares**0.5 == pytest.approx(norms[6], rel=1e-9)
    assert isinstance(grid, Grid)
    assert (grid.rows, grid.columns) == (("0", "1"), ("0", "2", "4", "6"))
    assert sum(float(row[3] or 0) ** 2 for row in grid.values) ** 0.5 == pytest.approx(norms[6], rel=1e-9)
    spectrum = merged.artifacts["update_spectrum"]
    assert isinstance(spectrum, Curve)
    assert spectrum.x == (1, 2, 3, 4)
    assert spectrum.series["all"][0] == 1
    assert list(spectrum.series["q_proj"]) == sorted(spectrum.series["q_proj"], reverse=True)  # type: ignore[type-var]  # all numbers


def test_sizes_times_and_tokens_are_recorded(merged: MemoryRecorder, tmp_path: Path) -> None:
    share, count = merged.metrics["trainable_share"][0], merged.metrics["trainable_parameters"][0]
    assert count == 4 * 2 * (4 * 64 + 2 * (64 + 32) + 3 * (64 + 128))
    assert 0 < (share or 0) < 0.2
    assert (merged.metrics["step_s"][6] or 0) > 0
    tokens = merged.metrics["train_tokens"][6] or 0
    assert tokens == int(tokens) > 0
    full = MemoryRecorder(tmp_path)
    finetune.run(params(**FULL | {"save_model": False}), full)
    assert full.metrics["trainable_share"][0] == 1
    assert full.metrics["train_tokens"][6] == tokens, "the same seed sees the same rows whatever the method"
    assert "update_norm" not in full.metrics
    assert not {"model", "adapter", "merged"} & full.artifacts.keys()
    assert any("fp32 master weights" in note for note in full.notes)


def test_settings_that_exclude_each_other_are_refused_with_the_cure() -> None:
    for changes, reason in (
        ({"method": "full"}, "set quantization: none"),
        ({"method": "full", "quantization": "none", "backend": "unsloth"}, "set backend: auto or hf"),
        ({"method": "full", "quantization": "none", "merge": True}, "save_model: true keeps its weights"),
        ({"save_model": True}, "use merge: true"),
        ({"learning_rate": 0}, "greater than 0"),
        ({"learning_rate": float("nan")}, "finite"),
        ({"learning_rate": float("inf")}, "finite"),
        ({"schedule": "constant", "warmup_steps": 2}, "use constant_with_warmup"),
        ({"schedule": "inverse_sqrt"}, "warmup_steps of 1 or more"),
        ({"decay_steps": 2}, "belongs to schedule warmup_stable_decay"),
        ({"schedule": "warmup_stable_decay", "warmup_steps": 4, "decay_steps": 3}, "7 together, more than the 6 steps"),
        ({"min_rate": 1.0}, "less than 1"),
        ({"lora": {"targets": []}}, "at least 1"),
        ({"lora": {"rank": 0}}, "greater than or equal to 1"),
    ):
        with pytest.raises(ValueError, match=reason):
            params(**changes)


@pytest.mark.parametrize(
    ("lora", "reason"),
    [({"targets": ["gate_prj"]}, "did you mean 'gate_proj'"), ({"rank": 64}, "smallest dimension of model.layers.0")],
)
def test_an_adapter_that_fits_no_layer_is_a_users_error_before_training(
    tmp_path: Path, lora: dict[str, Any], reason: str
) -> None:
    rec = MemoryRecorder(tmp_path)
    with pytest.raises(UserError, match=reason):
        finetune.run(params(lora=lora), rec)
    assert not rec.metrics


def test_a_rehearsal_keeps_the_shape_and_drops_the_rest() -> None:
    one = params(
        method="lora", lora={"rank": 4, "dora": True, "alpha": 3.0, "targets": ["q_proj"]}, merge=True, updates=True,
        schedule="warmup_stable_decay", warmup_steps=3, decay_steps=2, min_rate=0.3, optimizer="sgd",
    )  # fmt: skip
    short = finetune.preflight(one)
    assert finetune.Params.model_validate(short.model_dump()) == short
    assert (short.steps, short.merge, short.updates, short.optimizer) == (2, True, True, "sgd")
    assert (short.lora.rank, short.lora.dora, short.lora.targets) == (4, True, ("q_proj",))
    other = one.model_copy(update={"schedule": "linear", "decay_steps": None, "min_rate": 0.1, "learning_rate": 1.0})
    assert finetune.preflight(other) == short, "shapes that are equal are rehearsed once"
    full = finetune.preflight(params(**FULL))
    assert (full.method, full.quantization, full.save_model) == ("full", "none", True)
    assert finetune.memory_advice(params(**FULL)).startswith("method: lora, or max_length below 512")
    assert "lora.rank" not in finetune.memory_advice(params(**FULL))


def test_a_merged_model_is_what_another_experiment_trains_on(lab: Lab) -> None:
    tiny = TINY | {"samples": 0, "scored": 0, "evaluations": 0, "steps": 4}
    first = lab.spec("stage_a", kind="finetune", params=tiny | {"merge": True, "learning_rate": 0.05})
    reference = {"from_run": {"experiment": "stage_a", "where": {"steps": 4}, "seed": 0, "artifact": "merged"}}
    second = lab.spec(
        "stage_b", kind="finetune", needs=["stage_a"], params=tiny | {"model": reference, "quantization": "none"}
    )
    for spec in (first, second):
        answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
        assert answer.code == 0, answer.err
    drained = lab.run("worker", "--drain", "--device", "cpu")
    assert drained.code == 0, drained.err
    (one,) = call(lab, "report", "stage_a", "--json").json["runs"]
    (two,) = call(lab, "report", "stage_b", "--json").json["runs"]
    assert (one["outcome"], two["outcome"]) == ("succeeded", "succeeded")
    assert two["params"]["model"] == reference, "frozen as it is written"
    said = json.dumps([one, two])
    assert str(lab.root) not in said, "an exported run says nothing of the machine that it ran on"
    assert f"outputs/stage_a/{one['id']}/merged; backend hf" in said
    ended = one["metrics"]["eval_loss"]["last"] + one["metrics"]["merge_loss_difference"]["last"]
    began = json.loads(call(lab, "metrics", two["id"], "eval_loss", "--json").out)[0]
    # The first loss of B is A's last one, but for bfloat16 in batches of another padding.
    assert began[0] == 0
    assert began[1] == pytest.approx(ended, abs=0.01)
    assert abs(began[1] - json.loads(call(lab, "metrics", one["id"], "eval_loss", "--json").out)[0][1]) > 0.2
