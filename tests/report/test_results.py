"""The committed results say what the rule of today says of their runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs import judge_again
from labqueue.domain.canonical import digest
from labqueue.domain.spec.predictions import Prediction
from labqueue.report.document.export import plain

each_document = pytest.mark.parametrize("path", judge_again.documents(), ids=lambda path: path.parent.name)


@each_document
def test_committed_verdicts_are_those_of_the_rule_of_today(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    assert plain([judgement.verdict for judgement in judge_again.judged(path)]) == document["verdicts"]
    text = (path.parent / "report.md").read_text(encoding="utf-8")
    for verdict in document["verdicts"]:
        assert f"### {verdict['id']}: **{verdict['verdict']}**" in text
        assert f"- {verdict['verdict']}: " in text


@each_document
def test_committed_runs_and_claims_have_the_digests_of_what_they_say(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for run in document["runs"]:
        assert run["spec_hash"] == digest([run["kind"], run["device"], run["params"], run["seed"]])
    for each in document["registrations"]:
        assert each["digest"] == Prediction.model_validate_json(json.dumps(each["prediction"])).digest()


def test_the_verdict_that_the_readme_shows_is_still_supported() -> None:
    root = judge_again.RESULTS.parent.parent
    (found,) = re.findall(r"\((docs/results/\S+)/plots/verdict_(\w+)\.svg\)", (root / "README.md").read_text("utf-8"))
    folder, name = found
    document = json.loads((root / folder / "report.json").read_text(encoding="utf-8"))
    assert {each["id"]: each["verdict"] for each in document["verdicts"]}[name] == "supported"
    assert (root / folder / "plots" / f"verdict_{name}.svg").is_file()
