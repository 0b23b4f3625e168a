"""From a spec and a request to validated runs: nothing is recorded that could fail for a reason known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import ValidationError

from labqueue import kinds
from labqueue.domain.canonical import canonical, digest
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.kind import Kind, Params
from labqueue.domain.spec import Limits, Spec, Sweep, assign, with_profile
from labqueue.domain.sweep import RunPlan, axes, expand
from labqueue.execution import provenance, specfile
from labqueue.execution.devices import default_profile
from labqueue.execution.specfile import Source
from labqueue.store import write
from labqueue.store.eligible import matches


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


@dataclass(frozen=True)
class Plan:
    """A validated submission that has not been recorded."""

    source: Source
    job: write.NewJob
    kind: Kind
    params: list[Params]
    """One per run, in order."""


def plan(source: Source, request: Request) -> Plan:
    """Validates a spec with what was asked beside it, down to every parameter of every sweep point.

    Raises:
        LabError: anything in it is wrong; the message names file, line, key, value and the nearest valid choice.
    """
    spec = specfile.to_spec(source)
    try:
        kind = kinds.get(spec.kind)
    except LabError as error:
        raise source.error(error.message, "kind") from error
    profile = request.profile or default_profile()
    try:
        resolved, device = with_profile(spec, profile)
    except LabError as error:
        raise source.error(error.message, "profiles") from error
    except ValidationError as error:
        raise specfile.first_error(error, source, f"profiles.{profile}.limits", Limits) from error
    resolved = _with_request(resolved, request, source)
    try:
        plans = expand(resolved)
    except LabError as error:
        raise source.error(error.message, error.key or "sweep") from error
    except ValueError as error:
        raise source.error(f"a value of the sweep cannot be stored: {error}", "sweep") from error
    params = _validate(plans, kind, source, profile)
    _check_predictions(resolved, plans, params, source)
    dumped = [value.model_dump(mode="json") for value in params]
    points = {canonical([run.varied, dump]): None for run, dump in zip(plans, dumped, strict=True)}
    frozen = resolved.model_dump(mode="json", by_alias=True) | {"axes": axes(resolved.sweep)}
    limits = resolved.limits.model_dump(mode="json")
    runs = [
        write.NewRun(
            kind=spec.kind,
            seed=run.seed,
            varied=run.varied,
            params=dump,
            limits=limits,
            spec_hash=digest([spec.kind, device, dump, run.seed]),
            estimated_memory_gib=_estimated_gib(kind, value, device),
        )
        for run, dump, value in zip(plans, dumped, params, strict=True)
    ]
    now = provenance.here()
    job = write.NewJob(
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
    )
    return Plan(source, job, kind, params)


def _with_request(spec: Spec, request: Request, source: Source) -> Spec:
    params, limits = spec.params, spec.limits.model_dump(mode="json")
    for key, value in request.set.items():
        if key.startswith("limits."):
            limits = assign(limits, key.removeprefix("limits."), value)
        else:
            params = assign(params, key, value)
    changes: dict[str, Any] = {"params": params}
    try:
        changes["limits"] = Limits.model_validate_json(canonical(limits))
        if request.sweep:
            old = spec.sweep.model_dump(mode="json", by_alias=True) if spec.sweep else {}
            grid = {**(old.get("grid") or {}), **request.sweep}
            changes["sweep"] = Sweep.model_validate_json(canonical({**old, "grid": grid}))
        if request.seeds is not None:
            changes["seeds"] = Spec.model_validate_json(
                canonical({"name": spec.name, "kind": spec.kind, "seeds": list(request.seeds)})
            ).seeds
    except ValidationError as error:
        raise specfile.first_error(error, replace(source, file="command line", lines={}), "", Limits) from error
    return spec.model_copy(update=changes)


def _validate(plans: list[RunPlan], kind: Kind, source: Source, profile: str) -> list[Params]:
    validated: dict[str, Params] = {}
    answers = []
    for run in plans:
        try:
            text = canonical(without_references(run.params))
        except (ValueError, TypeError) as error:
            raise source.error(f"params: {error} (numbers must be finite)", "params") from error
        if text not in validated:
            try:
                validated[text] = kind.params.model_validate_json(text)
            except ValidationError as error:
                raise _at_origin(error, run, kind, source, profile) from error
        params = validated[text]
        if text != canonical(run.params):
            params = params.model_copy(update=_references(run.params))
        answers.append(params)
    return answers


def _at_origin(error: ValidationError, run: RunPlan, kind: Kind, source: Source, profile: str) -> LabError:
    """The error at the line that set the value: the sweep's axis, the profile, or the spec's params."""
    loc = ".".join(str(part) for part in error.errors()[0]["loc"])
    told = specfile.first_error(error, source, "params", kind.params)
    for axis in run.varied:
        if loc == axis or loc.startswith(f"{axis}.") or axis.startswith(f"{loc}."):
            place = next(
                (
                    f"sweep.{block}.{axis}"
                    for block in ("grid", "zip", "random.space")
                    if f"sweep.{block}.{axis}" in source.lines
                ),
                "sweep",
            )
            words = told.message.replace(f"params.{loc}", f"sweep axis {axis}", 1)
            return source.error(words, place)
    if f"profiles.{profile}.params.{loc}" in source.lines:
        return source.error(told.message, f"profiles.{profile}.params.{loc}")
    return told


def without_references(params: Any) -> Any:
    """Parameters with each ``{from_run: …}`` replaced by a text, as the kind will see the artifact's path."""
    if isinstance(params, dict):
        if set(params) == {"from_run"}:
            return "from_run"
        return {key: without_references(value) for key, value in params.items()}
    return params


def _references(params: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in params.items() if isinstance(value, dict) and set(value) == {"from_run"}}


def _estimated_gib(kind: Kind, params: Params, device: str) -> float | None:
    items = kind.estimate(params, device)
    return None if items is None else sum(items.values())


def _check_predictions(spec: Spec, plans: list[RunPlan], params: list[Params], source: Source) -> None:
    """A prediction that can match no run is a typing error, and would be found only in the morning."""
    seen = [(run.varied, value.model_dump(mode="json")) for run, value in zip(plans, params, strict=True)]
    for at, prediction in enumerate(spec.predictions):
        for name, where in prediction.test.selections():
            if not any(matches(where, varied, values) for varied, values in seen):
                choices = "; ".join(sorted({canonical(varied) for varied, _ in seen})[:6])
                raise source.error(
                    f"prediction {prediction.id!r}: {name} {canonical(where)} matches no run of the sweep; "
                    f"its points are: {choices}",
                    f"predictions.{at}",
                )
        over = getattr(prediction.test, "over", None)
        if over is not None and over not in axes(spec.sweep):
            words = f"prediction {prediction.id!r} is over {over!r}, which is not varied"
            raise source.error(f"{words}: {nearest(over, axes(spec.sweep))}", f"predictions.{at}")
