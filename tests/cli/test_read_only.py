"""A workspace that is only there to be read (an archive, a stick, another person's folder) answers every question."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from labqueue.store.sqlite import SQLITE
from labqueue.store.tables import SCHEMA_VERSION
from tests.commands import call, refused
from tests.conftest import Lab
from tests.store.factories import executed, submitted

READERS = (
    "status", "status --json", "queue", "runs", "runs --json", "show 1", "show 1 --json", "metrics 1 value", "logs 1",
    "report", "report mine --json", "report mine --csv", "report mine --markdown", "report mine --html", "compare 1 2",
    "report --archived", "gc --json", "submit filled.yaml --dry-run --json",
)  # fmt: skip
"""Commands that look, with nothing to say about where they look."""

WRITERS = ("cancel 3", "pause queue", "prioritize 3 1", "retry queue", "submit {spec}", "import {other}")


@contextmanager
def only_to_be_read(source: Path, place: Path) -> Iterator[Path]:
    """The folder once more at another place, where the kernel refuses every write, whoever asks."""
    place.mkdir()
    for words in (["--bind", str(source), str(place)], ["-o", "remount,ro,bind", str(place)]):
        done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            subprocess.run(["umount", str(place)], capture_output=True, check=False)
            pytest.skip(f"mounting a folder read-only needs rights that this user lacks here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def filled(tmp_path: Path) -> Lab:
    """Two runs that have finished, one that waits."""
    lab = Lab(tmp_path / "filled")
    lab.root.mkdir()
    db = lab.db
    submitted(db, "mine", [{"arm": "a"}, {"arm": "b"}, {"arm": "c"}])
    for value in (1.0, 2.0):
        claim = executed(db, points=[("value", 1, value)])
        folder = lab.settings.run("mine", claim.run_id)
        folder.mkdir(parents=True)
        (folder / f"attempt-{claim.attempt}.log").write_text("said\n")
    db.close()
    lab.spec("filled")
    return lab


def at_rest(lab: Lab) -> None:
    """Every process has closed the database: all of it is in the one file."""
    lab.db.close()
    assert {path.name for path in lab.root.glob("results.db*")} == {"results.db"}


def left_by_a_crash(lab: Lab, *, index: bool) -> None:
    """Commits stand in the log alone, with its index or without, and no process has them open."""
    aside = lab.root.parent / "aside"
    aside.mkdir()
    names = ["results.db", "results.db-wal", *(["results.db-shm"] if index else [])]
    with closing(SQLITE.connect(lab.settings.database)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("UPDATE runs SET reason = 'in the log' WHERE id = 2")
        connection.commit()
        for name in names:
            shutil.copyfile(lab.root / name, aside / name)
    for name in names:
        shutil.copyfile(aside / name, lab.root / name)
    assert (lab.root / "results.db-wal").stat().st_size > 0
    assert (lab.root / "results.db-shm").exists() == index


def test_every_question_is_answered_as_where_it_can_be_written(filled: Lab, tmp_path: Path) -> None:
    expected = {command: call(filled, *command.split()) for command in READERS}
    shutil.rmtree(filled.settings.outputs / "mine" / "report", ignore_errors=True)
    at_rest(filled)
    with only_to_be_read(filled.root, tmp_path / "mount") as root:
        lab = Lab(root)
        for command, answer in expected.items():
            found = call(lab, *command.split())
            assert (found.code, found.err) == (0, ""), command
            assert found.out == answer.out.replace(str(filled.root), str(root)), command


def test_what_is_made_of_it_can_be_written_elsewhere(filled: Lab, tmp_path: Path) -> None:
    here = Lab(tmp_path / "here")
    here.root.mkdir()
    with only_to_be_read(filled.root, tmp_path / "mount") as root:
        lab = Lab(root)
        answer = call(lab, "report", "mine")
        assert answer.code == 0, answer.err
        assert "no files were written" in answer.out
        assert "--output" in answer.out
        assert call(lab, "report", "mine", "--output", here.root / "report").code == 0
        assert (here.root / "report" / "report.html").exists()
        assert call(lab, "compare", 1, 2, "--output", here.root / "compared").code == 0
        tar = here.root / "x.tar"
        assert call(lab, "export", "mine", "--archive", tar).code == 0
        assert call(here, "import", root, "--json").json["runs"] == {"1": 1, "2": 2}
        again = call(here, "import", tar, "--json").json
        assert (again["runs"], again["known"]) == ({}, {"1": 1, "2": 2}), "both ways it is the same workspace"


def test_what_would_change_it_is_refused_with_a_sentence(filled: Lab, tmp_path: Path) -> None:
    spec, other = filled.spec("next"), tmp_path / "other"
    submitted(Lab(other).db, "other")
    with only_to_be_read(filled.root, tmp_path / "mount") as root:
        lab = Lab(root)
        for command in WRITERS:
            words = command.format(spec=spec, other=other).split()
            message = refused(call(lab, *words, "--json"))["message"]
            assert f"cannot write {root}" in message, command
            assert "--root" in message
        worker = call(lab, "worker", "--drain", "--device", "cpu")
        assert worker.code == 2
        assert "cannot write" in worker.err


@pytest.mark.parametrize("index", [True, False])
def test_what_a_crash_left_in_the_log_is_read_too(filled: Lab, tmp_path: Path, index: bool) -> None:
    left_by_a_crash(filled, index=index)
    with only_to_be_read(filled.root, tmp_path / "mount") as root:
        answer = Lab(root).run("show", "2", "--json", TMPDIR=str(tmp_path))
        assert answer.code == 0, answer.err
        assert answer.json["reason"] == "in the log"
    assert not list(tmp_path.glob("labqueue-read-*")), "nothing is left of it elsewhere"


def test_what_somebody_writes_on_the_other_side_meanwhile_is_seen(filled: Lab, tmp_path: Path) -> None:
    with only_to_be_read(filled.root, tmp_path / "mount") as root, filled.db.engine.connect() as held:
        for words in ("first", "second"):
            held.exec_driver_sql("UPDATE runs SET reason = ? WHERE id = 2", (words,))
            assert call(Lab(root), "show", 2, "--json").json["reason"] == words


def test_an_older_one_says_where_it_can_be_brought_up_to_date(filled: Lab, tmp_path: Path) -> None:
    with closing(sqlite3.connect(filled.settings.database)) as connection:
        connection.execute("PRAGMA user_version = 1" if SCHEMA_VERSION > 1 else "PRAGMA user_version = -1")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with only_to_be_read(filled.root, tmp_path / "mount") as root:
        message = refused(call(Lab(root), "status", "--json"))["message"]
        assert "schema version" in message
        assert "copy the workspace to where it can be written" in message
