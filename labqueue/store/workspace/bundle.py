"""Finished runs out of a results store as plain rows, and whether such rows can be believed. Stores nothing.

Rows that come from elsewhere are checked, every column by name and type; ``incoming`` stores them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Connection, Table, select

from labqueue.domain import values
from labqueue.domain.errors import LabError
from labqueue.domain.spec.registration import digest
from labqueue.domain.state import State
from labqueue.store.tables import (
    Artifact,
    Attempt,
    Environment,
    Event,
    Experiment,
    Input,
    Job,
    JobRun,
    Metric,
    Registration,
    Run,
    Sample,
    Series,
    Worker,
)

TABLES: tuple[Table, ...] = (
    Job, Registration, Run, JobRun, Worker, Environment, Attempt, Artifact, Input, Series, Sample, Event,
)  # fmt: skip
"""What an export consists of, in the order in which it can be stored; points of metrics come apart."""

CHUNK = 5_000
"""Points in one piece."""

TEXT_LIMIT = 10_000_000
"""Characters of one text: more is no parameter, no reason and no patch."""

YEAR_9999_S = 253_370_764_800
"""Unix time after which no calendar can write a moment down."""

_SPEC_KEYS = {"track": str, "kind": str, "hypothesis": str, "methodology": str, "questions": list, "predictions": list,
              "axes": list}  # fmt: skip

Row = dict[str, Any]
Points = tuple[int, list[tuple[int, float | None]]]
"""Series id there, and some of its points."""


@dataclass
class Bundle:
    """Finished runs of one workspace, without their points. Ids are that workspace's."""

    workspace: str
    experiments: dict[int, str]
    tables: dict[str, list[Row]] = field(default_factory=lambda: {table.name: [] for table in TABLES})
    unfinished: int = 0

    @property
    def runs(self) -> dict[int, Row]:
        """Runs by id."""
        return {row["id"]: row for row in self.tables["runs"]}

    @property
    def names(self) -> dict[int, str]:
        """Experiment of each run, by the run's id."""
        return {row["id"]: self.experiments[row["experiment_id"]] for row in self.tables["runs"]}

    def drop(self, refused: Iterable[int]) -> None:
        """Takes runs out, with everything that is theirs."""
        gone = set(refused)
        self.tables["runs"] = [row for row in self.tables["runs"] if row["id"] not in gone]
        for name in ("job_runs", "attempts", "artifacts", "inputs", "series", "samples", "events"):
            self.tables[name] = [row for row in self.tables[name] if row["run_id"] not in gone]

    def leave_models(self) -> list[int]:
        """Takes artifacts of type ``model`` out, and notes each with its run; returns their sizes in bytes."""
        behind = [row for row in self.tables["artifacts"] if row["type"] == "model"]
        self.tables["artifacts"] = [row for row in self.tables["artifacts"] if row["type"] != "model"]
        ids = max((row["id"] for row in self.tables["events"]), default=0)
        for number, row in enumerate(behind, ids + 1):
            words = (
                f"artifact {row['name']} ({row['bytes']:,} bytes, SHA-256 {row['sha256']}) was left out of an export"
            )
            at = self.runs[row["run_id"]]["finished_at"]
            event = {"id": number, "at": at, "run_id": row["run_id"], "kind": "note", "text": words}
            self.tables["events"].append(event)
        return [row["bytes"] for row in behind]


def collect(connection: Connection, workspace: str, names: Sequence[str]) -> Bundle:
    """The finished runs of experiments, from an open transaction."""
    query = select(Experiment.c.id, Experiment.c.name).where(Experiment.c.name.in_(names))
    chosen = {row.id: row.name for row in connection.execute(query)}
    bundle = Bundle(workspace, chosen)
    for experiment_id in chosen:
        mine = select(Run.c.id).where(Run.c.experiment_id == experiment_id)
        done = mine.where(Run.c.state == State.FINISHED)
        bundle.unfinished += len(connection.execute(mine.where(Run.c.state != State.FINISHED)).all())
        wanted: dict[Table, Any] = {
            Job: Job.c.experiment_id == experiment_id,
            Registration: Registration.c.experiment_id == experiment_id,
            Run: Run.c.id.in_(done),
            **{table: table.c.run_id.in_(done) for table in (JobRun, Attempt, Artifact, Input, Series, Sample, Event)},
        }
        for table, where in wanted.items():
            rows = connection.execute(select(table).where(where)).mappings()
            bundle.tables[table.name] += [dict(row) for row in rows]
    for table, key in ((Worker, "worker_id"), (Environment, "environment_id")):
        ids = sorted({row[key] for row in bundle.tables["attempts"] if row[key] is not None})
        rows = connection.execute(select(table).where(table.c.id.in_(ids))).mappings()
        bundle.tables[table.name] = [dict(row) for row in rows]
    return bundle


