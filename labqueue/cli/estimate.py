"""``labqueue estimate``: what a run will reserve on a GPU, item by item, and whether it fits."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labqueue.cli.common import at_root, dump, jobs_folder, json_option, root_option, settings
from labqueue.cli.render import echo, table, varied
from labqueue.domain.errors import LabError, nearest

if TYPE_CHECKING:
    from labqueue.submission.memory_check import Capacity


@click.command()
@click.argument("spec", required=False, type=click.Path(path_type=Path))
@root_option
@click.option("--profile", help="Of the spec: which overrides to take; default gpu when a GPU is there, else cpu.")
@click.option("--model", metavar="ALIAS|DIR", help="Without a spec: a model, or a folder with a config.json.")
@click.option("--backend", metavar="hf|unsloth", help="What trains.")
@click.option("--sequence", type=int, metavar="N", help="Tokens of a row; rows are taken to fill it.")
@click.option("--batch", type=int, metavar="N", help="Rows of a micro-batch.")
@click.option("--rank", type=int, metavar="N", help="Of the LoRA adapter, on all linear layers.")
@click.option("--method", metavar="lora|full", help="Adapter, or all weights (backend hf, no quantization).")
@click.option("--quantization", metavar="4bit|none", help="Of the base.")
@click.option("--optimizer", metavar="NAME", help="adamw, adamw_8bit, paged_adamw_8bit, adafactor, sgd.")
@click.option("--accumulation", type=int, metavar="N", help="Micro-batches of a step.")
@click.option("--no-checkpointing", is_flag=True, help="Keep all activations instead of recomputing them.")
@click.option(
    "--memory-gib", type=float, metavar="G", help="What the allocator may take; default: what the card leaves it."
)
@json_option
def estimate(
    spec: Path | None,
    own_root: str | None,
    profile: str | None,
    memory_gib: float | None,
    as_json: bool,
    **direct: Any,
) -> None:
    """Predicted GPU memory by item, and whether it fits: of SPEC's runs, or with --model of one setting.

    Totals are peaks of the allocator's reserved bytes; the CUDA context comes beside them. It fits when total and
    context are within the card's memory less 0.39 GiB, which of a 16 GB card (15.5 GiB) leaves the allocator 14.5.
    """
    if memory_gib is not None and not 0 < memory_gib < float("inf"):
        raise LabError(f"--memory-gib {memory_gib} is not a number of GiB above 0", key="memory_gib")
    given = {name: value for name, value in direct.items() if value is not None and value is not False}
    if spec is not None and given:
        name = next(iter(given)).replace("_", "-")
        raise LabError(f"--{name} describes a run without a spec, and {spec} is one: give one or the other", key=name)
    if spec is None and "model" not in given:
        raise LabError("what to estimate? Give a spec, or --model ALIAS|DIR", key="model")
    if spec is not None:
        _of_spec(spec, own_root, profile, memory_gib, as_json)
    else:
        _direct(given, memory_gib, as_json)


def _capacity(memory_gib: float | None, limit: float | str = "auto") -> Capacity:
    from labqueue.submission import memory_check

    if memory_gib is not None:
        return memory_check.Capacity(memory_gib, f"--memory-gib {memory_gib:g}")
    return memory_check.capacity(limit) or memory_check.Capacity(
        memory_check.ASSUMED_GIB, "a 16 GB card (assumed: none was found)"
    )


def _direct(given: dict[str, Any], memory_gib: float | None, as_json: bool) -> None:
    from labqueue.llm.memory import workload
    from labqueue.llm.memory.estimate import predict
    from labqueue.llm.models import catalogue, shapes, stored_form
    from labqueue.submission import memory_check

    for name, known in (("backend", workload.BACKENDS), ("method", workload.METHODS)):
        if given.get(name, known[0]) not in known:
            raise LabError(f"--{name} {given[name]!r}: {nearest(given[name], known)}", key=name)
    model = given.pop("model")
    shape, form = shapes.shape_of(model), catalogue.form(model)
    full = given.get("method") == "full"
    defaults: dict[str, Any] = {"backend": "hf", "quantization": "none" if full else "4bit"}
    if form is not None:
        asked = defaults | given
        stored_form.check_use(form, model, quantization=asked["quantization"], backend=asked["backend"])
        defaults |= {"double": form.double, "plain_elements": form.plain_elements}
    given["checkpointing"] = not given.pop("no_checkpointing", False)
    found = predict(shape, workload.Workload(**(defaults | given), card_gib=memory_check.card_gib()))
    room = _capacity(memory_gib)
    verdict = memory_check.MemoryCheck(dict(found.items_gib), found.total_gib, room)
    document = {"schema": 1, **_told(verdict), "capacity_gib": room.gib, "capacity": room.source}
    if as_json:
        dump(document)
        return
    _items(verdict.items_gib or {}, found.total_gib, found.context_gib)
    echo(_words(verdict))


def _told(verdict: Any) -> dict[str, Any]:
    from labqueue.llm.memory.workload import CONTEXT_GIB

    known = verdict.total_gib is not None
    return {
        "total_gib": verdict.total_gib,
        "context_gib": CONTEXT_GIB if known else None,
        "items_gib": verdict.items_gib,
        "fits": verdict.fits,
    }


def _items(items: dict[str, float], total: float, context: float) -> None:
    rows: list[list[Any]] = [[name.replace("_", " "), f"{size:.3f}"] for name, size in items.items()]
    table(["item", "GiB"], [*rows, ["total reserved", f"{total:.3f}"], ["CUDA context, beside it", f"{context:.3f}"]])


def _words(verdict: Any) -> str:
    room = verdict.capacity
    return f"{'fits' if verdict.fits else 'does not fit'}: {room.source} leaves the allocator {room.gib:.1f} GiB"


def _of_spec(spec: Path, own_root: str | None, profile: str | None, memory_gib: float | None, as_json: bool) -> None:
    from labqueue.submission import memory_check, plan, specfile, submit

    source = specfile.read(spec)
    chosen = settings(own_root)
    with at_root(chosen.root):
        request = plan.Request(profile=profile)
        planned = plan.plan(source, request)
        beside = [planned]
        with contextlib.suppress(LabError):  # a model from an experiment without a spec here has no known shape
            beside = submit.with_needed(beside, [jobs_folder(spec)], request)
        ((planned, verdicts),) = submit.assessed(chosen, [planned], beside)
    rows: list[dict[str, Any]] = []
    words: dict[str, None] = {}
    for run, verdict in zip(planned.job.runs, verdicts, strict=True):
        room = _capacity(memory_gib, run.limits.value["memory_gib"])
        judged = memory_check.MemoryCheck(verdict.items_gib, verdict.formula_gib, room)
        told = _told(judged) | {"formula_gib": verdict.formula_gib}
        rows.append({"seed": run.seed, "varied": run.varied.value, **told})
        if told["fits"] is not None:
            words[_words(judged)] = None
    if as_json:
        dump({"schema": 1, "experiment": planned.job.experiment, "runs": rows})
        return
    told_fits = {True: "fits", False: "does not fit", None: None}
    points: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        points.setdefault(varied(row["varied"]), []).append(row)
    firsts = {point: same[0] for point, same in points.items()}
    table(
        ["varied", "seeds", "total GiB", "memory"],
        [
            [point, " ".join(str(row["seed"]) for row in points[point]), row["total_gib"], told_fits[row["fits"]]]
            for point, row in firsts.items()
        ],
    )
    if any(row["total_gib"] is not None for row in rows):
        largest = max(firsts, key=lambda point: firsts[point]["total_gib"] or 0.0)
        echo(
            f"the largest{f', {largest},' if largest else ''} is {memory_check.itemised(firsts[largest]['items_gib'])}"
        )
    for line in words:
        echo(line)
    if all(row["total_gib"] is None for row in rows):
        where = "on a CPU" if planned.job.device == "cpu" else "of these runs"
        echo(f"kind {planned.kind.name!r} cannot predict its memory {where}; every run's peak is measured and reported")
