"""What a fine-tuning run would find out as it begins, found out at submission. No kind itself."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.kinds import _method
from labqueue.kinds._data import Data
from labqueue.kinds._pins import FROM_RUN

if TYPE_CHECKING:
    from labqueue.kinds.finetune import Params


def check(params: Params, device: str) -> None:
    """Does nothing where a run could begin, as far as its files and its model's figures tell; its assets are here.

    What only a loaded tokenizer knows (a prompt that fills max_length, a template's tokens) is left to the run or its
    rehearsal.

    Raises:
        LabError: a model that is not the pinned one, or is already in 4 bit where 16 are asked for; a bad row, one that
            the model's chat template does not show as it is, rows without an answer, overlap, too few rows for a step,
            options that a task refuses, target layers or a rank that the model does not have, a backend that the device
            cannot run or that would misread the model.
    """
    from labqueue.llm import load, models, pins, stored

    form = None
    if params.model != FROM_RUN:
        pins.check(params.model, params.model_pin)
        form = models.form(params.model)
    if form is not None or device == "cpu":
        backend = load.choose_backend(_method.backend(params), device)
        stored.check_use(form, params.model, quantization=params.quantization, backend=backend)
    _adapter(params)
    _data(params)
    _also(params)


def _adapter(params: Params) -> None:
    from labqueue.llm import shapes

    if params.method != "lora" or params.model == FROM_RUN:
        return
    try:
        shape = shapes.shape_of(params.model)
    except LabError:
        return  # of an architecture whose layers are known once it is loaded
    targets = params.lora.targets
    # A target may be the end of a longer name; sizes go by its last part.
    last = targets if isinstance(targets, str) else tuple(target.rpartition(".")[2] for target in targets)
    shape.lora_parameters(params.lora.rank, last)


def _data(params: Params) -> None:
    from labqueue.llm import tasks

    data = params.data
    if data.task is not None:
        tasks.check_options(data.task, dict(data.options))
        return
    try:
        stamps = (_stamp(path) for path in (data.path, data.eval_path))
        rows = _training_rows(data.model_dump_json(), params.model, params.model_pin, *stamps)
    except LabError as error:
        key = error.key if error.key not in (None, "data") else "data.path" if data.path is not None else "data.hub"
        raise LabError(error.message, file=error.file, line=error.line, key=key) from error
    if wrong := data.too_few(params.batch, params.accumulation, rows):
        raise LabError(wrong, key="batch")


@functools.lru_cache(maxsize=4)
def _training_rows(data: str, model: str, _pin: str | None, *_stamps: tuple[int, int] | None) -> int:
    """How many rows there are to train on; the runs of a sweep share their data, which are read once.

    Raises:
        LabError: as ``Data.load``, or the model's tokenizer or chat template cannot show a row as it is.
    """
    from labqueue.llm import rendering

    wanted = Data.model_validate_json(data)
    split = wanted.load()
    shown = None if model == FROM_RUN else rendering.of_model(model, wanted.template)
    if shown is not None:
        source = wanted.path or str(wanted.hub)
        train, held_out = split.places
        rendering.check(split.train, shown, "training", file=source, place=train)
        rendering.check(split.held_out, shown, "held-out", file=wanted.eval_path or source, place=held_out)
    return len(split.train)


def _stamp(path: str | None) -> tuple[int, int] | None:
    """What changes when a file does."""
    file = Path(path).expanduser() if path is not None else None
    if file is None or not file.is_file():
        return None
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _also(params: Params) -> None:
    from labqueue.llm import corpora, tasks

    for each in params.also:
        if each.task is not None:
            try:
                tasks.check_options(each.task, dict(each.options))
            except LabError as error:
                raise LabError(f"also {each.name!r}: {error.message}", key="also") from error
        else:
            corpora.find(each.corpus, each.path, "also")
