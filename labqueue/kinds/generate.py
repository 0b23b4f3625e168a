"""Answers questions greedily with a model, and side by side with an adapter or with another model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import artifacts, kind
from labqueue.domain.declarations import ArtifactUse, Metric
from labqueue.domain.errors import Conflict
from labqueue.domain.spec.references import is_unresolved
from labqueue.kinds import _host, _pins
from labqueue.kinds._pins import Dtype, Pin

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.types import Model


METRICS = {
    "answers_changed": Metric("", None, "held_out", "share", "questions", about="questions answered differently")
}
ARTIFACTS = {"answers": ArtifactUse("samples", about="each question with its answers side by side")}
COMPUTED_IN = "dtype"


class Params(kind.Params):
    """Parameters of one run."""

    model: str = "smollm2-135m-instruct"
    """An alias of ``labqueue models``, or a folder with a config.json."""
    model_pin: Pin | None = None
    """SHA-256 of the folder's files, or the hub model's commit, filled in at submission: another is another run."""
    adapter: str | None = None
    """Folder of an adapter that was trained on that model; usually ``{from_run: {…, artifact: adapter}}``."""
    adapter_pin: Pin | None = None
    """SHA-256 of the adapter's files, likewise."""
    other: str | None = None
    """A model to compare with instead, such as ``{from_run: {…, artifact: merged}}``."""
    other_pin: Pin | None = None
    """Of ``other``, as ``model_pin``."""
    questions: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    """What is asked, each by itself."""
    template: str = "auto"
    """Chat template, as in training: ``auto`` (the adapter's where one is given), ``none``, or one of its names."""
    quantization: Literal["4bit", "none"] = "4bit"
    """How the model is loaded; an adapter belongs to what it was trained on."""
    dtype: Dtype = "auto"
    """Type of number that is computed in, as in training."""
    max_new_tokens: int = Field(default=64, ge=1, le=4096)
    """Tokens of an answer at most."""

    @model_validator(mode="after")
    def _one_other(self) -> Self:
        if self.adapter is not None and self.other is not None:
            words = f"adapter is {self.adapter!r} and other {self.other!r}: give one of them, two columns are compared"
            raise Conflict("other", words)
        return self


def run(params: Params, rec: Recorder) -> None:
    """Answers every question once or twice; see the module's docstring.

    Raises:
        UserError: a model, an adapter or a template that is not there, has changed since submission, or does not fit.
        Stopped: asked to stop; nothing is kept, a resume answers all questions again.
    """
    from labqueue.domain.errors import LabError
    from labqueue.llm.training.recipe import Interrupted

    try:
        _run(params, rec)
    except Interrupted:
        raise kind.Stopped(str(rec.should_stop)) from None
    except LabError as error:
        raise kind.UserError(str(error)) from error


def _run(params: Params, rec: Recorder) -> None:
    from labqueue.llm.models import adapter_folder, pins

    pins.check_folder(params.adapter or "", params.adapter_pin, "adapter")
    loaded = _loaded(params, params.model, params.model_pin, rec)
    if params.adapter is not None:
        loaded = _as_trained(params, loaded, Path(params.adapter), rec)
    rec.progress(0, 2)
    first = _answers(params, loaded, loaded.model, rec)
    columns, rows = ["question", "model"], [params.questions, first]
    rec.progress(1, 2)
    second = None
    if params.adapter is not None:
        second = _answers(params, loaded, adapter_folder.load(loaded, Path(params.adapter)), rec)
        columns.append("with adapter")
    elif params.other is not None:
        del loaded
        other = _loaded(params, params.other, params.other_pin, rec)
        second = _answers(params, other, other.model, rec)
        columns.append("other model")
    if second is not None:
        rows.append(second)
        changed = sum(one != two for one, two in zip(first, second, strict=True))
        rec.metric("answers_changed", changed / len(first), 0)
    rec.artifact("answers", artifacts.Table(columns=tuple(columns), rows=tuple(zip(*rows, strict=True))))
    rec.progress(2, 2)


