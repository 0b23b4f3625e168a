"""A workspace of schema version 2, whose parameters have other names now, goes on under the new ones.

Such a workspace is made by the lab of today and written back as version 2 had it: names and hashes, nothing else.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from labqueue import kinds
from labqueue.domain.canonical import canonical, digest
from labqueue.store.db import create_or_migrate
from labqueue.store.migrations.version_2_names import RENAMED, rename
from tests.commands import call
from tests.conftest import Lab
from tests.store.test_old_workspace import contents

BASE = """
name: base
kind: drill
params: {steps: 2, step_s: 0.0}
sweep: {grid: {witness: [a.txt, b.txt]}}
seeds: [0, 1]
predictions:
  - {id: p, claim: c, threshold: {metric: value, below: 9, where: {witness: a.txt}}}
"""

AFTER = """
name: after
kind: drill
params: {steps: 2, step_s: 0.0, witness: {from_run: {experiment: base, where: {witness: b.txt}, seed: 0, artifact: x}}}
needs: [{experiment: base, where: {witness: a.txt}}]
"""

HUNT = """
name: hunt
kind: drill
params: {steps: 2, step_s: 0.0}
sweep:
  search:
    trials: 4
    metric: value
    direction: minimize
    space: {witness: {choice: [c.txt, d.txt]}, distance: {uniform: [0, 1]}}
"""


def as_version_2(path: Path) -> None:
    """Writes the names and hashes of version 2 into a database of today."""
    connection = sqlite3.connect(path)

    def old(value: Any) -> Any:
        return json.loads(canonical(value).replace('"witness', '"ledger'))

    hashes = {}
    for run, kind, device, params, seed, spec_hash in connection.execute(
        "SELECT id, kind, device, params, seed, spec_hash FROM runs"
    ).fetchall():
        hashes[spec_hash] = digest([kind, device, old(json.loads(params)), seed])
        connection.execute("UPDATE runs SET spec_hash = ? WHERE id = ?", (hashes[spec_hash], run))
    for table, column in (("runs", "params"), ("runs", "varied"), ("jobs", "spec"), ("jobs", "needs")):
        for row, text in connection.execute(f"SELECT id, {column} FROM {table}").fetchall():
            for new, before in hashes.items():
                text = text.replace(new, before)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (canonical(old(json.loads(text))), row))
    for new, before in hashes.items():
        connection.execute("UPDATE needs SET spec_hash = ? WHERE spec_hash = ?", (before, new))
    for job, spec, device in connection.execute("SELECT id, spec, device FROM jobs").fetchall():
        query = "SELECT varied, params FROM runs JOIN job_runs ON run_id = id WHERE job_runs.job_id = ?"
        points = sorted({f"[{varied},{params}]" for varied, params in connection.execute(query, (job,))})
        frozen = json.loads(spec)
        if frozen["sweep"] and frozen["sweep"]["search"] and not frozen["name"].endswith("_preflight"):
            search = {key: value for key, value in frozen["sweep"]["search"].items() if key != "trials"}
            points = [canonical([frozen["params"], search])]
        version = digest([frozen["kind"], device, points])
        connection.execute("UPDATE jobs SET spec_version = ? WHERE id = ?", (version, job))
    connection.execute("DROP TABLE registrations")
    connection.execute("DROP TABLE samples")
    for table, column in (("runs", "progress_phase"), ("runs", "keep_asked_at"), ("attempts", "last_phase")):
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    connection.execute("UPDATE alembic_version SET version_num = '0002'")
    connection.execute("PRAGMA user_version = 2")
    connection.commit()
    connection.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Three experiments of which the first has run."""
    lab = Lab(tmp_path_factory.mktemp("made"))
    assert call(lab, "submit", lab.text(BASE, "base"), "--profile", "cpu", "--preflight").code == 0
    assert lab.run("worker", "--drain", "--device", "cpu").code == 0
    for name, text in (("after", AFTER), ("hunt", HUNT)):
        assert call(lab, "submit", lab.text(text, name), "--profile", "cpu").code == 0
    return lab


