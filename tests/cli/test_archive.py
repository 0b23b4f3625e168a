"""Archiving and deleting as a person does it: what is asked, what goes from the disk, what stays."""

from __future__ import annotations

from tests.commands import call, refused, rows
from tests.conftest import Lab
from tests.store.factories import executed, submitted


def experiment(lab: Lab, name: str = "old") -> None:
    db = lab.db
    run = submitted(db, name).runs[0]
    executed(db, points=[("value", 1, 1.0)])
    folder = lab.settings.run(name, run)
    folder.mkdir(parents=True)
    (folder / "attempt-1.log").write_text("said")
    report = lab.settings.experiment(name) / "report"
    report.mkdir()
    (report / "report.md").write_text("# old")
    db.close()


def test_the_way_from_use_to_gone(lab: Lab) -> None:
    experiment(lab)
    experiment(lab, "stays")
    assert call(lab, "archive", "old").out == "archived old\n"
    assert [row["experiment"] for row in call(lab, "report", "--json").json["experiments"]] == ["stays"]
    assert [row["experiment"] for row in call(lab, "report", "--archived", "--json").json["experiments"]] == ["old"]
    assert call(lab, "report", "old", "--json").json["runs"][0]["id"] == 1
    error = refused(call(lab, "submit", lab.spec("old"), "--profile", "cpu", "--json"))
    assert "labqueue restore old" in error["message"]
    before = rows(lab)
    assert "1 runs, 1 metric points" in refused(call(lab, "delete", "old", "--json"))["message"]
    assert rows(lab) == before
    answer = call(lab, "delete", "old", "--yes", "--json")
    assert (answer.code, answer.json) == (0, {"schema": 1, "deleted": "old", "jobs": 1, "runs": [1], "left": []})
    assert not lab.settings.experiment("old").exists()
    assert lab.settings.run("stays", 2).is_dir()
    assert rows(lab)["runs"] == 1
    assert call(lab, "submit", lab.spec("old"), "--profile", "cpu").code == 0


def test_what_a_person_wrote_is_kept_and_said(lab: Lab) -> None:
    experiment(lab)
    (lab.settings.experiment("old") / "learnings.md").write_text("never again")
    call(lab, "archive", "old")
    answer = call(lab, "delete", "old", "--yes")
    assert answer.code == 0
    assert "kept: learnings.md" in answer.out
    assert (lab.settings.experiment("old") / "learnings.md").read_text() == "never again"


def test_only_what_is_archived_can_be_deleted(lab: Lab) -> None:
    experiment(lab)
    assert "labqueue archive old" in refused(call(lab, "delete", "old", "--yes", "--json"))["message"]
    assert call(lab, "restore", "old").code == 2
    call(lab, "archive", "old")
    assert call(lab, "restore", "old", "--json").json == {"schema": 1, "restored": ["old"]}
