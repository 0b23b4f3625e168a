"""A workspace and an export that an earlier version left: nothing of them is lost, and they go on.

``tests/data/workspace_0001.sql`` is a dump of schema version 1, ``workspace_0001.json`` what that version said of it
(``status``, and ``report`` of each experiment), ``export_0001.tar.gz`` an export that it made.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.canonical import Canonical, canonical, digest
from labqueue.domain.spec.predictions import Prediction
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.runs.jobs import NewJob, NewRun, Submitted, add_jobs
from labqueue.system import clock, processes
from tests import own_kinds
from tests.attempt.test_inputs import MAKER, TAKER
from tests.commands import REPOSITORY, call
from tests.conftest import Lab

DATA = REPOSITORY / "tests" / "data"
SAID: dict[str, Any] = json.loads((DATA / "workspace_0001.json").read_text())

RENAMED: dict[tuple[str, str], str] = {("runs", "token"): "attempt"}
"""(table, column) of version 1 and the column's name now."""

DROPPED: dict[str, set[str]] = {"runs": {"wait_code", "wait_text"}}
"""Columns of version 1 that are kept elsewhere now."""

ADDED = {"registrations", "looks", "looks_at", "looks_seen_runs", "found_looks"}
"""Keys that reports have by now beside those of version 1."""


def run_as_then(run: dict[str, Any]) -> dict[str, Any]:
    """A run without what version 1 did not say, of which it must have nothing."""
    assert run["samples"] == []
    assert all(each["last_phase"] is None for each in run["attempts"])
    attempts = [{key: value for key, value in each.items() if key != "last_phase"} for each in run["attempts"]]
    metrics = {name: {k: v for k, v in each.items() if k != "unit"} for name, each in run["metrics"].items()}
    found = {key: value for key, value in run.items() if key != "samples"} | {"attempts": attempts, "metrics": metrics}
    if run["progress"] is not None:
        assert run["progress"]["phase"] is None
        found["progress"] = {key: run["progress"][key] for key in ("done", "total")}
    return found


def as_then(report: dict[str, Any]) -> dict[str, Any]:
    """A report of today without what version 1 did not say."""
    report = report | {"runs": [run_as_then(run) for run in report["runs"]]}
    since = ("registration", "item_ci")
    verdicts = [{key: v for key, v in each.items() if key not in since} for each in report["verdicts"]]
    return {key: value for key, value in report.items() if key not in ADDED} | {"verdicts": verdicts}


