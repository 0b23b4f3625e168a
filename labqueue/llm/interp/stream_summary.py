"""Sums up the residual stream of some texts, layer by layer: norms, what each part adds, and what the lens reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp import logit_lens
from labqueue.llm.interp.activations import ActivationExtractor, BlockSeen
from labqueue.llm.interp.attention_tap import bare

if TYPE_CHECKING:
    from labqueue.llm.interp.logit_lens import Lens
    from labqueue.llm.types import Model, Tokenizer

HALF = 0.5


@dataclass(frozen=True)
class StreamSummary:
    """By layer: place 0 of a list is the embedding, place n the stream after n blocks. Medians are over tokens."""

    norm: list[float]
    """Median length of the stream, first tokens apart: in many models they stand for nothing and are a hundred times
    as long (Sun et al. 2024, arXiv:2402.17762)."""
    first_norm: list[float]
    """Median length of first tokens."""
    attn_added: list[float]
    """Median length of what each block's attention adds; a place less than ``norm``."""
    ffn_added: list[float]
    """Likewise of its FFN."""
    lens_loss: list[float]
    """Mean loss of the lens's predictions, nats a token."""
    lens_agrees: list[float]
    """Share of tokens whose likeliest next token is the model's own."""
    lens_null_loss: float
    """Loss of saying all tokens alike."""
    lens_null_agrees: float
    """Agreement of the model's predictions with those of the token before."""
    lenses: list[Lens]
    """Of each text."""

    @property
    def decided_at(self) -> float:
        """From which share of the depth on half of the tokens or more agree with the model's own prediction."""
        last = len(self.lens_agrees) - 1
        # From there on: a layer that agrees by the way does not count.
        return next(layer for layer in range(last + 1) if min(self.lens_agrees[layer:]) >= HALF) / last


def summarise(
    model: Model,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> StreamSummary:
    """Passes over the texts one by one; ``tell`` is called with texts done and texts in all.

    Raises:
        LabError: as ``extract_activations`` and ``lens``; texts of one token.
    """
    extractor = ActivationExtractor(model, tokenizer)
    last = len(extractor.layers)
    streams: list[list[torch.Tensor]] = [[] for _ in range(last + 1)]
    attn: list[list[torch.Tensor]] = [[] for _ in range(last)]
    ffn: list[list[torch.Tensor]] = [[] for _ in range(last)]

    def keep(seen: BlockSeen) -> None:
        if seen.layer == 0:
            streams[0].append(_lengths(seen.pre_attn))
        streams[seen.layer + 1].append(_lengths(seen.post_ffn))
        attn[seen.layer].append(_lengths(seen.attn))
        ffn[seen.layer].append(_lengths(seen.ffn))

    lenses = []
    for done, text in enumerate(texts, start=1):
        extractor.observe(text, keep)
        lenses.append(logit_lens.lens(model, tokenizer, text))
        tell(done, len(texts))
    top = torch.cat([each.top[:, 0] for each in lenses], dim=1)  # [layer, token]
    loss = torch.cat([each.loss[:, 0, :-1] for each in lenses], dim=1)  # [layer, token]
    if not loss.numel():
        raise LabError("every text has one token, so that nothing follows: give longer ones", key="texts")
    return StreamSummary(
        norm=[_median([row[1:] for row in each]) for each in streams],
        first_norm=[_median([row[:1] for row in each]) for each in streams],
        attn_added=[_median([row[1:] for row in each]) for each in attn],
        ffn_added=[_median([row[1:] for row in each]) for each in ffn],
        lens_loss=loss.double().mean(1).tolist(),
        lens_agrees=(top == top[-1]).double().mean(1).tolist(),
        lens_null_loss=math.log(int(bare(model).config.get_text_config().vocab_size)),
        lens_null_agrees=float((top[-1, 1:] == top[-1, :-1]).double().mean()),
        lenses=lenses,
    )


def _lengths(x: torch.Tensor) -> torch.Tensor:
    """[token] of [1, token, hidden], fp32."""
    lengths: torch.Tensor = x[0].float().norm(dim=-1)
    return lengths.cpu()


def _median(rows: list[torch.Tensor]) -> float:
    return float(torch.cat(rows).median())
