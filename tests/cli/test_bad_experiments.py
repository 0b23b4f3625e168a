"""Experiments that went wrong or look odd: a readable report each time, in every format and on the terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.canonical import digest
from labqueue.store.db import Database
from labqueue.store.runs import control, results
from labqueue.store.runs.jobs import add_jobs
from tests.commands import call
from tests.conftest import Lab
from tests.store.factories import claimed, executed, job

LONG = "wörter " * 1428 + "ende"
"""A parameter value of ten thousand characters."""
assert len(LONG) == 10_000

ODD = "Größe 模型 🦙 é"
"""Two bytes, three bytes, four bytes, and a letter with its accent beside it."""

HOSTILE = "a\x1b[2J\x9b1m\nb\u202ec\x00"
"""Clears a terminal, in two codings, breaks a row, turns the direction of writing, and is no XML."""

RATIO = {
    "id": "a_is_smaller",
    "claim": "a is below a half of b",
    "compare": {"metric": "value", "a": {"arm": "a"}, "b": {"arm": "b"}, "ratio_below": 0.5},
}

BEST = {
    "id": "best",
    "claim": f"{HOSTILE} wins",
    "best_at": {"metric": "value", "over": "arm", "values": [HOSTILE]},
}

PREDICTION = {
    "id": "a_is_lower",
    "claim": f"a liegt unter b: {ODD}",
    "compare": {"metric": "value", "a": {"arm": "a"}, "b": {"arm": "b"}, "difference_below": 0},
}


def record(db: Database, name: str, points: list[dict[str, Any]], seeds: Sequence[int] = (0, 1), **fields: Any) -> int:
    """Submits an experiment; returns how many runs it has."""
    predictions = fields.pop("predictions", [PREDICTION])
    new = job(name, points, seeds, **fields)
    # Runs that another experiment has executed would make a claim exploratory.
    new = replace(new, runs=[run._replace(spec_hash=digest([name, run.spec_hash])) for run in new.runs])
    about = {"hypothesis": f"{ODD}.", "predictions": predictions, "axes": list(points[0]), "questions": ["Q1"]}
    new.spec.update(about)
    add_jobs(db, [new])
    return len(points) * len(seeds)


ARMS: list[dict[str, Any]] = [{"arm": "a"}, {"arm": "b"}]


@pytest.fixture(scope="module")
def lab_of_odd(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One workspace with one experiment per way to be odd."""
    lab = Lab(tmp_path_factory.mktemp("odd"))
    db = lab.db
    record(db, "none_finished", ARMS)
    control.cancel(db, "none_finished")
    record(db, "one_run", [{"arm": "a"}], [0])
    executed(db, points=[("value", 1, 1.0), ("value", 2, 0.5)])
    for _ in range(record(db, "all_nan", ARMS)):
        executed(db, "diverged", [("value", 1, None), ("value", 2, None)], "value is not finite at step 1")
    for profile, seeds, value in (("cpu", (0, 1), 1.0), ("smol", (2, 3), 9.0)):
        for _ in range(record(db, "mixed", ARMS, seeds, profile=profile)):
            executed(db, points=[("value", 1, value)])
    for _ in range(record(db, "versions", ARMS)):
        executed(db, points=[("value", 1, 5.0)])
    for _ in range(record(db, "versions", [*ARMS, {"arm": "c"}], force=True)):
        executed(db, points=[("value", 1, 1.0)])
    for at in range(record(db, "lengths", ARMS)):
        executed(db, points=[("value", step, 1.0 + step) for step in range(1, 3 + at * 40)])
    for _ in range(record(db, "long_values", [{"arm": LONG}, {"arm": f"{LONG}!"}])):
        executed(db, points=[("value", 1, 1.0)])
    for _ in range(record(db, "not_ascii", [{"größe": ODD}, {"größe": "B"}])):
        claim = claimed(db)
        results.flush(db, claim.ref, [("verlust_größe", 1, 1.0)], None, [f"note: {ODD}"])
        from labqueue.domain.state import Ending
        from labqueue.store.runs import attempts

        attempts.end(db, claim.ref, Ending.FAILED, f"ValueError: {ODD}")
    for _ in range(record(db, "not_ascii_drawn", [{"größe": ODD}, {"größe": "B"}])):
        executed(db, points=[("verlust_größe", step, 1.0 / step) for step in (1, 2, 3)])
    for value in (5.0, 1.0):
        for _ in range(record(db, "repeated", ARMS, force=True)):
            executed(db, points=[("value", 1, value)])
    record(db, "repeated", ARMS, force=True)
    control.cancel(db, "repeated")
    for _ in range(record(db, "huge", ARMS)):
        executed(db, points=[("value", 1, 1.7e308), ("value", 2, 1.7e308)])
    for at in range(record(db, "tiny_ratio", ARMS, predictions=[RATIO])):
        executed(db, points=[("value", step, (1e-100, 1e90, 1e90, 1e-100)[at]) for step in (1, 2)])
    for at in range(record(db, "hostile", [{"arm": HOSTILE}, {"arm": "plain"}], predictions=[BEST])):
        executed(db, points=[("value", step, at + 1.0 / step) for step in (1, 2)], reason=f"it said {HOSTILE}")
    record(db, "still_waits", ARMS)
    db.close()
    return lab


