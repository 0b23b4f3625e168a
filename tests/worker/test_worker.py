"""One night in one workspace: every way a run can end, in real processes, by one worker that drains the queue."""

from __future__ import annotations

import json
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.commands import call
from tests.conftest import Answer, Lab

KINDS = {
    "silent": "os._exit(0)",
    "quits": "sys.exit(0)",
    "forgets": "rec.metric('value', None, 1)",
    "pickles": "rec.checkpoint(1, lambda folder: (folder / 'state.pkl').write_bytes(b'x'))",
    "escapes": "rec.artifact('../stolen', artifacts.Text(text='x'))",
    "speaks": """
        rec.note('a note')
        rec.artifact('words', artifacts.Text(text='größer'))
        rec.artifact('words', artifacts.Text(text='größer 2'))
        rec.metric('value', 1.5, 1)
        rec.metric('value', 2.5, 1)
        print('printed by the kind', flush=True)
    """,
    "remembers": "rec.metric('peak_memory_gib', 99.5, 1)",
}
"""Kinds that a user might write: each one file, found by its name."""

LIMIT_BYTES = 2**30
"""Address space of every process of this night, so that a run without end meets one."""


@dataclass(frozen=True)
class Night:
    """The workspace in the morning, as the commands told it."""

    lab: Lab
    extra: dict[str, str]
    worker: Answer
    runs: dict[str, list[dict[str, Any]]]
    """By experiment, as ``show --json`` has them."""

    def run(self, experiment: str) -> dict[str, Any]:
        (only,) = self.runs[experiment]
        return only


