"""Searches under the real worker: whole, pruned, killed between a proposal and its recording, unable to go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.canonical import canonical
from labqueue.store import trials
from tests import own_kinds
from tests.commands import call
from tests.conftest import Lab, wait_until

SPACE = {"distance": {"uniform": [-2, 2]}}
QUICK = {"steps": 3, "step_s": 0, "checkpoint_every": 9}


def spec(lab: Lab, name: str = "srch", seeds: tuple[int, ...] = (0,), **search: Any) -> Path:
    block = {"trials": 6, "metric": "value", "space": SPACE, **search}
    return lab.spec(name, params=QUICK, seeds=seeds, sweep={"search": block})


def points(lab: Lab, job: int = 1) -> list[dict[str, Any]]:
    study = trials.study(lab.db, job)
    assert study is not None
    return [trial.point for trial in study.trials]


def slow_to_record(folder: Path) -> dict[str, str]:
    """An environment whose processes wait before they record a trial, while a file ``hold`` is in ``folder``."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, pathlib, time\n"
        "from labqueue.store import trials\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "record = trials.record\n"
        "def slowly(*given):\n"
        "    (folder / f'proposed-{os.getpid()}').touch()\n"
        "    while (folder / 'hold').exists():\n"
        "        time.sleep(0.01)\n"
        "    return record(*given)\n"
        "trials.record = slowly\n"
    )
    (folder / "hold").touch()
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def proposers(folder: Path) -> list[int]:
    return [int(path.name.partition("-")[2]) for path in folder.glob("proposed-*")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The points of the search when nothing goes wrong."""
    lab = Lab(tmp_path_factory.mktemp("undisturbed"))
    assert call(lab, "submit", spec(lab), "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    return points(lab)


def test_a_draining_worker_carries_a_search_out_and_nothing_is_tried_twice(
    lab: Lab, undisturbed: list[dict[str, Any]]
) -> None:
    submitted = call(lab, "submit", spec(lab), "--profile", "cpu", "--json").json
    assert (len(submitted["runs"]), submitted["to_come"]) == (3, 3)
    assert "3 more runs will be proposed" in call(lab, "status").out
    drained = lab.run("worker", "--drain", "--device", "cpu")
    assert drained.code == 0, drained.err
    assert points(lab) == undisturbed
    assert len({canonical(point) for point in undisturbed}) == 6
    report = call(lab, "report", "srch", "--json").json
    assert [run["outcome"] for run in report["runs"]] == ["succeeded"] * 6
    lowest = min(report["runs"], key=lambda run: run["metrics"]["value"]["last"])
    assert report["search"]["best"]["runs"] == [lowest["id"]]
    assert "It proposes no more: all 6 trials are recorded." in call(lab, "report", "srch", "--markdown").out
    again = call(lab, "submit", spec(lab), "--profile", "cpu", "--json").json
    assert again["reused"] == submitted["runs"]
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    assert points(lab, 2) == undisturbed, "what has succeeded is proposed again, and reused"
    assert len(call(lab, "runs", "--json").json["runs"]) == 6


@pytest.mark.parametrize("survives", [False, True], ids=["with the proposer", "and not the proposer"])
def test_a_worker_killed_between_a_proposal_and_its_recording_loses_no_trial_and_repeats_none(
    lab: Lab, tmp_path: Path, undisturbed: list[dict[str, Any]], survives: bool
) -> None:
    extra = slow_to_record(tmp_path / "site")
    assert call(lab, "submit", spec(lab), "--profile", "cpu").code == 0
    worker = lab.start("worker", "--drain", "--device", "cpu", **extra)
    (proposer,) = wait_until(lambda: proposers(tmp_path / "site"))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    if not survives:
        os.kill(proposer, signal.SIGKILL)
    assert len(points(lab)) == 3, "nothing is recorded yet"
    # The second worker's proposer finds the first's still there, and both go on at once.
    second = lab.start("worker", "--drain", "--device", "cpu", **extra)
    wait_until(lambda: len(proposers(tmp_path / "site")) == 2)
    (tmp_path / "site" / "hold").unlink()
    _, said = second.communicate(timeout=120)
    assert second.returncode == 0, said
    assert points(lab) == undisturbed
    assert len(call(lab, "runs", "--json").json["runs"]) == 6


def test_a_poor_trial_is_pruned_and_says_why_and_its_other_seeds_do_not_run(lab: Lab) -> None:
    path = spec(lab, seeds=(0, 1), sampler="grid", trials=8, pruner="median", space={"distance": {"choice": [
        0, 0.1, 0.2, 0.3, 0.4, 0.5, 3, 4]}})  # fmt: skip
    assert call(lab, "submit", path, "--profile", "cpu").code == 0
    drained = lab.run("worker", "--drain", "--device", "cpu")
    assert drained.code == 0, "pruned is no failure"
    runs = call(lab, "report", "srch", "--json").json["runs"]
    by_point = {(run["varied"]["distance"], run["seed"]): run for run in runs}
    pruned = {key for key, run in by_point.items() if run["outcome"] == "pruned"}
    assert {key[0] for key in pruned} & {3, 4}
    assert {run["outcome"] for run in runs} == {"pruned", "succeeded"}
    cut = next(run for run in runs if run["outcome"] == "pruned" and run["attempts"])
    assert "is above the median" in cut["reason"]
    assert cut["reason"] == cut["attempts"][0]["reason"]
    assert cut["metrics"]["value"]["last_step"] < QUICK["steps"]
    sibling = by_point[cut["varied"]["distance"], 1 - cut["seed"]]
    if cut["seed"] == 0:
        assert (sibling["outcome"], sibling["attempts"]) == ("pruned", [])
        assert f"pruned with run {cut['id']}" in sibling["reason"]
    dependent = lab.spec("after", params=QUICK, needs=["srch"])
    assert call(lab, "submit", dependent, "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0, "pruned trials satisfy what needs the search"


def test_a_failed_trial_is_told_so_and_never_tried_again(lab: Lab) -> None:
    path = lab.spec(
        "srch",
        params=QUICK,
        sweep={"search": {"trials": 6, "seed": 2, "metric": "value", "space": {
            "fault": {"choice": ["raise", "none"]}, "distance": {"int": [0, 2]}}}},
    )  # fmt: skip
    assert call(lab, "submit", path, "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 1
    tried = points(lab)
    assert len({canonical(point) for point in tried}) == len(tried) == 6
    study = trials.study(lab.db, 1)
    assert study is not None
    assert {(t.point["fault"], t.state.value) for t in study.trials} == {("raise", "failed"), ("none", "complete")}


def test_a_search_whose_metric_nobody_measures_ends_and_says_so(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A kind that says what it measures has such a search refused at submission.
    freely = "'A drill that declares nothing.'\nfrom labqueue.kinds.drill import USES_TORCH, Params, run\n"
    extra = own_kinds.install(tmp_path_factory.mktemp("site"), {"freely": freely})
    search = {"trials": 6, "metric": "vallue", "space": SPACE}
    path = lab.spec("srch", kind="freely", params=QUICK, seeds=[0], sweep={"search": search})
    assert lab.run("submit", path, "--profile", "cpu", **extra).code == 0
    drained = lab.run("worker", "--drain", "--device", "cpu", **extra)
    assert "none measured 'vallue'" in drained.err
    study = trials.study(lab.db, 1)
    assert study is not None
    assert (study.switch.ended, len(study.trials)) == ("metric_never_recorded", 3)


def test_a_search_that_cannot_propose_is_paused_with_the_reason_and_goes_on_when_resumed(
    lab: Lab, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    extra = own_kinds.install(site, {})
    (site / "optuna.py").write_text("raise ImportError('optuna is broken here')\n")
    assert call(lab, "submit", spec(lab), "--profile", "cpu").code == 0
    drained = lab.run("worker", "--drain", "--device", "cpu", **extra)
    assert drained.code == 1, "it waits for a person"
    assert "optuna is broken here" in drained.err
    assert any("optuna is broken here" in reason for reason in _pauses(lab))
    assert call(lab, "resume", "srch").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    assert len(points(lab)) == 6


def _pauses(lab: Lab) -> list[str]:
    with lab.db.read() as connection:
        rows = connection.exec_driver_sql("SELECT value FROM controls WHERE key LIKE 'pause%'").scalars().all()
    return [json.loads(row)["reason"] for row in rows]


def test_the_worker_itself_does_not_import_the_optimiser() -> None:
    code = "import sys, labqueue.worker.worker; sys.exit('optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
