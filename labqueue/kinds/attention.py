"""Scores what each attention head of a model does, and measures what silencing some of them costs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import artifacts, kind
from labqueue.domain.declarations import ArtifactUse, Metric
from labqueue.domain.errors import Conflict
from labqueue.kinds import _host, _inside, _moved, _pins
from labqueue.kinds._pins import Pin

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.interp.head_scores import Heads, Score
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.types import Model, Tokenizer

_NATS = "nats/token"

METRICS = {
    "repeat_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of random tokens the second time"),
    "text_loss": Metric(_NATS, "lower", "held_out", "positive", about="loss of natural text"),
    "repeat_loss_change": Metric(_NATS, None, "held_out", about="what silencing the heads adds to repeat_loss"),
    "text_loss_change": Metric(_NATS, None, "held_out", about="what silencing the heads adds to text_loss"),
    "induction_best": Metric("", None, "diagnostic", "share", about="highest induction score of a head"),
    "induction_null": Metric("", None, "diagnostic", "share", about="the largest of any head where nothing repeats"),
    "induction_heads": Metric("", None, "diagnostic", about="heads 0.2 above their null and best other distance"),
    "induction_of_best_ablated": Metric(
        "", None, "diagnostic", "share", nullable=True, about="score of the best head with the others silenced"
    ),
    "previous_token_best": Metric("", None, "diagnostic", "share", about="highest weight on the previous token"),
    "previous_token_null": Metric("", None, "diagnostic", "share", about="weight of that head two or three before"),
    "duplicate_best": Metric("", None, "diagnostic", "share", about="highest duplicate score of a head"),
    "sink_layer_*": Metric("", None, "diagnostic", "share", about="mean weight of a layer's heads on the first token"),
    "sink_null": Metric("", None, "diagnostic", "share", about="mean weight on each of the next three tokens"),
    **_moved.METRICS,
}
ARTIFACTS = {
    "heads": ArtifactUse("samples", about="heads with the highest scores, each beside its null"),
    "induction": ArtifactUse(about="induction score, layer by head"),
    "previous_token": ArtifactUse(about="weight on the previous token, layer by head"),
    "duplicate": ArtifactUse(about="duplicate score, layer by head"),
    "sink": ArtifactUse(about="weight on the first token, layer by head"),
    "entropy": ArtifactUse(about="entropy of a row, layer by head"),
    "distance": ArtifactUse(about="mean distance looked back, layer by head"),
    "by_layer": ArtifactUse(about="means of each layer's heads"),
    **_moved.ARTIFACTS,
    "maps": ArtifactUse(about="attention maps of map_text, head by head"),
    "page": ArtifactUse(about="page that shows them: all heads, one head, one token"),
}
COMPUTED_IN = "dtype"

FOUND = 0.2
"""A head is said to be found where its score is this much above its null and its best other distance."""

SHOWN = 8
"""Heads in the table, for each score."""


class Ablate(kind.Params):
    """Which heads are silenced, chosen by scores on one draw and silenced on another."""

    by: Literal["induction", "previous_token", "duplicate", "sink", "random"] = "induction"
    """The score whose highest heads are taken; ``random``: as many others of the layers of induction's best."""
    heads: int = Field(default=5, ge=1, le=10_000)
    """How many."""
    how: Literal["zero", "mean", "resample"] = "zero"
    """What stands in for what they add: nothing, its mean, or another sequence's."""


class Params(_inside.LookedInto):
    """Parameters of one run."""

    texts: Annotated[tuple[str, ...], Field(strict=False, max_length=1000)] = ()
    """Natural texts to score on; none: passages of ``corpus``, drawn by the seed."""
    corpus: str = "python_docs"
    """A text of ``labqueue corpora`` that is on this computer."""
    passages: int = Field(default=4, ge=2, le=1000)
    """Passages of the corpus, each of another document."""
    passage_tokens: int = Field(default=96, ge=8, le=100_000)
    """Tokens of a passage."""
    repeat_tokens: int = Field(default=50, ge=4, le=10_000)
    """Random tokens that are repeated, drawn by the seed."""
    repeat_batch: int = Field(default=4, ge=2, le=1000)
    """Sequences of them."""
    ablate: Ablate | None = Ablate()
    """Heads to silence; null for none."""
    rival: str | None = None
    """Folder of an adapter trained as ``adapter`` was, but for its seed; usually ``{from_run: {…, seed: next}}``."""
    rival_pin: Pin | None = None
    """SHA-256 of the rival's files, filled in at submission."""
    moved: _moved.Moved | None = None
    """Compares base and tuned instead of scoring heads: which heads ``adapter`` moved, and what that is worth."""
    map_text: str | None = Field(default=None, min_length=1)
    """A text whose attention maps are kept, as artifacts ``maps`` and ``page``; null for none."""
    chunk: int | None = Field(default=None, ge=1)
    """Queries at a time; null for all at once. Bounds the memory to chunk x keys of one layer."""

    @model_validator(mode="after")
    def _both_adapters(self) -> Self:
        if self.moved is not None and (self.adapter is None or self.rival is None):
            raise Conflict("moved", "moved needs adapter and rival: two adapters, trained alike with different seeds")
        if self.moved is None and self.rival is not None:
            raise Conflict("rival", "rival is for moved: say what base and tuned are compared on, or leave rival out")
        return self

    @model_validator(mode="after")
    def _enough_texts(self) -> Self:
        if len(self.texts) == 1:
            raise Conflict("texts", "texts has one entry: give two or more, so that a mean is of more than one text")
        return self


