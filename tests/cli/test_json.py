"""The JSON that scripts rely on: the keys of the contract, one document, no NaN, the same answer everywhere."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.runs import results
from labqueue.store.runs.jobs import add_jobs
from tests.commands import call
from tests.conftest import Lab
from tests.store.factories import claimed, executed, job

RUN = {
    "id",
    "job",
    "state",
    "outcome",
    "reason",
    "params",
    "varied",
    "seed",
    "device",
    "experiment",
    "profile",
    "priority",
    "waiting",
    "progress",
    "eta_s",
    "queued_at",
    "started_at",
    "finished_at",
    "wall_s",
    "attempts",
    "peak_memory_gib",
    "estimated_memory_gib",
    "context_gib",
    "metrics",
    "samples",
    "artifacts",
    "commit",
    "dirty",
    "spec_hash",
}
"""Section 5 of the design, key by key."""

ATTEMPT = {"number", "outcome", "reason", "started_at", "finished_at"}
METRIC = {"last", "last_step", "min", "min_step", "max"}
SAMPLE = {"step", "number", "prompt", "text"}
ARTIFACT = {"name", "type", "path", "sha256", "bytes"}
VERDICT = {"id", "claim", "verdict", "estimate", "ci", "n", "why"}

SAID = {"step": 1, "number": 0, "prompt": "Once", "text": " upon"}

PREDICTION = {
    "id": "falls",
    "claim": "it falls",
    "threshold": {"metric": "value", "at": "last", "relative_to": "first", "below": 0.5, "above": None, "where": {}},
    **dict.fromkeys(("compare", "trend", "best_at", "crosses")),
}


@pytest.fixture
def filled(lab: Lab) -> Lab:
    """One run that succeeded, one that failed, one that runs, one that waits."""
    db = lab.db
    points = [{"steps": at} for at in (1, 2, 3, 4)]
    spec = {**job().spec, "hypothesis": "größer", "predictions": [PREDICTION], "axes": ["steps"]}
    add_jobs(db, [job("drill", points, spec=spec)])
    executed(db, "succeeded", [("value", 1, 1.0), ("value", 2, 0.25)])
    executed(db, "diverged", [("value", 1, None)], "value is not finite at step 1 (never finite)")
    running = claimed(db)
    results.flush(
        db, running.ref, [("value", 1, 1.0)], results.Progress(5, 10, 2.0), ["a note"], [(1, "Once", " upon")]
    )
    file = {"path": "outputs/drill/3/a.json", "sha256": "0", "bytes": 1}
    results.add_artifact(db, running.ref, name="a", type="text", **file)
    db.close()
    return lab


def document(lab: Lab, *words: object) -> Any:
    answer = call(lab, *map(str, words), "--json")
    assert (answer.code, answer.err) == (0, "")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(answer.out, parse_constant=refuse)


def assert_a_run(run: dict[str, Any]) -> None:
    assert set(run) >= RUN, RUN - set(run)
    for attempt in run["attempts"]:
        assert set(attempt) >= ATTEMPT
    for metric in run["metrics"].values():
        assert set(metric) >= METRIC
    for artifact in run["artifacts"]:
        assert set(artifact) == ARTIFACT
    for name in ("queued_at", "started_at", "finished_at"):
        assert run[name] is None or run[name].endswith("Z")
    for sample in run["samples"]:
        assert set(sample) == SAMPLE
    assert run["progress"] is None or set(run["progress"]) == {"done", "total", "phase"}
    assert run["waiting"] is None or set(run["waiting"]) == {"code", "text"}


def test_report_has_the_keys_of_the_contract(filled: Lab) -> None:
    report = document(filled, "report", "drill")
    assert {"schema", "experiment", "hypothesis", "runs", "verdicts"} <= set(report)
    assert (report["schema"], report["experiment"], report["hypothesis"]) == (1, "drill", "größer")
    assert [run["outcome"] for run in report["runs"]] == ["succeeded", "diverged", None, None]
    for run in report["runs"]:
        assert_a_run(run)
    (verdict,) = report["verdicts"]
    assert set(verdict) >= VERDICT
    assert verdict["verdict"] in ("supported", "refuted", "inconclusive")


def test_show_has_the_same_object_as_report(filled: Lab) -> None:
    for run in document(filled, "report", "drill")["runs"]:
        shown = document(filled, "show", run["id"])
        assert_a_run(shown)
        assert shown["samples"] == [SAID] * (run["id"] == 3)
        moving = {"wall_s", "eta_s"}
        assert {k: v for k, v in shown.items() if k not in moving} == {k: v for k, v in run.items() if k not in moving}


def test_status_and_queue_have_the_keys_of_the_contract(filled: Lab) -> None:
    status = document(filled, "status")
    assert {"schema", "running", "queued", "finished", "eta_s"} <= set(status)
    assert status["finished"] == {"succeeded": 1, "diverged": 1}
    assert ([run["id"] for run in status["running"]], [run["id"] for run in status["queued"]]) == ([3], [4])
    for run in status["running"] + status["queued"]:
        assert_a_run(run)
    assert status["running"][0]["eta_s"] == pytest.approx(2.5)
    queue = document(filled, "queue")
    assert [run["id"] for run in queue["queued"]] == [4]


def test_metrics_are_pairs_of_step_and_value(filled: Lab) -> None:
    assert document(filled, "metrics", 1, "value") == [[1, 1.0], [2, 0.25]]
    assert document(filled, "metrics", 2, "value") == [[1, None]]


def test_a_number_that_is_not_finite_is_null_even_if_it_got_into_the_results_store(filled: Lab) -> None:
    db = filled.db
    claim = claimed(db)
    results.flush(db, claim.ref, [("value", 1, math.inf), ("value", 2, -math.inf)], None, [])
    db.close()
    assert document(filled, "metrics", claim.run_id, "value") == [[1, None], [2, None]]
    assert document(filled, "show", claim.run_id)["metrics"]["value"]["max"] is None
    assert document(filled, "report", "drill")["runs"]


def test_submit_has_exactly_the_keys_of_the_contract(lab: Lab) -> None:
    answer = document(lab, "submit", lab.spec("drill", seeds=[0, 1]), "--profile", "cpu")
    assert answer == {
        "schema": 1, "job": 1, "experiment": "drill", "profile": "cpu", "runs": [1, 2], "reused": [],
    }  # fmt: skip


@pytest.mark.parametrize("command", ["report", "compare 1 2", "kinds", "kinds drill", "doctor", "corpora", "models"])
def test_every_other_document_is_one_with_its_schema(filled: Lab, command: str) -> None:
    assert document(filled, *command.split())["schema"] == 1


def test_corpora_says_how_each_task_is_scored_and_which_are_not_offered_and_why(lab: Lab) -> None:
    found = document(lab, "corpora")
    score = {row["name"]: row["score"] for row in found["corpora"]}
    assert (score["task:chain_sum"], score["task:game_of_life_halting"]) == ("library", "text")
    assert "scored by text, since" in next(r["source"] for r in found["corpora"] if r["score"] == "text")
    why = {row["name"]: row["why"] for row in found["not_offered"]}
    assert "differs from process to process" in why["task:word_ladder"]
    assert not set(why) & set(score)
    text = call(lab, "corpora").out
    assert "not offered" in text
    assert "task:word_ladder" in text


def test_corpora_lists_texts_with_size_licence_source_and_whether_they_are_here(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    rows = {row["name"]: row for row in document(lab, "corpora")["corpora"]}
    here = {name: row["here"] for name, row in rows.items() if not name.startswith("task:")}
    assert here["python_docs"] is True
    assert here["shakespeare_char"] is here["classics"] is False
    assert rows["shakespeare_char"]["characters"] == 1_115_394
    assert rows["shakespeare_char"]["licence"] == "public domain"
    assert "char-rnn" in rows["shakespeare_char"]["source"]
    text = call(lab, "corpora").out
    assert all(name in text for name in here)
    assert "1.12 M" in text


@pytest.mark.parametrize(
    "command",
    ["status", "queue", "report", "report drill", "show 1", "show 3", "metrics 2 value", "compare 1 2", "kinds"],
)
def test_what_people_read_needs_no_json(filled: Lab, command: str) -> None:
    answer = call(filled, *command.split())
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.strip()
    assert "nan" not in answer.out.lower().split()


@pytest.mark.parametrize("form", ["--csv", "--markdown", "--html"])
def test_a_report_has_other_forms(filled: Lab, form: str) -> None:
    answer = call(filled, "report", "drill", form)
    assert (answer.code, answer.err) == (0, "")
    assert "größer" in answer.out or form == "--csv"


def test_the_root_can_be_given_before_and_after_the_command(filled: Lab) -> None:
    wrong = {"LABQUEUE_ROOT": str(filled.root / "elsewhere")}
    expected = call(filled, "show", "1", "--json").out
    assert call(filled, "--root", filled.root, "show", "1", "--json", **wrong).out == expected
    assert call(filled, "show", "1", "--json", "--root", filled.root, **wrong).out == expected
    assert call(filled, "show", "1", "--json", **wrong).code == 2
