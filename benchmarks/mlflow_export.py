"""Whether a real MLflow reads what ``labqueue export --mlflow`` writes: every run, parameter, point and artifact.

MLflow is no dependency of the lab. Install it into an environment of its own and name that environment's Python::

    python3 -m venv /tmp/mlflow && /tmp/mlflow/bin/pip install mlflow
    python benchmarks/mlflow_export.py /tmp/mlflow/bin/python

A version from 3.13 on reads through its own ``mlflow migrate-filestore``, an older one reads the folder itself. Exit 1
when anything differs from the results store.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from labqueue.settings import Settings
from labqueue.store.db import create_or_migrate
from labqueue.store.runs import control, results
from labqueue.system.files import sha256

NAMES = ["loss", "eval/loss", "eval", "größe 模型", "a*b", "a?b", "x" * 240]
"""Of metrics: a folder in a name, a name that is that folder, letters of other scripts, two that clean to the same."""

POINTS = 2_000

READ = """
import json, sys, mlflow
client = mlflow.MlflowClient(sys.argv[1])
runs = {}
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id]):
        points = {name: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)]
                  for name in run.data.metrics}
        files = [inner.path for top in client.list_artifacts(run.info.run_id)
                 for inner in client.list_artifacts(run.info.run_id, top.path)]
        runs[run.data.tags["labqueue.run"]] = {
            "experiment": experiment.name, "status": run.info.status, "params": run.data.params, "points": points,
            "files": files, "start": run.info.start_time, "end": run.info.end_time,
            "outcome": run.data.tags["labqueue.outcome"]}
print(json.dumps({"version": mlflow.__version__, "runs": runs}))
"""


def fill(root: Path) -> None:
    """Two runs that end differently, with awkward names, written by the lab itself."""
    spec = root / "drill.yaml"
    spec.write_text("name: drill\nkind: drill\nparams: {steps: 3, step_s: 0}\nseeds: [0, 1]\n")
    lab = [sys.executable, "-m", "labqueue", "--root", str(root)]
    subprocess.run([*lab, "submit", str(spec), "--profile", "cpu"], check=True, capture_output=True)
    subprocess.run([*lab, "worker", "--drain", "--device", "cpu"], check=True, capture_output=True)
    subprocess.run([*lab, "submit", str(spec), "--profile", "cpu", "--seeds", "7"], check=True, capture_output=True)
    from labqueue.domain.state import Ending
    from labqueue.store.runs import attempts

    db = create_or_migrate(Settings(root).database)
    worker = results.register_worker(db, device="cpu", host="here", pid=1, pid_start=1)
    claim = attempts.claim(db, device="cpu", worker_id=worker)
    assert claim is not None
    points = [(name, step, step / 7) for name in NAMES for step in range(POINTS)]
    results.flush(db, claim.ref, [*points, ("nan", 1, None)], None, [])
    left = Settings(root).run("drill", claim.run_id) / "größe.txt"
    left.parent.mkdir(parents=True)
    left.write_text("left behind")
    about: dict[str, Any] = {
        "path": Settings(root).relative(left),
        "sha256": sha256(left),
        "bytes": left.stat().st_size,
    }
    results.add_artifact(db, claim.ref, name="größe", type="file", **about)
    control.cancel(db, str(claim.run_id))
    attempts.end(db, claim.ref, Ending.CANCELLED, "enough")
    db.close()


def read(python: str, uri: str) -> Any:
    """What MLflow sees there."""
    done = subprocess.run([python, "-W", "ignore", "-c", READ, uri], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(python: str) -> int:
    """Exports, reads back, compares; returns the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "lab", Path(folder) / "mlruns"
        root.mkdir()
        fill(root)
        lab = [sys.executable, "-m", "labqueue", "--root", str(root)]
        for _ in range(2):  # the second replaces the first
            subprocess.run([*lab, "export", "--all", "--mlflow", str(out)], check=True, capture_output=True)
        said = subprocess.run(
            [python, "-c", "import mlflow; print(mlflow.__version__)"], capture_output=True, text=True
        )
        version = tuple(int(part) for part in said.stdout.split(".")[:2])
        uri = f"sqlite:///{folder}/mlflow.db"
        if version >= (3, 13):
            command = [python, "-m", "mlflow", "migrate-filestore", "--source", str(out), "--target", uri]
            subprocess.run(command, check=True, capture_output=True)
        else:
            uri = out.as_uri()
        seen = read(python, uri)
        ours = json.loads(subprocess.run([*lab, "report", "drill", "--json"], capture_output=True, check=True).stdout)
        wrong = list(differences(ours, seen["runs"]))
    points = sum(len(series) for run in seen["runs"].values() for series in run["points"].values())
    print(f"MLflow {seen['version']} read {len(seen['runs'])} runs and {points:,} points at {uri.split(':')[0]}")
    for words in wrong:
        print(f"WRONG: {words}")
    whole = len(seen["runs"]) == 3 and sum(len(run["files"]) for run in seen["runs"].values()) >= 1
    return 0 if whole and not wrong else 1


def differences(report: Any, seen: dict[str, Any]) -> Any:
    """In sentences."""
    statuses = {"succeeded": "FINISHED", "cancelled": "KILLED"}
    for run in report["runs"]:
        there = seen.get(str(run["id"]))
        if there is None:
            yield f"run {run['id']} is not there"
            continue
        if there["status"] != statuses[run["outcome"]] or there["outcome"] != run["outcome"]:
            yield f"run {run['id']} ended {run['outcome']}, there {there['status']}"
        if there["params"].get("steps") != "3" or there["params"].get("seed") != str(run["seed"]):
            yield f"run {run['id']} has other parameters there: {there['params']}"
        measured = {name: metric["points"] for name, metric in run["metrics"].items() if metric["last"] is not None}
        if sorted(measured.values()) != sorted(len(series) for series in there["points"].values()):
            yield f"run {run['id']} has other points there"
        if any(series != sorted(series) for series in there["points"].values()):
            yield f"run {run['id']} has points out of order"
        if len(there["files"]) != len(run["artifacts"]):
            yield f"run {run['id']} has {len(run['artifacts'])} artifacts, there {there['files']}"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1]))