def test_names_and_hashes_of_an_old_workspace_become_those_of_today(made: Lab, tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with sqlite3.connect(made.settings.database) as source, sqlite3.connect(path) as target:
        source.backup(target)
    today = contents(path)
    as_version_2(path)
    then = contents(path)
    assert "witness" not in canonical([then["runs"], then["jobs"]])
    changed = [a["spec_hash"] != b["spec_hash"] for a, b in zip(today["runs"], then["runs"], strict=True)]
    assert all(changed), "else the law below says nothing of hashes"
    assert then["jobs"] != today["jobs"]
    create_or_migrate(path).close()
    assert contents(path) == today


def test_what_ran_under_the_old_name_is_reused_and_reported_under_the_new(made: Lab) -> None:
    before = call(made, "report", "base", "--json").json
    as_version_2(made.settings.database)
    assert call(made, "submit", made.text(BASE, "base"), "--profile", "cpu", "--json").json["reused"] == [2, 3, 4, 5]
    after = call(made, "report", "base", "--json").json
    assert [run["spec_hash"] for run in after["runs"]] == [run["spec_hash"] for run in before["runs"]]
    assert (after["verdicts"], after["spec_version"]) == (before["verdicts"], before["spec_version"])


def test_names_of_fine_tuning_are_renamed_wherever_a_spec_has_them() -> None:
    extra = [{"name": "sums", "task": "chain_sum"}]
    params = {"also": extra, "data": {"also": 1}}
    run = {"id": 1, "experiment_id": 1, "kind": "finetune", "device": "cpu", "seed": 0, "varied": {"also": extra},
           "params": params, "adjusted": {"params": params, "tried": []}}  # fmt: skip
    run["spec_hash"] = old = digest(["finetune", "cpu", params, 0])
    spec = {"kind": "finetune", "params": params, "axes": ["also"], "sweep": {"list": [{"also": extra}]},
            "predictions": [{"id": "p", "trend": {"over": "also", "where": {"also": 1}}}],
            "plots": [{"x": "a", "y": "b", "by": "also", "without": [{"also": 1}]}], "needs": ["other"]}  # fmt: skip
    job = {"id": 1, "experiment_id": 1, "device": "cpu", "spec": spec, "needs": [], "spec_version": "another"}
    taken = {"id": 2, "experiment_id": 2, "kind": "generate", "device": "cpu", "seed": 0, "varied": {},
             "adjusted": None,
             "params": {"adapter": {"from_run": {"experiment": "tuned", "where": {"also": 1}, "artifact": "a"}}},
             "spec_hash": "of another version"}  # fmt: skip
    tables: dict[str, list[dict[str, Any]]] = {
        "jobs": [job], "runs": [run, taken], "job_runs": [{"job_id": 1, "run_id": 1}],
        "attempts": [{"id": 1, "run_id": 1, "adjusted": {"params": params, "tried": []}}],
        "inputs": [{"id": 1, "run_id": 1, "key": "params.also"}],
    }  # fmt: skip
    hashes = rename(tables, {1: "tuned", 2: "asked"})
    new = {"extra_evals": extra, "data": {"also": 1}}
    assert (run["params"], run["varied"], run["adjusted"]) == (
        new,
        {"extra_evals": extra},
        {"params": new, "tried": []},
    )
    assert hashes == {old: digest(["finetune", "cpu", new, 0])}
    assert run["spec_hash"] == hashes[old]
    assert taken["params"]["adapter"]["from_run"]["where"] == {"extra_evals": 1}
    assert taken["spec_hash"] == "of another version"
    assert '"also' not in canonical([spec["axes"], spec["sweep"], spec["predictions"], spec["plots"]])
    assert tables["inputs"][0]["key"] == "params.extra_evals"
    assert tables["attempts"][0]["adjusted"]["params"] == new
    assert job["spec_version"] == "another"


def test_what_the_migration_renames_is_what_specs_are_refused_for() -> None:
    assert {name: dict(kinds.get(name).params.RENAMED) for name in RENAMED} == RENAMED
