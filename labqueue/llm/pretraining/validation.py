"""The loss of a whole split: every token but the first is predicted once, in windows that never differ.

Window i reads tokens iT to iT + T and predicts each next one, so the mean context is that of training, and two models
of the same tokenizer are measured on the same text. Draws nothing; changes no weight, no mode and no random state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from labqueue.llm.pretraining.batches import check
from labqueue.llm.pretraining.train_step import autocast

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from labqueue.llm.pretraining.batches import Tokens
    from labqueue.llm.pretraining.gpt import GPT

TOKENS_AT_ONCE = 16_384
"""Of a forward pass."""

LOGITS_AT_ONCE = 2**26
"""Numbers of logits that are made at once: 0.25 GiB in fp32."""


class Left(Exception):
    """A validation was left before its end: the caller is to stop."""


def windows(tokens: int, context: int) -> list[tuple[int, int]]:
    """(first, length) of every window of a split; the last one may be shorter."""
    return [(first, min(context, tokens - 1 - first)) for first in range(0, tokens - 1, context)]


@torch.no_grad()
def split_loss(
    model: GPT,
    tokens: Tokens,
    device: str,
    dtype: str,
    leave: Callable[[], bool] = lambda: False,
) -> float:
    """Mean loss over a split, nats a token.

    Raises:
        LabError: the split is shorter than a context.
        Left: ``leave`` said so between two passes.
    """
    context = model.config.context
    check(len(tokens), context, "validation")
    training = model.training
    model.eval()
    at_once = max(1, TOKENS_AT_ONCE // context)
    total = torch.zeros((), dtype=torch.float64, device=device)  # []
    try:
        found = windows(len(tokens), context)
        whole = [first for first, length in found if length == context]
        for start in range(0, len(whole), at_once):
            if leave():
                raise Left
            spans = np.stack([tokens[first : first + context + 1] for first in whole[start : start + at_once]])
            total += _nats(model, spans, device, dtype)
        first, length = found[-1]
        if length < context:
            total += _nats(model, np.asarray(tokens[first : first + length + 1])[None], device, dtype)
    finally:
        model.train(training)
    return float(total) / (len(tokens) - 1)


def _nats(model: GPT, spans: npt.NDArray[np.generic], device: str, dtype: str) -> Tensor:
    """Summed loss of spans [B, T + 1]."""
    span = torch.from_numpy(spans.astype(np.int64)).to(device)  # [B, T + 1]
    targets = span[:, 1:].flatten()  # [B T]
    rows = max(1, LOGITS_AT_ONCE // model.config.vocabulary)
    with autocast(device, dtype):
        hidden = model(span[:, :-1]).flatten(0, 1)  # [B T, d]
        parts = [
            F.cross_entropy(model.logits(hidden[at : at + rows]), targets[at : at + rows], reduction="sum").double()
            for at in range(0, len(targets), rows)
        ]
    return torch.stack(parts).sum()


def bits_per_byte(nats_per_token: float, tokens: int, text_bytes: int) -> float:
    """The loss in bits a byte of UTF-8: comparable between tokenizers. ``tokens`` are those of the split."""
    return nats_per_token * (tokens - 1) / text_bytes / math.log(2)
