"""From a spec and a request to validated runs: nothing is recorded that could fail for a reason known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pydantic import ValidationError

from labqueue import kinds
from labqueue.domain.canonical import Canonical, canonical, digest, digest_of, flat
from labqueue.domain.errors import LabError
from labqueue.domain.kind import Kind, Params
from labqueue.domain.spec import references
from labqueue.domain.spec.schema import FromRun, Limits, Spec, Sweep, assign, with_profile
from labqueue.domain.spec.sweep import RunPlan, axes, expand
from labqueue.search.sampler import first_points
from labqueue.settings import check_name
from labqueue.store.runs.jobs import NewJob, NewRun
from labqueue.submission import predictions, specfile
from labqueue.submission.specfile import Source
from labqueue.system import provenance
from labqueue.system.devices import default_profile


@dataclass(frozen=True)
class Request:
    """What a person asks beside the spec itself."""

    profile: str | None = None
    set: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, list[Any]] = field(default_factory=dict)
    seeds: tuple[int, ...] | None = None
    priority: int = 0
    after: tuple[str, ...] = ()
    with_needs: bool = False
    force: bool = False
    preflight: bool | None = None
    """Rehearse every shape first; None: for several runs on a GPU."""


@dataclass(frozen=True)
class Plan:
    """A validated submission that has not been recorded."""

    source: Source
    job: NewJob
    kind: Kind
    params: list[Params]
    """One per run, in order."""
    request: Request = field(default_factory=Request)

    def error(self, message: str, key: str) -> LabError:
        """An error of one parameter, where it was set: on the command line, or in the spec."""
        asked = {**self.request.set, **self.request.sweep}
        given = any(key == name or key.startswith(f"{name}.") for name in asked)
        source = replace(self.source, file=COMMAND_LINE, lines={}) if given else self.source
        return source.error(message, f"params.{key}" if key else "params")

    @property
    def to_come(self) -> int:
        """Runs that a search will propose later, over those planned now."""
        return 0 if self.job.trials is None else self.job.trials * len(self.job.spec["seeds"]) - len(self.job.runs)


def plan(source: Source, request: Request) -> Plan:
    """Validates a spec with what was asked beside it, down to every parameter of every sweep point.

    Raises:
        LabError: anything in it is wrong; the message names file, line, key, value and the nearest valid choice.
    """
    spec = specfile.to_spec(source)
    try:
        check_name(spec.name)
    except LabError as error:
        raise source.error(error.message, "name") from error
    try:
        kind = kinds.get(spec.kind)
    except LabError as error:
        if error.file is not None:  # the kind's own: it is wrong, not the spec
            raise
        raise source.error(error.message, "kind") from error
    profile = request.profile or default_profile()
    try:
        resolved, device = with_profile(spec, profile)
    except LabError as error:
        raise source.error(error.message, error.key or "profiles") from error
    except ValidationError as error:
        raise specfile.first_error(error, source, f"profiles.{profile}.limits", Limits) from error
    resolved = _with_request(resolved, request, source)
    predictions.check_looks(resolved, source)
    searching = resolved.sweep.search if resolved.sweep else None
    proposed = first_points(searching) if searching else []
    try:
        plans = expand(resolved, proposed)
    except LabError as error:
        key = error.key or "sweep"
        raise _blamed(source, request, key.removeprefix("sweep.grid.")).error(error.message, key) from error
    valid = _validate(plans, kind, source, request, profile, device)
    if searching:
        more = expand(resolved, list(searching.ends(proposed[0])))
        ends = _validate(more, kind, source, request, profile, device)
        resolved = _with_content(resolved, [*valid, *ends])
    predictions.check(
        resolved, kind, [(run.varied, full.plain.value) for run, full in zip(plans, valid, strict=True)], source
    )
    predictions.check_metrics(resolved, kind, [each.params for each in valid], source)
    varied = [Canonical.of(run.varied) for run in plans]
    points = {f"[{point.text},{run.plain.text}]" for point, run in zip(varied, valid, strict=True)}
    if searching:
        # Its points come with time, and more trials are more of the same evidence.
        points = {canonical([resolved.params, searching.model_dump(mode="json", exclude={"trials"})])}
    frozen = resolved.model_dump(mode="json", by_alias=True) | {"axes": axes(resolved.sweep)}
    try:
        runs = _new_runs(resolved, plans, varied, valid, kind, device)
    except LabError as error:  # the kind's estimate: a rank that no matrix has, say
        key = error.key or ""
        raise _blamed(source, request, key).error(error.message, f"params.{key}" if key else "params") from error
    _check_distinct(plans, runs, source)
    now = provenance.here()
    job = NewJob(
        experiment=spec.name,
        spec=frozen,
        spec_version=digest([spec.kind, device, sorted(points)]),
        profile=profile,
        device=device,
        priority=request.priority,
        needs=[],
        commit=now.commit,
        dirty=now.dirty,
        sources_hash=now.sources_hash,
        packages_hash=now.packages_hash,
        runs=runs,
        force=request.force,
        trials=searching.planned if searching else None,
    )
    return Plan(source, job, kind, [run.params for run in valid], request)


def runs_of(spec: Spec, point: dict[str, Any], device: str) -> list[NewRun]:
    """The runs of one more point of a search, from the spec as it was frozen.

    Raises:
        LabError: the kind refuses the point.
    """
    kind = kinds.get(spec.kind)
    plans = expand(spec, [point])
    valid = _validate(plans, kind, Source(f"experiment {spec.name}", {}, {}), Request(), "", device)
    return _new_runs(spec, plans, [Canonical.of(plan.varied) for plan in plans], valid, kind, device)


def _new_runs(
    spec: Spec, plans: list[RunPlan], varied: list[Canonical], valid: list[_Valid], kind: Kind, device: str
) -> list[NewRun]:
    limits = Canonical.of(spec.limits.model_dump(mode="json"))
    same = (canonical(spec.kind), canonical(device))
    seeds = {seed: canonical(seed) for seed in spec.seeds}
    estimates: dict[str, float | None] = {}
    for run in valid:  # seeds of one sweep point share it
        if run.plain.text not in estimates:
            estimates[run.plain.text] = _estimated_gib(kind, run.params, device)
    return [
        NewRun(
            kind=spec.kind,
            seed=planned.seed,
            varied=point,
            params=run.plain,
            limits=limits,
            spec_hash=digest_of((*same, run.plain.text, seeds[planned.seed])),
            estimated_memory_gib=estimates[run.plain.text],
        )
        for planned, point, run in zip(plans, varied, valid, strict=True)
    ]


COMMAND_LINE = "command line"


def _with_request(spec: Spec, request: Request, source: Source) -> Spec:
    params, limits = spec.params, spec.limits.model_dump(mode="json")
    asked = replace(source, file=COMMAND_LINE, lines={})
    for key, value in request.set.items():
        if not all(key.split(".")):
            raise asked.error(f"--set {key!r} is not a dotted key", key)
        if key.startswith("limits."):
            limits = assign(limits, key.removeprefix("limits."), value)
        else:
            params = assign(params, key, value)
    changes: dict[str, Any] = {"params": params}
    try:
        changes["limits"] = Limits.parse(limits)
    except ValidationError as error:
        raise specfile.first_error(error, asked, "limits", Limits) from error
    if request.sweep:
        if spec.sweep and spec.sweep.search:
            words = "the spec has a search, which stands alone: --sweep cannot be added"
            raise asked.error(f"{words}; edit sweep.search.space", next(iter(request.sweep)))
        old = spec.sweep.model_dump(mode="json", by_alias=True) if spec.sweep else {}
        grid = {**(old.get("grid") or {}), **request.sweep}
        changes["sweep"] = Sweep.parse({**old, "grid": grid})
    if request.seeds is not None:
        wanted = {"name": spec.name, "kind": spec.kind, "seeds": list(request.seeds)}
        try:
            changes["seeds"] = Spec.parse(wanted).seeds
        except ValidationError as error:
            raise specfile.first_error(error, asked, "", Spec) from error
    return spec.model_copy(update=changes)


class _Valid(NamedTuple):
    """Parameters that the kind accepts."""

    params: Params
    """With a placeholder text where another run's artifact will stand."""
    plain: Canonical
    """The same as plain values, references in their places again."""
    asked: Params
    """Before the content of what they name was pinned and what depends on this computer was decided."""


