"""``labqueue loop`` as a person has it: its stop rules, its contract of done, and a night that is cut short."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from labqueue.store import trials
from tests.commands import call, refused
from tests.conftest import Answer, Lab, wait_until

QUICK = {"steps": 3, "step_s": 0, "checkpoint_every": 9}
SPACE = {"distance": {"uniform": [-2, 2]}}
FALLS = {
    "id": "falls",
    "claim": "the value falls",
    "threshold": {"metric": "value", "relative_to": "first", "below": 1.0},
}


def spec(lab: Lab, params: dict[str, Any] | None = None, **fields: Any) -> Path:
    block = {"trials": 5, "metric": "value", "space": SPACE, **fields.pop("search", {})}
    return lab.spec("srch", params={**QUICK, **(params or {})}, sweep={"search": block}, **fields)


def loop(lab: Lab, *words: str | Path) -> Answer:
    return lab.run("loop", *words, "--profile", "cpu", "--json")


def states(lab: Lab) -> list[str]:
    return [run["outcome"] or run["state"] for run in call(lab, "runs", "--json").json.get("runs", [])]


def test_a_loop_tries_every_trial_reports_and_is_done_and_says_so_again(lab: Lab) -> None:
    answer = loop(lab, spec(lab), "--budget-hours", "1")
    assert answer.code == 0, answer.err
    found = answer.json
    assert (found["done"], found["stopped"]["code"]) == (True, "all_recorded")
    assert found["search"]["trials"]["complete"] == found["search"]["planned"] == 5
    study = trials.study(lab.db, found["job"])
    assert study is not None
    values = {trial.number: trial.value for trial in study.trials}
    assert found["search"]["best"]["value"] == min(value for value in values.values() if value is not None)
    assert values[found["search"]["best"]["number"]] == found["search"]["best"]["value"]
    assert (lab.root / found["report"]).is_file()
    again = loop(lab, spec(lab), "--budget-hours", "1")
    assert again.code == 0
    assert {**again.json, "spent_s": 0} == {**found, "spent_s": 0}, "nothing was left to do, and nothing was done"


def test_a_loop_ends_when_its_last_trials_better_nothing_and_leaves_nothing_waiting(lab: Lab) -> None:
    path = spec(lab, search={"sampler": "random", "trials": 30})
    first = loop(lab, path, "--budget-hours", "1", "--patience", "2", "--min-improvement", "100")
    assert first.code == 0, first.err
    assert first.json["stopped"]["code"] == "converged"
    assert first.json["search"]["trials"]["complete"] < 30
    assert set(states(lab)) == {"succeeded", "pruned"}, "what was drawn and never begun is not left in the queue"
    kept = states(lab).count("succeeded")
    further = loop(lab, path, "--budget-hours", "1", "--patience", "8", "--min-improvement", "100")
    assert further.json["job"] == first.json["job"], "another rule goes on with the same search"
    assert further.json["stopped"]["code"] == "converged"
    assert states(lab).count("succeeded") > kept


def test_a_loop_ends_when_its_prediction_is_decided(lab: Lab) -> None:
    path = spec(lab, search={"trials": 30}, seeds=[0, 1], predictions=[FALLS])
    answer = loop(lab, path, "--budget-hours", "1", "--until-decided", "falls")
    assert answer.code == 0, answer.err
    found = answer.json
    assert found["stopped"] == {"code": "decided", "why": "prediction falls is supported"}
    assert [verdict["verdict"] for verdict in found["verdicts"]] == ["supported"]
    assert found["search"]["trials"]["complete"] < 30
    assert found["judged"] <= sum(found["search"]["trials"].values()) + 1, "not at every look"


def test_a_budget_that_ends_first_is_not_done_and_the_same_command_goes_on(lab: Lab) -> None:
    path = spec(lab, {"steps": 1200, "step_s": 0.01, "checkpoint_every": 10}, search={"trials": 1, "sampler": "random"})
    short = loop(lab, path, "--budget-hours", str(8 / 3600))
    assert short.code == 1
    assert (short.json["done"], short.json["stopped"]["code"]) == (False, "budget")
    assert set(states(lab)) <= {"queued", "succeeded"}, "the run that was cut off has checkpointed and waits"
    text = lab.run("loop", path, "--budget-hours", "1", "--profile", "cpu")
    assert text.code == 0, text.err
    assert "srch: done: all 1 trials have ended" in text.out
    assert states(lab) == ["succeeded"]
    attempts = [run["attempts"] for run in call(lab, "report", "srch", "--json").json["runs"]]
    assert any(len(tried) > 1 and tried[-1]["resumed_from_step"] for tried in attempts)


def test_a_killed_loop_takes_its_worker_with_it_and_goes_on_where_it_was(lab: Lab) -> None:
    path = spec(lab, {"steps": 30, "step_s": 0.01}, search={"trials": 5})
    first = lab.start("loop", str(path), "--budget-hours", "1", "--profile", "cpu", "--json")
    wait_until(lambda: lab.settings.database.exists() and "succeeded" in states(lab))
    first.send_signal(signal.SIGKILL)
    first.wait()
    second = loop(lab, path, "--budget-hours", "1")
    assert second.code == 0, second.err
    assert second.json["job"] == 1
    assert second.json["search"]["trials"]["complete"] == 5
    assert len(states(lab)) == 5


def test_a_loop_that_is_asked_to_stop_leaves_its_run_queued_and_says_so(lab: Lab) -> None:
    path = spec(lab, {"steps": 4000, "step_s": 0.01})
    going = lab.start("loop", str(path), "--budget-hours", "1", "--profile", "cpu", "--json")
    wait_until(lambda: lab.settings.database.exists() and "running" in states(lab))
    going.send_signal(signal.SIGTERM)
    out, err = going.communicate(timeout=60)
    assert going.returncode == 1, err
    assert json.loads(out)["stopped"]["code"] == "interrupted"
    assert set(states(lab)) == {"queued"}


def test_a_paused_queue_ends_the_loop_with_the_reason(lab: Lab) -> None:
    assert call(lab, "submit", spec(lab), "--profile", "cpu").code == 0
    assert call(lab, "pause", "queue").code == 0
    answer = loop(lab, spec(lab), "--budget-hours", "1")
    assert answer.code == 1
    assert answer.json["stopped"]["code"] == "stuck"
    assert "paused" in answer.json["stopped"]["why"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--budget-hours", "0"), "0"),
        (("--budget-hours", "1", "--until-decided", "fals"), "did you mean 'falls'?"),
    ],
)
def test_a_loop_that_cannot_end_is_refused(lab: Lab, words: tuple[str, ...], message: str) -> None:
    error = refused(call(lab, "loop", spec(lab, predictions=[FALLS]), *words, "--json"))
    assert message in error["message"]
    assert not lab.settings.database.exists()


def test_a_spec_without_a_search_is_refused_with_the_command_to_use(lab: Lab) -> None:
    path = lab.text("name: plain\nkind: drill\nsweep:\n  grid: {steps: [1, 2]}\n")
    error = refused(call(lab, "loop", path, "--budget-hours", "1", "--json"))
    assert (error["line"], error["key"]) == (3, "sweep")
    assert "submit SPEC --run" in error["message"]
