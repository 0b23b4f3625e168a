"""What a submission freezes, reuses and adds, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call, refused, rows
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


def chain(lab: Lab, seeds: list[int], **second: Any) -> Path:
    """``b`` takes of ``a`` what a run of its own seed left, and ``a`` likewise of ``z``; returns the spec of ``b``."""
    folder = lab.root / "jobs"
    folder.mkdir(exist_ok=True)
    takes = {name: {"from_run": {"experiment": name, "seed": "same", "artifact": "none"}} for name in ("a", "z")}
    specs = {
        "z": {"seeds": [0]},
        "a": {"seeds": seeds, "needs": ["z"], "params": {**QUICK, "witness": takes["z"]}},
        "b": {"needs": ["a"], "params": {**QUICK, "witness": takes["a"]}, **second},
    }
    for name, fields in specs.items():
        (folder / f"{name}.yaml").write_text(json.dumps({"name": name, "kind": "drill", "params": QUICK, **fields}))
    return folder / "b.yaml"


def queued(lab: Lab) -> list[dict[str, Any]]:
    """What waits, in the order in which it will run."""
    found: list[dict[str, Any]] = call(lab, "status", "--json").json["queued"]
    return found


def test_priority_and_seeds_pass_on_to_all_that_is_needed(lab: Lab) -> None:
    answer = submit(lab, chain(lab, [0, 1]), "--with-needs", "--priority", "10", "--seeds", "0,1,2")
    assert {job["experiment"]: len(job["runs"]) for job in answer["jobs"]} == {"z": 3, "a": 3, "b": 3}
    assert {run["priority"] for run in queued(lab)} == {10}
    assert [run["experiment"] for run in queued(lab)] == ["z"] * 3 + ["a"] * 3 + ["b"] * 3
    for name in ("z", "a", "b"):
        assert sorted(run["seed"] for run in queued(lab) if run["experiment"] == name) == [0, 1, 2]


def test_seeds_that_are_needed_come_beside_those_of_the_spec(lab: Lab) -> None:
    answer = submit(lab, chain(lab, [5, 6]), "--with-needs", "--seeds", "1,5")
    assert {job["experiment"]: len(job["runs"]) for job in answer["jobs"]} == {"z": 4, "a": 3, "b": 2}
    assert [run["seed"] for run in queued(lab) if run["experiment"] == "a"] == [5, 6, 1]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_seed_that_the_other_experiment_has_not_is_refused_at_submission(lab: Lab, dry: tuple[str, ...]) -> None:
    spec = chain(lab, [0, 1])
    first, second = spec.with_name("z.yaml"), spec.with_name("a.yaml")
    error = refused(call(lab, "submit", second, first, *dry, "--profile", "cpu", "--json"))
    assert "takes artifact 'none' of experiment 'z' with seed 1, which has only 0" in error["message"]
    assert (error["file"], error["key"]) == (str(second), "params.witness")
    assert rows(lab) == {}
    submit(lab, first, "--seeds", "0,1")
    submit(lab, second)
    before = rows(lab)
    words = ("submit", spec, "--seeds", "0,1,2", *dry, "--profile", "cpu", "--json")
    error = refused(call(lab, *words))
    assert "experiment 'a' with seed 2, which has only 0, 1" in error["message"]
    assert "--with-needs" in error["message"]
    assert rows(lab) == before
    assert call(lab, *words, "--with-needs").code == 0


@pytest.mark.parametrize(("where", "fits"), [({"steps": 3}, True), ({"steps": 99}, False)])
def test_a_point_that_the_other_experiment_has_not_is_refused_at_submission(
    lab: Lab, where: dict[str, int], fits: bool
) -> None:
    submit(lab, lab.spec("source", params=QUICK))
    reference = {"from_run": {"experiment": "source", "where": where, "artifact": "none"}}
    spec = lab.spec("drill", params={**QUICK, "witness": reference})
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
    assert (answer.code == 0) == fits
    if not fits:
        assert 'where {"steps":99}, which no run of it is' in refused(answer)["message"]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize("where", [{"steps": 9}, {"loss": {"start": 9}}, {"loss.start": 9}])
def test_a_where_that_no_run_is_is_refused_at_submission_however_it_is_written(
    lab: Lab, where: dict[str, Any], dry: tuple[str, ...]
) -> None:
    submit(lab, lab.spec("source", params=QUICK))
    reference = {"from_run": {"experiment": "source", "where": where, "artifact": "none"}}
    spec = lab.spec("drill", params={**QUICK, "witness": reference})
    error = refused(call(lab, "submit", spec, *dry, "--profile", "cpu", "--json"))
    assert "which no run of it is" in error["message"]
    assert error["key"] == "params.witness"
    assert [run["experiment"] for run in queued(lab)] == ["source"]


def test_the_next_seed_of_an_experiment_with_one_is_refused_and_is_found_where_there_are_two(lab: Lab) -> None:
    reference = {"from_run": {"experiment": "source", "seed": "next", "artifact": "none"}}
    source, spec = lab.spec("source", params=QUICK), lab.spec("drill", params={**QUICK, "witness": reference})
    error = refused(call(lab, "submit", source, spec, "--profile", "cpu", "--json"))
    assert "asks for the next seed of experiment 'source', which has none but 0" in error["message"]
    assert "--seeds" in error["message"]
    meant = submit(lab, source, "--seeds", "0,3")["runs"]
    runs = submit(lab, spec, "--seeds", "0,3,1", "--priority", "4")["runs"]
    assert {run["priority"] for run in queued(lab)} == {4}, "what is taken is raised with what takes it"
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    for run, other, seed in zip(runs, (meant[1], meant[0], meant[1]), (3, 0, 3), strict=True):
        reason = call(lab, "show", run, "--json").json["reason"]
        assert f"run {other} (experiment 'source' where anything, seed {seed}) has no artifact 'none'" in reason


def priorities(lab: Lab) -> dict[tuple[str, int], int]:
    return {(run["experiment"], run["seed"]): run["priority"] for run in queued(lab)}


def test_what_is_needed_is_raised_with_what_needs_it_and_never_lowered(lab: Lab) -> None:
    """Also when it was submitted long before, and when the need stands in a parameter alone."""
    spec = chain(lab, [0, 1], needs=[])
    submit(lab, spec.with_name("z.yaml"), "--seeds", "0,1", "--priority", "-3")
    submit(lab, spec.with_name("a.yaml"))
    assert set(priorities(lab).values()) == {0}, "raised by what needs it"
    submit(lab, spec, "--seeds", "1", "--priority", "4")
    waiting = {("a", 1): 4, ("z", 0): 4, ("z", 1): 4, ("a", 0): 0}
    assert priorities(lab) == {**waiting, ("b", 1): 4}
    answer = call(lab, "prioritize", "b", 7, "--json").json
    assert [len(answer[word]) for word in ("prioritized", "raised")] == [1, 3]
    raised = {run: 7 if priority else 0 for run, priority in waiting.items()}
    assert priorities(lab) == {**raised, ("b", 1): 7}
    assert call(lab, "prioritize", "b", 1, "--json").json["raised"] == []
    assert priorities(lab) == {**raised, ("b", 1): 1}
    assert "raised what they wait for: 3 runs" in call(lab, "prioritize", "b", 9).out


def test_a_rehearsal_is_raised_with_the_runs_of_its_own_shape(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK, sweep={"grid": {"allocate_mib": [1, 2]}})
    submit(lab, spec, "--preflight")
    sweep, rehearsals = (
        [run["id"] for run in queued(lab) if run["experiment"] == name] for name in ("drill", "drill_preflight")
    )
    assert len(rehearsals) == len(sweep) == 2
    assert call(lab, "prioritize", sweep[1], 20, "--json").json["raised"] == rehearsals[1:]


def test_its_own_name_as_a_need_means_the_older_job(lab: Lab) -> None:
    spec = lab.spec("drill", params=QUICK)
    submit(lab, spec)
    lab.spec("drill", params={**QUICK, "steps": 4}, needs=["drill"])
    (second,) = submit(lab, spec)["runs"]
    waiting = call(lab, "show", second, "--json").json["waiting"]
    assert "run 1 of drill is queued" in waiting["text"]


def test_another_runs_artifact_as_a_parameter_is_resolved_when_the_run_is_claimed(lab: Lab) -> None:
    reference = {"from_run": {"experiment": "source", "artifact": "words"}}
    spec = lab.spec("drill", params={**QUICK, "witness": reference})
    (run,) = submit(lab, spec)["runs"]
    assert call(lab, "show", run, "--json").json["params"]["witness"] == reference, "frozen as it is written"
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    view = call(lab, "show", run, "--json").json
    assert view["outcome"] == "failed"
    assert "from_run" in view["reason"]
    assert "source" in view["reason"]


def test_a_reference_to_the_same_seed_names_the_run_of_each_runs_own_seed(lab: Lab) -> None:
    source = submit(lab, lab.spec("source", params=QUICK, seeds=[4, 7]))["runs"]
    drain(lab)
    reference = {"from_run": {"experiment": "source", "seed": "same", "artifact": "none"}}
    runs = submit(lab, lab.spec("drill", params={**QUICK, "witness": reference}, seeds=[4, 7]))["runs"]
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    for run, meant, seed in zip(runs, source, (4, 7), strict=True):
        reason = call(lab, "show", run, "--json").json["reason"]
        assert f"run {meant} (experiment 'source' where anything, seed {seed}) has no artifact 'none'" in reason


@pytest.mark.parametrize("words", [("--priority", "3"), ("--after", "drill")])
def test_an_older_experiment_can_be_named_again(lab: Lab, words: tuple[str, str]) -> None:
    spec = lab.spec("drill", params=QUICK)
    submit(lab, spec)
    assert len(submit(lab, spec, *words)["runs"]) == 1
