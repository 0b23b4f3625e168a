"""Reuse by content: a model folder or a dataset that changed behind an unchanged name makes another run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.canonical import canonical
from labqueue.domain.spec.schema import Spec
from labqueue.kinds import finetune, generate
from labqueue.llm.models import pins, tiny
from labqueue.submission import specfile
from labqueue.submission.plan import Plan, Request, plan, runs_of
from tests.commands import call
from tests.conftest import Lab
from tests.kinds.test_finetune import TINY
from tests.llm.test_models import Hub
from tests.llm.test_pins import NEW, OLD, scale

QUESTIONS = {"questions": ["a"], "quantization": "none", "max_new_tokens": 2}


def submitted(lab: Lab, spec: Path) -> dict[str, Any]:
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
    assert answer.code == 0, answer.err
    return answer.json  # type: ignore[no-any-return]  # JSON


def test_a_run_is_reused_until_its_model_folder_changes_and_does_not_begin_on_what_it_became(lab: Lab) -> None:
    folder = lab.root / "my-model"
    tiny.write(folder)
    spec = lab.spec("asked", kind="generate", params={"model": "my-model", **QUESTIONS})
    (first,) = submitted(lab, spec)["runs"]
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 0
    assert submitted(lab, spec)["reused"] == [first]
    scale(folder, 2.0)
    second = submitted(lab, spec)
    assert second["reused"] == []
    scale(folder, 2.0)
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 1
    shown = call(lab, "show", second["runs"][0], "--json").json
    assert shown["outcome"] == "failed"
    assert "my-model has changed since it was submitted (SHA-256 of its files" in shown["reason"]
    assert "Traceback" not in shown["reason"]
    scale(folder, 0.25)
    assert submitted(lab, spec)["reused"] == [first], "the content is what it was"


def test_an_adapter_and_a_second_model_by_path_are_pinned_too(tmp_path: Path) -> None:
    for name in ("adapter", "other"):
        tiny.write(tmp_path / name)
        params = generate.Params.model_validate({"model": "random-tiny", name: str(tmp_path / name), **QUESTIONS})
        before = generate.pinned(params)
        assert generate.pinned(before) == before
        assert before.model_pin is None
        scale(tmp_path / name, 2.0)
        changed = {key for key, value in generate.pinned(params) if value != getattr(before, key)}
        assert changed == {f"{name}_pin"}


def test_a_model_that_another_run_leaves_has_no_pin_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny.write(tmp_path / "from_run")
    params = finetune.Params.model_validate(TINY | {"model": "from_run"})
    assert finetune.pinned(params).model_pin is None


def test_a_pin_that_its_model_does_not_have_is_refused_at_submission(lab: Lab) -> None:
    tiny.write(lab.root / "my-model")
    given = {"model": "my-model", "model_pin": f"sha256:{'0' * 64}"}
    answer = call(lab, "submit", lab.spec("spec", kind="finetune", params=TINY | given), "--profile", "cpu")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "my-model has changed since it was submitted" in answer.err


def rows(answer: str) -> bytes:
    each = [{"question": f"what is {number}", "answer": answer} for number in range(12)]
    return "\n".join(map(json.dumps, each)).encode()


def test_a_fetched_dataset_is_pinned_at_once_and_another_commit_is_another_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"hub": "yahma/alpaca-cleaned", "eval_items": 4}
    few = {"data": data, "samples": 0, "scored": 0}
    spec = lab.spec("spec", kind="finetune", params=TINY | few)
    for name in [name for name in os.environ if name.startswith(("HF_", "TRANSFORMERS_"))]:
        monkeypatch.delenv(name)
    world = {"HF_HOME": str(lab.root / "hf"), "LABQUEUE_CACHE": str(lab.root / "cache")}

    def queued(hub: Hub) -> dict[str, Any]:
        # The hub's client reads its settings at import: a process of its own.
        answer = lab.run("submit", spec, "--profile", "cpu", "--json", **world, HF_ENDPOINT=hub.endpoint)
        assert answer.code == 0, answer.err
        return call(lab, "show", answer.json["runs"][0], "--json").json  # type: ignore[no-any-return]  # JSON

    old, new = Hub({"train.jsonl": rows("7")}, OLD), Hub({"train.jsonl": rows("8")}, NEW)
    first = queued(old)
    assert first["params"]["data"]["commit"] == OLD
    assert queued(new)["spec_hash"] == first["spec_hash"], "what was fetched is used until it is gone"
    assert new.asked == []
    (lab.root / "cache" / "datasets" / "yahma--alpaca-cleaned@main.json").unlink()
    other = queued(new)
    assert other["params"]["data"]["commit"] == NEW
    assert other["spec_hash"] != first["spec_hash"]
    monkeypatch.setenv("LABQUEUE_CACHE", world["LABQUEUE_CACHE"])
    for run, answer in ((first, "7"), (other, "8")):
        split = finetune.Params.model_validate(run["params"]).data.load()
        assert {row.answer for row in split.train} == {answer}


def test_a_dataset_fetched_by_an_older_lab_is_found_by_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path))
    (tmp_path / "train.jsonl").write_bytes(rows("7"))
    (tmp_path / "datasets").mkdir()
    marker = {"commit": OLD, "folder": str(tmp_path), "files": ["train.jsonl"]}
    (tmp_path / "datasets" / "a--b@main.json").write_text(json.dumps(marker))
    params = finetune.Params.model_validate(TINY | {"data": {"hub": "a/b", "eval_items": 4}, "samples": 0, "scored": 0})
    found = finetune.pinned(params).data
    assert found.commit == OLD
    (tmp_path / "datasets" / "a--b@main.json").write_text(json.dumps(marker | {"commit": NEW, "files": ["gone"]}))
    assert {row.answer for row in found.load().train} == {"7"}


def test_points_that_a_search_proposes_later_are_of_the_content_that_was_submitted(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    tiny.write(lab.root / "my-model")
    (lab.root / "rows.jsonl").write_bytes(rows("7"))
    (lab.root / "text").write_text("to be or not to be, " * 20)
    asked = {
        "model": "my-model",
        "data": {"path": "rows.jsonl", "eval_items": 4},
        "extra_evals": [{"name": "text", "path": "text", "tokens": 32, "window": 16}],
        "samples": 0,
        "scored": 0,
    }
    space = {"learning_rate": {"log_uniform": [1e-4, 1e-2]}, "data.seed": {"int": [0, 9]}}
    search = {"trials": 20, "metric": "eval_loss", "space": space}
    path = lab.spec("spec", kind="finetune", params=TINY | asked, sweep={"search": search})

    def planned() -> Plan:
        return plan(specfile.read(path), Request(profile="cpu"))

    first = planned()
    assert planned().job.spec_version == first.job.spec_version
    scale(lab.root / "my-model", 2.0)
    (lab.root / "rows.jsonl").write_bytes(rows("8"))
    (lab.root / "text").write_text("that is the question, " * 20)
    frozen = {key: value for key, value in first.job.spec.items() if key != "axes"}
    (later,) = runs_of(
        Spec.model_validate_json(canonical(frozen)), {"learning_rate": 5e-4, "data.seed": 3}, first.job.device
    )
    then, now = first.job.runs[0].params.value, planned().job.runs[0].params.value
    for content in (lambda p: p["model_pin"], lambda p: p["data"]["sha256"], lambda p: p["extra_evals"][0]["sha256"]):
        assert content(later.params.value) == content(then) != content(now)
    assert planned().job.spec_version != first.job.spec_version


def test_parameters_of_older_runs_are_taken_as_they_are() -> None:
    before = finetune.Params.model_validate(TINY).model_dump(mode="json")
    del before["model_pin"], before["data"]["commit"]
    assert finetune.Params.model_validate(before) == finetune.Params.model_validate(TINY)
    assert pins.of(before["model"]) is None