def points(connection: Connection, series: Iterable[int]) -> Iterator[Points]:
    """The points of series, in pieces."""
    for series_id in series:
        query = select(Metric.c.step, Metric.c.value).where(Metric.c.series_id == series_id).order_by(Metric.c.step)
        for piece in connection.execute(query).partitions(CHUNK):
            yield series_id, [(step, value) for step, value in piece]


def check(bundle: Bundle) -> None:
    """Refuses rows that no lab of this version has written.

    Raises:
        LabError: a column is missing, unknown or of another type, or a row points at none.
    """
    for name in bundle.experiments.values():
        if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
            raise LabError(f"{name!r} is no name of an experiment")
    for table in TABLES:
        for row in bundle.tables[table.name]:
            _check_row(table, row)
    for job in bundle.tables["jobs"]:
        if any(not isinstance(job["spec"].get(key), kind) for key, kind in _SPEC_KEYS.items()):
            raise LabError(f"the spec of job {job['id']} is not one that this lab has written")
        if not isinstance(job["spec"].get("plots", []), list):
            raise LabError(f"the plots of job {job['id']} are not what this lab writes")
        if not isinstance(job["needs"], list) or not all(isinstance(need, dict) for need in job["needs"]):
            raise LabError(f"the needs of job {job['id']} are not what this lab writes")
        if not all(isinstance(each, dict) and isinstance(each.get("id"), str) for each in job["spec"]["predictions"]):
            raise LabError(f"the predictions of job {job['id']} are not what this lab writes")
    for row in bundle.tables["registrations"]:
        stated = row["prediction"]
        if not isinstance(stated, dict) or stated.get("id") != row["prediction_id"] or digest(stated) != row["digest"]:
            raise LabError(f"the registration of {row['prediction_id']!r:.80} has not the digest of its clause")
    for attempt in bundle.tables["attempts"]:
        if attempt["patch"] is not None and not re.fullmatch(r"outputs/patches/[0-9a-f]{16}\.patch", attempt["patch"]):
            raise LabError(f"the patch of an attempt of run {attempt['run_id']} is {attempt['patch']!r:.80}, no patch")
    for run in bundle.tables["runs"]:
        if not all(isinstance(run[name], dict) for name in ("varied", "params", "limits")):
            raise LabError(f"the parameters of run {run['id']} are not what this lab writes")
    ids = {name: {row["id"] for row in bundle.tables[name]} for name in ("jobs", "runs", "workers", "environments")}
    ids["experiments"] = set(bundle.experiments)
    links = {"experiment_id": "experiments", "job_id": "jobs", "run_id": "runs", "worker_id": "workers",
             "environment_id": "environments"}  # fmt: skip
    for table in TABLES:
        for row in bundle.tables[table.name]:
            for column, target in links.items():
                if row.get(column) is not None and row[column] not in ids[target]:
                    raise LabError(f"a row of {table.name} points at {column} {row[column]}, which is not there")
    if any(row["state"] != State.FINISHED for row in bundle.tables["runs"]):
        raise LabError("only finished runs can be imported")


def _check_row(table: Table, row: Row) -> None:
    known = {column.name: column for column in table.columns}
    if row.keys() != known.keys():
        odd = sorted(set(row) ^ set(known))[0]
        raise LabError(f"a row of {table.name} has not the columns of this version ({odd!r})")
    for name, column in known.items():
        value = row[name]
        if value is None and column.nullable:
            continue
        wanted: tuple[type, ...] = (dict, list) if isinstance(column.type, JSON) else (column.type.python_type,)
        right = isinstance(value, (*wanted, int) if float in wanted else wanted)
        if not right or (isinstance(value, bool) and bool not in wanted):
            raise LabError(f"{name} in a row of {table.name} is {value!r:.60}, which it cannot be")
        if (
            (isinstance(value, str) and len(value) > TEXT_LIMIT)
            or (isinstance(value, float) and not math.isfinite(value))
            or (isinstance(value, int) and values.fault(value) is not None)
            or (name.endswith("_at") and not 0 <= value < YEAR_9999_S)
        ):
            raise LabError(f"{name} in a row of {table.name} is out of all bounds")


def names(connection: Connection) -> list[str]:
    """All experiments of a results store, from an open transaction."""
    return list(connection.execute(select(Experiment.c.name).order_by(Experiment.c.name)).scalars())
