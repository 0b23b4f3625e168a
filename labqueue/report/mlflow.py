"""Runs as MLflow keeps them: its names and limits, its folder layout, and its client where a server or database asks.

MLflow before 3.13 reads the folders as they are (``--backend-store-uri DIR``); from 3.13 on it wants a database, made
of them by its own ``mlflow migrate-filestore --source DIR --target sqlite:///DIR/mlflow.db``. Names, lengths and the
layout are those of MLflow's ``utils/validation.py`` and ``store/tracking/file_store.py``, versions 2.22 and 3.17.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import posixpath
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.domain.views import ExperimentView, RunView
from labqueue.report.document.export import plain
from labqueue.report.statistics.pairing import SeriesReader, text

KEY_LENGTH = 250
PARAM_LENGTH = 6000
TAG_LENGTH = 5000
"""MLflow's limits in characters; 2.x allows tags 5000 of them."""

PART_BYTES = 180
"""Of one part of a name: it becomes a file's name, of which file systems allow 255 bytes."""

BATCH = 1000
"""Metrics in one call of MLflow's client; its limit."""

STATUS = {"succeeded": ("FINISHED", 3), "cancelled": ("KILLED", 5), "pruned": ("KILLED", 5)}
"""Outcome → MLflow's word and number; every other outcome is FAILED, 4. The outcome itself is a tag."""


@dataclass(frozen=True)
class Exported:
    """A finished run in MLflow's terms. Times are unix milliseconds."""

    key: str
    """Workspace and run id: by it a later export knows the run again."""
    name: str
    status: tuple[str, int]
    start_ms: int
    end_ms: int
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[tuple[int, float]]]
    artifacts: dict[str, Path]


def exported(
    experiment: ExperimentView, series: SeriesReader, root: Path, workspace: str, *, artifacts: bool = True
) -> list[Exported]:
    """The finished runs of an experiment in MLflow's terms. What was not measured is left out, never 0."""
    found = []
    for run in experiment.runs:
        if run.outcome is None:
            continue
        names = clean(sorted(run.metrics))
        points = {names[name]: series.series(run.id, name) for name in run.metrics}
        start = _ms(run.started_at or run.queued_at)
        found.append(
            Exported(
                key=f"{workspace}:{run.id}",
                name=_name(run),
                status=STATUS.get(run.outcome, ("FAILED", 4)),
                start_ms=start,
                end_ms=_ms(run.finished_at or run.queued_at),
                params=_params(run),
                tags=_tags(run, experiment, workspace),
                metrics={
                    name: [(step, value) for step, value in values if value is not None]
                    for name, values in points.items()
                },
                artifacts={kept.name: root / kept.path for kept in run.artifacts} if artifacts else {},
            )
        )
    return found


def clean(names: Iterable[str]) -> dict[str, str]:
    """Each name as MLflow takes it: letters, digits and ``_-. :/``, no odd path, short enough.

    Different names stay different, and none is a folder of another: MLflow keeps each in a file.
    """
    listed = list(names)
    shown = {name: _clean(name) for name in listed}
    folders = {parent for name in shown.values() for parent in _parents(name)}
    taken: set[str] = set()
    for name in listed:
        if shown[name] in folders or shown[name] in taken:
            shown[name] = f"{shown[name][: KEY_LENGTH - 9]}-{_digest(name)[:8]}"
        taken.add(shown[name])
    return shown


def _clean(name: str) -> str:
    allowed = re.sub(r"[^/\w.\- :]", "_", name)
    parts = [_short(part) for part in posixpath.normpath(allowed).split("/") if part not in ("", ".", "..")]
    whole = "/".join(parts) or "_"
    if whole.startswith(".."):  # MLflow takes any such name for a way out of its folder
        whole = f"_{whole[1:]}"
    return whole if len(whole) <= KEY_LENGTH else f"{whole[: KEY_LENGTH - 9].rstrip('/')}-{_digest(name)[:8]}"


def _short(part: str) -> str:
    if len(part.encode()) <= PART_BYTES:
        return part
    return f"{part.encode()[: PART_BYTES - 9].decode(errors='ignore')}-{_digest(part)[:8]}"


