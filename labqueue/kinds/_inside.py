"""Loads the model that a run looks into, and draws the texts it looks with: shared by kinds that look inside."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from pydantic import model_validator

from labqueue.domain import kind
from labqueue.domain.errors import Conflict
from labqueue.domain.spec.references import is_unresolved
from labqueue.kinds import _host, _pins
from labqueue.kinds._pins import Dtype, Pin

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.types import Model, Tokenizer

LETTERS_A_TOKEN = 8
"""More than tokens have: what is cut after so many is cut by tokens afterwards."""

DOCUMENTS = 5000
"""Documents of a corpus, at most, that are drawn from: a text of 2 GB is not read for a handful."""


class LookedInto(kind.Params):
    """Which model, in what form."""

    model: str = "smollm2-135m-instruct"
    """An alias of ``labqueue models``, a folder with a config.json, or ``{from_run: {…}}``."""
    model_pin: Pin | None = None
    """SHA-256 of the folder's files, or the hub model's commit, filled in at submission: another is another run."""
    adapter: str | None = None
    """Folder of an adapter that was trained on that model; usually ``{from_run: {…, artifact: adapter}}``."""
    adapter_pin: Pin | None = None
    """SHA-256 of the adapter's files, likewise."""
    adapter_off: bool = False
    """Looks into the base alone: the arm to compare an adapter with."""
    quantization: Literal["4bit", "none"] = "none"
    """How the model is loaded."""
    dtype: Dtype = "auto"
    """Type of number that is computed in."""

    @model_validator(mode="after")
    def _something_to_leave_off(self) -> Self:
        if self.adapter_off and self.adapter is None:
            raise Conflict("adapter_off", "adapter_off is for an adapter, and none is given: leave it out")
        return self


Inside = TypeVar("Inside", bound=LookedInto)


def loaded(params: LookedInto, rec: Recorder) -> tuple[Loaded, Model]:
    """The model without adapter and its tokenizer, and the model to look into; notes what it is.

    Raises:
        LabError: one is not there or has changed since submission.
    """
    from labqueue.llm.models import adapter_folder, load, pins

    pins.check_folder(params.adapter or "", params.adapter_pin, "adapter")
    found = load.load_model(
        params.model,
        pin=params.model_pin,
        backend="hf",
        quantization=params.quantization,
        device=rec.device,
        dtype=params.dtype,
    )
    rec.note(f"{found.name}: {found.weights}; computed in {found.dtype}; eager attention")
    if params.adapter is None or params.adapter_off:
        return found, found.model
    return found, adapter_folder.load(found, Path(params.adapter))


def passages(corpus: str, tokenizer: Tokenizer, *, count: int, tokens: int, seed: int) -> list[str]:
    """The beginnings of as many documents of a corpus, ``tokens`` tokens each, drawn by the seed.

    Raises:
        LabError: fewer documents of that length.
    """
    import random

    from labqueue.domain.errors import LabError
    from labqueue.llm.corpora import catalogue

    enough = LETTERS_A_TOKEN * tokens
    documents = itertools.islice(catalogue.open_corpus(corpus).documents(), DOCUMENTS)
    long = [text for text in documents if len(text) >= enough]
    if len(long) < count:
        raise LabError(
            f"corpus {corpus!r} has {len(long)} documents of {enough} letters or more, and {count} passages are asked "
            "for: take fewer, or a lower passage_tokens",
            key="passages",
        )
    drawn = random.Random(seed).sample(long, count)
    ids = [tokenizer(text[:enough], add_special_tokens=False)["input_ids"][:tokens] for text in drawn]
    return [str(tokenizer.decode(each)) for each in ids]


def tell(rec: Recorder, done: int, total: int, phase: str | None = None) -> None:
    """Says how far the run is.

    Raises:
        Stopped: it is asked to stop.
    """
    rec.progress(done, total, phase=phase)
    if rec.should_stop is not None:
        raise kind.Stopped(rec.should_stop)


def resolved(params: Inside, device: str) -> Inside:
    """With the type that this computer computes in."""
    return params.model_copy(update={"dtype": _host.decided(params.dtype, device)})


def check(params: LookedInto, device: str, corpora: list[str]) -> None:
    """Checks that a run could begin, as far as its folders tell.

    Raises:
        LabError: a model that is already in 4 bit and asked for in 16, an adapter that is none of the model's, a corpus
            that is not here, a processor without AVX2.
    """
    from labqueue.llm.corpora import catalogue
    from labqueue.llm.models import adapter_folder, stored_form
    from labqueue.llm.models import catalogue as models

    _host.check_processor(device)
    for corpus in corpora:
        catalogue.open_corpus(corpus)
    if not is_unresolved(params.model):
        form = models.form(params.model)
        stored_form.check_use(form, params.model, quantization=params.quantization, backend="hf")
        if params.adapter is not None and not is_unresolved(params.adapter):
            adapter_folder.check(Path(params.adapter).expanduser(), params.model)


def assets(params: LookedInto, corpora: list[str]) -> list[str]:
    """The model and the corpora; names of ``labqueue.llm.assets``."""
    model = [] if is_unresolved(params.model) else [params.model]
    return [*model, *(f"corpus:{corpus}" for corpus in corpora)]


def pinned(params: Inside) -> Inside:
    """With the content of its model and its adapter."""
    return params.model_copy(
        update={
            "model_pin": _pins.model(params.model, params.model_pin),
            "adapter_pin": _pins.folder(params.adapter, params.adapter_pin, "adapter"),
        }
    )
