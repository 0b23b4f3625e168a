"""What a submission freezes, reuses and adds, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call, rows
from tests.conftest import Lab

QUICK = {"steps": 3, "step_s": 0, "checkpoint_every": 2}


def submit(lab: Lab, spec: Path, *words: str) -> dict[str, Any]:
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json", *words)
    assert answer.code == 0, answer.err
    return answer.json  # type: ignore[no-any-return]  # JSON


def drain(lab: Lab) -> None:
    """Executes what is queued. Reuse needs the lab's sources to stay as they are while these tests run."""
    answer = lab.run("worker", "--drain", "--device", "cpu")
    assert answer.code == 0, answer.err


def test_what_is_queued_does_not_change_with_the_file(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK, hypothesis="before")
    submit(lab, spec)
    lab.spec("drill", params={**QUICK, "steps": 99}, hypothesis="after")
    spec.unlink()
    drain(lab)
    report = call(lab, "report", "drill", "--json").json
    assert report["hypothesis"] == "before"
    assert report["runs"][0]["params"]["steps"] == 3
    assert report["runs"][0]["metrics"]["value"]["last_step"] == 3


def test_a_second_submission_reuses_what_succeeded_and_force_does_not(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK, sweep={"grid": {"checkpoint_every": [1, 2]}}, seeds=[0, 1])
    first = submit(lab, spec)
    assert (first["runs"], first["reused"]) == ([1, 2, 3, 4], [])
    drain(lab)
    again = submit(lab, spec)
    assert (again["runs"], again["reused"]) == ([1, 2, 3, 4], [1, 2, 3, 4])
    more = submit(lab, spec, "--seeds", "1,2")
    assert (more["runs"], more["reused"]) == ([3, 4, 5, 6], [3, 4])
    forced = submit(lab, spec, "--force")
    assert (forced["runs"], forced["reused"]) == ([7, 8, 9, 10], [])
    report = call(lab, "report", "drill", "--json").json
    assert [run["id"] for run in report["runs"]] == [1, 2, 3, 4, 5, 6], "what is only queued displaces no success"
    assert any("seeds: 4 queued (" in words for words in report["left_out"])

    changed = submit(lab, spec, "--set", "step_s=0.001")
    assert changed["reused"] == []
    report = call(lab, "report", "drill", "--json").json
    assert [run["id"] for run in report["runs"]] == changed["runs"]
    assert any("of an earlier version" in words and "kept apart" in words for words in report["left_out"])


def test_what_is_asked_on_the_command_line_is_laid_over_the_spec(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK, sweep={"grid": {"steps": [1, 2]}}, limits={"attempts": 5})
    words = ("--set", "step_s=0.5", "--set", "limits.wall_minutes=7", "--sweep", "checkpoint_every=3,4", "--seeds", "8")
    answer = submit(lab, spec, *words, "--dry-run")
    assert [run["varied"] for run in answer["runs"]] == [
        {"steps": steps, "checkpoint_every": every} for steps in (1, 2) for every in (3, 4)
    ]
    assert {run["params"]["step_s"] for run in answer["runs"]} == {0.5}
    assert {run["seed"] for run in answer["runs"]} == {8}
    assert rows(lab) == {}, "a dry run records nothing"
    assert submit(lab, spec, *words)["runs"] == [1, 2, 3, 4]
    with lab.db.read() as connection:
        from sqlalchemy import text

        found = connection.execute(text("SELECT limits FROM runs LIMIT 1")).scalar_one()
    assert {"attempts": 5, "wall_minutes": 7}.items() <= json.loads(found).items()


def test_a_profile_changes_device_params_and_seeds(lab: Lab) -> None:
    spec = lab.spec(
        "drill",
        params={"steps": 50},
        seeds=[0, 1, 2],
        profiles={"cpu": {"params": {"steps": 2}, "seeds": [0]}, "big": {"device": "cuda", "params": {"steps": 900}}},
    )
    small = call(lab, "submit", spec, "--profile", "cpu", "--dry-run", "--json").json
    assert (small["device"], [run["params"]["steps"] for run in small["runs"]]) == ("cpu", [2])
    big = call(lab, "submit", spec, "--profile", "big", "--dry-run", "--json").json
    assert (big["device"], [run["params"]["steps"] for run in big["runs"]]) == ("cuda", [900] * 3)


