"""A trained model replies what it was taught and stops, however its tokenizer and template end a turn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.artifacts import Files, Table
from labqueue.domain.errors import LabError
from labqueue.domain.kind import UserError
from labqueue.kinds import finetune, generate
from tests.conftest import Lab
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune_bad_inputs import PLAIN, asked, refused, written
from tests.llm import variants

TAUGHT: dict[str, Any] = {
    "method": "full",
    "quantization": "none",
    "steps": 30,
    "batch": 4,
    "learning_rate": 1e-2,
    "evaluations": 0,
    "samples": 2,
    "scored": 0,
    "max_new_tokens": 12,
    "gradient_checkpointing": False,
    "save_model": True,
    "max_length": 512,
}


@pytest.mark.parametrize(
    ("own", "template", "said"),
    [
        ({"eos": "<|endoftext|>"}, "auto", "ends an answer with <|im_end|> (2), the tokenizer's eos_token is <|endof"),
        ({"chat": variants.NO_PROMPT}, "auto", "does not begin the assistant's turn"),
        ({"chat": None, "appends": True}, "none", "end at <|im_end|> (2)"),
    ],
)
def test_replies_stop_where_training_stopped_also_those_of_the_model_that_is_kept(
    tmp_path: Path, own: dict[str, Any], template: str, said: str
) -> None:
    hostile = {"repetition_penalty": 1.9, "min_new_tokens": 6, "suppress_tokens": [2]}
    folder = variants.folder(tmp_path / "model", generation=hostile | {"eos_token_id": 0}, **own)
    data = {"path": written(tmp_path, "data", asked(20)), "eval_items": 4, "template": template}
    rec = MemoryRecorder(tmp_path / "run")
    finetune.run(finetune.Params.model_validate(TAUGHT | {"model": str(folder), "data": data}), rec)
    samples, kept = rec.artifacts["samples"], rec.artifacts["model"]
    assert isinstance(samples, Table)
    assert [row[3] for row in samples.rows] == ["7", "7"]
    assert any(said in note for note in rec.notes)
    assert any("ignored: min_new_tokens 6, repetition_penalty 1.9, suppress_tokens [2]" in note for note in rec.notes)
    assert isinstance(kept, Files)
    assert json.loads((kept.path / "generation_config.json").read_text())["eos_token_id"] == [2, 0]
    assert json.loads((kept.path / "tokenizer_config.json").read_text())["eos_token"] == "<|im_end|>"
    later = MemoryRecorder(tmp_path / "later")
    plain = {"model": str(kept.path), "quantization": "none", "max_new_tokens": 12, "questions": ["what is 3"]}
    generate.run(generate.Params.model_validate(plain), later)
    answers = later.artifacts["answers"]
    assert isinstance(answers, Table)
    assert answers.rows == (("what is 3", "7"),)


def test_an_adapter_is_kept_with_what_ends_its_replies(tmp_path: Path) -> None:
    folder = variants.folder(tmp_path / "model", generation={"temperature": 0.6}, eos="<|endoftext|>")
    rec = MemoryRecorder(tmp_path / "run")
    made = PLAIN | {"model": str(folder), "steps": 1, "evaluations": 0, "quantization": "none"}
    finetune.run(finetune.Params.model_validate(made), rec)
    adapter = rec.artifacts["adapter"]
    assert isinstance(adapter, Files)
    assert json.loads((adapter.path / "generation_config.json").read_text())["eos_token_id"] == [2, 0]


SYSTEM = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "what is it"},
        {"role": "assistant", "content": "7"},
    ]
}


@pytest.mark.parametrize(
    ("own", "data", "reason"),
    [
        ({"chat": variants.STRICT}, {}, "rows.jsonl line 21: the chat template refuses a conversation of the turns s"),
        ({"chat": variants.DEAF}, {}, "rows.jsonl line 21: the chat template leaves out or alters turn 1 (system)"),
        ({"chat": variants.ENDLESS}, {}, "writes '\\n' after an answer: nothing would teach a model to end a reply"),
        ({"chat": None, "eos": None}, {}, "has neither a chat template nor an eos_token: nothing would teach"),
        ({"chat": variants.EMPHATIC}, {}, "writes the prompt differently once its answer follows"),
        (
            {"eos": None},
            {"template": "alpaca"},
            "'alpaca' needs the tokens eos_token, which this model's tokenizer lacks",
        ),
        ({"config": {"max_position_embeddings": 55}}, {}, "30 of a reply are to follow, and the model has positions "),
    ],
)
def test_a_model_that_cannot_be_taught_to_reply_is_found_before_its_run(
    tmp_path: Path, own: dict[str, Any], data: dict[str, Any], reason: str
) -> None:
    rows = {"path": written(tmp_path, "rows", [*asked(20), SYSTEM]), "eval_items": 4, **data}
    sizes = {"samples": 2, "max_new_tokens": 30}
    made = finetune.Params.model_validate(
        PLAIN | sizes | {"model": str(variants.folder(tmp_path / "model", **own)), "data": rows}
    )
    with pytest.raises(LabError, match=re.escape(reason)):
        finetune.check(made, "cpu")
    with pytest.raises(UserError, match=re.escape(reason.partition(": ")[2] or reason)):
        finetune.run(made, MemoryRecorder(tmp_path / "run"))


def test_it_is_refused_at_submission_for_a_file_and_for_a_task(lab: Lab) -> None:
    folder = str(variants.folder(lab.root / "model", chat=variants.ENDLESS))
    for data in (PLAIN["data"], {"path": written(lab.root, "rows", asked(20)), "eval_items": 4}):
        spec = lab.spec("spec", kind="finetune", params=PLAIN | {"model": folder, "data": data})
        assert "nothing would teach a model to end a reply" in refused(lab, spec)


def test_questions_that_a_model_cannot_be_asked_are_refused_at_submission(lab: Lab) -> None:
    endless = str(variants.folder(lab.root / "model", chat=variants.ENDLESS))
    short = str(variants.folder(lab.root / "short", config={"max_position_embeddings": 64}))
    spec = lab.spec("spec", kind="generate", params={"model": short, "questions": ["a", "b" * 30]})
    said = refused(lab, spec)
    assert "question 2 ('bbb" in said
    assert "the model has positions for 64: set max_new_tokens to " in said
    made = generate.Params.model_validate({"model": endless, "questions": ["a"]})
    with pytest.raises(LabError, match="nothing would teach a model to end a reply") as raised:
        generate.check(made, "cpu")
    assert raised.value.key == "template"
    with pytest.raises(LabError, match="did you mean 'chatml'"):
        generate.check(made.model_copy(update={"template": "chatmll"}), "cpu")
