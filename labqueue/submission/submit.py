"""Submitting: record what was planned, in one transaction, and wake the workers. Resolves what needs what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labqueue.domain.canonical import canonical
from labqueue.domain.errors import LabError
from labqueue.domain.spec.schema import Need, Spec
from labqueue.settings import Settings
from labqueue.store.db import Database, open_existing, shared
from labqueue.store.queries import past_runs, read
from labqueue.store.runs.jobs import Submitted, add_jobs
from labqueue.submission import from_run, memory_check, plan, predictions, preflight, specfile
from labqueue.submission.plan import Plan, Request
from labqueue.submission.specfile import Source
from labqueue.system import wakeups


def submit(settings: Settings, plans: list[Plan], request: Request) -> list[Submitted]:
    """Records planned submissions in one transaction and wakes the workers.

    Raises:
        LabError: a needed experiment is unknown, needs form a cycle, a run that another takes from is missing, a run
            cannot fit the card, looks are registered at fewer seeds than have been run, or the workspace cannot be
            written.
    """
    db = shared(settings.database)
    from_run.refuse_missing(plans, db)
    plans = [_fitting(planned, db, plans) for planned in plans]
    for planned in plans:
        predictions.check_history(planned.job, db, planned.source)
    ordered = [part for planned in _with_needs(db, plans, request) for part in _with_preflight(planned, request)]
    answers = add_jobs(db, [planned.job for planned in ordered])
    for device in {planned.job.device for planned in ordered}:
        wakeups.wake(settings.wakeups, device)
    by_name = {planned.job.experiment: answer for planned, answer in zip(ordered, answers, strict=True)}
    return [by_name[planned.job.experiment] for planned in plans]


def assessed(
    settings: Settings, plans: list[Plan], beside: list[Plan] | None = None
) -> list[tuple[Plan, list[memory_check.MemoryCheck]]]:
    """Each plan with estimates corrected by what this workspace measured, and what is predicted of its runs; what they
    take from others is looked for among ``beside``, by default the plans themselves."""
    db = _past(settings)
    return [memory_check.assess(planned, db, plans if beside is None else beside) for planned in plans]


def took(settings: Settings, planned: Plan) -> past_runs.Typical | None:
    """What earlier runs of a plan's experiment took, on its device; None where there are none."""
    db = _past(settings)
    return None if db is None else past_runs.typical(db, planned.job.experiment, planned.job.device)


def refuse_what_is_missing(settings: Settings, plans: list[Plan]) -> None:
    """For before anything is fetched; ``submit`` asks again.

    Raises:
        LabError: a run takes from one that is neither among the plans nor in the results store.
    """
    from_run.refuse_missing(plans, _past(settings))


def expected_s(settings: Settings, planned: Plan) -> list[float | None]:
    """Seconds that each run of a plan will take: by earlier ones of its experiment, else as its kind predicts."""
    like = took(settings, planned)
    if like is not None and like.wall_s is not None:
        return [like.wall_s] * len(planned.params)
    known: dict[str, float | None] = {}
    for run, params in zip(planned.job.runs, planned.params, strict=True):
        if run.params.text not in known:
            known[run.params.text] = planned.kind.expected_s(params, planned.job.device)
    return [known[run.params.text] for run in planned.job.runs]


def refuse_what_cannot_fit(settings: Settings, plans: list[Plan]) -> None:
    """For before anything is fetched; ``submit`` asks again.

    Raises:
        LabError: a run cannot fit the card.
    """
    db = _past(settings)
    for planned in plans:
        _fitting(planned, db, plans)


def compared(settings: Settings, plans: list[Plan]) -> list[str]:
    """What a person should know of submissions beside what has run under their names, in sentences: predictions that
    come too late, and those that they withdraw. For before anything is recorded.

    Raises:
        LabError: a plan registers looks at fewer seeds than have been run.
    """
    db = _past(settings)
    return [
        f"{planned.job.experiment}: {words}"
        for planned in plans
        for words in [
            *predictions.check_history(planned.job, db, planned.source),
            *predictions.against_declared(planned.job, planned.kind),
        ]
    ]


def _past(settings: Settings) -> Database | None:
    try:
        return open_existing(settings.database)
    except LabError:
        return None  # damaged or of an older version: submitting says so, or brings it up to date


def _fitting(planned: Plan, db: Database | None, beside: list[Plan]) -> Plan:
    planned, verdicts = memory_check.assess(planned, db, beside)
    memory_check.refuse(planned, verdicts, db)
    return planned


def _with_preflight(planned: Plan, request: Request) -> list[Plan]:
    """A submission behind its rehearsal, where it has one."""
    rehearsal = preflight.preflight(planned) if preflight.wanted(planned, request) else None
    if rehearsal is None:
        return [planned]
    before, need = rehearsal
    return [before, replace(planned, job=replace(planned.job, needs=[*planned.job.needs, need]))]


def _with_needs(db: Database, plans: list[Plan], request: Request) -> list[Plan]:
    """Freezes each need to the newest job of its experiment, and orders this submission so that needs come first."""
    here = {planned.job.experiment: planned for planned in plans}
    if len(here) != len(plans):
        raise LabError("the same experiment is named twice in one submission; submit one after the other")
    wanted = {planned.job.experiment: _needs_of(planned, request) for planned in plans}
    ordered: list[Plan] = []
    for planned in _in_order(here, wanted):
        needs = []
        for need in wanted[planned.job.experiment]:
            inside = need["experiment"] in here and need["experiment"] != planned.job.experiment
            job = None if inside else read.newest_job(db, need["experiment"])
            if job is None and not inside:
                words = f"experiment {planned.job.experiment!r} needs {need['experiment']!r}, never submitted here"
                raise planned.source.error(f"{words}; submit it first, or give --with-needs to submit it too", "needs")
            needs.append({**need, "job": None if job is None else job.id})
        ordered.append(replace(planned, job=replace(planned.job, needs=needs)))
    return ordered