def _validate(
    plans: list[RunPlan], kind: Kind, source: Source, request: Request, profile: str, device: str
) -> list[_Valid]:
    """What each run's parameters become; seeds of one sweep point share it."""
    validated: dict[str, _Valid] = {}
    answers = []
    for run in plans:
        text = canonical(run.params)
        valid = validated.get(text)
        if valid is None:
            try:
                as_asked = kind.params.parse(_without_references(run.params, source))
            except ValidationError as error:
                raise _at_origin(error, run, kind, source, request, profile) from error
            params = kind.resolved(kind.pinned(as_asked), device)
            plain = params.model_dump(mode="json")
            valid = validated[text] = _Valid(params, Canonical.of(references.restored(plain, run.params)), as_asked)
        answers.append(valid)
    return answers


def _with_content(spec: Spec, valid: list[_Valid]) -> Spec:
    """A search's spec with the content that all its points share, so that points proposed later are of no other."""
    found = []
    for each in valid:
        before = flat(each.asked.model_dump(mode="json"))
        after = flat(each.params.model_dump(mode="json"))
        found.append({key: value for key, value in after.items() if value != before.get(key)})
    drawn = spec.sweep.axes if spec.sweep else []
    params = spec.params
    for key, value in found[0].items():
        if all(other.get(key) == value for other in found) and not any(_touches(key, axis) for axis in drawn):
            params = assign(params, key, value)
    return spec.model_copy(update={"params": params})


