"""What a fine-tuning run would find out as it begins, found out at submission. No kind itself."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.kinds import _host, _method
from labqueue.kinds._data import Data
from labqueue.kinds._pins import FROM_RUN

if TYPE_CHECKING:
    from labqueue.kinds.finetune import Params


def check(params: Params, device: str) -> None:
    """Does nothing where a run could begin, as far as its files and its model's figures tell; its assets are here.

    What only a tokenizer knows (a prompt that fills max_length, a template's tokens) is left to the run or its
    rehearsal.

    Raises:
        LabError: a model that is not the pinned one, a bad row, rows without an answer, overlap, too few rows for a
            step, options that a task refuses, target layers or a rank that the model does not have, a backend or a type
            of number that the device cannot run, a computer without the processor or the memory.
    """
    from labqueue.llm import load, pins

    _host.check(params, device)
    if params.model != FROM_RUN:
        pins.check(params.model, params.model_pin)
    if device == "cpu":
        load.choose_backend(_method.backend(params), device)
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
        rows = _training_rows(data.model_dump_json(), *(_stamp(path) for path in (data.path, data.eval_path)))
    except LabError as error:
        key = error.key if error.key not in (None, "data") else "data.path" if data.path is not None else "data.hub"
        raise LabError(error.message, file=error.file, line=error.line, key=key) from error
    if wrong := data.too_few(params.batch, params.accumulation, rows):
        raise LabError(wrong, key="batch")


@functools.lru_cache(maxsize=4)
def _training_rows(data: str, *_stamps: tuple[int, int] | None) -> int:
    """How many rows there are to train on; the runs of a sweep share their data, which are read once."""
    return len(Data.model_validate_json(data).load().train)


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