def with_kinds(folder: Path) -> dict[str, str]:
    """Adds ``KINDS`` to the lab's, for processes with this environment."""
    kinds = folder / "kinds"
    kinds.mkdir()
    for name, body in KINDS.items():
        text = "import os, sys\nfrom labqueue.domain import artifacts, kind\n"
        text += "class Params(kind.Params):\n    pass\ndef run(params, rec):\n"
        (kinds / f"{name}.py").write_text(text + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n")
    (folder / "sitecustomize.py").write_text(
        f"import resource\nresource.setrlimit(resource.RLIMIT_AS, ({LIMIT_BYTES}, {LIMIT_BYTES}))\n"
        f"import labqueue.kinds\nlabqueue.kinds.__path__.append({str(kinds)!r})\n"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    lab = Lab(tmp_path_factory.mktemp("night"))
    extra = with_kinds(tmp_path_factory.mktemp("site"))
    quick = {"steps": 6, "step_s": 0, "checkpoint_every": 2}
    witness = str(lab.root / "witness.txt")
    specs = [
        lab.spec(
            "good", params={**quick, "witness": witness}, seeds=[0, 1], sweep={"grid": {"checkpoint_every": [2, 3]}}
        ),
        lab.spec("beyond", params={**quick, "fault": "raise", "fault_at": 99}),
        lab.spec("raises", params={**quick, "fault": "raise", "fault_at": 3}),
        lab.spec("exits", params={**quick, "fault": "exit", "fault_at": 5}, limits={"attempts": 2}),
        lab.spec("diverges", params={**quick, "fault": "nan", "fault_at": 4}),
        lab.spec("hangs", params={**quick, "fault": "hang", "fault_at": 2}, limits={"wall_minutes": 0.02}),
        lab.spec("allocates", params={**quick, "fault": "allocate", "fault_at": 2}),
        lab.spec("accepts", params=quick, needs=[{"experiment": "raises", "accept": ["failed"]}]),
        lab.spec("chained", params=quick, needs=["good"]),
        lab.spec("blocked", params=quick, needs=["raises"]),
        *(lab.text(json.dumps({"name": name, "kind": name}), name) for name in KINDS),
    ]
    answers = [lab.run("submit", *specs, "--profile", "cpu", "--json", **extra)]
    after = lab.spec("afterwards", params=quick)
    answers.append(call(lab, "submit", after, "--profile", "cpu", "--after", "raises", "--priority", "9", "--json"))
    for name, priority in (("late", -1), ("early", 5)):
        spec = lab.spec(name, params=quick)
        answers.append(call(lab, "submit", spec, "--profile", "cpu", "--priority", str(priority), "--json"))
    assert [answer.code for answer in answers] == [0] * 4, answers
    worker = lab.run("worker", "--drain", "--device", "cpu", "--grace", "5", **extra)
    names = [*(path.stem for path in specs), "afterwards", "late", "early"]
    runs = {name: call(lab, "report", name, "--json").json["runs"] for name in names}
    return Night(lab, extra, worker, runs)


ENDINGS = {
    "beyond": ("succeeded", None),
    "raises": ("failed", "the drill raises at step 3"),
    "exits": ("crashed", "exit status 3"),
    "diverges": ("diverged", "last finite at step 3"),
    "hangs": ("timed_out", "limits.wall_minutes = 0.02"),
    "allocates": ("out_of_memory", "MemoryError"),
    "silent": ("failed", "exited 0 without a result"),
    "quits": ("failed", "SystemExit"),
    "forgets": ("succeeded", None),
    "pickles": ("failed", "state.pkl"),
    "escapes": ("failed", "../stolen"),
    "speaks": ("succeeded", None),
    "remembers": ("succeeded", None),
    "accepts": ("succeeded", None),
    "chained": ("succeeded", None),
    "afterwards": ("succeeded", None),
    "late": ("succeeded", None),
    "early": ("succeeded", None),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_run_ends_as_what_happened_to_it(night: Night, name: str) -> None:
    outcome, reason = ENDINGS[name]
    run = night.run(name)
    assert (run["state"], run["outcome"]) == ("finished", outcome), run
    if reason is None:
        assert run["reason"] is None
    else:
        assert reason in run["reason"]
        assert run["reason"] in night.worker.err


def test_a_drain_says_by_its_status_that_not_all_went_well(night: Night) -> None:
    assert night.worker.code == 1
    assert "Traceback" not in night.worker.err


def test_a_crash_is_tried_again_as_often_as_the_limit_says_and_goes_on_where_it_stood(night: Night) -> None:
    first, second = night.run("exits")["attempts"]
    assert (first["outcome"], second["outcome"]) == ("crashed", "crashed")
    assert second["resumed_from_step"] == 4, "the last checkpoint before the death at step 5"
    assert "attempt 2 of 2" in night.run("exits")["reason"]


@pytest.mark.parametrize("name", [name for name in ENDINGS if name != "exits"])
def test_what_trying_again_cannot_help_is_tried_once(night: Night, name: str) -> None:
    assert len(night.run(name)["attempts"]) == 1


def test_a_value_that_is_not_a_number_is_null_and_the_last_good_step_is_named(night: Night) -> None:
    run = night.run("diverges")
    points = call(night.lab, "metrics", run["id"], "value", "--json").json
    assert [step for step, _ in points] == [1, 2, 3, 4]
    assert [value is None for _, value in points] == [False, False, False, True]
    assert run["metrics"]["value"]["last"] is None
    assert run["metrics"]["value"]["min_step"] in (1, 2, 3)
    for command in (("show", run["id"]), ("report", "diverges"), ("status",)):
        out = call(night.lab, *command, "--json").out
        assert not {"NaN", "Infinity"} & set(out.replace(",", " ").replace(":", " ").split())


def test_what_was_never_measured_is_null_and_never_0(night: Night) -> None:
    run = night.run("forgets")
    assert run["metrics"]["value"]["last"] is None
    assert call(night.lab, "metrics", run["id"], "value", "--json").json == [[1, None]]
    assert run["progress"] is None
    assert run["estimated_memory_gib"] is None


def test_runs_start_by_priority_then_age(night: Night) -> None:
    started = {name: run["started_at"] for name, (run, *_) in night.runs.items()}
    in_order = sorted((name for name in started if started[name]), key=started.__getitem__)
    assert in_order[0] == "raises", "afterwards ranks highest, and what it waits for is started no later"
    assert in_order.index("early") < min(in_order.index(name) for name in ("good", "late"))
    executed = [name for name in started if started[name]]
    assert max(executed, key=started.__getitem__) in ("late", "exits"), "only what backed off may come later"
    assert started["afterwards"] < started["exits"]


def test_needs_decide_who_runs(night: Night) -> None:
    blocked = night.run("blocked")
    assert (blocked["state"], blocked["attempts"]) == ("queued", [])
    assert blocked["waiting"]["code"] == "needs"
    assert f"run {night.run('raises')['id']} of raises ended failed" in blocked["waiting"]["text"]
    assert night.run("afterwards")["started_at"] > night.run("raises")["finished_at"]
    assert night.run("chained")["started_at"] > max(run["finished_at"] for run in night.runs["good"])


def test_every_step_was_executed_and_recorded_once(night: Night) -> None:
    """Against the drill's witness file, which the lab never reads."""
    lines = (night.lab.root / "witness.txt").read_text().split("\n")[:-1]
    executed = sorted((int(run), int(step)) for run, _, step, _ in (line.split() for line in lines))
    good = night.runs["good"]
    assert executed == sorted((run["id"], step) for run in good for step in range(1, 7))
    for run in good:
        points = call(night.lab, "metrics", run["id"], "value", "--json").json
        assert [step for step, _ in points] == [1, 2, 3, 4, 5, 6]
        values = [value for _, value in points]
        got = run["metrics"]["value"]
        assert (got["min"], got["max"], got["last"], got["last_step"]) == (min(values), max(values), values[-1], 6)


def test_runs_are_ordered_seed_by_seed(night: Night) -> None:
    good = night.runs["good"]
    order = [(seed, every) for seed in (0, 1) for every in (2, 3)]
    assert [(run["seed"], run["varied"]["checkpoint_every"]) for run in good] == order
    assert [run["id"] for run in good] == sorted(run["id"] for run in good)
    assert [run["started_at"] for run in good] == sorted(run["started_at"] for run in good)


def test_the_same_seed_gives_the_same_values_and_another_gives_others(night: Night) -> None:
    first, twin, other, _ = (
        call(night.lab, "metrics", run["id"], "value", "--json").json for run in night.runs["good"]
    )
    assert first == twin, "they differ in checkpoint_every only"
    assert first != other


def test_an_artifact_is_where_the_results_store_says_with_the_hash_it_says(night: Night) -> None:
    import hashlib

    run = night.run("speaks")
    (artifact,) = run["artifacts"]
    content = (night.lab.root / artifact["path"]).read_bytes()
    assert json.loads(content)["text"] == "größer 2", "the same name replaces"
    assert hashlib.sha256(content).hexdigest() == artifact["sha256"]
    assert len(content) == artifact["bytes"]
    assert run["notes"] == ["a note"]
    assert call(night.lab, "metrics", run["id"], "value", "--json").json == [[1, 2.5]], "a repeated step replaces"
    assert not list(night.lab.root.rglob("*stolen*"))


def test_a_peak_that_the_kind_knows_of_from_earlier_attempts_counts_beside_this_processs_own(night: Night) -> None:
    assert night.run("remembers")["peak_memory_gib"] == 99.5
    own = night.run("speaks")["peak_memory_gib"]
    assert own is not None
    assert 0 < own < 1


def test_what_a_run_printed_is_in_its_log(night: Night) -> None:
    assert "printed by the kind" in call(night.lab, "logs", night.run("speaks")["id"]).out
    raised = call(night.lab, "logs", night.run("raises")["id"]).out
    assert "Traceback" in raised
    assert "the drill raises at step 3, as asked" in raised


def test_a_success_keeps_no_checkpoints_and_a_failure_keeps_the_last_two(night: Night) -> None:
    outputs = night.lab.settings.outputs
    done, failed = night.runs["good"][0]["id"], night.run("exits")["id"]
    assert not (outputs / "good" / str(done) / "checkpoints").exists()
    kept = sorted(path.name for path in (outputs / "exits" / str(failed) / "checkpoints").iterdir())
    assert kept == ["step-2-attempt-1", "step-4-attempt-1"]


def test_an_attempt_records_what_ran(night: Night) -> None:
    (attempt,) = night.runs["good"][0]["attempts"]
    assert attempt["environment"] is not None
    assert attempt["log"] == f"outputs/good/{night.runs['good'][0]['id']}/attempt-1.log"
    assert (night.lab.root / attempt["log"]).exists()


def test_release_and_retry_take_effect_on_the_next_drain(night: Night) -> None:
    raises, blocked = night.run("raises")["id"], night.run("blocked")["id"]
    assert call(night.lab, "release", "blocked", "--json").json["released"] == [blocked]
    assert call(night.lab, "retry", raises, "--json").json["retried"] == [raises]
    assert night.lab.run("worker", "--drain", "--device", "cpu", **night.extra).code == 1
    again = call(night.lab, "show", raises, "--json").json
    assert [attempt["outcome"] for attempt in again["attempts"]] == ["failed", "failed"]
    assert call(night.lab, "show", blocked, "--json").json["outcome"] == "succeeded"
    assert call(night.lab, "worker", "--drain", "--device", "cpu").code == 0, "nothing is left"
