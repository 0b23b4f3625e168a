"""Parameters of version 2 by the names of version 3: for the migration, and for exports that version 2 or 1 made.

Frozen. Hashes are made anew, as version 3 makes them, so that a submission under the new names finds what ran before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection

RENAMED = {"drill": {"ledger": "witness"}, "finetune": {"also": "extra_evals"}}
"""Kind → parameter of version 2 → its name in version 3; all of them stand at the top."""

Row = dict[str, Any]

COLUMNS = {
    "jobs": ("spec", "needs", "spec_version"),
    "runs": ("varied", "params", "adjusted", "spec_hash"),
    "attempts": ("adjusted",),
    "inputs": ("key",),
}
"""What is written anew where it has changed, of rows that have an id."""

READ = {
    "jobs": "SELECT id, experiment_id, device, spec, needs, spec_version FROM jobs",
    "runs": "SELECT id, experiment_id, kind, device, seed, varied, params, adjusted, spec_hash FROM runs",
    "job_runs": "SELECT job_id, run_id FROM job_runs",
    "attempts": "SELECT id, run_id, adjusted FROM attempts WHERE adjusted IS NOT NULL",
    "inputs": 'SELECT id, run_id, "key" FROM inputs',
}

JSON = {"spec", "needs", "varied", "params", "adjusted"}


def upgrade(connection: Connection) -> None:
    """Renames them in a results store of version 2; their hashes follow."""
    experiments = {row.id: row.name for row in connection.exec_driver_sql("SELECT id, name FROM experiments")}
    before = {name: _rows(connection, query) for name, query in READ.items()}
    tables = {name: [_read(row) for row in rows] for name, rows in before.items()}
    hashes = rename(tables, experiments)
    for table, columns in COLUMNS.items():
        for old, new in zip(before[table], tables[table], strict=True):
            for column in columns:
                if _read({column: old[column]})[column] != new[column]:
                    connection.exec_driver_sql(
                        f'UPDATE {table} SET "{column}" = ? WHERE id = ?',  # noqa: S608  # our own words
                        (_written(column, new[column]), new["id"]),
                    )
    for old_hash, new_hash in hashes.items():
        connection.exec_driver_sql("UPDATE needs SET spec_hash = ? WHERE spec_hash = ?", (new_hash, old_hash))


def rename(tables: Mapping[str, list[Row]], experiments: Mapping[int, str]) -> dict[str, str]:
    """Renames parameters in rows of ``jobs`` (with all runs of theirs in ``job_runs``), ``runs``, ``attempts`` and
    ``inputs``, in place. Returns the old spec hash → the new, of runs whose hash has changed.

    ``experiments`` are names by id. What is not as version 2 wrote it stays as it is.
    """
    kinds = {experiments[job["experiment_id"]]: job["spec"]["kind"] for job in tables["jobs"]}
    kinds |= {experiments[run["experiment_id"]]: run["kind"] for run in tables["runs"]}
    runs = {run["id"]: run for run in tables["runs"]}
    points: dict[int, list[Row]] = {job["id"]: [] for job in tables["jobs"]}
    for link in tables["job_runs"]:
        if link["run_id"] in runs and link["job_id"] in points:
            points[link["job_id"]].append(runs[link["run_id"]])
    before = {job["id"]: _versions(job, points[job["id"]]) for job in tables["jobs"]}
    hashes: dict[str, str] = {}
    for run in tables["runs"]:
        _rename_run(run, kinds, hashes)
    for attempt in tables["attempts"]:
        if attempt["run_id"] in runs:
            attempt["adjusted"] = _adjusted(attempt["adjusted"], runs[attempt["run_id"]]["kind"], kinds)
    for row in tables["inputs"]:
        if row["run_id"] in runs and row["key"].startswith("params."):
            row["key"] = f"params.{_key(runs[row['run_id']]['kind'], row['key'].removeprefix('params.'))}"
    versions: dict[str, str] = {}
    for job in tables["jobs"]:
        _rename_spec(job["spec"], kinds)
        for need in job["needs"]:
            need["where"] = _keys(kinds.get(need["experiment"], ""), need["where"])
            if "serves" in need:
                need["serves"] = {hashes.get(a, a): hashes.get(b, b) for a, b in need["serves"].items()}
        for old, new in zip(before[job["id"]], _versions(job, points[job["id"]]), strict=True):
            if old == job["spec_version"]:
                versions[old] = new
    for job in tables["jobs"]:
        # A job of reused runs tells not the points by which it was digested; another one of its version does.
        job["spec_version"] = versions.get(job["spec_version"], job["spec_version"])
    return hashes


def _rename_run(run: Row, kinds: Mapping[str, str], hashes: dict[str, str]) -> None:
    kind, old = run["kind"], _digest([run["kind"], run["device"], run["params"], run["seed"]])
    run["params"] = _params(kind, run["params"], kinds)
    run["varied"] = {key: _references(value, kinds) for key, value in _keys(kind, run["varied"]).items()}
    run["adjusted"] = _adjusted(run["adjusted"], kind, kinds)
    new = _digest([kind, run["device"], run["params"], run["seed"]])
    if old == run["spec_hash"] != new:
        hashes[old] = run["spec_hash"] = new


def _rename_spec(spec: Row, kinds: Mapping[str, str]) -> None:
    kind = spec["kind"]
    spec["params"] = _params(kind, spec.get("params") or {}, kinds)
    spec["axes"] = [_key(kind, key) for key in spec["axes"]]
    sweep = spec.get("sweep") or {}
    for block in (sweep, sweep.get("random") or {}, sweep.get("search") or {}):
        for name in ("grid", "zip", "space"):
            if block.get(name):
                block[name] = {key: _references(value, kinds) for key, value in _keys(kind, block[name]).items()}
    if sweep.get("list"):
        points = [_keys(kind, point) for point in sweep["list"]]
        sweep["list"] = [{key: _references(value, kinds) for key, value in point.items()} for point in points]
    tests = (test for each in spec["predictions"] for test in each.values() if isinstance(test, dict))
    for named in [*tests, *spec.get("plots", [])]:
        for name in ("where", "a", "b"):
            if isinstance(named.get(name), dict):
                named[name] = _keys(kind, named[name])
        for name in ("over", "by"):
            if isinstance(named.get(name), str):
                named[name] = _key(kind, named[name])
        if isinstance(named.get("without"), list):
            named["without"] = [_keys(kind, point) for point in named["without"]]
    for need in spec.get("needs", []):
        if isinstance(need, dict):
            need["where"] = _keys(kinds.get(need["experiment"], ""), need.get("where", {}))


def _key(kind: str, key: str) -> str:
    head, dot, rest = key.partition(".")
    return f"{RENAMED.get(kind, {}).get(head, head)}{dot}{rest}"


def _keys(kind: str, values: Mapping[str, Any]) -> Row:
    return {_key(kind, key): value for key, value in values.items()}


def _params(kind: str, params: Mapping[str, Any], kinds: Mapping[str, str]) -> Row:
    names = RENAMED.get(kind, {})
    return {names.get(key, key): _references(value, kinds) for key, value in params.items()}


def _references(value: Any, kinds: Mapping[str, str]) -> Any:
    """A value in which every ``from_run`` chooses by the names of the kind that it takes from."""
    if isinstance(value, list):
        return [_references(inner, kinds) for inner in value]
    if not isinstance(value, dict):
        return value
    named = value.get("from_run")
    if set(value) == {"from_run"} and isinstance(named, dict) and isinstance(named.get("where"), dict):
        return {"from_run": {**named, "where": _keys(kinds.get(named.get("experiment", ""), ""), named["where"])}}
    return {key: _references(inner, kinds) for key, inner in value.items()}


def _adjusted(adjusted: Row | None, kind: str, kinds: Mapping[str, str]) -> Row | None:
    return {**adjusted, "params": _params(kind, adjusted["params"], kinds)} if adjusted else adjusted


def _versions(job: Row, runs: Iterable[Row]) -> tuple[str, str]:
    """What a job's ``spec_version`` would be if its runs are its points, and if its search is."""
    spec = job["spec"]
    points = {f"[{_canonical(run['varied'])},{_canonical(run['params'])}]" for run in runs}
    search = (spec.get("sweep") or {}).get("search") or {}
    searched = _canonical([spec.get("params"), {key: value for key, value in search.items() if key != "trials"}])
    return _digest([spec["kind"], job["device"], sorted(points)]), _digest([spec["kind"], job["device"], [searched]])


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _digest(value: object) -> str:
    return hashlib.sha256(_canonical(value).encode()).hexdigest()


def _rows(connection: Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.exec_driver_sql(query).mappings()]


def _read(row: dict[str, Any]) -> dict[str, Any]:
    return {key: json.loads(value) if key in JSON and value is not None else value for key, value in row.items()}


def _written(column: str, value: Any) -> Any:
    if column not in JSON:
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