def _loaded(params: Params, name: str, pin: str | None, rec: Recorder) -> Loaded:
    from labqueue.llm.evaluation import generate
    from labqueue.llm.models import load

    loaded = load.load_model(
        name, pin=pin, backend="hf", quantization=params.quantization, device=rec.device, dtype=params.dtype
    )
    rec.note(f"{loaded.name}: {loaded.weights}; computed in {loaded.dtype}")
    for note in generate.settle(loaded, params.template):
        rec.note(note)
    return loaded


def _as_trained(params: Params, loaded: Loaded, folder: Path, rec: Recorder) -> Loaded:
    """The model asked as the adapter was trained, unless a template is named; what differs is said."""
    from labqueue.llm.models import adapter_folder

    about = adapter_folder.about(folder)
    if not about:
        rec.note("the adapter says nothing of the weights it was trained on: it was written elsewhere, or long ago")
    elif about.get("quantization") != loaded.quantization:
        rec.note(f"the adapter was trained on a base with quantization {about.get('quantization')}, not as loaded here")
    return adapter_folder.with_tokenizer(loaded, folder) if params.template == "auto" else loaded


def _answers(params: Params, loaded: Loaded, model: Model, rec: Recorder) -> tuple[str, ...]:
    from labqueue.llm.data import rendering
    from labqueue.llm.data.generated.tasks import Row
    from labqueue.llm.evaluation import generate

    rows = [Row(question, "", number) for number, question in enumerate(params.questions)]
    rendering.check(rows, rendering.of_tokenizer(loaded.tokenizer), "question")
    return tuple(
        generate.answers(
            model,
            loaded.tokenizer,
            rows,
            max_new_tokens=params.max_new_tokens,
            leave=lambda: rec.should_stop is not None,
        )
    )


def resolved(params: Params, device: str) -> Params:
    """With the type that this computer computes in."""
    return params.model_copy(update={"dtype": _host.decided(params.dtype, device)})


def imports(device: str) -> tuple[str, ...]:
    """As ``_host.imports``."""
    return _host.imports(device)


def check(params: Params, device: str) -> None:
    """Checks that a run could begin, as far as its folders tell: the models' templates write each question and
    leave room for its answer.

    Raises:
        LabError: a model that is already in 4 bit and asked for in 16, an adapter that is none of the model's, an
            unknown template, or a question, named by its number, that a template does not write or that leaves no room;
            a processor without AVX2.
    """
    from labqueue.domain.errors import LabError
    from labqueue.llm.data import chat_templates, rendering, replies
    from labqueue.llm.data.generated.tasks import Row
    from labqueue.llm.models import adapter_folder, catalogue, stored_form

    _host.check_processor(device)
    for name in assets(params):
        stored_form.check_use(catalogue.form(name), name, quantization=params.quantization, backend="hf")
    if params.adapter is not None and not is_unresolved(params.adapter) and not is_unresolved(params.model):
        adapter_folder.check(Path(params.adapter).expanduser(), params.model)
    chat_templates.check(params.template, "template")
    rows = [Row(question, "", number) for number, question in enumerate(params.questions, start=1)]
    for model in assets(params):
        try:
            if (shown := rendering.of_model(model, params.template)) is not None:
                rendering.check(rows, shown, "question")
            replies.check(model, params.template, (), rows, max_new_tokens=params.max_new_tokens, place="question")
        except LabError as error:
            raise LabError(error.message, key=(error.key or "").removeprefix("data.")) from error


def assets(params: Params) -> list[str]:
    """The models; names of ``labqueue.llm.assets``."""
    return [name for name in (params.model, params.other) if name is not None and not is_unresolved(name)]


def pinned(params: Params) -> Params:
    """With the content of its models and its adapter."""
    return params.model_copy(
        update={
            "model_pin": _pins.model(params.model, params.model_pin),
            "adapter_pin": _pins.folder(params.adapter, params.adapter_pin, "adapter"),
            "other_pin": _pins.model(params.other, params.other_pin),
        }
    )
