"""What can be set of a probing run, and what it declares to leave."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from labqueue.domain import kind
from labqueue.domain.declarations import ArtifactUse, Metric
from labqueue.kinds import _inside

_SHARE: Final = "share"
_S, _T = "samples", "tokens"
"""Metrics that count what a share is of."""

METRICS = {
    # Of probes.
    "accuracy_layer_*": Metric(
        "", "higher", "held_out", _SHARE, _S, about="the probe's accuracy on groups it never saw"
    ),
    "control_layer_*": Metric("", None, "diagnostic", _SHARE, _S, about="mean accuracy on labels drawn for each type"),
    "permuted_layer_*": Metric("", None, "diagnostic", _SHARE, _S, about="mean accuracy on permuted labels"),
    "selectivity_layer_*": Metric("", "higher", "held_out", about="accuracy less control"),
    "selectivity_half_width_layer_*": Metric("", None, "diagnostic", about="half of its 95 % interval"),
    "p_layer_*": Metric("", None, "diagnostic", _SHARE, about="share of permutations that do as well"),
    "untrained_layer_*": Metric(
        "", None, "diagnostic", _SHARE, _S, about="accuracy on the same model with weights as it began"
    ),
    "samples": Metric("", None, "diagnostic", "positive", about="labelled tokens, each tested once"),
    "chance": Metric("", None, "diagnostic", _SHARE, _S, about="accuracy of always saying the commonest class"),
    "best_layer": Metric("", None, "diagnostic", about="layer chosen inside the training groups; 0 is the embedding"),
    "accuracy_best": Metric("", "higher", "held_out", _SHARE, _S, about="accuracy at that layer"),
    "permuted_best": Metric("", None, "diagnostic", _SHARE, _S, about="what 1 in 20 permutations reaches there"),
    "selectivity_best": Metric("", "higher", "held_out", about="selectivity there"),
    "untrained_best": Metric("", None, "diagnostic", _SHARE, _S, about="the untrained model's accuracy there"),
    "gain_over_embedding": Metric("", "higher", "held_out", about="accuracy there less that of layer 0"),
    "gain_at_half": Metric("", "higher", "held_out", about="accuracy at half depth less that of layer 0"),
    "gain_over_untrained": Metric("", "higher", "held_out", about="accuracy there less the untrained model's"),
    "control_falls": Metric("", None, "held_out", about="control accuracy of layer 0 less that of half depth"),
    # Of the stream.
    "norm_layer_*": Metric("", None, "diagnostic", "positive", about="median norm of the stream, first token apart"),
    "attn_added_layer_*": Metric("", None, "diagnostic", "positive", about="median norm of what attention adds"),
    "ffn_added_layer_*": Metric("", None, "diagnostic", "positive", about="median norm of what the FFN adds"),
    "lens_loss_layer_*": Metric("nats/token", "lower", "held_out", "positive", about="loss of the lens's prediction"),
    "lens_agrees_layer_*": Metric(
        "", None, "diagnostic", _SHARE, _T, about="tokens whose likeliest is the model's own"
    ),
    "tokens": Metric("", None, "diagnostic", "positive", about="tokens looked at"),
    "lens_null_loss": Metric("nats/token", None, "diagnostic", "positive", about="loss of saying all tokens alike"),
    "lens_null_agrees": Metric("", None, "diagnostic", _SHARE, _T, about="agreement with the prediction one before"),
    "decided_at": Metric("", None, "diagnostic", _SHARE, about="depth from which half of the tokens agree"),
    "loss": Metric("nats/token", "lower", "held_out", "positive", about="the model's own loss"),
    "norm_growth": Metric("", None, "diagnostic", "positive", about="norm before the last block over after the first"),
    "first_token_norm": Metric("", None, "diagnostic", "positive", about="largest norm of first tokens over median"),
}
ARTIFACTS = {
    "by_layer": ArtifactUse(about="what was found, layer by layer, beside its null"),
    "norms": ArtifactUse(about="median norms of the stream and of what is added to it"),
    "lens": ArtifactUse("samples", about="what the lens reads of a text, token by token"),
    "attributed": ArtifactUse(about="what each part adds to the last prediction of a text"),
    "classes": ArtifactUse(about="samples of each class"),
}

TextKind = Literal["prose", "code", "sums", "shuffled"]


class Residual(kind.Params):
    """What stands in the stream, what each part adds, and what the lens reads."""

    of: Literal["residual_stream"] = "residual_stream"
    """The study."""
    text: TextKind = "prose"
    """Kind of text: of ``corpus``, of Python's own modules, sums, or ``corpus`` with its words in another order."""
    corpus: str = "python_docs"
    """A text of ``labqueue corpora`` that is on this computer."""
    passages: int = Field(default=12, ge=2, le=1000)
    """Texts, drawn by the seed."""
    passage_tokens: int = Field(default=64, ge=8, le=100_000)
    """Tokens of each."""


class Labels(kind.Params):
    """What a linear probe reads from each layer."""

    of: Literal["part_of_speech", "next_token_class", "truth"] = "part_of_speech"
    """The labels: tagged words, what kind of token follows, or whether a statement is true."""
    corpus: str | None = None
    """Where the labels come from; null: ``brown_tagged``, ``python_docs`` or ``capitals``."""
    documents: int = Field(default=60, ge=5, le=100_000)
    """Documents drawn by the seed; of ``truth``, groups of four statements."""
    words: int = Field(default=64, ge=4, le=100_000)
    """Words of each document, from its beginning; the statements of ``truth`` are whole."""
    layers: int = Field(default=7, ge=2, le=1000)
    """How many, evenly spread from the embedding to the last."""
    controls: int = Field(default=10, ge=2, le=1000)
    """Control tasks, from whose spread selectivity's interval comes."""
    permutations: int = Field(default=99, ge=1, le=10_000)
    """Permutations of the labels."""
    untrained: bool = True
    """Whether the same model with weights as training begins with is probed beside it."""


CORPORA = {"part_of_speech": "brown_tagged", "next_token_class": "python_docs", "truth": "capitals"}
"""Where labels come from if nothing else is said."""


class Params(_inside.LookedInto):
    """Parameters of one run."""

    study: Annotated[Residual | Labels, Field(discriminator="of")] = Residual()
    """What is looked for."""

    @property
    def corpora(self) -> list[str]:
        """Names of the corpora that it reads."""
        if isinstance(self.study, Labels):
            return [self.study.corpus or CORPORA[self.study.of]]
        return [self.study.corpus] if self.study.text in ("prose", "shuffled") else []