def run(params: Params, rec: Recorder) -> None:
    """Scores all heads on one draw and silences some on another; see the module's docstring.

    Raises:
        UserError: a model or an adapter that is not there, has changed, or whose attention cannot be seen; texts that
            are too long or too short.
        Stopped: asked to stop; nothing is kept, a resume begins again.
    """
    from labqueue.domain.errors import LabError

    try:
        _run(params, rec)
    except LabError as error:
        raise kind.UserError(str(error)) from error


def _run(params: Params, rec: Recorder) -> None:
    from labqueue.llm.interp import head_ablation, head_scores
    from labqueue.llm.interp.encoding import encode

    if params.moved is not None and params.rival is not None:
        _compare(params, params.moved, params.rival, rec)
        return
    loaded, model = _inside.loaded(params, rec)
    tokenizer = loaded.tokenizer
    total = 5 if params.ablate else 3
    texts = _texts(params, tokenizer, rec.seed)
    rec.progress(0, total)
    # Heads are chosen on one draw of random tokens and silenced on another: else the choice would fit the draw.
    length, count = params.repeat_tokens, params.repeat_batch
    chosen_on, silenced_on = 2 * rec.seed, 2 * rec.seed + 1
    scores = head_scores.score_repetition(model, tokenizer, length=length, batch=count, seed=chosen_on)
    _inside.tell(rec, 1, total)
    scores |= head_scores.score_text(model, tokenizer, texts)
    _inside.tell(rec, 2, total)
    _record(scores, rec)
    if params.map_text is not None:
        _map(params, loaded, model, scores, rec)
    first = tokenizer.bos_token_id
    ids = head_scores.repeats(len(tokenizer), length=length, batch=count, seed=silenced_on, first=first)  # [batch, seq]
    second = ids.shape[1] - params.repeat_tokens
    batch = encode(tokenizer, texts)
    mask = batch.attention_mask

    def losses() -> tuple[float, float]:
        repeat = head_ablation.loss(model, ids, first=second)
        return repeat, head_ablation.loss(model, batch.input_ids, mask=mask)

    repeat_loss, text_loss = losses()
    rec.metric("repeat_loss", repeat_loss, 0)
    rec.metric("text_loss", text_loss, 0)
    _inside.tell(rec, 3, total)
    if params.ablate is None:
        return
    heads = _silenced(params.ablate, scores, rec.seed)
    rec.note(f"silenced: {', '.join(f'{layer}.{head}' for layer, head in heads)} ({params.ablate.how})")
    with head_ablation.ablated(model, heads, params.ablate.how):
        repeat_without, text_without = losses()
        rec.metric("repeat_loss_change", repeat_without - repeat_loss, 0)
        rec.metric("text_loss_change", text_without - text_loss, 0)
        _inside.tell(rec, 4, total)
        layer, head = head_scores.best(scores["induction"].value, 1)[0]
        after = None
        if (layer, head) not in heads:
            again = head_scores.score_repetition(model, tokenizer, length=length, batch=count, seed=silenced_on)
            after = float(again["induction"].value[layer, head])
        rec.metric("induction_of_best_ablated", after, 0)
    rec.progress(total, total)


def _compare(params: Params, moved: _moved.Moved, rival: str, rec: Recorder) -> None:
    from labqueue.llm.models import pins

    pins.check_folder(params.adapter or "", params.adapter_pin, "adapter")
    pins.check_folder(rival, params.rival_pin, "rival")
    _moved.look(params, moved, rival, lambda tokenizer: _texts(params, tokenizer, rec.seed), rec)


def _texts(params: Params, tokenizer: Tokenizer, seed: int) -> list[str]:
    """The texts given, or the beginning of as many documents of the corpus, drawn by the seed."""
    if params.texts:
        return list(params.texts)
    return _inside.passages(params.corpus, tokenizer, count=params.passages, tokens=params.passage_tokens, seed=seed)


