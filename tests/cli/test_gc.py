"""``labqueue gc`` after a real night: what it frees, what it leaves, and what killing it in the middle leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labqueue.store.runs import control
from labqueue.store.workspace import retention
from labqueue.system.clock import now
from labqueue.workspace import garbage, removal, scan
from tests.commands import call
from tests.conftest import Lab


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run 1 succeeded, run 2 crashed with two checkpoints, run 3 is queued with one; all have scratch beside."""
    lab = Lab(tmp_path_factory.mktemp("night"))
    quick = {"steps": 6, "step_s": 0, "checkpoint_every": 2}
    crash = {**quick, "fault": "exit", "fault_at": 5}
    for name, params, attempts in (("good", quick, 1), ("bad", crash, 1), ("waits", crash, 2)):
        spec = lab.spec(name, params=params, limits={"attempts": attempts})
        assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 1
    with sqlite3.connect(lab.settings.database) as connection:
        # As it was after its first attempt: queued again, with a checkpoint to go on from.
        connection.execute("UPDATE runs SET state = 'queued', outcome = NULL, finished_at = NULL WHERE id = 3")
    connection.close()
    for experiment, run in (("good", 1), ("bad", 2), ("waits", 3)):
        folder = lab.settings.run(experiment, run)
        (folder / "scratch" / "trainer").mkdir(parents=True)
        (folder / "scratch" / "trainer" / "optimizer").write_bytes(b"x" * 1000)
    partial = lab.settings.run("bad", 2) / "checkpoints" / ".step-6-attempt-1.partial"
    partial.mkdir()
    (partial / "half").write_bytes(b"x" * 100)
    assert {path for path, _ in rows(lab)} == {f"outputs/{e}/checkpoints/step-{s}-attempt-{a}" for e, s, a in KEPT}
    return lab.root


KEPT = [("bad/2", 2, 1), ("bad/2", 4, 1), ("waits/3", 2, 1), ("waits/3", 4, 1)]


