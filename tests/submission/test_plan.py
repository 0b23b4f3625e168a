"""What a spec becomes before anything is recorded: every run validated by itself, and hashed by what decides it."""

from __future__ import annotations

from typing import Any

import pytest

from labqueue import kinds
from labqueue.domain.canonical import canonical, digest
from labqueue.domain.errors import LabError
from labqueue.submission import plan as planning
from labqueue.submission import specfile


def plan(**fields: Any) -> planning.Plan:
    text = canonical({"name": "x", "kind": "drill", **fields})  # JSON is YAML
    return planning.plan(specfile.parse(text, "x.yaml"), planning.Request(profile="cpu"))


def test_every_run_of_a_sweep_is_what_it_would_be_alone() -> None:
    grid = {"steps": [3, 5], "step_s": [0, 0.5]}
    together = plan(sweep={"grid": grid}, seeds=[0, 7])
    assert len(together.job.runs) == 8
    for run, params in zip(together.job.runs, together.params, strict=True):
        (alone,) = plan(params=run.varied.value, seeds=[run.seed]).job.runs
        assert (run.params.value, run.spec_hash) == (alone.params.value, alone.spec_hash)
        assert kinds.get("drill").params.model_validate(run.params.value) == params


def test_a_run_is_hashed_by_its_kind_device_parameters_and_seed() -> None:
    for run in plan(sweep={"grid": {"steps": [3, 5]}}, seeds=[0, 7]).job.runs:
        assert run.spec_hash == digest(["drill", "cpu", run.params.value, run.seed])
        assert [run.params.text, run.varied.text] == [canonical(run.params.value), canonical(run.varied.value)]


def test_one_wrong_value_among_a_thousand_is_found_at_its_axis() -> None:
    with pytest.raises(LabError, match=r"sweep axis steps.*'many'"):
        plan(sweep={"grid": {"steps": [*range(1, 1000), "many"]}})


def test_two_references_are_two_sweep_points_and_stand_in_the_parameters_as_written() -> None:
    references = [{"from_run": {"experiment": name, "artifact": "a"}} for name in ("one", "other")]
    runs = plan(sweep={"grid": {"witness": references}}).job.runs
    assert [run.params.value["witness"] for run in runs] == references
    assert len({run.spec_hash for run in runs}) == 2


def test_a_point_that_a_figure_is_to_leave_out_and_that_there_is_not_is_found_at_its_line() -> None:
    text = (
        "name: drill\nkind: drill\nsweep: {grid: {steps: [3, 5]}}\nprofiles:\n  cpu: {device: cpu}\n"
        "plots:\n  - {x: a, y: b, without: [{steps: 4}]}\n"
    )
    with pytest.raises(LabError, match=r"without \{\"steps\":4\}.*no sweep point") as found:
        planning.plan(specfile.parse(text, "spec.yaml"), planning.Request(profile="cpu"))
    assert found.value.line == 7


def test_the_type_that_this_computer_computes_in_is_decided_at_submission_and_is_part_of_what_a_run_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = {"model": "random-tiny", "data": {"task": "chain_sum", "train_items": 64, "eval_items": 4}}

    def hashed(dtype: str, here: str) -> tuple[str, str, str]:
        monkeypatch.setenv("LABQUEUE_CPU_DTYPE", here)
        job = plan(kind="finetune", params={**params, "dtype": dtype}).job
        return job.runs[0].params.value["dtype"], job.runs[0].spec_hash, job.spec_version

    auto, other = hashed("auto", "float32"), hashed("auto", "bfloat16")
    assert (auto[0], other[0]) == ("float32", "bfloat16")
    assert auto[1] != other[1], "one is not reused for the other"
    assert auto[2] != other[2], "nor pooled with it"
    assert hashed("float32", "bfloat16") == auto
    search = {"trials": 3, "metric": "eval_loss", "space": {"learning_rate": {"uniform": [0.001, 0.01]}}}
    found = plan(kind="finetune", params=params, sweep={"search": search})
    assert found.job.spec["params"]["dtype"] == "bfloat16", "its later points compute as its first"