def measured(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what the rule of its day decided: of each claim, its estimate and the seeds behind it."""
    kept = ("id", "claim", "estimate", "n")
    return report | {"verdicts": [{key: each[key] for key in kept} for each in report["verdicts"]]}


AS_JSON = {"spec", "needs", "params", "varied", "adjusted"}


def today(value: Any, digests: dict[str, str]) -> Any:
    """What version 1 wrote, with the drill's parameter and all digests as they are now."""
    text = canonical(value).replace('"ledger"', '"witness"')
    for old, new in digests.items():
        text = text.replace(old, new)
    return json.loads(text)


def digests_of(rows: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """Each digest in the old rows → the same of the parameters by their names of today."""
    found = {}
    runs = {}
    for run in rows["runs"]:
        params, varied = json.loads(run["params"]), json.loads(run["varied"])
        hashes = [digest([run["kind"], run["device"], each, run["seed"]]) for each in (params, today(params, {}))]
        assert hashes[0] == run["spec_hash"]
        found[hashes[0]] = hashes[1]
        runs[run["id"]] = [f"[{canonical(varied)},{canonical(each)}]" for each in (params, today(params, {}))]
    for job in rows["jobs"]:
        kind = json.loads(job["spec"])["kind"]
        points = [runs[link["run_id"]] for link in rows["job_runs"] if link["job_id"] == job["id"]]
        old, new = (digest([kind, job["device"], sorted({each[at] for each in points})]) for at in (0, 1))
        if old == job["spec_version"]:
            found[old] = new
    return found


def restored(path: Path) -> Path:
    """Writes the old database to a path, as it was."""
    connection = sqlite3.connect(path)
    connection.executescript((DATA / "workspace_0001.sql").read_text())
    connection.close()
    return path


@pytest.fixture
def old(lab: Lab) -> Lab:
    """The old workspace, brought up to date."""
    create_or_migrate(restored(lab.settings.database)).close()
    return lab


def contents(path: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of a database file, each table's in the order of its key, read past the lab."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name != 'alembic_version'"
    tables = [name for (name,) in connection.execute(query)]
    found = {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2")] for name in tables}
    connection.close()
    return found


def test_every_row_of_an_old_workspace_is_kept(tmp_path: Path) -> None:
    path = restored(tmp_path / "results.db")
    before = contents(path)
    assert len(before["runs"]) == 37
    create_or_migrate(path).close()
    after = contents(path)
    digests = digests_of(before)
    for table, rows in before.items():
        kept = [
            {RENAMED.get((table, key), key): v for key, v in row.items() if key not in DROPPED.get(table, ())}
            for row in rows
        ]
        now = [{key: row[key] for key in old_row} for row, old_row in zip(after[table], kept, strict=True)]
        assert [plain(row) for row in now] == [today(plain(row), digests) for row in kept], table


def test_an_old_workspace_says_what_it_said(old: Lab, tmp_path: Path) -> None:
    digests = digests_of(contents(restored(tmp_path / "before.db")))
    status = call(old, "status", "--json").json
    status |= {part: [run_as_then(run) for run in status[part]] for part in ("running", "queued")}
    assert status == today(SAID["status"], digests)
    for name, report in SAID["experiments"].items():
        now = as_then(call(old, "report", name, "--json").json)
        assert measured(now) == measured(today(report, digests))


def test_predictions_of_an_old_workspace_are_registered_since_their_first_job(old: Lab) -> None:
    """By the times of its jobs, read past the lab."""
    rows = contents(old.settings.database)
    found = {name: call(old, "report", name, "--json").json for name in SAID["experiments"]}
    assert sum(len(report["registrations"]) for report in found.values()) == 2
    for name, report in found.items():
        (experiment,) = (row["id"] for row in rows["experiments"] if row["name"] == name)
        jobs = [(row["id"], row["created_at"], json.loads(row["spec"])) for row in rows["jobs"]
                if row["experiment_id"] == experiment]  # fmt: skip
        for view in report["registrations"]:
            stating = [(at, job) for job, at, spec in jobs if view["prediction"] in spec["predictions"]]
            assert (view["at"], view["job"]) == (clock.iso(min(stating)[0]), min(stating)[1])
            assert view["digest"] == Prediction.model_validate_json(json.dumps(view["prediction"])).digest()
            assert (view["seen_runs"], view["withdrawn_at"]) == ([], None)
        assert report["looks"] == []


def test_what_waited_in_an_old_workspace_still_runs(old: Lab) -> None:
    for words in ("cancel 37", "cancel 29", "cancel 35", "resume paused_whole", "release 30"):
        assert call(old, *words.split()).code == 0
    assert old.run("worker", "--drain", "--device", "cpu").code == 1, "some wait for a person"
    outcomes = {run: call(old, "show", run, "--json").json["outcome"] for run in (29, 30, 31, 32, 36, 37)}
    expected = {29: "cancelled", 30: "succeeded", 31: "succeeded", 32: "succeeded", 36: "crashed", 37: "cancelled"}
    assert outcomes == expected
    waiting = {run["id"]: run["waiting"]["code"] for run in call(old, "status", "--json").json["queued"]}
    assert waiting == {27: "needs", 28: "needs", 33: "paused"}


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose JSON is read: the order in which keys were written is nothing."""
    return {key: json.loads(value) if key in AS_JSON and value else value for key, value in row.items()}


def process_at(path: Path) -> subprocess.Popen[str]:
    """A process that has a database open, as a worker has."""
    program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM runs').fetchone(); "
    program += "print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


WHO = {
    "the worker on cpu": "UPDATE workers SET boot_id = ?, pid = ?, pid_start = ? WHERE ended_at IS NULL",
    "run 37": "UPDATE attempts SET boot_id = ?, pid = ?, pid_start = ? WHERE finished_at IS NULL",
}


@pytest.mark.parametrize("who", WHO)
def test_an_old_workspace_is_not_migrated_under_whoever_still_works_in_it(lab: Lab, who: str) -> None:
    path = restored(lab.settings.database)
    process = process_at(path)
    try:
        connection = sqlite3.connect(path)
        changed = connection.execute(WHO[who], (clock.boot_id(), process.pid, processes.start_of(process.pid)))
        assert changed.rowcount == 1
        connection.commit()
        connection.close()
        before = contents(path)
        for words in (("submit", lab.spec()), ("worker", "--drain", "--device", "cpu")):
            refused = call(lab, *words)
            assert refused.code == 2
            assert "still in use" in refused.err
            assert who in refused.err
            assert f"process id {process.pid}, since 2026-11-27T" in refused.err
            assert len(refused.err.strip().splitlines()) == 1
        assert contents(path) == before
        assert not lab.settings.backups.exists()
    finally:
        process.communicate("")
    create_or_migrate(path).close()
    assert contents(path)["runs"][0]["attempt"] == 1


def resubmitted(db: Database, job: int) -> Submitted:
    """Submits a job of the old workspace once more, under the sources and packages with which it ran."""
    with db.read() as connection:
        row = connection.exec_driver_sql(
            "SELECT e.name, j.spec, j.spec_version, j.profile, j.device, j.sources_hash, j.packages_hash "
            "FROM jobs j JOIN experiments e ON e.id = j.experiment_id WHERE j.id = ?", (job,)
        ).one()  # fmt: skip
        runs = connection.exec_driver_sql(
            "SELECT kind, seed, varied, params, limits, spec_hash FROM runs r JOIN job_runs l ON l.run_id = r.id "
            "WHERE l.job_id = ? ORDER BY l.position", (job,)
        ).all()  # fmt: skip
    name, spec, version, profile, device, sources, packages = row
    parsed = [
        NewRun(kind, seed, *(Canonical.of(json.loads(text)) for text in (varied, params, limits)), spec_hash)
        for kind, seed, varied, params, limits, spec_hash in runs
    ]
    return add_jobs(
        db, [NewJob(name, json.loads(spec), version, profile, device, 0, [], None, None, sources, packages, parsed)]
    )[0]


def test_runs_of_an_old_workspace_are_reused(old: Lab) -> None:
    db = old.db
    assert sorted(resubmitted(db, 9).reused) == [1, 2, 3, 4, 5, 6, 17, 18, 19]
    assert resubmitted(db, 6).reused == [11], "it would take the artifact that it took then"
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE artifacts SET sha256 = 'another' WHERE run_id = 10")
    assert resubmitted(db, 6).reused == []


def test_an_old_export_is_imported(lab: Lab, tmp_path: Path) -> None:
    site = own_kinds.install(tmp_path, {"maker": MAKER, "taker": TAKER})
    answer = call(lab, "import", DATA / "export_0001.tar.gz", "--json", **site)
    assert answer.code == 0, answer.err
    digests = digests_of(contents(restored(tmp_path / "before.db")))
    for name in ("swept", "taker", "source", "fails", "crashes"):
        report = today(SAID["experiments"][name], digests)
        then = [run for run in report["runs"] if run["state"] == "finished"]
        now = call(lab, "report", name, "--json", **site).json
        keys = ("id", "outcome", "reason", "seed", "varied", "params", "metrics", "artifacts", "spec_hash", "wall_s")
        runs = [run_as_then(run) for run in now["runs"]]
        assert [[run[key] for key in keys] for run in runs] == [[run[key] for key in keys] for run in then]
        assert measured(now)["verdicts"] == measured(report)["verdicts"]