def _silenced(ablate: Ablate, scores: dict[str, Score], seed: int) -> list[tuple[int, int]]:
    from labqueue.llm.interp import head_scores

    if ablate.by != "random":
        return head_scores.best(scores[ablate.by].excess, ablate.heads)
    value = scores["induction"].excess
    top = head_scores.best(value, ablate.heads)
    return head_scores.others_of(top, value.shape[1], ablate.heads, seed=seed)


def _record(scores: dict[str, Score], rec: Recorder) -> None:
    from labqueue.llm.interp import head_scores

    induction, previous, sink = scores["induction"], scores["previous_token"], scores["sink"]
    rec.metric("induction_best", float(induction.value.max()), 0)
    rec.metric("induction_null", float(induction.null.max()), 0)
    rec.metric("induction_heads", float((induction.excess > FOUND).sum()), 0)
    layer, head = head_scores.best(previous.value, 1)[0]
    rec.metric("previous_token_best", float(previous.value[layer, head]), 0)
    rec.metric("previous_token_null", float(previous.null[layer, head]), 0)
    rec.metric("duplicate_best", float(scores["duplicate"].value.max()), 0)
    for number, value in enumerate(sink.value.mean(1)):
        rec.metric(f"sink_layer_{number}", float(value), 0)
    rec.metric("sink_null", float(sink.null.mean()), 0)
    rows = [
        (
            name,
            f"{layer}.{head}",
            *(round(float(each[layer, head]), 4) for each in (score.value, score.null, score.excess)),
        )
        for name, score in scores.items()
        if name in ("induction", "duplicate", "previous_token", "sink")
        for layer, head in head_scores.best(score.value, min(SHOWN, score.value.numel()))
    ]
    rec.artifact("heads", artifacts.Table(columns=("score", "layer.head", "value", "null", "excess"), rows=tuple(rows)))
    units = {"entropy": "nats", "distance": "tokens"}
    for name, score in scores.items():
        rec.artifact(name, _grid(name, score.value, units.get(name, "weight")))
    layers = tuple(float(number) for number in range(len(sink.value)))
    series = {name: tuple(map(float, score.value.mean(1))) for name, score in scores.items() if name not in units}
    rec.artifact("by_layer", artifacts.Curve(x_label="layer", y_label="mean over heads", x=layers, series=series))


def _map(params: Params, loaded: Loaded, model: Model, scores: dict[str, Score], rec: Recorder) -> None:
    """Keeps the maps of the pinned text, and the page that shows them beside the scores."""
    from labqueue.llm.interp.page.attention_page import HeadScore, attention_page
    from labqueue.llm.interp.stored_maps import store_maps

    path = rec.directory / "maps.bin"
    name = loaded.name if params.adapter is None else f"{loaded.name} with adapter"
    store_maps(model, loaded.tokenizer, str(params.map_text), path, name=name, chunk=params.chunk)
    beside = [
        HeadScore(name, score.value.tolist(), score.null.expand_as(score.value).tolist())
        for name, score in scores.items()
    ]
    rec.artifact("page", artifacts.Page(html=attention_page(path, scores=beside)))
    rec.artifact("maps", artifacts.Tensor(path=path))
    path.unlink()


def _grid(name: str, value: Heads, unit: str) -> artifacts.Grid:
    layers, heads = value.shape
    return artifacts.Grid(
        row_label="layer",
        column_label="head",
        rows=tuple(map(str, range(layers))),
        columns=tuple(map(str, range(heads))),
        values=tuple(tuple(round(float(each), 6) for each in row) for row in value),
        value_label=f"{name} ({unit})",
    )


def resolved(params: Params, device: str) -> Params:
    """As ``_inside.resolved``."""
    return _inside.resolved(params, device)


def imports(device: str) -> tuple[str, ...]:
    """As ``_host.imports``."""
    return _host.imports(device)


def check(params: Params, device: str) -> None:
    """As ``_inside.check``, of the rival, too."""
    _inside.check(params, device, _corpora(params))
    if params.rival is not None:
        _inside.check(params.model_copy(update={"adapter": params.rival}), device, [])


def assets(params: Params) -> list[str]:
    """As ``_inside.assets``, and what base and tuned are compared on."""
    return [*_inside.assets(params, _corpora(params)), *(params.moved.data.assets if params.moved else ())]


def pinned(params: Params) -> Params:
    """As ``_inside.pinned``, of the rival and the data, too."""
    found = {
        "rival_pin": _pins.folder(params.rival, params.rival_pin, "rival"),
        "moved": params.moved and params.moved.model_copy(update={"data": params.moved.data.pinned()}),
    }
    return _inside.pinned(params).model_copy(update=found)


def _corpora(params: Params) -> list[str]:
    return [] if params.texts else [params.corpus]