def _at_origin(
    error: ValidationError, run: RunPlan, kind: Kind, source: Source, request: Request, profile: str
) -> LabError:
    """The error at what set the value: the command line, the sweep's axis, the profile, or the spec's params."""
    renamed = specfile.renamed_key(error, kind.params)
    loc = renamed[0] if renamed else ".".join(str(part) for part in error.errors()[0]["loc"])
    told = specfile.first_error(error, source, "params", kind.params)
    for axis in run.varied:
        if _touches(loc, axis):
            words = told.message.replace(f"params.{loc}", f"sweep axis {axis}", 1)
            return _blamed(source, request, axis).error(words, _axis_place(source, axis))
    for key in request.set:
        if _touches(loc, key):
            return _blamed(source, request, key).error(told.message, f"params.{loc}")
    if f"profiles.{profile}.params.{loc}" in source.lines:
        return source.error(told.message, f"profiles.{profile}.params.{loc}")
    return told


def _touches(loc: str, key: str) -> bool:
    return loc == key or loc.startswith(f"{key}.") or key.startswith(f"{loc}.")


def _axis_place(source: Source, axis: str) -> str:
    places = (f"sweep.{block}.{axis}" for block in ("grid", "zip", "random.space", "search.space"))
    return next((place for place in places if place in source.lines), "sweep")


def _blamed(source: Source, request: Request, key: str) -> Source:
    """The source, or the command line where ``key`` was set there."""
    asked = {**request.set, **request.sweep}
    return replace(source, file=COMMAND_LINE, lines={}) if key in asked else source


def _check_distinct(plans: list[RunPlan], runs: list[NewRun], source: Source) -> None:
    """Two sweep points may differ in writing only (1 and 1.0, or a default spelt out): then they are one run."""
    seen: dict[str, RunPlan] = {}
    for planned, run in zip(plans, runs, strict=True):
        same = seen.setdefault(run.spec_hash, planned)
        if same is not planned:
            one, other = canonical(same.varied), canonical(planned.varied)
            raise source.error(f"the sweep points {one} and {other} are the same run; keep one", "sweep")


def _estimated_gib(kind: Kind, params: Params, device: str) -> float | None:
    items = kind.estimate(params, device)
    return None if items is None else sum(items.values())


def _without_references(params: Any, source: Source, path: str = "params") -> Any:
    """Parameters with each ``{from_run: …}`` replaced by a text, as the kind will see the artifact's path.

    Raises:
        LabError: one is malformed, or a parameter is the placeholder's text.
    """
    if references.is_unresolved(params):
        named = "{from_run: {experiment: NAME, artifact: NAME}}"
        raise source.error(f"{path} is {params!r}, which names no run: write {path.rpartition('.')[2]}: {named}", path)
    if references.is_reference(params):
        try:
            FromRun.parse(params[references.KEY])
        except ValidationError as error:
            raise specfile.first_error(error, source, f"{path}.{references.KEY}", FromRun) from error
        return references.PLACEHOLDER
    if isinstance(params, list):
        return [_without_references(value, source, f"{path}.{place}") for place, value in enumerate(params)]
    if not isinstance(params, dict):
        return params
    return {key: _without_references(value, source, f"{path}.{key}") for key, value in params.items()}