EXPERIMENTS = (
    "none_finished", "one_run", "all_nan", "mixed", "versions", "lengths", "long_values", "not_ascii",
    "not_ascii_drawn", "repeated", "still_waits", "huge", "tiny_ratio", "hostile",
)  # fmt: skip


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_odd_experiment_has_a_readable_report_in_every_format(lab_of_odd: Lab, name: str) -> None:
    lab = lab_of_odd
    shown = call(lab, "report", name)
    assert (shown.code, shown.err) == (0, "")
    assert max(map(len, shown.out.splitlines())) <= 400, "a line that no terminal has room for"
    assert shown.out.startswith(name)
    written = lab.settings.experiment(name) / "report"
    markdown = (written / "report.md").read_text(encoding="utf-8")
    page = (written / "report.html").read_text(encoding="utf-8")
    for text in (shown.out, markdown, page):
        assert not re.search(r"\b(nan|inf|None(?! was registered)|Traceback|MISSING)\b", text)
    assert all(title in markdown for title in ("## Hypothesis", "## Verdicts", "## Runs", "## RESULTS", "## LEARNINGS"))
    assert max(map(len, markdown.splitlines())) < 3000
    for figure in re.findall(r"\]\((plots/[^)]+)\)", markdown):
        assert (written / figure).stat().st_size > 1000
    document = call(lab, "report", name, "--json").json
    assert document["verdicts"], "a verdict, if only to say why there is none"
    assert all(verdict["why"] for verdict in document["verdicts"])
    rows = list(csv.DictReader(io.StringIO(call(lab, "report", name, "--csv").out)))
    assert [int(row["id"]) for row in rows] == [run["id"] for run in document["runs"]]


def said(lab: Lab, name: str) -> tuple[dict[str, Any], str]:
    """The first verdict of an experiment, and its whole report as Markdown."""
    return call(lab, "report", name, "--json").json["verdicts"][0], call(lab, "report", name, "--markdown").out


def test_nothing_finished_nothing_judged(lab_of_odd: Lab) -> None:
    for name, outcome in (("none_finished", "4 cancelled"), ("still_waits", "4 queued")):
        verdict, text = said(lab_of_odd, name)
        assert (verdict["verdict"], verdict["n"], verdict["estimate"]) == ("inconclusive", 0, None)
        assert f"runs: {outcome}" in text
        assert "No run has succeeded" in text


def test_one_run_says_which_arm_is_missing(lab_of_odd: Lab) -> None:
    verdict, text = said(lab_of_odd, "one_run")
    assert verdict["verdict"] == "inconclusive"
    assert "no result for b: arm=b" in verdict["why"]
    assert "| arm=a | 1 | 0.5 |" in text


def test_runs_that_left_the_finite_numbers_are_called_diverged_and_have_no_number(lab_of_odd: Lab) -> None:
    verdict, text = said(lab_of_odd, "all_nan")
    assert verdict["verdict"] == "inconclusive"
    assert "diverged" in verdict["why"]
    assert text.count("value is not finite at step 1") == 4
    run = call(lab_of_odd, "report", "all_nan", "--json").json["runs"][0]
    assert run["metrics"]["value"]["last"] is None


def test_profiles_are_told_apart_and_never_averaged(lab_of_odd: Lab) -> None:
    verdict, text = said(lab_of_odd, "mixed")
    assert "profile" in next(line for line in text.splitlines() if line.startswith("| run |"))
    assert "are not counted with those of smol" in verdict["why"]
    assert "| arm=a | 2 | 9 |" in text


def test_versions_of_a_spec_are_kept_apart_and_said(lab_of_odd: Lab) -> None:
    _, text = said(lab_of_odd, "versions")
    assert "4 runs of an earlier version of this spec, kept apart" in text
    document = call(lab_of_odd, "report", "versions", "--json").json
    assert {run["metrics"]["value"]["last"] for run in document["runs"]} == {1.0}
    assert "left out: 4 runs of an earlier version" in call(lab_of_odd, "report", "versions").out


def test_long_values_are_whole_in_the_data_and_short_on_the_page(lab_of_odd: Lab) -> None:
    _, text = said(lab_of_odd, "long_values")
    assert LONG not in text
    document = call(lab_of_odd, "report", "long_values", "--json").json
    assert {run["varied"]["arm"] for run in document["runs"]} == {LONG, f"{LONG}!"}
    assert f"{LONG}!" in call(lab_of_odd, "report", "long_values", "--csv").out
    run = document["runs"][0]["id"]
    assert LONG in call(lab_of_odd, "show", run, "--json").out


