"""Fine-tuning on a CPU: whether this computer can, and how long it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import is_unresolved
from labqueue.kinds import _host

if TYPE_CHECKING:
    from labqueue.kinds.finetune.params import Params
    from labqueue.llm.memory.workload import Workload
    from labqueue.llm.models.shapes import Shape

SPARE_GIB = 1.5
"""For the system, the worker and the next run's waiting process, which are 0.5 of it. Assumption."""


def check(params: Params, device: str) -> None:
    """Checks that a fine-tuning run can compute in what it asks for, and its computer has the memory.

    Raises:
        LabError: a type that method or device do not have, no AVX2, too little memory.
    """
    from labqueue.llm import processor
    from labqueue.llm.memory import host

    if device != "cpu":
        if params.dtype == "float32":
            raise LabError("on a GPU runs compute in 16 bit: leave dtype at auto, or run it on a CPU", key="dtype")
        return
    if params.method == "full" and params.dtype == "bfloat16":
        raise LabError("on a CPU method full computes in its weights' float32: set dtype: auto", key="dtype")
    _host.check_processor(device)
    planned, has = _plan(params), processor.memory_gib()
    if planned is None:
        return
    needs = host.memory_gib(*planned, params.dtype)
    if needs + SPARE_GIB > has:
        raise LabError(
            f"a run needs about {needs:.1f} GiB of memory beside {SPARE_GIB} GiB for the rest of the computer, and "
            f"this one has {has:.1f} GiB: take a computer with more, a smaller model, batch below {params.batch} or "
            f"max_length below {params.max_length}",
            key="model",
        )


def expected_s(params: Params, device: str) -> float | None:
    """Predicted seconds of one run on this computer's processor; None on a GPU, and where the model is not known."""
    from labqueue.kinds.finetune import memory
    from labqueue.llm import processor
    from labqueue.llm.memory import host

    planned = _plan(params) if device == "cpu" else None
    if planned is None:
        return None
    answered = 2 * max(params.samples, params.scored)
    evaluated = (params.evaluations + 2) * params.data.eval_items
    for each in params.extra_evals:
        items = each.items if each.task is not None else -(-each.tokens // each.window)
        evaluated += (params.evaluations + 2) * items
        answered += items * (2 if each.score else 0) + items * (params.evaluations if each.score_always else 0)
    shape, plan = planned
    tokens = memory.typical_tokens(params)  # memory is of the longest row, time of all of them
    typical = plan if tokens is None else replace(plan, sequence=max(1, round(tokens)))
    work = host.Work(params.steps, evaluated, answered, params.max_new_tokens)
    return host.seconds(
        shape, typical, work, _host.decided(params.dtype, device), processor.speeds(), processor.cores()
    )


def _plan(params: Params) -> tuple[Shape, Workload] | None:
    """(shape, plan) as ``llm.memory.host`` takes them; None where the model is another run's or of no known shape."""
    from labqueue.kinds.finetune import memory
    from labqueue.llm.models import shapes

    if is_unresolved(params.model):
        return None
    targets = params.lora.targets
    if not isinstance(targets, str):  # a target may be the end of a longer name; sizes go by its last part
        targets = tuple(target.rpartition(".")[2] for target in targets)
    try:
        return shapes.shape_of(params.model), replace(memory.plan(params), backend="hf", targets=targets)
    except LabError:
        return None
