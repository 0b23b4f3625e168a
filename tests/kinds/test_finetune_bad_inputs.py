"""What could not be trained is refused at submission: what it is, where it stands, and the cure.

Nothing is recorded then, so that nothing of it fails at night.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.domain.kind import UserError
from labqueue.kinds import finetune
from labqueue.llm.models import catalogue, tiny
from labqueue.system import files
from tests.commands import call
from tests.conftest import Answer, Lab
from tests.helpers_recorder import MemoryRecorder
from tests.kinds.test_finetune import TINY, params

PLAIN = TINY | {"samples": 0, "scored": 0}


def written(folder: Path, name: str, rows: list[Any]) -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return str(file)


def asked(count: int, first: int = 0, answer: str = "7") -> list[dict[str, str]]:
    return [{"question": f"what is {number}", "answer": answer} for number in range(first, first + count)]


ANSWER = {"role": "assistant", "content": "a"}
CALLED = [{"role": "user", "content": "q"}, ANSWER | {"tool_calls": [{"name": "weather"}]}]

FILES: dict[str, list[Any]] = {
    "good": asked(20),
    "empty": [],
    "unanswered": [*asked(18), *asked(2, 30, " ")],
    "few": asked(3),
    "same": asked(1) * 20,
    "twin": [{"question": "WHAT  is 3", "answer": "3"}, *asked(5, 50)],
    "columns": [*asked(3), {"q": "a", "a": "b"}],
    "number": [{"question": "1+1", "answer": 2}],
    "control": [*asked(19), *asked(1, 30, "<|im_start|>system")],
    "held": [*asked(5, 60), *asked(1, 70, "<|im_end|>")],
    "tools": [*asked(19), {"messages": CALLED, "tools": [{"name": "weather"}]}],
    "weight": [*asked(19), {"messages": [{"role": "user", "content": "q"}, ANSWER | {"weight": 0.5}]}],
    "surrogate": [*asked(19), {"question": "q", "answer": "\ud83d"}],
}


def refused(lab: Lab, *words: str | Path) -> str:
    """The one line in which a submission is refused, with nothing recorded; a dry run says the same."""
    answer: Answer = call(lab, "submit", *words, "--profile", "cpu")
    dry = call(lab, "submit", *words, "--profile", "cpu", "--dry-run")
    assert (dry.code, dry.err) == (answer.code, answer.err)
    assert (answer.code, answer.out) == (2, ""), answer.err
    assert answer.err.count("\n") == 1
    assert "Traceback" not in answer.err
    assert not (lab.root / "results.db").exists()
    return answer.err


@pytest.mark.parametrize(
    ("file", "data", "batch", "reason"),
    [
        ("empty", {}, 2, "spec.yaml:1: empty.jsonl has no rows"),
        ("unanswered", {}, 2, "2 of 20 rows of unanswered.jsonl have no answer: line 19, 20. Give them one, or set"),
        ("few", {}, 2, "few.jsonl has 3 rows, 0 of them with questions that are not held out; asked for at least 1"),
        ("same", {}, 2, "same.jsonl has 20 rows, 0 of them with questions that are not held out"),
        ("good", {"eval_path": "twin"}, 2, "1 rows of good.jsonl ask a question that is held out, first its line 4"),
        ("twin", {"eval_path": "empty"}, 2, "spec.yaml:1: empty.jsonl has no rows"),
        ("twin", {"eval_path": "few"}, 2, "few.jsonl has 3 rows, data.eval_items asks for 4"),
        ("good", {"train_items": 18}, 2, "16 of them with questions that are not held out; asked for 18 to train on"),
        ("good", {}, 17, "a step takes batch 17 * accumulation 1 = 17, but there are only 16 training rows"),
        ("columns", {}, 2, "columns.jsonl:4: needs exactly one of question or prompt; found q, a."),
        ("number", {}, 2, "number.jsonl:1: answer must be text, got 2"),
        ("control", {}, 2, "control.jsonl:20: the text '<|im_start|>' in it would become a control token"),
        ("good", {"eval_path": "held", "eval_items": 6}, 2, "held.jsonl:6: the text '<|im_end|>' in it"),
        ("tools", {}, 2, "tools.jsonl:20: the chat template leaves out tools. Name another data.template"),
        ("weight", {}, 2, "weight.jsonl:20: weight is 1 (learned) or 0 (shown only), got 0.5"),
        ("surrogate", {}, 2, "surrogate.jsonl:20: answer has \\ud83d at character 0, half of a pair"),
    ],
)
def test_a_file_that_cannot_be_learned_from_is_refused_at_submission(
    lab: Lab, file: str, data: dict[str, Any], batch: int, reason: str
) -> None:
    files = {name: written(lab.root, name, rows) for name, rows in FILES.items()}
    named = {key: files.get(str(value), value) for key, value in data.items()}
    whole = {"path": files[file], "eval_items": 4, **named}
    spec = lab.spec("spec", kind="finetune", params=PLAIN | {"data": whole, "batch": batch})
    assert reason in refused(lab, spec)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lora": {"targets": ["q_prj"]}}, "no linear layer 'q_prj' in a block: did you mean 'q_proj'?"),
        ({"lora": {"rank": 33}}, "rank 33 is not between 1 and 32, the smaller side of k_proj (32 x 64)"),
        ({"backend": "unsloth"}, "backend 'unsloth' needs a CUDA device, this run has 'cpu'; use hf or auto"),
        ({"data": TINY["data"] | {"options": {"max_trms": 2}}}, "task 'chain_sum' refuses options {'max_trms': 2}"),
        (
            {"extra_evals": [{"name": "sums", "task": "chain_sum", "options": {"max_trms": 2}}]},
            "extra_evals 'sums': task 'chain_sum' refuses options",
        ),
        ({"extra_evals": [{"name": "text", "path": "gone.txt"}]}, "text file 'gone.txt' does not exist"),
        ({"learning_rate": 0}, "params.learning_rate: Input should be greater than 0 (got the number 0)"),
        ({"batch": 41}, "a step takes batch 41 * accumulation 1 = 41, but there are only 40 training rows"),
        ({"data": TINY["data"] | {"template": "chatmll"}}, "did you mean 'chatml'?"),
    ],
)
def test_settings_that_the_model_the_device_or_the_task_refuses_are_refused_at_submission(
    lab: Lab, changes: dict[str, Any], reason: str
) -> None:
    spec = lab.spec("spec", kind="finetune", params=PLAIN | changes)
    assert reason in refused(lab, spec)


CONFLICTS: dict[str, tuple[dict[str, Any], str]] = {
    "scored": ({"data": {"path": "x", "eval_items": 4}, "scored": 4}, "scored is 4 and needs data.task: "),
    "samples": ({"samples": 9}, "samples is 9; samples and scored are drawn from the 6 rows of data.eval_items: lower"),
    "evaluations": ({"evaluations": 9}, "evaluations is 9, but only 5 steps lie in between: set it to 5 or less"),
    "quantization": ({"method": "full", "quantization": "4bit"}, "which 4 bit cannot hold: set quantization: none"),
    "backend": (
        {"method": "full", "quantization": "none", "backend": "unsloth"},
        "not on unsloth: set backend: auto or",
    ),
    "decay_steps": ({"decay_steps": 2}, "decay_steps is 2 and belongs to schedule warmup_stable_decay, not to"),
    "data": ({"data": {"path": "x", "hub": "a/b"}}, "exactly one of task, path, hub; given path 'x' and hub 'a/b'"),
    "data.train_items": ({"data": {"task": "chain_sum"}}, "is needed with data.task: how many rows to generate"),
    "data.split": (
        {"data": {"path": "x", "split": "test"}},
        "data.split belongs to data.hub, which is not given; it is 'test'",
    ),
    "data.columns.messages": (
        {"data": {"path": "x", "columns": {"messages": "m", "answer": "a"}}},
        "data.columns name messages, or question and answer, not both; messages is 'm': leave it or the others out",
    ),
    "extra_evals.0.window": (
        {"extra_evals": [{"name": "t", "path": "y", "window": 200}], "max_length": 64},
        "extra_evals 't' has a window of 200 tokens, max_length is 64: lower it, or raise that",
    ),
}


@pytest.mark.parametrize("key", CONFLICTS)
def test_a_value_that_another_rules_out_is_refused_at_its_own_key_with_both_and_the_cure(lab: Lab, key: str) -> None:
    changes, reason = CONFLICTS[key]
    spec = lab.spec("spec", kind="finetune", params=PLAIN | changes)
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
    error = answer.json["error"]
    assert (answer.code, error["key"]) == (2, f"params.{key}")
    assert reason in error["message"]
    assert "got a mapping" not in error["message"]


def test_a_rate_that_is_no_number_is_refused_at_submission(lab: Lab) -> None:
    spec = lab.text(
        "name: spec\nkind: finetune\nparams:\n  model: random-tiny\n  learning_rate: .nan\n"
        "  data: {task: chain_sum, train_items: 8, eval_items: 4}\n"
    )
    assert "spec.yaml:5: " in refused(lab, spec)


def test_what_was_set_on_the_command_line_is_blamed_on_it(lab: Lab) -> None:
    files = {name: written(lab.root, name, rows) for name, rows in FILES.items()}
    good = PLAIN | {"data": {"path": files["good"], "eval_items": 4}}
    spec = lab.spec("spec", kind="finetune", params=good)
    for setting in (f"data.path={files['empty']}", "data.path=gone.jsonl", "model=random-tny", "lora.rank=33"):
        assert refused(lab, spec, "--set", setting).startswith("labqueue: command line: "), setting
    assert refused(lab, spec, "--sweep", "lora.rank=4,33").startswith("labqueue: command line: rank 33")


def test_a_missing_file_is_blamed_on_the_key_that_names_it(lab: Lab) -> None:
    good = written(lab.root, "good", FILES["good"])
    spec = lab.spec("spec", kind="finetune", params=PLAIN | {"data": {"path": good, "eval_path": "gone.jsonl"}})
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
    assert answer.code == 2
    assert answer.json["error"]["key"] == "params.data.eval_path"


@pytest.mark.parametrize(
    ("lacking", "reason"),
    [("model.safetensors", "not all of its weights"), ("tokenizer.json", "has no tokenizer")],
)
def test_a_model_folder_without_weights_or_tokenizer_is_refused_but_can_be_estimated(
    lab: Lab, lacking: str, reason: str
) -> None:
    folder = lab.root / "model"
    shutil.copytree(tiny.folder(), folder)
    assert catalogue.fetch(str(folder)) == folder
    (folder / lacking).unlink()
    spec = lab.spec("spec", kind="finetune", params=PLAIN | {"model": str(folder)})
    assert reason in refused(lab, spec)
    assert call(lab, "estimate", "--model", folder, "--json").json["total_gib"] > 0


def test_targets_by_the_end_of_their_path_and_unknown_architectures_are_left_to_the_model(tmp_path: Path) -> None:
    finetune.check(params(lora={"targets": ["layers.1.mlp.up_proj"], "rank": 64}), "cpu")
    with pytest.raises(LabError, match="rank 65"):
        finetune.check(params(lora={"targets": ["layers.1.mlp.up_proj"], "rank": 65}), "cpu")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}))
    finetune.check(params(model=str(tmp_path), lora={"targets": ["c_attn"]}), "cpu")
    finetune.check(params(model="from_run", lora={"targets": ["c_attn"]}), "cpu")


def test_a_file_that_was_mended_is_read_again(tmp_path: Path) -> None:
    file = written(tmp_path, "rows", FILES["few"])
    wanted = params(data={"path": file, "eval_items": 4}, samples=0, scored=0)
    with pytest.raises(LabError, match=r"rows.jsonl has 3 rows"):
        finetune.check(wanted, "cpu")
    written(tmp_path, "rows", FILES["good"])
    finetune.check(wanted, "cpu")


def test_a_run_on_a_file_with_another_content_is_another_run(lab: Lab) -> None:
    text = lab.root / "text.txt"
    text.write_text("to be or not to be, " * 20)
    file = written(lab.root, "rows", FILES["good"])
    extra = [{"name": "text", "path": str(text), "tokens": 32, "window": 16}]
    spec = lab.spec(
        "spec", kind="finetune", params=PLAIN | {"data": {"path": file, "eval_items": 4}, "extra_evals": extra}
    )

    def hashes() -> tuple[str, str]:
        assert call(lab, "submit", spec, "--profile", "cpu").code == 0
        queued = call(lab, "status", "--json").json["queued"]
        (run,) = [run for run in queued if run["id"] == max(other["id"] for other in queued)]
        return run["spec_hash"], call(lab, "submit", spec, "--profile", "cpu", "--dry-run", "--json").json["runs"][0][
            "params"
        ]["data"]["sha256"]

    first = hashes()
    assert hashes() == first
    assert first[1] == files.sha256(Path(file))
    written(lab.root, "rows", FILES["twin"])
    assert hashes()[0] != first[0]
    written(lab.root, "rows", FILES["good"])
    assert hashes() == first
    text.write_text("that is the question, " * 20)
    assert hashes()[0] != first[0]


def test_a_queued_run_does_not_train_on_what_its_file_became(tmp_path: Path) -> None:
    file = written(tmp_path, "rows", FILES["good"])
    queued = finetune.pinned(params(data={"path": file, "eval_items": 4}, samples=0, scored=0))
    assert finetune.pinned(queued) == queued
    written(tmp_path, "rows", FILES["twin"])
    with pytest.raises(UserError, match=r"rows.jsonl has changed since it was submitted .*: put it back, or submit"):
        finetune.run(queued, MemoryRecorder(tmp_path / "run"))


def _settings(file: str, **changes: Any) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return write


def _enlarged(folder: Path) -> None:
    words = tiny.tokenizer()
    words.add_tokens(["<tool>", "</tool>"])
    words.save_pretrained(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_settings("config.json", num_hidden_layers=3), "of 30 tensors 9 are missing (model.layers.2."),
        (_settings("config.json", quantization_config={"quant_method": "gptq"}), "is already quantised (gptq), which"),
        (_settings("tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}), "needs code of its own"),
        (_settings("tokenizer.json", model=3), "tokenizer.json of model"),
        (_enlarged, "has tokens up to number 260, its embedding only 259 rows (vocab_size), 0 to 258"),
        (_settings("tokenizer_config.json", added_tokens_decoder={"259": {"content": "<x>"}}), "up to number 259, its"),
    ],
)
def test_a_model_folder_whose_parts_do_not_belong_together_is_refused(
    lab: Lab, change: Callable[[Path], None], reason: str
) -> None:
    folder = lab.root / "model"
    shutil.copytree(tiny.folder(), folder)
    change(folder)
    assert reason in refused(lab, lab.spec("spec", kind="finetune", params=PLAIN | {"model": str(folder)}))
