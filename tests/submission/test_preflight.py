"""The rehearsal: every shape once before the night; what fails holds back its own shape and no other."""

from __future__ import annotations

from labqueue.kinds import drill, finetune
from labqueue.kinds.finetune.data import Data
from tests.conftest import Lab


def test_equal_shapes_are_rehearsed_once_and_the_sweep_runs_behind_them(lab: Lab) -> None:
    spec = lab.spec(sweep={"grid": {"steps": [5, 9], "allocate_mib": [1, 2]}}, seeds=[0, 1])
    assert lab.run("submit", spec, "--preflight").code == 0
    rehearsals = lab.run("report", "drill_test_preflight", "--json").json["runs"]
    assert len(rehearsals) == 2, "steps do not change the shape of a drill, what it allocates does"
    assert {run["params"]["steps"] for run in rehearsals} == {2}
    waiting = lab.run("status", "--json").json["queued"][-1]["waiting"]
    assert waiting["code"] == "needs"
    assert "its rehearsal, run" in waiting["text"]
    assert lab.run("worker", "--drain").code == 0
    runs = lab.run("report", "drill_test", "--json").json["runs"]
    assert {run["outcome"] for run in runs} == {"succeeded"}
    assert len(runs) == 8


def test_a_shape_that_fails_keeps_its_own_runs_waiting_until_they_are_released(lab: Lab) -> None:
    spec = lab.spec(sweep={"grid": {"fault": ["none", "raise"]}}, params={"steps": 4, "fault_at": 2}, seeds=[0, 1])
    assert lab.run("submit", spec, "--preflight").code == 0
    assert lab.run("worker", "--drain").code == 1
    runs = lab.run("report", "drill_test", "--json").json["runs"]
    by_fault = {(run["varied"]["fault"], run["seed"]): run for run in runs}
    assert by_fault["none", 0]["outcome"] == by_fault["none", 1]["outcome"] == "succeeded"
    waiting = by_fault["raise", 0]["waiting"]
    assert waiting["code"] == "needs"
    assert "ended failed" in waiting["text"]
    assert lab.run("release", "drill_test").code == 0
    assert lab.run("worker", "--drain").code == 1
    runs = lab.run("report", "drill_test", "--json").json["runs"]
    assert sorted(run["outcome"] for run in runs) == ["failed", "failed", "succeeded", "succeeded"]


def test_on_a_cpu_nothing_is_rehearsed_unless_asked(lab: Lab) -> None:
    assert lab.run("submit", lab.spec(seeds=[0, 1])).code == 0
    assert [row["experiment"] for row in lab.run("report", "--json").json["experiments"]] == ["drill_test"]


def test_a_rehearsal_is_a_valid_run_of_the_same_shape() -> None:
    data = Data(task="chain_sum", train_items=500, eval_items=64)
    full = finetune.Params(data=data, steps=300, batch=8, accumulation=2, learning_rate=3e-4, scored=32, warmup_steps=9)
    short = finetune.preflight(full)
    assert finetune.Params.model_validate_json(short.model_dump_json()) == short
    assert (short.steps, short.batch, short.accumulation, short.max_length) == (2, 8, 2, full.max_length)
    other = full.model_copy(update={"learning_rate": 1e-4, "steps": 900})
    assert finetune.preflight(other) == short
    assert finetune.preflight(full.model_copy(update={"batch": 4})) != short
    assert drill.preflight(drill.Params(steps=1)).steps == 1
