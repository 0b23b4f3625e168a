"""Estimates the GPU memory of a fine-tuning run, and reduces it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.spec.references import is_unresolved

if TYPE_CHECKING:
    from labqueue.kinds.finetune.data import Data
    from labqueue.kinds.finetune.params import Params
    from labqueue.llm.data.generated.tasks import Row
    from labqueue.llm.memory import workload

LEAST_LENGTH, LEAST_RANK = 64, 4
"""Below these the nearest setting that fits is no longer the same question."""


def estimate(params: Params, device: str) -> dict[str, float] | None:
    """Predicted peak of the allocator's reserved bytes by item, GiB (``labqueue.llm.memory.estimate``).

    None on a CPU, where the model is another run's, and where its architecture is not known.

    Raises:
        LabError: max_length beyond the model's longest sequence, a rank above a matrix's smaller side.
    """
    from labqueue.llm.memory.estimate import predict
    from labqueue.llm.models import shapes

    if not device.startswith("cuda") or is_unresolved(params.model):
        return None
    if params.data.path is not None and not Path(params.data.path).expanduser().is_file():
        return None  # an earlier run's file has gone; a submission's is missed before anybody asks for memory
    try:
        shape = shapes.shape_of(params.model)
    except shapes.UnknownShape:
        return None
    return dict(predict(shape, plan(params)).items_gib)


def plan(params: Params) -> workload.Workload:
    """The run as the memory estimate sees it: a ``labqueue.llm.memory.workload.Workload``."""
    from labqueue.llm.memory import workload
    from labqueue.llm.models import catalogue
    from labqueue.llm.models.load import choose_backend

    form = catalogue.form(params.model)
    full = params.method == "full"
    backend = "hf" if full else params.backend
    return workload.Workload(
        backend=choose_backend("auto", "cuda:0") if backend == "auto" else backend,
        sequence=min(params.max_length, _longest(params.model, params.data) or params.max_length),
        batch=params.batch,
        accumulation=params.accumulation,
        method=params.method,
        rank=params.lora.rank,
        targets=params.lora.targets,
        dora=params.lora.dora and not full,
        quantization=params.quantization,
        double=form is None or form.double,
        plain_elements=0 if form is None else form.plain_elements,
        optimizer=params.optimizer,
        checkpointing=params.gradient_checkpointing,
        masked=params.data.packing,
        card_gib=_card_gib() or workload.CARD_GIB,
    )


def typical_tokens(params: Params) -> float | None:
    """Tokens that a row takes on average with its batch's padding; None where rows are not known yet."""
    return _padded(params.model, params.data, params.batch, params.max_length)


@functools.lru_cache(maxsize=256)
def _padded(model: str, data: Data, batch: int, most: int) -> float | None:
    from labqueue.llm.data import lengths

    rows = _some_rows(data)
    if not rows:
        return None
    return lengths.padded(model, rows[:: -(-len(rows) // lengths.SAMPLED)], data.template, batch=batch, most=most)


@functools.lru_cache(maxsize=256)
def _longest(model: str, data: Data) -> int | None:
    """Tokens of the longest row, a multiple of 8; None where rows are as long as they may be, or are not known yet."""
    from labqueue.llm.data import lengths

    rows = _some_rows(data)
    if rows is None:
        return None
    found = lengths.longest(model, rows, data.template) * (lengths.SPARE if data.task is not None else 1.0)
    return -(-int(found) // 8) * 8


def _some_rows(data: Data) -> Sequence[Row] | None:
    """All rows of a file, some of a task's; None where rows fill max_length, or are not known yet."""
    from labqueue.domain.errors import LabError
    from labqueue.llm.data import lengths
    from labqueue.llm.data.files import records
    from labqueue.llm.data.generated import tasks

    if data.packing or data.hub is not None:
        return None
    try:
        if data.task is not None:
            options = dict(data.options)
            return tasks.generated(
                data.task, train_items=lengths.SAMPLED, held_out_items=1, options=options, seed=data.seed
            ).train
        assert data.path is not None, "one of task, path, hub"
        return records.read_file(Path(data.path), data.columns.plain).rows
    except LabError:
        return None  # whoever loads the rows says what is wrong with them


@functools.cache
def _card_gib() -> float | None:
    """Memory of the largest card that this process sees, GiB, as a submission reckons; in a run there is one. None
    without a card."""
    from labqueue.system.cards import gpus

    return max((card.total_gib for card in gpus()), default=None)


def memory_groups(params: Params) -> tuple[object, object]:
    """Runs of one model, backend and method are off by the same ratio; their data say how long rows are, which how many
    rows are drawn, and which, does not."""
    plain = params.model_dump(mode="json")
    shared = ("model", "backend", "method", "quantization", "gradient_checkpointing")
    data = {key: value for key, value in plain["data"].items() if key not in ("train_items", "eval_items", "seed")}
    return [plain[name] for name in shared], data


def reduce(params: Params) -> Iterator[Params]:
    """The run in ever less memory, once ``with_less_memory`` is None: each changes the experiment a little more.

    Shorter sequences, lower ranks, both, an optimizer with moments in 8 bit, a base in 4 bit.
    """
    full = params.method == "full"
    lengths = [params.max_length * part // 16 for part in range(15, 3, -1)]
    lengths = [max(LEAST_LENGTH, length // 32 * 32) for length in lengths if length >= LEAST_LENGTH]
    ranks = [] if full else [params.lora.rank >> shift for shift in range(1, 11)]
    ranks = [rank for rank in ranks if rank >= LEAST_RANK]
    bases = [params]
    if params.optimizer == "adamw":
        bases.append(params.model_copy(update={"optimizer": "adamw_8bit"}))
    if params.quantization == "none" and not full:
        bases += [base.model_copy(update={"quantization": "4bit"}) for base in list(bases)]
    for base in bases:
        if base is not params:
            yield base
        for length in dict.fromkeys(lengths):
            yield base.model_copy(update={"max_length": length})
        for rank in ranks:
            yield base.model_copy(update={"lora": base.lora.model_copy(update={"rank": rank})})
        for length in dict.fromkeys(lengths[3::4]):
            for rank in ranks[1::2]:
                lora = base.lora.model_copy(update={"rank": rank})
                yield base.model_copy(update={"max_length": length, "lora": lora})
