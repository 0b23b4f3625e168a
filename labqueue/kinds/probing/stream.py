"""Measures the residual stream of some texts: norms, what each part adds, and what the lens reads at each layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.kinds import _inside
from labqueue.kinds.probing.params import Params, Residual

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.interp.logit_lens import Lens
    from labqueue.llm.interp.stream_summary import StreamSummary
    from labqueue.llm.types import Model, Tokenizer

MODULES = (
    "argparse", "ast", "bdb", "calendar", "configparser", "csv", "difflib", "fractions", "heapq", "inspect", "logging",
    "optparse", "pathlib", "pickle", "random", "shutil", "statistics", "string", "tarfile", "textwrap",
    "tokenize", "turtle", "zipfile",
)  # fmt: skip
"""Modules of Python whose text is code to look at; those that a version has not are left out."""

SHOWN_TOKENS, SHOWN_LAYERS = 24, 11
"""Of the lens's table."""


def look(params: Params, study: Residual, rec: Recorder) -> None:
    """Records the stream's norms and the lens, layer by layer.

    Raises:
        LabError: see the kind's ``run``.
        Stopped: asked to stop.
    """
    from labqueue.llm.interp import stream_summary

    found, model = _inside.loaded(params, rec)
    texts = _texts(study, found.tokenizer, rec.seed)

    def tell(done: int, total: int) -> None:
        _inside.tell(rec, done, total)

    summary = stream_summary.summarise(model, found.tokenizer, texts, tell)
    for layer, value in enumerate(summary.norm):
        rec.metric(f"norm_layer_{layer}", value, 0)
        rec.metric(f"lens_loss_layer_{layer}", summary.lens_loss[layer], 0)
        rec.metric(f"lens_agrees_layer_{layer}", summary.lens_agrees[layer], 0)
        if layer:
            rec.metric(f"attn_added_layer_{layer}", summary.attn_added[layer - 1], 0)
            rec.metric(f"ffn_added_layer_{layer}", summary.ffn_added[layer - 1], 0)
    rec.metric("tokens", sum(len(each.tokens[0]) for each in summary.lenses), 0)
    rec.metric("norm_growth", summary.norm[-2] / summary.norm[1], 0)
    both = zip(summary.first_norm, summary.norm, strict=True)
    rec.metric("first_token_norm", max(first / rest for first, rest in both), 0)
    rec.metric("loss", summary.lens_loss[-1], 0)
    rec.metric("lens_null_loss", summary.lens_null_loss, 0)
    rec.metric("lens_null_agrees", summary.lens_null_agrees, 0)
    rec.metric("decided_at", summary.decided_at, 0)
    _curves(rec, summary)
    _show(rec, model, found.tokenizer, texts[0], summary.lenses[0])


def _texts(study: Residual, tokenizer: Tokenizer, seed: int) -> list[str]:
    import random

    chance = random.Random(seed)
    count, tokens = study.passages, study.passage_tokens
    if study.text in ("prose", "shuffled"):
        found = _inside.passages(study.corpus, tokenizer, count=count, tokens=tokens, seed=seed)
        if study.text == "prose":
            return found
        return [" ".join(chance.sample(words, len(words))) for text in found for words in [text.split()]]
    if study.text == "code":
        whole = [text for text in map(_module, MODULES) if text]
        texts = [chance.choice(whole) for _ in range(count)]
        starts = [chance.randrange(max(1, len(text) - _inside.LETTERS_A_TOKEN * tokens)) for text in texts]
        # From the beginning of a line.
        pieces = [text[text.rfind("\n", 0, start) + 1 :] for text, start in zip(texts, starts, strict=True)]
    else:
        pieces = []
        for _ in range(count):
            pairs = [(chance.randrange(100), chance.randrange(100)) for _ in range(tokens)]
            pieces.append("".join(f"{a} + {b} = {a + b}\n" for a, b in pairs))
    cut = [tokenizer(piece[: _inside.LETTERS_A_TOKEN * tokens], add_special_tokens=False) for piece in pieces]
    return [str(tokenizer.decode(each["input_ids"][:tokens])) for each in cut]


def _module(name: str) -> str | None:
    import importlib.util

    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin).read_text(encoding="utf-8")


def _curves(rec: Recorder, summary: StreamSummary) -> None:
    x = tuple(map(float, range(len(summary.norm))))
    series = {
        "stream": tuple(summary.norm[1:]),
        "added by attention": tuple(summary.attn_added),
        "added by the FFN": tuple(summary.ffn_added),
    }
    rec.artifact("norms", artifacts.Curve(x_label="layer", y_label="median norm", x=x[1:], series=series))
    read = {"lens loss": tuple(summary.lens_loss), "agrees with the model": tuple(summary.lens_agrees)}
    label = "nats a token, share of tokens"
    rec.artifact("by_layer", artifacts.Curve(x_label="layer (0: embedding)", y_label=label, x=x, series=read))


def _show(rec: Recorder, model: Model, tokenizer: Tokenizer, text: str, lens: Lens) -> None:
    """The lens's table of one text, and what each part adds to its last prediction."""
    from labqueue.llm.interp import logit_lens

    step = max(1, (len(lens.layers) - 1) // (SHOWN_LAYERS - 1))
    rows = sorted({*range(0, len(lens.layers), step), len(lens.layers) - 1})
    places = range(min(SHOWN_TOKENS, len(lens.tokens[0])))

    def reading(row: int, place: int) -> str:
        word = tokenizer.decode([int(lens.top[row, 0, place])])
        return f"{word} {float(lens.probability[row, 0, place]):.2f}"

    shown = tuple((lens.tokens[0][place], *(reading(row, place) for row in rows)) for place in places)
    columns = ("token", *(f"layer {row}" for row in rows))
    rec.artifact("lens", artifacts.Table(columns=columns, rows=shown))
    token = int(lens.top[-1, 0, -1])
    found = logit_lens.attribute(model, tokenizer, text, token)
    named = [(name, round(value, 4)) for name, value in found.parts.items()]
    rec.artifact("attributed", artifacts.Table(columns=("part", "adds to the logit"), rows=tuple(named)))
