"""Scores what each head does, each score beside its null, and measures what silencing some of them costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.kinds import _inside
from labqueue.kinds.attention.params import Ablate, Params

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.interp.head_scores import Heads, Score
    from labqueue.llm.types import Tokenizer

FOUND = 0.2
"""A head is said to be found where its score is this much above its null and its best other distance."""

SHOWN = 8
"""Heads in the table, for each score."""


def score(params: Params, rec: Recorder) -> None:
    """Scores all heads on one draw and silences some on another.

    Raises:
        LabError: see the kind's ``run``.
        Stopped: asked to stop.
    """
    from labqueue.llm.interp import head_ablation, head_scores
    from labqueue.llm.interp.encoding import encode

    loaded, model = _inside.loaded(params, rec)
    tokenizer = loaded.tokenizer
    total = 5 if params.ablate else 3
    texts = texts_of(params, tokenizer, rec.seed)
    rec.progress(0, total)
    # Heads are chosen on one draw of random tokens and silenced on another: else the choice would fit the draw.
    length, count = params.repeat_tokens, params.repeat_batch
    chosen_on, silenced_on = 2 * rec.seed, 2 * rec.seed + 1
    scores = head_scores.score_repetition(model, tokenizer, length=length, batch=count, seed=chosen_on)
    _inside.tell(rec, 1, total)
    scores |= head_scores.score_text(model, tokenizer, texts)
    _inside.tell(rec, 2, total)
    _record(scores, rec)
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


def texts_of(params: Params, tokenizer: Tokenizer, seed: int) -> list[str]:
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
        rec.artifact(name, grid(name, score.value, units.get(name, "weight")))
    layers = tuple(float(number) for number in range(len(sink.value)))
    series = {name: tuple(map(float, score.value.mean(1))) for name, score in scores.items() if name not in units}
    rec.artifact("by_layer", artifacts.Curve(x_label="layer", y_label="mean over heads", x=layers, series=series))


def grid(name: str, value: Heads, unit: str) -> artifacts.Grid:
    """A picture of [layer, head]; NaN is not measured."""
    layers, heads = value.shape
    return artifacts.Grid(
        row_label="layer",
        column_label="head",
        rows=tuple(map(str, range(layers))),
        columns=tuple(map(str, range(heads))),
        values=tuple(tuple(None if each != each else round(each, 6) for each in row.tolist()) for row in value),
        value_label=f"{name} ({unit})",
    )