def _needs_of(planned: Plan, request: Request) -> list[dict[str, Any]]:
    spec = Spec.of_job(planned.job.spec)
    needs: list[dict[str, Any]] = []
    for need in spec.needs:
        full = need if isinstance(need, Need) else Need(experiment=need)
        needs.append({"experiment": full.experiment, "where": full.where, "accept": list(full.accept)})
    return needs + [{"experiment": name, "where": {}, "accept": None} for name in request.after]


def _in_order(here: dict[str, Plan], wanted: dict[str, list[dict[str, Any]]]) -> Iterable[Plan]:
    done: dict[str, Plan] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise here[name].source.error(f"needs form a circle: {circle}", "needs")
        if name in done:
            return
        taken = [each.reference.experiment for each in from_run.of(here[name])]
        for need in [*(need["experiment"] for need in wanted[name]), *taken]:
            # Its own name means its older job.
            if need in here and need != name:
                visit(need, (*path, name))
        done[name] = here[name]

    for name in here:
        visit(name, ())
    return done.values()


def with_needed(plans: list[Plan], folders: Sequence[Path], request: Request) -> list[Plan]:
    """``plans`` and those of all experiments that they need or take from, directly or not, found by name below
    ``folders``, with the seeds that are taken of them.

    Raises:
        LabError: a needed experiment has no spec there, or one that is wrong.
    """
    given = len(plans)
    while True:
        more = [plan.plan(source, request) for source in _needed_specs(plans, folders)]
        before = [*plans, *more]
        plans = [from_run.with_seeds(each, before) if at >= given else each for at, each in enumerate(before)]
        if not more and all(one is other for one, other in zip(plans, before, strict=True)):
            return plans


def _needed_specs(plans: list[Plan], folders: Iterable[Path]) -> list[Source]:
    """Sources of experiments that ``plans`` need or take from and do not contain, found by name below ``folders``.

    Raises:
        LabError: a needed experiment has no spec there.
    """
    known = {planned.job.experiment for planned in plans}
    needed = {need["experiment"] for planned in plans for need in _needs_of(planned, Request())} - known
    names = needed | {taken.reference.experiment for planned in plans for taken in from_run.of(planned)} - known
    if not names:
        return []
    found: dict[str, Source] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            try:
                source = specfile.read(path)
            except LabError:
                continue
            if source.data.get("name") in names:
                found.setdefault(source.data["name"], source)
    missing = needed - set(found)
    if missing:
        listed = ", ".join(str(folder) for folder in folders)
        raise LabError(f"--with-needs found no spec named {sorted(missing)[0]!r} below {listed}")
    return list(found.values())


def prepare(plans: list[Plan], tell: Callable[[str], None]) -> list[Plan]:
    """Fetches models and data that runs will need and this machine lacks, and asks each kind whether its runs could
    begin: before the night, not in it. Returns the plans, with what was fetched pinned in them.

    Raises:
        LabError: something cannot be had, or a run could not begin; nothing has been recorded.
    """
    needed = {
        name: (planned, params)
        for planned in plans
        for params in planned.params
        for name in planned.kind.assets(params)
    }
    fetched = set()
    if needed:
        from labqueue.llm import assets

        for name, (planned, params) in needed.items():
            try:
                if not assets.available(name):
                    if _fetchable(name):
                        tell(f"fetching {name} …")
                    assets.fetch(name)
                    fetched.add(name)
            except LabError as error:
                # The value's own place first: one kind of asset can stand under several keys.
                key = _key_of(params.model_dump(mode="json"), name.rpartition(":")[2]) or error.key
                raise planned.error(error.message, key or "") from error
    # What was not here when it was planned could not be pinned.
    plans = [plan.plan(each.source, each.request) if fetched & _assets(each) else each for each in plans]
    refuse_what_cannot_begin(plans)
    return plans


def refuse_what_cannot_begin(plans: list[Plan], *, unfetched: bool = False) -> None:
    """Asks each kind about its runs; with ``unfetched`` those are passed over whose models or data are yet to come.

    Raises:
        LabError: a run could not begin.
    """
    for planned in plans:
        for params in {canonical(each.model_dump(mode="json")): each for each in planned.params}.values():
            try:
                if unfetched and not all(_here(name) for name in planned.kind.assets(params)):
                    continue
                planned.kind.check(params, planned.job.device)
            except LabError as error:
                if error.file is not None:  # a data file's own line says more than the key that names the file
                    raise
                raise planned.error(error.message, error.key or "") from error


def _fetchable(name: str) -> bool:
    """A file or a generated task is there or it is not; models, corpora and hub datasets are brought here."""
    return ":" not in name or name.startswith(("hub:", "corpus:", "tokenizer:"))


def _here(name: str) -> bool:
    from labqueue.llm import assets

    return not _fetchable(name) or assets.available(name)


def _assets(planned: Plan) -> set[str]:
    return {name for params in planned.params for name in planned.kind.assets(params)}


def _key_of(tree: dict[str, Any], wanted: object) -> str | None:
    """The dotted key under which a value stands; of a list's values that of the list."""
    for key, value in tree.items():
        if value == wanted:
            return key
        if isinstance(value, list) and any(isinstance(each, dict) and _key_of(each, wanted) for each in value):
            return key
        inner = _key_of(value, wanted) if isinstance(value, dict) else None
        if inner is not None:
            return f"{key}.{inner}"
    return None
