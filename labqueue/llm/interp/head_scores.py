"""Scores what each head does, each score beside the null that fits it. Scores come from the live weights.

A null of shuffled words would reject real heads: looking at the previous token, at the first one, or far and wide
hardly depends on the order of words. What each score is held against instead stands at the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp.attention import AttentionExtractor
from labqueue.llm.interp.attention_tap import Seen
from labqueue.llm.interp.encoding import Encoded, of_ids

if TYPE_CHECKING:
    from labqueue.llm.types import Model, Tokenizer

Heads = torch.Tensor
"""[layer, head], fp64."""

ATLAS = 32
"""Rows and columns of a head's picture in an atlas."""


@dataclass(frozen=True)
class Score:
    """One score of every head, with what it is held against."""

    value: Heads
    null: Heads
    """What the score would be of a head that does not do this; in the same unit."""
    best_other: Heads | None = None
    """The same mean at the best other distance: a head is found where its score is above it by 0.2."""

    @property
    def excess(self) -> Heads:
        """Score less the larger of its null and its best other distance."""
        return self.value - (self.null if self.best_other is None else torch.maximum(self.null, self.best_other))


@dataclass
class _Lags:
    """Mean weight at each distance: [layer, head, lag], over the queries of ``rows``."""

    rows: range
    lags: int
    sums: dict[int, torch.Tensor] = field(default_factory=dict)
    count: dict[int, int] = field(default_factory=dict)

    def __call__(self, seen: Seen) -> None:
        weights = seen.weights.detach()  # [batch, head, query, key]
        batch, heads, queries, _ = weights.shape
        rows = torch.tensor([row for row in range(queries) if seen.first + row in self.rows], dtype=torch.long)
        keys = seen.first + rows[:, None] - torch.arange(self.lags)  # [row, lag]
        found = weights[:, :, rows[:, None], keys].double().sum((0, 2)).cpu()  # [head, lag]
        sums = self.sums.setdefault(seen.layer, torch.zeros(heads, self.lags, dtype=torch.float64))
        sums += found
        self.count[seen.layer] = self.count.get(seen.layer, 0) + batch * len(rows)

    def means(self) -> torch.Tensor:
        """[layer, head, lag]."""
        return torch.stack([self.sums[layer] / self.count[layer] for layer in sorted(self.sums)])


def repeats(
    vocabulary: int, *, length: int, batch: int, seed: int, first: int | None = None, again: bool = True
) -> torch.Tensor:
    """Random tokens, twice: [batch, 1 + 2 length] with ``first`` before them, else [batch, 2 length].

    Nothing but the repetition tells what comes next. With ``again`` false the second half is new, too, and no token of
    a row occurs twice: the null of all scores of repetition. Tokens are drawn from all but the first hundred ids, where
    tokenizers keep what is no text.

    Raises:
        LabError: a vocabulary with fewer tokens than are needed.
    """
    low = 100 if vocabulary > 100 + 2 * length else 3
    if vocabulary - low < 2 * length:
        raise LabError(
            f"{2 * length} different tokens are needed and the vocabulary has {vocabulary}: take a shorter length",
            key="repeat_tokens",
        )
    source = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(batch):
        drawn = torch.randperm(vocabulary - low, generator=source)[: 2 * length] + low  # [2 length], all different
        half = drawn[:length]
        row = torch.cat([half, half]) if again else drawn
        rows.append(row if first is None else torch.cat([torch.tensor([first]), row]))
    return torch.stack(rows)  # [batch, seq]


def score_repetition(
    model: Model, tokenizer: Tokenizer, *, length: int = 50, batch: int = 4, seed: int = 0
) -> dict[str, Score]:
    """Scores ``induction`` and ``duplicate`` on random tokens, twice.

    Induction (Olsson et al. 2022, arXiv:2209.11895): weight on the token *after* the earlier occurrence of this one,
    mean over the second copy. Duplicate: weight on the earlier occurrence itself. Null: the largest of all heads at the
    same distance where nothing repeats. Other distances leave out both of these, for a duplicate head is no near miss.

    Returns:
        {name: Score} with [layer, head] each.
    """
    found = {}
    vocabulary = len(tokenizer)
    begin = tokenizer.bos_token_id
    start = 0 if begin is None else 1
    for again in (True, False):
        ids = repeats(vocabulary, length=length, batch=batch, seed=seed, first=begin, again=again)
        rows = range(start + length, start + 2 * length)
        watch = _Lags(rows, length + 1)
        AttentionExtractor(model, tokenizer).observe(of_ids(ids), watch)
        found[again] = watch.means()  # [layer, head, lag]
    scores = {}
    for name, lag in (("induction", length - 1), ("duplicate", length)):
        value, quiet = found[True][..., lag], found[False][..., lag]  # [layer, head]
        others = found[True].clone()  # [layer, head, lag]
        others[..., [length - 1, length]] = 0
        scores[name] = Score(value, torch.full_like(value, float(quiet.max())), others.max(-1).values)
    return scores


