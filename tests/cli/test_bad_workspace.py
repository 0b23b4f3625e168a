"""A workspace that cannot be used: said in one paragraph, with a way out, and left as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.commands import call, refused, rows
from tests.conftest import Lab, wait_until

COMMANDS = ("submit drill.yaml", "status", "report drill", "show 1", "cancel 1")


def filled(lab: Lab) -> Path:
    """A workspace with one queued run, its database whole in one file."""
    answer = call(lab, "submit", lab.spec("drill"), "--profile", "cpu")
    assert answer.code == 0, answer.err
    path = lab.settings.database
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    for end in ("-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    return path


def test_a_workspace_that_cannot_be_written_is_refused(lab: Lab) -> None:
    spec = lab.spec("drill")
    file = lab.root / "file"
    file.write_text("no folder")
    for root in ("/proc/labqueue-test", str(file), str(file / "inside")):
        error = refused(call(lab, "submit", spec, "--json", LABQUEUE_ROOT=root))
        assert "cannot write" in error["message"]
        assert root in error["message"]
        assert "--root" in error["message"]
        answer = call(lab, "worker", "--drain", "--device", "cpu", LABQUEUE_ROOT=root)
        assert answer.code == 2
        assert "cannot write" in answer.err
        assert "Traceback" not in answer.err
    assert file.read_text() == "no folder"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_database_of_a_newer_version_is_refused_and_left_alone(lab: Lab, command: str) -> None:
    path = filled(lab)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    error = refused(call(lab, *command.split(), "--json"))
    assert "version 99" in error["message"]
    assert "newer" in error["message"]
    assert error["file"] == str(path)
    assert rows(lab)["runs"] == 1


def test_a_worker_refuses_a_database_of_a_newer_version(lab: Lab) -> None:
    connection = sqlite3.connect(filled(lab))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    answer = call(lab, "worker", "--drain", "--device", "cpu")
    assert (answer.code, "Traceback" in answer.err) == (2, False)
    assert "version 99" in answer.err


@pytest.mark.parametrize("command", [*COMMANDS, "doctor"])
@pytest.mark.parametrize("damage", ["garbage", "truncated", "only a header"])
def test_a_corrupt_database_is_refused_and_left_alone(lab: Lab, command: str, damage: str) -> None:
    path = filled(lab)
    whole = path.read_bytes()
    damaged = {"garbage": b"not a database" * 500, "truncated": whole[: len(whole) // 2], "only a header": whole[:60]}
    path.write_bytes(damaged[damage])
    answer = call(lab, *command.split(), "--json")
    if command == "doctor":
        assert answer.code == 1
        (finding,) = [each for each in answer.json["findings"] if each["what"] == "results.db"]
        assert finding["state"] == "bad"
    else:
        error = refused(answer)
        assert error["file"] == str(path)
        assert "backup" in error["message"]
    assert path.read_bytes() == damaged[damage]


def flip(path: Path, table: str) -> None:
    """Overwrites the root page of one table."""
    connection = sqlite3.connect(path)
    (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xa5" * size)


def test_damage_in_the_middle_that_a_command_meets_ends_it_with_status_1_and_names_the_backup(lab: Lab) -> None:
    path = filled(lab)
    backups = lab.root / "outputs" / "backups"
    backups.mkdir(parents=True)
    (backups / "results-v0-20260101T000000Z.db").write_bytes(path.read_bytes())
    flip(path, "jobs")
    for command in ("report drill", "status", "show 1"):
        error = refused(call(lab, *command.split(), "--json"), code=1)
        assert "corrupt" in error["message"]
        assert "results-v0-20260101T000000Z.db" in error["message"]
    before = path.read_bytes()
    error = refused(call(lab, "submit", "drill.yaml", "--profile", "cpu", "--json"), code=1)
    assert "corrupt" in error["message"]
    assert path.read_bytes() == before, "nothing half-recorded"


@pytest.mark.parametrize("begun", [False, True])
def test_an_empty_file_is_an_empty_workspace(lab: Lab, begun: bool) -> None:
    lab.settings.database.touch()
    if begun:  # as a full disk leaves it, before the first table
        connection = sqlite3.connect(lab.settings.database)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        assert lab.settings.database.stat().st_size > 0
    assert "nothing has been submitted" in call(lab, "status").out
    assert "no results.db" in refused(call(lab, "show", 1, "--json"))["message"]
    assert call(lab, "submit", lab.spec("drill"), "--profile", "cpu", "--json").json["runs"] == [1]


def test_looking_works_while_another_process_holds_the_write_lock(lab: Lab) -> None:
    path = filled(lab)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    try:
        status = wait_until(lambda: call(lab, "status", "--json"), timeout_s=5)
        assert [run["id"] for run in status.json["queued"]] == [1]
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_broken_file_of_wakeups_stops_no_submission(lab: Lab) -> None:
    lab.settings.outputs.mkdir()
    lab.settings.wakeups.write_bytes(b"garbage" * 999)
    assert call(lab, "submit", lab.spec("drill"), "--profile", "cpu").code == 0
    assert rows(lab)["runs"] == 1
