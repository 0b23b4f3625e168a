"""A workspace's folder may have any name: what is written stands in that very folder and nowhere else."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from labqueue.settings import Settings
from labqueue.store import backup, migrations
from labqueue.store.db import create_or_migrate, open_existing
from labqueue.store.queries import read
from labqueue.system import wakeups
from tests.commands import call
from tests.conftest import Lab
from tests.store.factories import executed, submitted

NAMES = (
    "w%20p", "w?q=1", "w?mode=memory", "w#x", "w p", "w&vfs=x", "w%%", "w%s(path)s", "größe ☃", ":memory:", "w:x@y",
    "w'\"", "w\\n", "[w]*", "file:w", "w\ny",
)  # fmt: skip


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def runs(path: Path) -> int:
    """How many runs a file holds, opened by its bare name, which the standard library takes as it stands."""
    connection = sqlite3.connect(path)
    (n,) = connection.execute("SELECT count(*) FROM runs").fetchone()
    connection.close()
    return int(n)


@pytest.mark.parametrize("name", NAMES)
def test_the_results_store_its_copies_and_the_wakeups_stand_in_the_named_folder(tmp_path: Path, name: str) -> None:
    settings = Settings(tmp_path / name)
    db = create_or_migrate(settings.database)
    submitted(db)
    executed(db)
    copy = backup.daily(db.path)
    wakeups.wake(settings.wakeups, "cpu")
    db.close()
    assert copy is not None
    assert (runs(settings.database), runs(copy)) == (1, 1)
    assert settings.wakeups.is_file()
    seen = open_existing(settings.database)
    assert seen is not None
    assert read.run(seen, 1).outcome == "succeeded"
    seen.close()
    assert {path.split("/")[0] for path in files(tmp_path)} == {name}


@pytest.mark.parametrize("name", NAMES)
def test_a_migration_changes_the_file_that_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "results.db"
    path.parent.mkdir()
    path.touch()
    migrations.upgrade(path, 0)
    assert runs(path) == 0
    assert {found.split("/")[0] for found in files(tmp_path)} == {name}


def test_a_run_is_submitted_worked_reported_exported_and_imported_where_the_roots_say(tmp_path: Path) -> None:
    named, decoy, other = tmp_path / "w%20p?q=1#é", tmp_path / "w p?q=1#é", tmp_path / "%2e?x"
    for folder in (named, decoy, other):
        folder.mkdir()
    lab, second = Lab(named), Lab(other)
    spec = lab.spec("drill", params={"steps": 2, "step_s": 0})
    answer = call(lab, "submit", spec, "--profile", "cpu", "--json")
    assert answer.json["runs"] == [1], answer.err
    assert call(lab, "worker", "--drain", "--device", "cpu").code == 0
    assert call(lab, "show", 1, "--json").json["outcome"] == "succeeded"
    assert call(lab, "report", "drill").code == 0
    assert (named / "outputs" / "drill" / "report").is_dir()
    assert call(lab, "export", "drill", "--archive", named / "x%20.tar").code == 0
    assert (named / "x%20.tar").is_file()
    assert call(second, "import", named / "x%20.tar", "--json").json["runs"] == {"1": 1}
    assert call(second, "import", named, "--json").json["known"] == {"1": 1}
    assert runs(other / "results.db") == 1
    out = named / "ml runs"
    assert call(lab, "export", "drill", "--mlflow", out.as_uri()).code == 0
    assert list(out.glob("*/meta.yaml")), "a file: URI is read as one"
    assert files(decoy) == set()
    assert {path.name for path in tmp_path.iterdir()} == {named.name, decoy.name, other.name}
