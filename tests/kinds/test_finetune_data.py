"""Fine-tuning's data: packing inside a real training, templates and losses, and every bad row said before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Table
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import finetune
from labqueue.kinds.finetune.data import Data
from labqueue.llm.data import packing, tokenize
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import TASK, TINY

QUIET = {"evaluations": 0, "samples": 0, "scored": 0, "lora": {"rank": 4, "alpha": 8.0}}


def params(data: dict[str, Any] | None = None, **changes: Any) -> finetune.Params:
    whole = data if data and data.keys() & {"path", "hub"} else TASK | (data or {})
    return finetune.Params.model_validate(TINY | QUIET | {"data": whole} | changes)


def written(path: Path, count: int, question: str = "add {n}") -> str:
    lines = [json.dumps({"question": question.format(n=n), "answer": str(n)}) for n in range(count)]
    path.write_text("\n".join(lines))
    return str(path)


def test_a_packed_training_sees_every_row_once_an_epoch_apart_from_the_others(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path)
    finetune.run(params({"packing": True}, max_length=256, batch=1, steps=8), rec)
    assert rec.metrics["train_loss"].keys() == set(range(1, 9))
    assert rec.metrics["eval_loss"][8] < rec.metrics["eval_loss"][0]  # type: ignore[operator]
    (note,) = [note for note in rec.notes if "packed" in note]
    assert note.startswith("40 training rows are packed into ")
    assert note.endswith("moves by 0.0e+00 when its neighbours change")
    preview = rec.artifacts["token_preview"]
    assert isinstance(preview, Table)
    assert {row[5] for row in preview.rows} >= {0, 1}
    assert not any(row[4] for row in preview.rows if row[1] == 0)


def test_held_out_loss_is_the_same_whether_training_rows_are_packed_or_not(tmp_path: Path) -> None:
    losses = []
    for packed in (False, True):
        rec = MemoryRecorder(tmp_path / str(packed))
        finetune.run(params({"packing": packed}, steps=1, batch=1), rec)
        losses.append(rec.metrics["eval_loss"][0])
    assert losses[0] == losses[1]


def test_one_step_over_all_rows_trains_the_same_packed_or_not(tmp_path: Path) -> None:
    seen: dict[bool, MemoryRecorder] = {}
    for packed, batch in ((False, 40), (True, 1)):
        rec = seen[packed] = MemoryRecorder(tmp_path / str(packed))
        width = 4096 if packed else 512  # wide enough for all rows in one pack
        finetune.run(params({"packing": packed}, steps=1, batch=batch, max_length=width, quantization="none"), rec)
    for name, tolerance in (("train_loss", 2e-3), ("grad_norm", 2e-2)):  # the base computes in bf16 here
        one, other = seen[False].metrics[name][1], seen[True].metrics[name][1]
        assert one == pytest.approx(other, rel=tolerance), name


def test_a_packed_training_that_is_interrupted_equals_one_that_is_not(tmp_path: Path) -> None:
    wanted = params({"packing": True}, max_length=256, batch=1, lora={"rank": 4, "alpha": 8.0, "dropout": 0.1})
    whole = MemoryRecorder(tmp_path / "whole")
    finetune.run(wanted, whole)
    first = MemoryRecorder(tmp_path / "part", stop_at=3)
    with pytest.raises(Stopped):
        finetune.run(wanted, first)
    second = MemoryRecorder(tmp_path / "part", resume_from=first.checkpoints[-1], attempt=2)
    finetune.run(wanted, second)
    for name in ("train_loss", "eval_loss", "grad_norm"):
        assert first.metrics[name] | second.metrics[name] == whole.metrics[name], name


def test_a_model_on_which_documents_leak_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = packing.PackedCollator.__call__

    def leaky(self: Any, rows: Any) -> dict[str, Any]:
        return whole(self, rows) | {"use_cache": True} if "seq_lengths" in rows[0] else whole(self, rows)

    monkeypatch.setattr(packing.PackedCollator, "__call__", leaky)
    rec = MemoryRecorder(tmp_path)
    with pytest.raises(UserError, match=r"packed documents see each other .* Set data.packing: false"):
        finetune.run(params({"packing": True}, batch=1), rec)
    assert "train_loss" not in rec.metrics


def test_full_loss_counts_the_prompt_and_another_template_other_tokens(tmp_path: Path) -> None:
    previews = {}
    for name, data in (("answer", {}), ("full", {"loss": "full"}), ("plain", {"template": "none"})):
        rec = MemoryRecorder(tmp_path / name)
        finetune.run(params(data, steps=1), rec)
        preview = rec.artifacts["token_preview"]
        assert isinstance(preview, Table)
        previews[name] = [row for row in preview.rows if row[0] == 0]
    assert sum(bool(row[4]) for row in previews["full"]) == len(previews["full"]) - 1
    assert 0 < sum(bool(row[4]) for row in previews["answer"]) < len(previews["answer"]) / 4
    assert "<|im_start|>" not in [row[2] for row in previews["plain"]]
    assert previews["plain"][-1][2] == "<|im_end|>"


def test_rows_cut_at_max_length_are_counted_by_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"question": f"q{n}", "answer": "long " * 20 if n < 9 else "short"} for n in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    rec = MemoryRecorder(tmp_path / "run")
    finetune.run(params({"path": str(file), "eval_items": 5}, steps=1, max_length=80), rec)
    cut = [note for note in rec.notes if "lost the end of their answer" in note]
    assert sum(int(note.split()[0]) for note in cut) == 9
    assert {note.split()[3] for note in cut} <= {"training", "held-out"}


def test_a_row_longer_than_the_models_positions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(json.dumps({"question": f"q{n}", "answer": "long " * 300}) for n in range(4)))
    with pytest.raises(
        UserError, match="a row has 1200 tokens, the model has positions for 1024: set max_length to at"
    ):
        finetune.run(params({"path": str(file), "eval_items": 1}, max_length=1200), MemoryRecorder(tmp_path / "run"))


def test_what_was_left_out_and_where_rows_come_from_is_noted(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"question": f"q{n}", "answer": "a" if n else ""} for n in range(12)]
    file.write_text("\n".join(map(json.dumps, rows)))
    rec = MemoryRecorder(tmp_path / "run")
    data = {"path": str(file), "eval_items": 2, "empty_answers": "leave_out"}
    finetune.run(params(data, steps=1), rec)
    assert "data: rows.jsonl" in rec.notes
    assert "data: rows.jsonl is read as JSON lines: 12 rows of question and answer" in rec.notes
    assert "data: 1 of 12 rows of rows.jsonl have no answer and were left out: line 1" in rec.notes


@pytest.mark.parametrize(
    ("data", "changes", "reason"),
    [
        ({"path": "empty.jsonl"}, {}, "empty.jsonl has no rows"),
        ({"path": "unanswered.jsonl"}, {}, "1 of 2 rows of unanswered.jsonl have no answer: line 2"),
        ({"path": "ten.jsonl", "eval_path": "ten.jsonl"}, {}, r"10 rows of ten.jsonl ask a question that is held out"),
        ({"path": "ten.jsonl"}, {"batch": 9}, r"batch 9 \* accumulation 1 = 9, but there are only 8 training rows"),
        (
            {"path": "ten.jsonl", "packing": True},
            {"batch": 2, "accumulation": 2},
            r"batch 2 \* accumulation 2 = 4, but there are only 1 packed sequences of 8 training rows",
        ),
        ({"path": "ten.jsonl", "template": "llama3"}, {}, r"'llama3' needs the tokens <\|begin_of_text\|>"),
        (
            {"hub": "nobody/nothing"},
            {},
            "dataset 'nobody/nothing' is not on this machine. Connect once and submit again",
        ),
    ],
)
def test_bad_data_end_a_run_before_training_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "unanswered.jsonl").write_text('{"question": "q", "answer": "a"}\n{"question": "p"}')
    written(tmp_path / "ten.jsonl", 10)
    monkeypatch.chdir(tmp_path)
    rec = MemoryRecorder(tmp_path / "run")
    with pytest.raises(UserError, match=reason):
        finetune.run(params(data | {"eval_items": 2}, **changes), rec)
    assert "train_loss" not in rec.metrics


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"task": "chain_sum", "path": "x", "train_items": 4}, "exactly one of task, path, hub"),
        ({"path": "x", "hub": "a/b"}, "exactly one of task, path, hub"),
        ({"task": "chain_sum"}, "data.train_items is needed with data.task"),
        ({"path": "x", "options": {"a": 1}}, "data.options belong to data.task"),
        ({"path": "x", "subset": "a"}, "data.subset belongs to data.hub"),
        ({"task": "chain_sum", "train_items": 4, "eval_path": "x"}, "data.eval_path belongs to data.path or data.hub"),
        ({"path": "x", "template": "chatmll"}, "Input should be 'auto', 'none', 'chatml'"),
        ({"path": "x", "columns": {"messages": "m", "answer": "a"}}, "name messages, or question and answer, not both"),
    ],
)
def test_data_that_contradict_themselves_are_refused(data: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Data.model_validate(data)


def test_a_step_larger_than_the_data_is_refused_at_submission() -> None:
    with pytest.raises(ValueError, match=r"batch 8 \* accumulation 6 = 48, but there are only 40 training rows"):
        params(batch=8, accumulation=6)


def test_assets_name_model_data_and_held_out_file() -> None:
    hub = {"hub": "yahma/alpaca-cleaned", "revision": "abc", "subset": "x", "eval_path": "h.jsonl"}
    assert finetune.assets(params(hub)) == [
        "random-tiny", "hub:yahma/alpaca-cleaned@abc#x", "file:h.jsonl",
    ]  # fmt: skip
    assert finetune.assets(params()) == ["random-tiny", "task:chain_sum"]


def test_a_rehearsal_of_a_packed_run_has_packs_of_the_same_shape() -> None:
    from labqueue.llm.data.generated import tasks
    from labqueue.llm.models import tiny

    whole = params({"packing": True, "train_items": 200}, max_length=512, batch=2)
    short = finetune.preflight(whole)
    tokenizer = tiny.tokenizer()
    longest = []
    for each in (whole, short):
        rows = tokenize.encode(tokenizer, each.data.load().train, 512).rows
        longest.append(max(len(row["input_ids"]) for row in packing.pack(rows, 512)))
    assert longest[0] == longest[1] > 256
    assert isinstance(whole.data.load(), tasks.Split)
