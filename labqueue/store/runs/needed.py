"""Priority passes through needs: what a run waits for is not started later than the run itself could be.

The runs of a job wait for those of the jobs that it needs, each for its own rehearsal, and take artifacts of others.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, func, select, update

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import KEY, references
from labqueue.domain.state import State
from labqueue.store.runs import inputs, search_state
from labqueue.store.runs.needs import CHUNK, matches
from labqueue.store.tables import Experiment, Job, JobRun, Run


def raise_to(connection: Connection, ids: Iterable[int], priority: int) -> list[int]:
    """Raises what runs wait for, directly or not, to at least this priority. Returns the runs that were lower.

    An open search that is waited for proposes its further runs with it, too.
    """
    raised: list[int] = []
    seen = set(ids)
    frontier = sorted(seen)
    while frontier:
        found: dict[int, int] = {}
        for chunk in chunks(frontier):
            found.update(_awaited(connection, chunk, priority))
        lower = sorted(run for run, now in found.items() if now < priority and run not in seen)
        for chunk in chunks(lower):
            connection.execute(update(Run).where(Run.c.id.in_(chunk)).values(priority=priority))
        raised += lower
        frontier = sorted(found.keys() - seen)
        seen |= found.keys()
    return sorted(raised)


def chunks(ids: list[int]) -> Iterator[list[int]]:
    """Ids in pieces that fit one statement."""
    return (ids[at : at + CHUNK] for at in range(0, len(ids), CHUNK))


def _awaited(connection: Connection, ids: list[int], priority: int) -> Iterator[tuple[int, int]]:
    """Unfinished runs that these runs wait for, with their priorities."""
    waiting = connection.execute(
        select(Run.c.id, Run.c.job_id, Run.c.spec_hash, Job.c.needs)
        .join(Job, Job.c.id == Run.c.job_id)
        .where(Run.c.id.in_(ids), Run.c.state != State.FINISHED, Run.c.released.is_(False), Job.c.needs != [])
    )
    hashes: dict[int, set[str]] = defaultdict(set)
    needs: dict[int, list[dict[str, Any]]] = {}
    for run in waiting:
        hashes[run.job_id].add(run.spec_hash)
        needs[run.job_id] = run.needs
    for job, needed in needs.items():
        for need in needed:
            serves = need.get("serves")
            wanted = None if serves is None else {serves[each] for each in hashes[job] & serves.keys()}
            query = select(Run).join(JobRun, JobRun.c.run_id == Run.c.id).where(JobRun.c.job_id == need["job"])
            for run in connection.execute(query.where(Run.c.state != State.FINISHED)):
                if matches(need["where"], run.varied, run.params) and (wanted is None or run.spec_hash in wanted):
                    yield run.id, run.priority
            if search_state.unfinished(connection, need["job"]) is not None:
                search_state.prioritize(connection, need["job"], priority, only_up=True)
    taking = select(Run.c.params, Run.c.seed).where(
        Run.c.id.in_(ids), Run.c.state != State.FINISHED, func.instr(Run.c.params, f'"{KEY}"') > 0
    )
    asked: dict[tuple[str, int | None, str], dict[str, Any]] = {}
    for run in connection.execute(taking).all():
        for named in references(run.params):
            with contextlib.suppress(LabError):  # no other seed is there yet to be raised
                seed = inputs.seed_for(connection, named, run.seed)
                asked[named.experiment, seed, canonical(named.where)] = named.where
    for (experiment, wanted_seed, _), where in asked.items():
        query = select(Run).join(Experiment, Experiment.c.id == Run.c.experiment_id)
        query = query.where(Experiment.c.name == experiment, Run.c.state != State.FINISHED)
        for run in connection.execute(query if wanted_seed is None else query.where(Run.c.seed == wanted_seed)):
            if matches(where, run.varied, run.params):
                yield run.id, run.priority
