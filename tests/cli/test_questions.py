"""Questions with their evidence, from a results store and from committed documents; answers that nothing supports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.db import Database
from labqueue.store.runs.jobs import add_jobs
from tests.commands import REPOSITORY, call, refused
from tests.conftest import Lab
from tests.store.factories import executed, job

BELOW = [{"id": "low", "claim": "the value ends below 1", "threshold": {"metric": "value", "below": 1.0}}]


def experiment(
    db: Database, name: str = "measured", values: tuple[float, ...] = (0.1, 0.11, 0.12), **spec: Any
) -> None:
    """An experiment that speaks to Q1, with one run per value."""
    new = job(name, seeds=range(len(values)))
    new.spec.update({"questions": ["Q1"], "predictions": BELOW} | spec)
    add_jobs(db, [new])
    for value in values:
        executed(db, points=[("value", 10, value)])


def log(lab: Lab, status: str = "answered", *fields: str) -> Path:
    path = lab.root / "QUESTIONS.md"
    path.write_text("\n".join(["# Q", "", "## Q1: is it?", f"- Status: {status}", "- Source: me", *fields, ""]))
    return path


def test_a_question_shows_its_experiments_with_verdicts_seeds_and_runs(lab: Lab) -> None:
    experiment(lab.db)
    experiment(lab.db, "other", questions=["Q2"])
    log(lab, "answered", "- Evidence: experiment measured, runs 1-3")
    answer = call(lab, "questions", "Q1", "--json").json
    (question,) = answer["questions"]
    assert answer["file"] == str(lab.root / "QUESTIONS.md")
    assert (question["id"], question["status"], question["problems"]) == ("Q1", "answered", [])
    (one,) = question["experiments"]
    assert (one["experiment"], one["source"], one["runs"]) == ("measured", "results store", [1, 2, 3])
    assert [(v["id"], v["verdict"], v["n"]) for v in one["verdicts"]] == [("low", "supported", 3)]
    text = call(lab, "questions").out
    assert "measured (results store; runs 1, 2, 3): low supported (n = 3)" in text
    assert "the value ends below 1" in call(lab, "questions", "Q1").out
    assert call(lab, "questions", "--check").code == 0


def committed(lab: Lab, verdict: str = "supported", outcome: str = "succeeded") -> None:
    said = {"id": "low", "claim": "", "verdict": verdict, "estimate": 0.1, "ci": None, "n": 3, "why": ""}
    runs = [{"id": run, "state": "finished", "outcome": outcome} for run in (4, 5)]
    folder = lab.root / "docs" / "results" / "track"
    folder.mkdir(parents=True, exist_ok=True)
    document = {"schema": 1, "experiment": "published", "runs": runs, "verdicts": [said]}
    (folder / "published.json").write_text(json.dumps(document))


def test_a_committed_document_is_evidence_where_there_is_no_results_store(lab: Lab) -> None:
    committed(lab)
    (lab.root / "docs" / "results" / "other.json").write_text("[1]")
    log(lab, "answered", "- Evidence: experiment published, runs 4-5")
    assert call(lab, "questions", "--check").code == 0
    (one,) = call(lab, "questions", "Q1", "--json").json["questions"][0]["experiments"]
    assert (one["source"], one["runs"]) == ("docs/results/track/published.json", [4, 5])
    assert not lab.settings.database.exists()


@pytest.mark.parametrize(
    ("evidence", "verdict", "outcome", "words"),
    [
        ("experiment published, runs 4-6", "supported", "succeeded", "run 6 of 'published' is no evidence"),
        ("experiment published, runs 4-5", "inconclusive", "succeeded", "inconclusive, which answers nothing"),
        ("experiment published, run 4", "supported", "diverged", "it is diverged"),
        ("experiment invented, run 1", "supported", "succeeded", "nothing is known of experiment 'invented'"),
    ],
)
def test_an_answer_that_nothing_supports_fails_the_check(
    lab: Lab, evidence: str, verdict: str, outcome: str, words: str
) -> None:
    committed(lab, verdict, outcome)
    log(lab, "answered", f"- Evidence: {evidence}")
    answer = call(lab, "questions", "--check")
    assert answer.code == 1
    assert words in answer.err
    assert "line 6" in answer.err
    assert "does not hold" in call(lab, "questions").out


def test_runs_without_a_prediction_answer_nothing(lab: Lab) -> None:
    experiment(lab.db, predictions=[])
    log(lab, "answered", "- Evidence: experiment measured, runs 1-3")
    assert "registers no prediction" in call(lab, "questions", "--check").err


def test_exploring_needs_a_spec_that_names_the_question(lab: Lab) -> None:
    log(lab, "exploring")
    assert "no spec names it" in call(lab, "questions", "--check").err
    (lab.root / "jobs").mkdir()
    (lab.root / "jobs" / "a.yaml").write_text("name: a\nkind: drill\nquestions: [Q1]\n")
    assert call(lab, "questions", "--check").code == 0
    assert "a: not run here" in call(lab, "questions").out


def test_the_check_names_specs_that_ask_what_is_not_in_the_log(lab: Lab) -> None:
    log(lab, "open")
    (lab.root / "jobs").mkdir()
    (lab.root / "jobs" / "a.yaml").write_text("name: a\nkind: drill\nquestions: [Q7]\n")
    answer = call(lab, "questions", "--check")
    assert (answer.code, "experiment 'a' names the question 'Q7'" in answer.err) == (1, True)


def test_a_wrong_id_and_a_broken_log_are_refused_with_file_and_line(lab: Lab) -> None:
    path = log(lab, "open")
    assert "known: Q1" in refused(call(lab, "questions", "Q2", "--json"))["message"]
    path.write_text("## Q1: a\n- Status: opne\n- Source: me\n")
    error = refused(call(lab, "questions", "--json"))
    assert (error["file"], error["line"]) == (str(path), 2)
    path.write_bytes(b"\xff")
    assert "not UTF-8" in refused(call(lab, "questions", "--json"))["message"]


def test_a_spec_that_asks_an_unknown_question_is_refused_where_the_workspace_has_a_log(lab: Lab) -> None:
    log(lab, "open")
    error = refused(call(lab, "submit", lab.text("name: a\nkind: drill\nquestions: [Q11]\n"), "--json"))
    assert error["line"] == 3
    assert "did you mean 'Q1'" in error["message"]
    assert not lab.settings.database.exists()


def test_elsewhere_an_unknown_question_is_a_note_only(lab: Lab) -> None:
    answer = call(lab, "submit", lab.text("name: a\nkind: drill\nquestions: [Q999]\n"), "--json")
    assert answer.code == 0
    assert answer.json["runs"] == [1]
    assert "there is no 'Q999'" in answer.err
    assert call(lab, "submit", lab.text("name: b\nkind: drill\nquestions: [Q5]\n")).err == ""


def test_the_labs_own_log_holds_in_a_clean_clone(lab: Lab) -> None:
    """``make check`` runs the same from the repository; here nothing but what is committed can be evidence."""
    answer = call(lab, "questions", "--check", "--json")
    assert answer.code == 0, answer.json["problems"]
    assert answer.json["file"] == str(REPOSITORY / "QUESTIONS.md")
    assert len(answer.json["questions"]) >= 12
