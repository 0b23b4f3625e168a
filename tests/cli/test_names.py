"""What an experiment can be called: nothing that already means something else."""

from __future__ import annotations

import pytest

from labqueue.store import backup
from tests.commands import call, refused, rows
from tests.conftest import Lab
from tests.store.factories import executed, submitted

TAKEN = {
    "1": "names a run",
    "007": "names a run",
    "queue": "the whole queue",
    "locks": "a folder of the lab's own",
    "patches": "a folder of the lab's own",
    "backups": "a folder of the lab's own",
    "mine_preflight": "a rehearsal",
    "_preflight": "a rehearsal",
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_name_that_means_something_else_is_refused_wherever_one_is_given(lab: Lab, name: str) -> None:
    spec = lab.spec(name)
    for words in (("submit", spec), ("submit", spec, "--dry-run"), ("new", name, "--kind", "drill")):
        answer = call(lab, *words)
        assert answer.code == 2, words
        assert f"experiment name '{name}'" in answer.err
        assert TAKEN[name] in answer.err
        assert "choose" in answer.err
    error = refused(call(lab, "submit", spec, "--json"))
    assert (error["file"], error["line"], error["key"]) == (str(spec), 1, "name")
    assert rows(lab) == {}


@pytest.mark.parametrize("name", ["e1", "1_", "queue_1", "queues", "mine_preflight_2"])
def test_a_name_that_only_resembles_such_a_word_is_taken(lab: Lab, name: str) -> None:
    assert call(lab, "submit", lab.spec(name), "--profile", "cpu").code == 0


def test_no_experiment_can_be_called_like_a_folder_that_the_lab_makes_for_itself(lab: Lab) -> None:
    """The oracle is what a worker, a backup and changed sources leave on the disk."""
    spec = lab.spec("mine", params={"steps": 1, "step_s": 0})
    assert call(lab, "submit", spec, "--profile", "cpu").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    backup.take(lab.settings.database, "daily")
    lab.settings.patches.mkdir(exist_ok=True)
    found = {path.name for path in lab.settings.outputs.iterdir() if path.is_dir()} - {"mine"}
    assert {"locks", "backups", "patches"} <= found
    for name in found:
        assert call(lab, "submit", lab.spec(name), "--profile", "cpu").code == 2, name


@pytest.mark.parametrize("name", ["2", "queue", "locks"])
def test_an_older_workspace_with_such_a_name_opens_and_its_runs_have_their_ids(lab: Lab, name: str) -> None:
    submitted(lab.db, name, [{"arm": "a"}, {"arm": "b"}])
    executed(lab.db, points=[("value", 1, 1.0)])
    assert call(lab, "report", name, "--json").json["experiment"] == name
    assert call(lab, "show", 1, "--json").json["experiment"] == name
    assert call(lab, "status").code == 0
    assert call(lab, "cancel", 2, "--json").json["cancelled"] == [2]
    assert call(lab, "archive", name).code == 0
    assert call(lab, "delete", name, "--yes").code == 0
    assert rows(lab).get("runs", 0) == 0