def test_letters_of_every_width_survive(lab_of_odd: Lab) -> None:
    verdict, text = said(lab_of_odd, "not_ascii")
    assert ODD in verdict["claim"]
    for words in (ODD, "größe", "verlust\\_größe", f"ValueError: {ODD}"):
        assert words.replace("\\_", "_") in text
    assert ODD in call(lab_of_odd, "report", "not_ascii").out
    run = call(lab_of_odd, "report", "not_ascii", "--json").json["runs"][0]
    assert run["notes"] == [f"note: {ODD}"]


def test_learnings_are_shown_in_every_format_and_stay_as_they_were_written(lab_of_odd: Lab) -> None:
    path: Path = lab_of_odd.settings.experiment("one_run") / "learnings.md"
    text = f"# Mine\n\nOne run *says nothing*: {ODD}\n"
    path.write_text(text, encoding="utf-8")
    call(lab_of_odd, "report", "one_run")
    assert path.read_text(encoding="utf-8") == text
    for form in ("--markdown", "--html"):
        after = call(lab_of_odd, "report", "one_run", form).out.partition("LEARNINGS")[2]
        assert f"One run *says nothing*: {ODD}" in after


def test_of_runs_of_one_sweep_point_and_seed_the_newest_that_succeeded_counts_and_the_others_are_named(
    lab_of_odd: Lab,
) -> None:
    _, text = said(lab_of_odd, "repeated")
    assert "further runs of these sweep points and seeds: 4 cancelled, 4 succeeded (the newest that succeeded" in text
    document = call(lab_of_odd, "report", "repeated", "--json").json
    assert [run["metrics"]["value"]["last"] for run in document["runs"]] == [1.0] * 4


def test_a_value_too_large_to_average_is_shown_alone_and_has_no_mean(lab_of_odd: Lab) -> None:
    verdict, text = said(lab_of_odd, "huge")
    assert (verdict["verdict"], verdict["estimate"]) == ("inconclusive", None)
    assert "too large to be averaged" in verdict["why"]
    assert "1.7e+308" in text
    document = call(lab_of_odd, "report", "huge", "--json").json
    assert [run["metrics"]["value"]["last"] for run in document["runs"]] == [1.7e308] * 4
    assert any("too large to be averaged over seeds" in words for words in document["left_out"])
    compared = call(lab_of_odd, "compare", "huge", "mixed", "--json")
    assert compared.code == 0, compared.err
    assert all(row["difference"] is None for row in compared.json["metrics"])


def test_a_ratio_beyond_the_largest_float_has_no_interval_and_still_a_figure(lab_of_odd: Lab) -> None:
    verdict, _ = said(lab_of_odd, "tiny_ratio")
    assert verdict["estimate"] == pytest.approx(1.0)
    assert verdict["ci"] is None
    assert call(lab_of_odd, "report", "tiny_ratio").code == 0


def test_names_that_steer_a_terminal_reach_neither_it_nor_a_page_nor_a_figure(lab_of_odd: Lab) -> None:
    lab = lab_of_odd
    run = call(lab, "report", "hostile", "--json").json["runs"][0]
    assert run["varied"]["arm"] == HOSTILE, "the data are whole"
    for words in (["report", "hostile"], ["report", "hostile", "--markdown"], ["report", "hostile", "--csv"],
                  ["report", "hostile", "--html"], ["report", "hostile", "--json"], ["show", run["id"]],
                  ["runs", "hostile"], ["compare", run["id"], run["id"] + 1], ["jobs", "hostile"]):  # fmt: skip
        answer = call(lab, *words)
        assert answer.code == 0, answer.err
        assert not [c for c in answer.out if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c not in "\n\t"], words
    figures = list((lab.settings.experiment("hostile") / "report" / "plots").glob("*.svg"))
    assert any(figure.name == "verdict_best.svg" for figure in figures)
    for figure in figures:
        ET.parse(figure)


def test_a_terminal_without_our_letters_gets_plain_ones(lab_of_odd: Lab) -> None:
    for words in (["report", "not_ascii"], ["runs"], ["report", "not_ascii", "--json"], ["show", "1", "--json"]):
        answer = subprocess.run(
            [sys.executable, "-m", "labqueue", *words],
            env=lab_of_odd.environment(PYTHONIOENCODING="latin-1"),
            capture_output=True,
            check=False,
        )
        assert (answer.returncode, answer.stderr) == (0, b"")
        out = answer.stdout.decode("latin-1")
        if "--json" in words:
            json.loads(out)
        else:
            assert "?" not in out


def test_a_reader_that_leaves_early_costs_no_file_and_is_no_failure(lab_of_odd: Lab) -> None:
    written = lab_of_odd.settings.experiment("lengths") / "report"
    shutil.rmtree(written, ignore_errors=True)
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "labqueue", "report", "lengths"],
        env=lab_of_odd.environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (process.returncode, process.stderr) == (0, b"")
    assert (written / "report.html").stat().st_size > 1000