def test_with_needs_submits_what_is_needed_found_by_its_name(lab: Lab) -> None:
    folder = lab.root / "jobs" / "deep"
    folder.mkdir(parents=True)
    base = {"kind": "drill", "params": QUICK}
    (folder / "other_file_name.yaml").write_text(json.dumps({"name": "first", **base}))
    spec = lab.root / "jobs" / "second.yaml"
    spec.write_text(json.dumps({"name": "second", "needs": ["first"], **base}))
    answer = submit(lab, spec, "--with-needs")
    assert {job["experiment"] for job in answer["jobs"]} == {"first", "second"}
    assert call(lab, "show", 2, "--json").json["waiting"]["code"] == "needs"
    drain(lab)
    assert call(lab, "status", "--json").json["finished"] == {"succeeded": 2}


def test_a_dry_run_says_what_time_and_disk_earlier_runs_took_and_nothing_where_there_are_none(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK, seeds=[0, 1])
    words = ("submit", spec, "--profile", "cpu", "--dry-run")
    assert "time and disk are not known" in call(lab, *words).out
    assert {run["estimated_wall_s"] for run in call(lab, *words, "--json").json["runs"]} == {None}
    submit(lab, spec)
    drain(lab)
    done = call(lab, "report", "drill", "--json").json["runs"]
    (run, _) = call(lab, *words, "--json").json["runs"]
    assert run["estimated_wall_s"] == pytest.approx(sum(each["wall_s"] for each in done) / 2)
    assert run["estimated_bytes"] == sum(a["bytes"] for each in done for a in each["artifacts"]) / 2
    assert "if each takes what the 2 earlier runs of it did" in call(lab, *words).out


def test_its_own_name_as_a_need_means_the_older_job(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK)
    submit(lab, spec)
    lab.spec("drill", params={**QUICK, "steps": 4}, needs=["drill"])
    (second,) = submit(lab, spec)["runs"]
    waiting = call(lab, "show", second, "--json").json["waiting"]
    assert "run 1 of drill is queued" in waiting["text"]


def test_another_runs_artifact_as_a_parameter_is_resolved_when_the_run_is_claimed(lab: Lab) -> None:
    reference = {"from_run": {"experiment": "source", "artifact": "words"}}
    spec = lab.spec("drill", params={**QUICK, "ledger": reference})
    (run,) = submit(lab, spec)["runs"]
    assert call(lab, "show", run, "--json").json["params"]["ledger"] == reference, "frozen as it is written"
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    view = call(lab, "show", run, "--json").json
    assert view["outcome"] == "failed"
    assert "from_run" in view["reason"]
    assert "source" in view["reason"]


def test_a_reference_to_the_same_seed_names_the_run_of_each_runs_own_seed(lab: Lab) -> None:
    source = submit(lab, lab.spec("source", params=QUICK, seeds=[4, 7]))["runs"]
    drain(lab)
    reference = {"from_run": {"experiment": "source", "seed": "same", "artifact": "none"}}
    runs = submit(lab, lab.spec("drill", params={**QUICK, "ledger": reference}, seeds=[4, 7]))["runs"]
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    for run, meant, seed in zip(runs, source, (4, 7), strict=True):
        reason = call(lab, "show", run, "--json").json["reason"]
        assert f"run {meant} (experiment 'source' where anything, seed {seed}) has no artifact 'none'" in reason


@pytest.mark.parametrize("words", [("--priority", "3"), ("--after", "drill")])
def test_an_older_experiment_can_be_named_again(lab: Lab, words: tuple[str, str]) -> None:
    spec = lab.spec("drill", params=QUICK)
    submit(lab, spec)
    assert len(submit(lab, spec, *words)["runs"]) == 1