def _parents(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _digest(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()


def _params(run: RunView) -> dict[str, str]:
    flat: dict[str, str] = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)

    walk(run.params, "")
    flat.setdefault("seed", str(run.seed))
    names = clean(flat)
    return {names[key]: _cut(value, PARAM_LENGTH) for key, value in flat.items()}


def _tags(run: RunView, experiment: ExperimentView, workspace: str) -> dict[str, str]:
    tags: dict[str, object] = {
        "mlflow.runName": _name(run),
        "mlflow.note.content": experiment.hypothesis.strip(),
        "mlflow.source.git.commit": run.commit,
        "labqueue.workspace": workspace,
        "labqueue.run": run.id,
        "labqueue.outcome": run.outcome,
        "labqueue.reason": run.reason,
        "labqueue.kind": run.kind,
        "labqueue.profile": run.profile,
        "labqueue.device": run.device,
        "labqueue.seed": run.seed,
        "labqueue.spec_hash": run.spec_hash,
        "labqueue.wall_s": run.wall_s,
        "labqueue.peak_memory_gib": run.peak_memory_gib,
    }
    return {key: _cut(str(value), TAG_LENGTH) for key, value in tags.items() if value not in (None, "")}


def _name(run: RunView) -> str:
    point = " ".join(f"{key.rpartition('.')[2]}={text(value, 30)}" for key, value in run.varied.items())
    return " ".join(filter(None, [f"run {run.id}", point, f"seed={run.seed}"]))[:KEY_LENGTH]


def _cut(words: str, limit: int) -> str:
    return words if len(words) <= limit else f"{words[: limit - 1]}…"


def _ms(stamp: str) -> int:
    return round(datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp() * 1000)


def write_folder(directory: Path, experiment: str, runs: Sequence[Exported]) -> int:
    """Writes runs into an ``mlruns`` folder, replacing those of an earlier export; returns how many.

    Raises:
        LabError: the folder cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        home = _experiment_folder(directory.resolve(), experiment)
        for run in runs:
            _write_run(home, run)
    except OSError as error:
        raise LabError(f"cannot write {error.filename or directory}: {error.strerror}") from error
    return len(runs)


def _experiment_folder(directory: Path, experiment: str) -> Path:
    for known in sorted(directory.glob("*/meta.yaml")):
        if f"name: {_yaml(experiment)}" in known.read_text(encoding="utf-8").splitlines():
            return known.parent
    # Eighteen digits, as MLflow's own; made of the name, so that two exports of one experiment meet.
    number = str(int(_digest(experiment), 16) % 10**18).zfill(18)
    home = directory / number
    home.mkdir(exist_ok=True)
    meta = {"artifact_location": home.as_uri(), "experiment_id": number, "lifecycle_stage": "active"}
    _write_meta(home, {**meta, "name": experiment})
    return home


def _write_run(home: Path, run: Exported) -> None:
    run_id = _digest(run.key)[:32]
    final, aside = home / run_id, home.parent / f".{run_id}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    for kind in ("params", "tags", "metrics", "artifacts"):
        (aside / kind).mkdir(parents=True)
    for kind, values in (("params", run.params), ("tags", run.tags)):
        for name, value in values.items():
            _write(aside / kind / name, value)
    for name, points in run.metrics.items():
        if points:
            _write(aside / "metrics" / name, "".join(f"{run.start_ms} {value!r} {step}\n" for step, value in points))
    for name, path in run.artifacts.items():
        _copy(path, aside / "artifacts" / _clean(name))
    meta = {
        "artifact_uri": f"{final.as_uri()}/artifacts", "end_time": run.end_ms, "entry_point_name": "",
        "experiment_id": home.name, "lifecycle_stage": "active", "run_id": run_id, "run_name": run.name,
        "run_uuid": run_id, "source_name": "", "source_type": 4, "source_version": "", "start_time": run.start_ms,
        "status": run.status[1], "tags": [], "user_id": "labqueue",
    }  # fmt: skip
    _write_meta(aside, meta)
    if final.exists():
        shutil.rmtree(final)
    aside.rename(final)


def _write_meta(folder: Path, meta: Mapping[str, object]) -> None:
    _write(folder / "meta.yaml", "".join(f"{key}: {_yaml(value)}\n" for key, value in meta.items()))


def _yaml(value: object) -> str:
    # JSON is YAML, but for the pairs of surrogates by which JSON in ASCII writes what has four bytes.
    return json.dumps(value, ensure_ascii=False)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8", newline="")


def _copy(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, target)
    elif path.exists():
        target.mkdir(parents=True)
        shutil.copyfile(path, target / path.name)


def send(uri: str, experiment: str, runs: Sequence[Exported]) -> int:
    """Gives runs to an MLflow server or database through MLflow's own client; those it has are left alone.

    Returns how many were new.

    Raises:
        LabError: MLflow is not installed here, or refuses.
    """
    try:
        mlflow: Any = importlib.import_module("mlflow")
    except ImportError as error:
        cure = "install it beside the lab (`uv pip install mlflow`), or export to a folder: --mlflow DIR"
        raise LabError(f"--mlflow {uri} needs the package mlflow: {cure}") from error
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
        number = known.experiment_id if known is not None else client.create_experiment(experiment)
        new = [run for run in runs if not _has(client, number, run)]
        for run in new:
            _send(client, mlflow.entities, number, run)
    except mlflow.exceptions.MlflowException as error:
        raise LabError(f"MLflow at {uri} refuses: {' '.join(str(error).split())}") from error
    return len(new)


def _has(client: Any, number: str, run: Exported) -> bool:
    workspace, _, run_id = run.key.rpartition(":")
    asked = f"tags.`labqueue.workspace` = '{workspace}' and tags.`labqueue.run` = '{run_id}'"
    return any(found.info.end_time is not None for found in client.search_runs([number], asked))


def _send(client: Any, entities: Any, number: str, run: Exported) -> None:
    made = client.create_run(number, start_time=run.start_ms, tags=run.tags, run_name=run.name).info.run_id
    points = ((name, *point) for name, series in run.metrics.items() for point in series)
    metrics = [entities.Metric(name, value, run.start_ms, step) for name, step, value in points]
    params = [entities.Param(key, value) for key, value in run.params.items()]
    for at in range(0, len(params), 100):
        client.log_batch(made, params=params[at : at + 100])
    for at in range(0, len(metrics), BATCH):
        client.log_batch(made, metrics=metrics[at : at + BATCH])
    for name, path in run.artifacts.items():
        if path.is_dir():
            client.log_artifacts(made, str(path), _clean(name))
        elif path.exists():
            client.log_artifact(made, str(path), _clean(name))
    # Last, so that a run whose transfer was cut short is sent again.
    client.set_terminated(made, run.status[0], run.end_ms)
