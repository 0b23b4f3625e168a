"""Checks that the runs of which a submission takes artifacts are there, or come with it. Records nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from labqueue import kinds
from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import Reference, references
from labqueue.domain.spec.references import chosen as flattened
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.runs import inputs
from labqueue.store.runs.needs import matches
from labqueue.submission import plan
from labqueue.submission.plan import Plan


class Taken(NamedTuple):
    """A reference among the parameters of a run."""

    reference: Reference
    own: int
    """A seed of the runs that take it; where it asks for a seed by theirs, there is one of these for each."""

    @property
    def seed(self) -> int | None:
        """The seed that it asks for, where none but its own run must be known; None: any, or the next."""
        return None if self.reference.seed == "next" else self.reference.seed_for(self.own, ())


def of(planned: Plan) -> Iterator[Taken]:
    """Every different reference of a submission's runs."""
    seen: set[tuple[str, int | None]] = set()
    for run in planned.job.runs:
        for named in references(run.params.value):
            by = run.seed if isinstance(named.seed, str) else None
            if (named.text, by) not in seen:
                seen.add((named.text, by))
                yield Taken(named, run.seed)


def with_seeds(planned: Plan, plans: Sequence[Plan]) -> Plan:
    """A submission with the seeds that runs of ``plans`` take of it; as it was where it has them."""
    seeds: list[int] = planned.job.spec["seeds"]
    wanted = {
        taken.seed for each in plans for taken in of(each) if taken.reference.experiment == planned.job.experiment
    }
    missing = sorted(seed for seed in wanted if seed is not None and seed not in seeds)
    return plan.plan(planned.source, replace(planned.request, seeds=(*seeds, *missing))) if missing else planned


def refuse_missing(plans: Sequence[Plan], db: Database | None) -> None:
    """Before the night, not in it.

    Raises:
        LabError: a run takes from an experiment that is submitted with it or known to the results store, but has no
            such run; or it, or a need, chooses runs by a parameter that has another name now.
    """
    for planned in plans:
        for at, need in enumerate(planned.job.spec["needs"]):
            if isinstance(need, dict):
                words = _renamed(need["experiment"], need["where"], plans, db)
                if words is not None:
                    raise planned.source.error(f"the need of {need['experiment']!r} {words}", f"needs.{at}.where")
        for taken in of(planned):
            words = _missing(taken, plans, db)
            if words is not None:
                raise planned.error(words, taken.reference.key)


def _renamed(experiment: str, where: dict[str, Any], plans: Sequence[Plan], db: Database | None) -> str | None:
    """Which key of ``where`` has another name in the kind of an experiment now; None where none has."""
    chosen = [planned.kind for planned in plans if planned.job.experiment == experiment]
    if where and not chosen and db is not None and (job := read.newest_job(db, experiment)) is not None:
        with contextlib.suppress(LabError):  # a kind that is gone renames nothing
            chosen = [kinds.get(job.spec["kind"])]
    renamed = ((key, kind.params.renamed(key)) for kind in chosen for key in flattened(where))
    return next((f"has where {old}, which is called {new} now: write {new}" for old, new in renamed if new), None)


def _missing(taken: Taken, plans: Sequence[Plan], db: Database | None) -> str | None:
    """Why nothing can be taken, with the cure; None where something will be there."""
    _, name, artifact, where, asked = taken.reference
    beside = [planned for planned in plans if planned.job.experiment == name]
    recorded = None if db is None else inputs.seeds(db, name, where)
    what = f"takes artifact {artifact!r} of experiment {name!r}"
    if not beside and recorded is None:
        return None  # it may be submitted, or imported, before the run is claimed
    found = recorded or set()
    for planned in beside:
        if planned.job.trials is not None:  # its points come with time
            found |= set(planned.job.spec["seeds"])
        found |= {run.seed for run in planned.job.runs if matches(where, run.varied.value, run.params.value)}
    if found and asked == "next":
        try:
            taken.reference.seed_for(taken.own, found)
        except LabError as error:
            return error.message
        return None
    if found if taken.seed is None else taken.seed in found:
        return None
    renamed = _renamed(name, where, plans, db)
    if renamed is not None:
        return f"{what}: it {renamed}"
    point = f" where {canonical(where)}" if where else ""
    if not found:
        return f"{what}{point}, which no run of it is: change where, or submit {name!r} with that point"
    listed = ", ".join(map(str, sorted(found)[:20])) + (", …" if len(found) > 20 else "")
    cure = "give other --seeds, or --with-needs to submit that seed, too" if asked == "same" else "choose one of them"
    return f"{what}{point} with seed {taken.seed}, which has only {listed}: {cure}"