class _Text:
    """Scores of natural text, summed over queries that have a token before them; padding and special tokens' queries
    stay out."""

    LAGS = 4

    def __init__(self, batch: Encoded) -> None:
        self._lengths = batch.lengths
        self.sums: dict[int, torch.Tensor] = {}
        self.count: dict[int, int] = {}

    def __call__(self, seen: Seen) -> None:
        heads, keys = seen.weights.shape[1], seen.weights.shape[3]
        # lags 1 to 3, distance, entropy, first key, keys 1 to 3; then the nulls of distance and entropy
        sums = self.sums.setdefault(seen.layer, torch.zeros(heads, 9, dtype=torch.float64))
        places = torch.arange(keys, dtype=torch.float64)  # [key]
        for text, length in enumerate(self._lengths):
            begin = max(self.LAGS, seen.first)
            end = min(length, seen.first + seen.weights.shape[2])
            if begin >= end:
                continue
            q = torch.arange(begin, end)  # [query]
            w = (
                seen.weights[text, :, begin - seen.first : end - seen.first].detach().cpu().double()
            )  # [head, query, key]
            row = torch.arange(end - begin)
            near = [w[:, row, q - lag].sum(-1) for lag in (1, 2, 3)]  # three of [head]
            distance = (q[:, None] - places).mul(w).sum((-2, -1))  # [head]
            entropy = -(w * w.clamp_min(1e-300).log()).sum((-2, -1))  # [head]
            sums[:, :7] += torch.stack(
                [*near, distance, entropy, w[..., 0].sum(-1), w[..., 1:4].mean(-1).sum(-1)], dim=-1
            )  # [head, 7]
            sums[:, 7] += float((q / 2).sum())
            sums[:, 8] += float((q + 1.0).double().log().sum())
            self.count[seen.layer] = self.count.get(seen.layer, 0) + end - begin

    def means(self) -> torch.Tensor:
        """[layer, head, 9]."""
        if not self.count:
            raise LabError(f"no text has more than {self.LAGS} tokens: give longer ones", key="texts")
        return torch.stack([self.sums[layer] / self.count[layer] for layer in sorted(self.sums)])


def score_text(model: Model, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Score]:
    """Scores on natural text; every mean is over the queries from the fifth token on, of all texts.

    - ``previous_token``: weight on the token before; null: the larger of two and of three before;
    - ``distance``: mean distance, in tokens; null: that of a row that looks at all tokens alike;
    - ``entropy``: of a row, nats; null: likewise;
    - ``sink``: weight on the first token (Xiao et al. 2023, arXiv:2309.17453); null: mean weight on each of the next
      three.

    Returns:
        {name: Score} with [layer, head] each.

    Raises:
        LabError: no text has more than four tokens.
    """
    from labqueue.llm.evaluation.generate import positions
    from labqueue.llm.interp.encoding import encode

    batch = encode(tokenizer, texts, limit=positions(model))
    watch = _Text(batch)
    AttentionExtractor(model, tokenizer).observe(batch, watch)
    m = watch.means()  # [layer, head, 9]
    return {
        "previous_token": Score(m[..., 0], torch.maximum(m[..., 1], m[..., 2])),
        "distance": Score(m[..., 3], m[..., 7]),
        "entropy": Score(m[..., 4], m[..., 8]),
        "sink": Score(m[..., 5], m[..., 6]),
    }


def score_heads(
    model: Model, tokenizer: Tokenizer, texts: Sequence[str], *, length: int = 50, batch: int = 4, seed: int = 0
) -> dict[str, Score]:
    """All scores of all heads: those of repetition on random tokens, the others on ``texts``."""
    found = score_repetition(model, tokenizer, length=length, batch=batch, seed=seed)
    return found | score_text(model, tokenizer, texts)


def others_of(top: Sequence[tuple[int, int]], heads: int, count: int, *, seed: int) -> list[tuple[int, int]]:
    """As many other heads of the layers in which ``top`` lie, drawn by the seed; all of them where there are fewer."""
    layers = sorted({layer for layer, _ in top})
    others = [(layer, head) for layer in layers for head in range(heads) if (layer, head) not in top]
    drawn = torch.randperm(len(others), generator=torch.Generator().manual_seed(seed))[:count]
    return [others[int(place)] for place in drawn]


def best(score: Heads, count: int) -> list[tuple[int, int]]:
    """The heads with the highest score, as (layer, head), highest first.

    Raises:
        LabError: fewer heads than that.
    """
    layers, heads = score.shape
    if count > layers * heads:
        raise LabError(f"{count} heads are asked for and the model has {layers * heads}", key="ablate.heads")
    order = torch.argsort(score.flatten(), descending=True, stable=True)[:count]
    return [(int(place) // heads, int(place) % heads) for place in order]
