"""Submission-time checks of a fine-tuning run: what it would otherwise find out as it begins."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from labqueue.domain.errors import LabError
from labqueue.domain.spec.references import is_unresolved
from labqueue.kinds.finetune import host, method

if TYPE_CHECKING:
    from labqueue.kinds.finetune.data import Data
    from labqueue.kinds.finetune.params import Params

DRAWN = 16
"""Held-out questions of a task that are drawn at submission."""


def check(params: Params, device: str) -> None:
    """Checks that a run could begin, as far as its files and its model's figures tell; its assets are here.

    What only the loaded tokenizer knows (a prompt that fills max_length) is left to the run or its rehearsal.

    Raises:
        LabError: a model that is not the pinned one, or is already in 4 bit where 16 are asked for; a bad row, one that
            the model's tokenizer or chat template does not show as it is, rows without an answer, overlap, too few rows
            for a step, options that a task refuses, a chat template that ends no answer, no room for a reply, target
            layers or a rank that the model does not have, a backend or type of number that the device cannot
            run or that would misread the model, a computer without the processor or the memory.
    """
    from labqueue.llm.models import catalogue, load, pins, stored_form

    host.check(params, device)
    form = None
    if not is_unresolved(params.model):
        pins.check(params.model, params.model_pin)
        form = catalogue.form(params.model)
    if form is not None or device == "cpu":
        backend = load.choose_backend(method.backend(params), device)
        stored_form.check_use(form, params.model, quantization=params.quantization, backend=backend)
    _adapter(params)
    _data(params)
    _extra_evals(params)


def _adapter(params: Params) -> None:
    from labqueue.llm.models import shapes

    if params.method != "lora" or is_unresolved(params.model):
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
    from labqueue.llm.data.generated import tasks

    data = params.data
    asked = Asked(params.model, max(params.samples, params.scored), params.max_new_tokens)
    if data.task is not None:
        tasks.check_options(data.task, dict(data.options))
        _questions(data, asked)
        return
    try:
        stamps = (_stamp(path) for path in (data.path, data.eval_path))
        rows = _training_rows(data, asked, params.model_pin, *stamps)
    except LabError as error:
        key = error.key if error.key not in (None, "data") else "data.path" if data.path is not None else "data.hub"
        raise LabError(error.message, file=error.file, line=error.line, key=key) from error
    if wrong := data.too_few(params.batch, params.accumulation, rows):
        raise LabError(wrong, key="batch")


class Asked(NamedTuple):
    """Which model answers how many held-out questions, with how many tokens at most."""

    model: str
    questions: int
    max_new_tokens: int


@functools.lru_cache(maxsize=4)
def _training_rows(data: Data, asked: Asked, _pin: str | None, *_stamps: tuple[int, int] | None) -> int:
    """How many rows there are to train on; the runs of a sweep share their data, which are read once.

    Raises:
        LabError: as ``Data.load``, ``rendering.check`` and ``replies.check``.
    """
    from labqueue.llm.data import rendering, replies

    split = data.load()
    shown = None if is_unresolved(asked.model) else rendering.of_model(asked.model, data.template)
    source = data.path or str(data.hub)
    most, masked = asked.max_new_tokens, data.loss == "answer"
    for what, rows, questions, file, place in (
        ("training", split.train, (), source, split.places[0]),
        ("held-out", split.held_out, split.held_out[: asked.questions], data.eval_path or source, split.places[1]),
    ):
        if not is_unresolved(asked.model):
            named = f"{Path(file).name} {place}"
            replies.check(asked.model, data.template, rows, questions, max_new_tokens=most, masked=masked, place=named)
        if shown is not None:
            rendering.check(rows, shown, what, file=file, place=place)
    return len(split.train)


@functools.lru_cache(maxsize=64)
def _questions(data: Data, asked: Asked) -> None:
    """As far as some of a task's held-out questions tell; the run knows all of them."""
    from labqueue.llm.data import replies
    from labqueue.llm.data.generated import tasks

    if is_unresolved(asked.model):
        return
    rows: tuple[tasks.Row, ...] = ()
    if asked.questions and replies.readable(asked.model, data.template):
        few = min(asked.questions, DRAWN)
        rows = tasks.generated(
            str(data.task), train_items=1, held_out_items=few, options=dict(data.options), seed=data.seed
        ).held_out
    replies.check(asked.model, data.template, (), rows, max_new_tokens=asked.max_new_tokens, place="held-out question")


def _stamp(path: str | None) -> tuple[int, int] | None:
    """What changes when a file does."""
    file = Path(path).expanduser() if path is not None else None
    if file is None or not file.is_file():
        return None
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _extra_evals(params: Params) -> None:
    from labqueue.llm.corpora import windows
    from labqueue.llm.data.generated import tasks

    for each in params.extra_evals:
        if each.task is not None:
            try:
                tasks.check_options(each.task, dict(each.options))
            except LabError as error:
                raise LabError(f"extra_evals {each.name!r}: {error.message}", key="extra_evals") from error
        else:
            windows.find(each.corpus, each.path, "extra_evals")
