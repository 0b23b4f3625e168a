"""Runs of another workspace into this store: all that are new in one transaction, under ids of their own here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select, text
from sqlalchemy.exc import IntegrityError

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.store.db import Database
from labqueue.store.runs import needs, registrations
from labqueue.store.series import roll_up
from labqueue.store.tables import (
    Artifact,
    Attempt,
    Environment,
    Event,
    Experiment,
    Input,
    Job,
    JobRun,
    Run,
    Sample,
    Series,
    Worker,
)
from labqueue.store.workspace import archive, identity
from labqueue.store.workspace.bundle import Bundle, Points, Row
from labqueue.system import clock


@dataclass(frozen=True)
class Admitted:
    """What became of a bundle: ids there → ids here."""

    new: dict[int, int]
    known: dict[int, int]


def known(connection: Connection, workspace: str) -> dict[int, int]:
    """Runs of a workspace that have come before and are still here: ids there → ids here."""
    here = set(connection.execute(select(Run.c.id)).scalars())
    return {theirs: ours for theirs, ours in identity.of(connection, workspace).runs.items() if ours in here}


def admit(
    db: Database,
    bundle: Bundle,
    read_points: Callable[[set[int]], Iterable[Points]],
    place: Callable[[str, int, int], None],
    free: Callable[[str, int], bool],
) -> Admitted:
    """Stores a bundle in one transaction; runs that have come before are left as they are.

    Ids are kept where they are free: never given here before, and ``free(experiment, id)`` says so too.
    ``place(experiment, there, here)`` puts a run's files in their place before the commit.

    Raises:
        LabError: it is this workspace itself, or an experiment of that name is archived here.
    """
    try:
        with db.write() as connection:
            if identity.own_id(connection) == bundle.workspace:
                raise LabError("these runs are this workspace's own: there is nothing to import")
            before = identity.of(connection, bundle.workspace)
            names = bundle.names
            old = {theirs: ours for theirs, ours in known(connection, bundle.workspace).items() if theirs in names}
            new = sorted(names.keys() - old.keys())
            if not new:
                return Admitted({}, old)
            jobs = _jobs(connection, bundle, {k: v for k, v in before.jobs.items() if _exists(connection, v)})
            ids = _take(
                connection, "runs", [(run, bundle.experiments[bundle.runs[run]["experiment_id"]]) for run in new], free
            )
            mapped = {"experiment_id": _experiments(connection, bundle), "job_id": jobs, "run_id": {**old, **ids}}
            specs = {job["id"]: job["spec"] for job in bundle.tables["jobs"]}
            registrations.admit(connection, bundle.tables["registrations"], jobs, specs, mapped["experiment_id"])
            _store_runs(connection, bundle, ids, mapped)
            _store_points(connection, bundle, ids, read_points)
            for job in sorted(_touched(connection, set(jobs.values()))):
                needs.record(connection, job)
            for theirs, ours in ids.items():
                words = f"imported: run {theirs} of workspace {bundle.workspace}"
                connection.execute(insert(Event).values(at=clock.now(), run_id=ours, kind="import", text=words))
                place(names[theirs], theirs, ours)
            identity.remember(
                connection, bundle.workspace, identity.Imported({**before.jobs, **jobs}, {**before.runs, **ids})
            )
            return Admitted(ids, old)
    except (IntegrityError, UnicodeError, OverflowError, KeyError, TypeError) as error:
        # Checked rows can still contradict each other; whoever made them up gets a sentence, and nothing is stored.
        words = " ".join(str(error).split())[:200]
        raise LabError(f"the runs of workspace {bundle.workspace[:40]} contradict themselves: {words}") from error


def _touched(connection: Connection, jobs: set[int]) -> set[int]:
    """Jobs whose needs are on jobs that runs have come to, and those jobs themselves."""
    rows = connection.execute(select(Job.c.id, Job.c.needs).where(Job.c.needs != []))
    return {row.id for row in rows if row.id in jobs or any(need["job"] in jobs for need in row.needs)}


def _exists(connection: Connection, job: int) -> bool:
    return connection.execute(select(Job.c.id).where(Job.c.id == job)).first() is not None


def _experiments(connection: Connection, bundle: Bundle) -> dict[int, int]:
    found = {}
    used = set(bundle.names.values())
    for theirs, name in bundle.experiments.items():
        if name not in used:
            continue
        archive.refuse_archived(connection, name)
        connection.execute(
            text("INSERT INTO experiments (name, created_at) VALUES (:name, :now) ON CONFLICT (name) DO NOTHING"),
            {"name": name, "now": clock.now()},
        )
        found[theirs] = connection.execute(select(Experiment.c.id).where(Experiment.c.name == name)).scalar_one()
    return found


def _take(
    connection: Connection, table: str, wanted: Iterable[tuple[int, str]], free: Callable[[str, int], bool]
) -> dict[int, int]:
    """An id for each, its own where that was never given; ids are given in rising order and never twice."""
    query = text("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = :name")
    last: int = connection.execute(query, {"name": table}).scalar_one()
    ids = {}
    for theirs, experiment in wanted:
        ours = theirs if theirs > last else last + 1
        while not free(experiment, ours):
            ours += 1
        ids[theirs] = last = ours
    return ids


def _jobs(connection: Connection, bundle: Bundle, before: Mapping[int, int]) -> dict[int, int]:
    wanted = {link["job_id"] for link in bundle.tables["job_runs"]} | {run["job_id"] for run in bundle.tables["runs"]}
    rows = sorted((job for job in bundle.tables["jobs"] if job["id"] in wanted), key=lambda job: job["id"])
    fresh = [job for job in rows if job["id"] not in before]
    taken = _take(connection, "jobs", [(job["id"], "") for job in fresh], lambda _name, _id: True)
    ids = {**before, **taken}
    experiments = _experiments(connection, bundle)
    for job in fresh:
        # A need on a job that did not come along could only be met by a stranger with its number.
        kept = [{**need, "job": ids[need["job"]]} for need in job["needs"] if need.get("job") in ids]
        row = {**job, "id": ids[job["id"]], "experiment_id": experiments[job["experiment_id"]], "needs": kept}
        connection.execute(insert(Job).values(**row))
    return ids


def _store_runs(
    connection: Connection, bundle: Bundle, ids: Mapping[int, int], mapped: Mapping[str, Mapping[int, int]]
) -> None:
    # What an unfinished run waited for has no meaning here.
    settled = {"request": None, "paused_until": None, "not_before": None, "released": False,
               "needs_unmet": False, "keep_asked_at": None}  # fmt: skip
    for run in bundle.tables["runs"]:
        if run["id"] in ids:
            row = {**run, **settled, "id": ids[run["id"]]}
            row |= {column: mapped[column][run[column]] for column in ("experiment_id", "job_id")}
            connection.execute(insert(Run).values(**row))
    have = {tuple(row) for row in connection.execute(select(JobRun.c.job_id, JobRun.c.run_id))}
    for link in bundle.tables["job_runs"]:
        pair = (mapped["job_id"][link["job_id"]], mapped["run_id"].get(link["run_id"]))
        if pair[1] is not None and pair not in have:
            connection.execute(insert(JobRun).values(**{**link, "job_id": pair[0], "run_id": pair[1]}))
    names = bundle.names
    workers = _workers(connection, bundle, ids)
    environments = _environments(connection, bundle)
    for attempt in bundle.tables["attempts"]:
        if attempt["run_id"] in ids:
            row = _moved(attempt, ids, "log", names)
            row["worker_id"] = workers[attempt["worker_id"]]
            row["environment_id"] = environments.get(attempt["environment_id"])
            connection.execute(insert(Attempt).values(**row))
    for artifact in bundle.tables["artifacts"]:
        if artifact["run_id"] in ids:
            connection.execute(insert(Artifact).values(**_moved(artifact, ids, "path", names)))
    for each in bundle.tables["inputs"]:
        if each["run_id"] in ids:
            row = {key: value for key, value in each.items() if key != "id"}
            # What it took it from may have stayed behind, or have been deleted here since.
            row |= {"run_id": ids[each["run_id"]], "source_run_id": mapped["run_id"].get(each["source_run_id"])}
            connection.execute(insert(Input).values(**row))
    for sample in bundle.tables["samples"]:
        if sample["run_id"] in ids:
            row = {key: value for key, value in sample.items() if key != "id"}
            connection.execute(insert(Sample).values(**{**row, "run_id": ids[sample["run_id"]]}))
    for event in bundle.tables["events"]:
        if event["run_id"] in ids:
            row = {key: value for key, value in event.items() if key != "id"}
            connection.execute(insert(Event).values(**{**row, "run_id": ids[event["run_id"]]}))


def _moved(row: Row, ids: Mapping[int, int], column: str, names: Mapping[int, str]) -> Row:
    """A row without its id, of the run as it is numbered here, its path moved along."""
    theirs = row["run_id"]
    name = names[theirs]
    inside = row[column].removeprefix(f"outputs/{name}/{theirs}/")
    moved = {key: value for key, value in row.items() if key != "id"}
    return {**moved, "run_id": ids[theirs], column: f"outputs/{name}/{ids[theirs]}/{inside}"}


def _workers(connection: Connection, bundle: Bundle, ids: Mapping[int, int]) -> dict[int, int]:
    used = {attempt["worker_id"] for attempt in bundle.tables["attempts"] if attempt["run_id"] in ids}
    found = {}
    for worker in bundle.tables["workers"]:
        if worker["id"] in used:
            row = {key: value for key, value in worker.items() if key != "id"}
            # It never lived here, so nothing may take it for alive.
            row |= {"ended_at": row["ended_at"] or row["started_at"], "lease": str(clock.Deadline.after(0))}
            connection.execute(insert(Worker).values(**row))
            found[worker["id"]] = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
    return found


def _environments(connection: Connection, bundle: Bundle) -> dict[int | None, int]:
    found: dict[int | None, int] = {}
    for row in bundle.tables["environments"]:
        key = digest(row["data"])
        known = connection.execute(select(Environment.c.id).where(Environment.c.hash == key)).scalar()
        if known is None:
            connection.execute(insert(Environment).values(hash=key, data=row["data"]))
            known = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
        found[row["id"]] = known
    return found


def _store_points(
    connection: Connection,
    bundle: Bundle,
    ids: Mapping[int, int],
    read_points: Callable[[set[int]], Iterable[Points]],
) -> None:
    mine: dict[int, int] = {}
    for row in bundle.tables["series"]:
        if row["run_id"] in ids:
            values = {key: value for key, value in row.items() if key != "id"} | {"run_id": ids[row["run_id"]]}
            connection.execute(insert(Series).values(**values))
            mine[row["id"]] = connection.execute(text("SELECT last_insert_rowid()")).scalar_one()
    for series_id, piece in read_points(set(mine)):
        if series_id in mine:
            rows = [(mine[series_id], step, value) for step, value in piece]
            connection.exec_driver_sql("INSERT INTO metrics (series_id, step, value) VALUES (?, ?, ?)", rows)
    for series_id in mine.values():
        # Made from the points, so that nothing can be claimed that the points do not say.
        roll_up(connection, series_id)
