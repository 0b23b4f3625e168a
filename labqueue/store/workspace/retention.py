"""Reads what the store says of the files below ``outputs``: the facts by which ``gc`` decides, and its re-check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select, text

from labqueue.domain.state import Outcome, State
from labqueue.store.db import Database
from labqueue.store.tables import Artifact, Attempt, Experiment, Run


@dataclass(frozen=True)
class RunFacts:
    """One run, as far as its files depend on it."""

    id: int
    experiment: str
    state: str
    outcome: str | None
    attempt: int

    @property
    def finished(self) -> bool:
        """Whether nothing will write or resume it unless a person says ``retry``."""
        return self.state == State.FINISHED

    @property
    def succeeded(self) -> bool:
        """Whether it can never run again."""
        return self.outcome == Outcome.SUCCEEDED


@dataclass(frozen=True)
class GarbageFacts:
    """A snapshot of the results store. Paths are relative to the workspace, with forward slashes."""

    runs: dict[tuple[str, int], RunFacts] = field(default_factory=dict)
    """By experiment and id, as their folders are named."""
    experiments: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    logs: dict[str, float | None] = field(default_factory=dict)
    """Log of each attempt → unix time of the attempt's end; None while it runs."""
    mentioned: frozenset[str] = frozenset()
    """Every text in any run's parameters that could be a path."""


def facts(db: Database) -> GarbageFacts:
    """Reads all of it in one transaction."""
    with db.read() as connection:
        runs: dict[tuple[str, int], RunFacts] = {}
        mentioned: set[str] = set()
        query = select(
            Run.c.id, Experiment.c.name, Run.c.state, Run.c.outcome, Run.c.attempt, Run.c.params, Run.c.adjusted
        )
        for row in connection.execute(query.join(Experiment, Experiment.c.id == Run.c.experiment_id)):
            runs[row.name, row.id] = RunFacts(row.id, row.name, row.state, row.outcome, row.attempt)
            mentioned.update(_paths(row.params))
            mentioned.update(_paths(row.adjusted))
        return GarbageFacts(
            runs=runs,
            experiments=frozenset(connection.execute(select(Experiment.c.name)).scalars()),
            artifacts=frozenset(connection.execute(select(Artifact.c.path)).scalars()),
            logs={a.log: a.finished_at for a in connection.execute(select(Attempt.c.log, Attempt.c.finished_at))},
            mentioned=frozenset(mentioned),
        )


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if "/" in value:
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _paths(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _paths(inner)


def forget_checkpoints(db: Database, run: RunFacts, path: str) -> bool:
    """Forgets the checkpoints of a run that lie at or below a path; False when the run is no longer as it was seen."""
    with db.write() as connection:
        if not _unchanged(connection, run):
            return False
        words = "DELETE FROM checkpoints WHERE run_id = :run AND (path = :path OR substr(path, 1, :n) = :below)"
        below = f"{path}/"
        connection.execute(text(words), {"run": run.id, "path": path, "below": below, "n": len(below)})
        return True


def while_unchanged(db: Database, run: RunFacts, path: str, act: Callable[[], None]) -> bool:
    """Does ``act`` while nobody can claim or retry the run; False, and nothing done, when it is no longer as it was.

    Nor may the store point at ``path`` by then: as an artifact, a checkpoint, or in the parameters of a run that was
    submitted meanwhile. ``act`` must be short: every writer waits for it.
    """
    with db.write() as connection:
        if not _unchanged(connection, run) or _pointed_at(connection, path):
            return False
        act()
        return True


def while_unknown(db: Database, experiment: str, run_id: int, act: Callable[[], None]) -> bool:
    """As ``while_unchanged``, for a run that the results store does not know."""
    with db.write() as connection:
        query = select(func.count()).select_from(Run).join(Experiment, Experiment.c.id == Run.c.experiment_id)
        found = connection.execute(query.where(Run.c.id == run_id, Experiment.c.name == experiment)).scalar_one()
        if found or _pointed_at(connection, f"outputs/{experiment}/{run_id}"):
            return False
        act()
        return True


def _unchanged(connection: Connection, run: RunFacts) -> bool:
    # The attempt too: a run that was retried and has finished again meanwhile is another matter.
    found = connection.execute(select(Run.c.state, Run.c.outcome, Run.c.attempt).where(Run.c.id == run.id)).first()
    return found is not None and (found.state, found.outcome, found.attempt) == (run.state, run.outcome, run.attempt)


def _pointed_at(connection: Connection, path: str) -> bool:
    at = "path = :path OR substr(path, 1, :n) = :below"
    words = (
        f"SELECT 1 FROM artifacts WHERE {at} UNION ALL SELECT 1 FROM checkpoints WHERE {at} "  # noqa: S608  # our own words
        "UNION ALL SELECT 1 FROM runs WHERE state != 'finished' AND instr(params, :path) LIMIT 1"
    )
    values = {"path": path, "below": f"{path}/", "n": len(path) + 1}
    return connection.execute(text(words), values).first() is not None
