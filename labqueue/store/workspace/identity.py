"""Identifies this workspace, and what came from others: each run of another workspace is known by (workspace, run id).

Kept among the results store's switches: ``workspace`` holds this workspace's id, ``import:ID`` what came from another.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, insert, select

from labqueue.domain.canonical import digest
from labqueue.domain.state import State
from labqueue.store.db import Database
from labqueue.store.tables import Control, Run

KEY = "workspace"
PREFIX = "import:"


@dataclass(frozen=True)
class Imported:
    """Ids there → ids here, of one other workspace."""

    jobs: dict[int, int] = field(default_factory=dict)
    runs: dict[int, int] = field(default_factory=dict)


def workspace_id(db: Database) -> str:
    """This workspace's id, the same for ever; it is drawn when it is first asked for.

    One that cannot be written and has none is known by its finished runs: a copy that went on is another workspace.
    """
    if db.writable:
        with db.write() as connection:
            return own_id(connection)
    with db.read() as connection:
        found: Any = connection.execute(select(Control.c.value).where(Control.c.key == KEY)).scalar()
        done = select(Run.c.id, Run.c.spec_hash, Run.c.finished_at).where(Run.c.state == State.FINISHED)
        runs = [list(row) for row in connection.execute(done.order_by(Run.c.id))]
        return str(found["id"]) if found is not None else digest(["workspace", runs])[:32]


def own_id(connection: Connection) -> str:
    """The same within a write transaction."""
    found: Any = connection.execute(select(Control.c.value).where(Control.c.key == KEY)).scalar()
    if found is None:
        found = {"id": uuid.uuid4().hex}
        connection.execute(insert(Control).values(key=KEY, value=found))
    return str(found["id"])


def of(connection: Connection, workspace: str) -> Imported:
    """What has come from a workspace so far."""
    found = connection.execute(select(Control.c.value).where(Control.c.key == f"{PREFIX}{workspace}")).scalar()
    return _parsed(found) if found else Imported()


def remember(connection: Connection, workspace: str, imported: Imported) -> None:
    """Replaces what is remembered of a workspace."""
    key = f"{PREFIX}{workspace}"
    value = {
        "jobs": {str(k): v for k, v in imported.jobs.items()},
        "runs": {str(k): v for k, v in imported.runs.items()},
    }
    connection.execute(Control.delete().where(Control.c.key == key))
    connection.execute(insert(Control).values(key=key, value=value))


def all_of(connection: Connection) -> tuple[set[int], set[int]]:
    """Ids here of the jobs and of the runs that came from elsewhere."""
    jobs: set[int] = set()
    runs: set[int] = set()
    for value in connection.execute(select(Control.c.value).where(Control.c.key.like(f"{PREFIX}%"))).scalars():
        found = _parsed(value)
        jobs.update(found.jobs.values())
        runs.update(found.runs.values())
    return jobs, runs


def _parsed(value: dict[str, Any]) -> Imported:
    return Imported({int(k): v for k, v in value["jobs"].items()}, {int(k): v for k, v in value["runs"].items()})
