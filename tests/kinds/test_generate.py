"""Asking a trained adapter: its answers are those of the run that trained it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Files, Table
from labqueue.domain.kind import Stopped, UserError
from labqueue.kinds import finetune, generate
from tests.commands import call
from tests.conftest import Lab
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import params as training


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> MemoryRecorder:
    rec = MemoryRecorder(tmp_path_factory.mktemp("trained"))
    finetune.run(training(quantization="none", merge=True, scored=0, samples=0), rec)
    return rec


def folder(rec: MemoryRecorder, name: str) -> str:
    files = rec.artifacts[name]
    assert isinstance(files, Files)
    return str(files.path)


def asked(where: Path, **changes: Any) -> tuple[MemoryRecorder, Table]:
    rec = MemoryRecorder(where)
    plain = {"model": "random-tiny", "quantization": "none", "max_new_tokens": 4, "questions": ["a", "b"]}
    generate.run(generate.Params.model_validate(plain | changes), rec)
    table = rec.artifacts["answers"]
    assert isinstance(table, Table)
    return rec, table


def test_a_merged_model_can_be_asked_beside_its_base(trained: MemoryRecorder, tmp_path: Path) -> None:
    _, table = asked(tmp_path, other=folder(trained, "merged"))
    assert table.columns == ("question", "model", "other model")


def test_a_stop_is_heeded_between_two_batches_of_questions(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path, stop_after_asks=1)
    many = {"model": "random-tiny", "quantization": "none", "max_new_tokens": 2, "questions": ["a"] * 40}
    with pytest.raises(Stopped, match="pause"):
        generate.run(generate.Params.model_validate(many), rec)
    assert "answers" not in rec.artifacts


def test_a_model_alone_claims_no_change(tmp_path: Path) -> None:
    rec, table = asked(tmp_path)
    assert table.columns == ("question", "model")
    assert "answers_changed" not in rec.metrics


def test_what_is_no_adapter_and_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no adapter"):
        asked(tmp_path / "none", adapter=str(tmp_path))
    with pytest.raises(ValueError, match="give one of them"):
        asked(tmp_path, adapter="a", other="b")
    with pytest.raises(ValueError, match="at least 1"):
        asked(tmp_path, questions=[])


def test_a_run_computes_in_what_was_submitted_on_whatever_processor_it_is_carried_out(lab: Lab) -> None:
    params = {"model": "random-tiny", "quantization": "none", "max_new_tokens": 1, "questions": ["a"]}
    path = lab.text(json.dumps({"name": "typed", "kind": "generate", "params": params}))
    words = ("submit", path, "--profile", "cpu", "--json")
    assert call(lab, *words, LABQUEUE_CPU_DTYPE="float32").json["runs"] == [1]
    assert lab.run("worker", "--drain", "--device", "cpu", LABQUEUE_CPU_DTYPE="bfloat16").code == 0
    view = call(lab, "show", 1, "--json").json
    assert view["params"]["dtype"] == "float32"
    assert view["notes"][0].endswith("computed in float32"), view["notes"]
    assert call(lab, *words, LABQUEUE_CPU_DTYPE="float32").json["reused"] == [1]
    assert call(lab, *words, LABQUEUE_CPU_DTYPE="bfloat16").json["reused"] == []


SAMPLED = {"temperature": 1.2, "top_k": 50, "top_p": 0.9, "prompts": ["Once", "Twice"], "max_new_tokens": 8}


def test_an_adapter_goes_on_with_prompts_alone_as_it_does_beside_its_base(
    trained: MemoryRecorder, tmp_path: Path
) -> None:
    adapter = {"adapter": folder(trained, "adapter"), "questions": [], **SAMPLED}
    both, alone = (MemoryRecorder(tmp_path / name) for name in ("both", "alone"))
    plain = {"model": "random-tiny", "quantization": "none"}
    generate.run(generate.Params.model_validate({**plain, **adapter}), both)
    generate.run(generate.Params.model_validate({**plain, **adapter, "beside_base": False}), alone)
    table = both.artifacts["continuations"]
    assert isinstance(table, Table)
    assert table.columns == ("prompt", "model", "with adapter")
    assert both.samples == alone.samples == {(0, prompt): text for prompt, _, text in table.rows}
    assert {prompt for _, prompt in alone.samples} == {"Once", "Twice"}
    assert alone.artifacts == {}
    assert "answers_changed" not in both.metrics


def test_questions_and_prompts_can_be_asked_in_one_run(tmp_path: Path) -> None:
    rec, table = asked(tmp_path, **SAMPLED)
    assert [row[0] for row in table.rows] == ["a", "b"]
    assert sorted(rec.samples) == [(0, "Once"), (0, "Twice")]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"questions": [], "prompts": []}, "questions or prompts"),
        ({"prompts": ["a", "a"]}, "listed twice"),
        ({"temperature": 1.0}, "temperature is of prompts"),
        ({"prompts": ["a"], "top_k": 3}, "temperature 0 draws nothing"),
        ({"prompts": ["a"], "top_p": 0.5}, "temperature 0 draws nothing"),
        ({"beside_base": False}, "no adapter is given"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        generate.Params.model_validate({"questions": ["a"], **changes})


def test_a_stop_is_heeded_between_two_tokens(tmp_path: Path) -> None:
    rec = MemoryRecorder(tmp_path, stop_after_asks=3)
    many = {"model": "random-tiny", "quantization": "none", "max_new_tokens": 50, "prompts": ["a"]}
    with pytest.raises(Stopped, match="pause"):
        generate.run(generate.Params.model_validate(many), rec)
    assert len(rec.samples) == 1