@pytest.fixture
def after(night: Path, tmp_path: Path) -> Lab:
    """A copy of the morning for every test: all paths in the results store are relative."""
    shutil.copytree(night, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")


def rows(lab: Lab) -> list[tuple[str, int]]:
    connection = sqlite3.connect(lab.settings.database)
    found = connection.execute("SELECT path, run_id FROM checkpoints ORDER BY path").fetchall()
    connection.close()
    return found


def snapshot(folder: Path) -> dict[str, Any]:
    """Every path with its content; the queue's own files change whenever somebody looks."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and "results.db" not in path.name
    }


def paths(answer: dict[str, Any]) -> list[str]:
    return [item["path"] for item in answer["items"]]


def test_without_apply_nothing_is_touched_and_everything_is_said(after: Lab) -> None:
    before, stored = snapshot(after.root), rows(after)
    answer = call(after, "gc", "--json").json
    assert (snapshot(after.root), rows(after)) == (before, stored)
    assert answer["applied"] is False
    assert paths(answer) == [
        "outputs/bad/2/checkpoints",
        "outputs/bad/2/scratch",
        "outputs/good/1/scratch",
    ]
    for item in answer["items"]:
        assert set(item) == {"path", "sort", "why", "run", "bytes", "removed", "spared"}
        assert item["bytes"] == sum(p.stat().st_size for p in (after.root / item["path"]).rglob("*") if p.is_file())
        assert (item["removed"], item["spared"], bool(item["why"])) == (False, None, True)
    assert answer["total"] == {"items": 3, "bytes": sum(item["bytes"] for item in answer["items"])}
    assert answer["by_sort"]["scratch"] == {"items": 2, "bytes": 2000}
    words = call(after, "gc").out
    assert all(path in words for path in paths(answer))
    assert "--apply" in words


def test_apply_removes_what_was_listed_and_nothing_else(after: Lab) -> None:
    listed = call(after, "gc", "--json").json
    before = snapshot(after.root)
    reports = [call(after, "report", name, "--json").out for name in ("good", "bad", "waits")]
    done = call(after, "gc", "--apply", "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["total"] == listed["total"]
    assert all(item["removed"] for item in done.json["items"])
    gone = {path for path in before if any(path.startswith(f"{item}/") for item in paths(listed))}
    assert snapshot(after.root) == {path: content for path, content in before.items() if path not in gone}
    assert [path for path, _ in rows(after)] == [f"outputs/waits/3/checkpoints/step-{s}-attempt-1" for s in (2, 4)]
    assert [call(after, "report", name, "--json").out for name in ("good", "bad", "waits")] == reports
    assert not (after.root / "outputs" / ".gc").exists()
    again = call(after, "gc", "--apply", "--json").json
    assert (again["items"], again["total"]) == ([], {"items": 0, "bytes": 0})
    assert "nothing may go" in call(after, "gc").out


def test_a_run_without_its_checkpoints_can_be_retried_from_the_start(after: Lab) -> None:
    assert call(after, "cancel", 3).code == 0
    assert call(after, "gc", "--apply").code == 0
    assert call(after, "retry", 2).code == 0
    assert call(after, "worker", "--drain", "--device", "cpu").code == 1
    attempts = call(after, "show", 2, "--json").json["attempts"]
    assert [attempt["resumed_from_step"] for attempt in attempts] == [None, None]
    assert call(after, "metrics", 2, "value", "--json").json[0][0] == 1


def test_logs_go_when_they_are_old_and_their_run_has_succeeded(after: Lab) -> None:
    assert "log" not in call(after, "gc", "--json").json["by_sort"]
    listed = call(after, "gc", "--logs-days", "0", "--json").json
    assert [item["path"] for item in listed["items"] if item["sort"] == "log"] == ["outputs/good/1/attempt-1.log"]
    with sqlite3.connect(after.settings.database) as connection:
        connection.execute("UPDATE attempts SET finished_at = finished_at - 31 * 86400")
    connection.close()
    assert call(after, "gc", "--apply", "--json").json["by_sort"]["log"]["items"] == 1
    answer = call(after, "logs", 1)
    assert (answer.code, answer.out) == (0, "")
    assert "gc" in answer.err
    assert call(after, "logs", 2).err == ""


def test_links_are_neither_followed_nor_removed(after: Lab, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "1" / "scratch").mkdir(parents=True)
    (outside / "1" / "attempt-1.log").write_text("precious")
    (outside / "precious").write_text("precious")
    outputs = after.settings.outputs
    (outputs / "linked").symlink_to(outside)
    (outputs / "good" / "77").symlink_to(outside / "1")
    (outputs / "good" / "1" / "shortcut").symlink_to(outside)
    (outputs / "good" / "1" / "scratch" / "data").symlink_to(outside)
    before = snapshot(outside)
    answer = call(after, "gc", "--apply", "--json").json
    assert paths(answer) == ["outputs/bad/2/checkpoints", "outputs/bad/2/scratch", "outputs/good/1/scratch"]
    assert snapshot(outside) == before
    assert (outputs / "good" / "77").is_symlink()
    assert (outputs / "good" / "1" / "shortcut").is_symlink()
    assert not (outputs / "good" / "1" / "scratch").exists()


def test_folders_of_unknown_runs_go_and_folders_of_people_stay(after: Lab) -> None:
    outputs = after.settings.outputs
    for path in ("good/99/adapter/weights", "lost/5/attempt-1.log", "photos/2024/beach", "good/report/x", "good/007/x"):
        (outputs / path).parent.mkdir(parents=True)
        (outputs / path).write_text("x")
    (outputs / "good" / "learnings.md").write_text("mine")
    answer = call(after, "gc", "--apply", "--json").json
    assert [i["path"] for i in answer["items"] if i["sort"] == "unknown"] == ["outputs/good/99", "outputs/lost/5"]
    assert not (outputs / "good" / "99").exists()
    for path in ("photos/2024/beach", "good/report/x", "good/007/x", "good/learnings.md"):
        assert (outputs / path).exists(), path


def test_what_another_run_names_stays(after: Lab) -> None:
    (after.settings.run("good", 1) / "scratch" / "merged").write_text("a model by hand")
    spec = after.spec("user", params={"witness": "outputs/good/1/scratch/merged"})
    assert call(after, "submit", spec, "--profile", "cpu").code == 0
    assert "outputs/good/1/scratch/trainer" in paths(call(after, "gc", "--apply", "--json").json)
    assert (after.settings.run("good", 1) / "scratch" / "merged").read_text() == "a model by hand"


def planned(lab: Lab) -> list[garbage.Item]:
    found = scan.scan(lab.settings.outputs, "outputs")
    return garbage.decide(retention.facts(lab.db), found, lab.root, now_s=now(), logs_days=30)


def test_a_run_that_is_retried_between_the_look_and_the_deletion_is_spared(after: Lab) -> None:
    items = planned(after)
    control.retry(after.db, "2")
    done = {one.item.path: one.spared for one in removal.remove(after.db, after.settings, items)}
    assert {path for path, spared in done.items() if spared is None} == {"outputs/good/1/scratch"}
    assert (after.root / "outputs/bad/2/checkpoints/step-4-attempt-1").is_dir()
    assert len(rows(after)) == 4


def test_what_a_run_that_is_submitted_between_the_look_and_the_deletion_names_is_spared(after: Lab) -> None:
    items = planned(after)
    spec = after.spec("user", params={"witness": str(after.root / "outputs/good/1/scratch/trainer/optimizer")})
    assert call(after, "submit", spec, "--profile", "cpu").code == 0
    done = {one.item.path: one.spared for one in removal.remove(after.db, after.settings, items)}
    assert [path for path, spared in done.items() if spared] == ["outputs/good/1/scratch"]
    assert (after.root / "outputs/good/1/scratch/trainer/optimizer").exists()


def test_a_folder_that_becomes_a_link_between_the_look_and_the_deletion_is_not_followed(
    after: Lab, tmp_path: Path
) -> None:
    items = planned(after)
    outside = tmp_path / "outside"
    shutil.move(after.settings.run("good", 1), outside)
    after.settings.run("good", 1).symlink_to(outside)
    done = {one.item.path: one for one in removal.remove(after.db, after.settings, items)}
    assert done["outputs/good/1/scratch"].failed
    assert (outside / "scratch" / "trainer" / "optimizer").exists()


def test_a_file_that_cannot_be_removed_is_said_and_the_rest_goes(after: Lab) -> None:
    if os.geteuid() == 0:
        # The superuser may do everything except leave a folder that is in the way of the one for what goes.
        (after.settings.outputs / ".gc").write_text("in the way")
        answer = call(after, "gc", "--apply", "--json")
        assert answer.code == 1
        assert ".gc" in answer.json["error"]["message"]
        assert len(rows(after)) == 4
        return
    folder = after.settings.run("good", 1)
    folder.chmod(0o555)
    try:
        answer = call(after, "gc", "--apply", "--json")
    finally:
        folder.chmod(0o755)
    assert answer.code == 1
    stuck = [item["path"] for item in answer.json["items"] if item["spared"]]
    assert stuck == ["outputs/good/1/scratch"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills it at each system call")
@pytest.mark.parametrize(("call_name", "nth"), [("rename", 1), ("rename", 2), ("unlinkat", 1), ("unlinkat", 4)])
def test_killed_anywhere_nothing_points_at_nothing_and_the_next_call_goes_on(
    after: Lab, call_name: str, nth: int
) -> None:
    calls = "rename,renameat,renameat2" if call_name == "rename" else "unlinkat"
    inject = f"inject={calls}:signal=SIGKILL:when={nth}"
    killed = subprocess.run(
        [
            *("strace", "-f", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject),
            *(sys.executable, "-m", "labqueue", "gc", "--apply"),
        ],
        env=after.environment(),
        cwd=after.root,
        capture_output=True,
        check=False,
    )
    assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), killed
    assert all((after.root / path).is_dir() for path, _ in rows(after))
    finished = call(after, "gc", "--apply", "--json").json
    assert all(item["removed"] for item in finished["items"])
    left = snapshot(after.settings.outputs)
    assert not any(
        "scratch" in path or path.startswith(("bad/2/checkpoints", ".gc")) for path in left if "3" not in path
    )
    assert "waits/3/checkpoints/step-4-attempt-1/state.json" in left


def test_gc_needs_a_results_store(lab: Lab) -> None:
    (lab.root / "outputs" / "exp" / "1").mkdir(parents=True)
    answer = call(lab, "gc", "--apply", "--json")
    assert answer.code == 2
    assert json.loads(answer.out)["error"]["message"].startswith("there is no results.db")
    assert (lab.root / "outputs" / "exp" / "1").exists()
