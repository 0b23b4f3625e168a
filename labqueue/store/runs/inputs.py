"""Resolves a run's inputs (parameters that name another run's artifact) and remembers them by their hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import Reference, references
from labqueue.domain.views import ArtifactView
from labqueue.store.db import Database
from labqueue.store.runs import search_state
from labqueue.store.runs.attempts import Ref, guard
from labqueue.store.runs.needs import matches
from labqueue.store.tables import Artifact, Event, Experiment, Job, Run
from labqueue.store.tables import Input as InputRow
from labqueue.system import clock

KIND = "input"
"""Of the events that say to people what a run took; programs read the table ``inputs``."""


@dataclass(frozen=True)
class Input:
    """An artifact under the dotted key of the parameter that names it."""

    key: str
    experiment: str
    run_id: int
    artifact: ArtifactView

    @property
    def words(self) -> str:
        """For the history of the run that takes it."""
        name, sha256 = self.artifact.name, self.artifact.sha256
        return f"{self.key} is artifact {name} of run {self.run_id} ({self.experiment}), SHA-256 {sha256}"


def of(connection: Connection, params: Any, seed: int) -> list[Input]:
    """What every ``{from_run: …}`` among the parameters of a run with that seed names now.

    Raises:
        LabError: one names no succeeded run, several, or a run without that artifact.
    """
    return [
        Input(f"params.{each.key}", each.experiment, *_found(connection, each, seed)) for each in references(params)
    ]


def taken(db: Database, ref: Ref, params: Any, seed: int) -> list[Input]:
    """As ``of``, recorded, and written into the history of the run that takes it.

    Raises:
        LabError: as ``of``.
        Fenced: the attempt no longer owns its run.
    """
    with db.write() as connection:
        guard(connection, ref)
        found = of(connection, params, seed)
        for each in found:
            same = (InputRow.c.run_id == ref.run_id, InputRow.c.key == each.key)
            connection.execute(InputRow.delete().where(*same))
            connection.execute(
                insert(InputRow).values(
                    run_id=ref.run_id,
                    key=each.key,
                    source_run_id=each.run_id,
                    experiment=each.experiment,
                    artifact=each.artifact.name,
                    sha256=each.artifact.sha256,
                )
            )
            connection.execute(insert(Event).values(at=clock.now(), run_id=ref.run_id, kind=KIND, text=each.words))
        return found


def seed_taken(db: Database, run_id: int, key: str) -> int | None:
    """The seed of the run whose artifact a run took under a dotted key (``params.model``).

    None where it took none, or that run is not in this workspace.
    """
    query = select(Run.c.seed).join(InputRow, InputRow.c.source_run_id == Run.c.id)
    with db.read() as connection:
        return connection.scalar(query.where(InputRow.c.run_id == run_id, InputRow.c.key == key))


def unchanged(connection: Connection, run_id: int, params: Any, seed: int) -> bool:
    """Whether a finished run took what its parameters name now: by content, whichever run made it."""
    try:
        now = {each.key: each.artifact.sha256 for each in of(connection, params, seed)}
    except LabError:
        return False
    took = select(InputRow.c.key, InputRow.c.sha256).where(InputRow.c.run_id == run_id)
    return now == {row.key: row.sha256 for row in connection.execute(took)}


def seeds(db: Database, experiment: str, where: dict[str, Any]) -> set[int] | None:
    """As ``seeds_of``, in a transaction of its own."""
    with db.read() as connection:
        return seeds_of(connection, experiment, where)


def seeds_of(connection: Connection, experiment: str, where: dict[str, Any]) -> set[int] | None:
    """Seeds of the runs of an experiment that ``where`` chooses, whatever became of them, and of what its newest job's
    search has still to propose; None where it is not known."""
    query = (
        select(Run.c.seed, Run.c.varied, Run.c.params)
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .where(Experiment.c.name == experiment)
    )
    newest = select(Job.c.id, Job.c.spec).join(Experiment, Experiment.c.id == Job.c.experiment_id)
    job = connection.execute(newest.where(Experiment.c.name == experiment).order_by(Job.c.id.desc())).first()
    if job is None:
        return None
    to_come = set(job.spec["seeds"]) if search_state.unfinished(connection, job.id) is not None else set()
    return to_come | {run.seed for run in connection.execute(query) if matches(where, run.varied, run.params)}


def seed_for(connection: Connection, named: Reference, seed: int) -> int | None:
    """The seed that a run with ``seed`` asks for by a reference; None if it asks for none.

    Raises:
        LabError: as ``Reference.seed_for``.
    """
    known = seeds_of(connection, named.experiment, named.where) if named.seed == "next" else None
    return named.seed_for(seed, known or ())


def candidates(db: Database, experiment: str, where: dict[str, Any]) -> list[dict[str, Any]]:
    """Parameters of all runs of an experiment that ``where`` chooses, whatever became of them."""
    query = (
        select(Run.c.varied, Run.c.params)
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .where(Experiment.c.name == experiment)
    )
    with db.read() as connection:
        return [row.params for row in connection.execute(query) if matches(where, row.varied, row.params)]


def _found(connection: Connection, named: Reference, seed: int) -> tuple[int, ArtifactView]:
    _, experiment, artifact, where, _ = named
    wanted = seed_for(connection, named, seed)
    query = (
        select(Run)
        .join(Experiment, Experiment.c.id == Run.c.experiment_id)
        .where(Experiment.c.name == experiment, Run.c.outcome == "succeeded")
        .order_by(Run.c.id.desc())
    )
    if wanted is not None:
        query = query.where(Run.c.seed == wanted)
    newest: dict[tuple[str, int], Any] = {}
    for row in connection.execute(query):
        if matches(where, row.varied, row.params):
            newest.setdefault((row.spec_hash, row.seed), row)
    words = f"experiment {experiment!r} where {where or 'anything'}" + (
        f", seed {wanted}" if wanted is not None else ""
    )
    if len(newest) != 1:
        ids = sorted(row.id for row in newest.values())
        cure = f"narrow it with where and seed (found runs {ids})" if ids else "run that experiment first"
        raise LabError(f"from_run names {len(ids)} succeeded runs ({words}); it must name exactly one: {cure}")
    (row,) = newest.values()
    hit = connection.execute(select(Artifact).where(Artifact.c.run_id == row.id, Artifact.c.name == artifact)).first()
    if hit is None:
        raise LabError(f"run {row.id} ({words}) has no artifact {artifact!r}; see `labqueue show {row.id}`")
    return row.id, ArtifactView(hit.name, hit.type, hit.path, hit.sha256, hit.bytes)
