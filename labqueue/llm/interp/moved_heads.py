"""Measures which heads fine-tuning moved, as a multiple of what another training seed moves, and what it is worth.

Nearly every head changes more between base and tuned than between two seeds of the training, so that "above the floor"
tells nothing; which heads change most is told by ranks that hold for another seed and another text. Both models attend
to the *same* texts, through the same tap.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from labqueue.domain.errors import LabError
from labqueue.llm.evaluation.generate import positions
from labqueue.llm.interp.attention import AttentionExtractor
from labqueue.llm.interp.attention_tap import Seen, attention_modules, bare
from labqueue.llm.interp.encoding import Encoded, encode
from labqueue.llm.interp.head_ablation import projection_of
from labqueue.llm.interp.head_scores import Heads, best

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from peft import PeftModel

    from labqueue.llm.types import Model, Tokenizer

Variant = Callable[[], "AbstractContextManager[Model]"]
"""Opens one state of a model: the base, or the model with one of its adapters."""

ALIKE = 1e-5
"""Mean total variation below which two models attend alike: the rounding of another order of sums. Assumption."""


def variants(adapted: PeftModel, adapters: Sequence[str]) -> tuple[Variant, list[Variant]]:
    """The base and each adapter of one model that holds them all; one copy of the base is in memory."""

    @contextlib.contextmanager
    def base() -> Iterator[Model]:
        with adapted.disable_adapter():
            yield adapted

    def tuned(name: str) -> Variant:
        @contextlib.contextmanager
        def opened() -> Iterator[Model]:
            adapted.set_adapter(name)
            yield adapted

        return opened

    return base, [tuned(name) for name in adapters]


@dataclass(frozen=True)
class Changes:
    """How far each head's attention moved. Total variation of a row: 0 is the same row, 1 no key in common."""

    texts: tuple[str, ...]
    """Names of the kinds of text."""
    change: torch.Tensor
    """[tuned, text, layer, head]: from the base to each tuned model, mean over rows."""
    between: torch.Tensor
    """[pair, text, layer, head]: between two tuned models of different training seeds: the floor."""

    @property
    def moved(self) -> Heads:
        """[layer, head]: change, mean over tuned models and kinds of text."""
        return self.change.mean((0, 1))

    @property
    def floor(self) -> Heads:
        """[layer, head]: what another training seed changes, mean over pairs and kinds of text."""
        return self.between.mean((0, 1))

    @property
    def share(self) -> Heads:
        """[layer, head]: change as a multiple of the floor; NaN, not measured, where seeds do not differ in a head."""
        floor = self.floor
        return torch.where(floor > 0, self.moved / floor, torch.nan)

    @property
    def above_floor(self) -> float:
        """Share of heads whose smallest change exceeds the largest distance between two seeds, whatever the text.

        Where tuning did nothing that another seed would not have undone, it is a third at most: each of three models
        alike in kind is as often the odd one.
        """
        return float((self.change.amin((0, 1)) > self.between.amax((0, 1))).double().mean())

    def between_seeds(self) -> float:
        """Rank correlation of the heads' changes between two training seeds, mean over pairs of them."""
        return _pairwise(self.change.mean(1))

    def between_texts(self) -> float:
        """Rank correlation of the heads' changes between two kinds of text, mean over pairs of them.

        Raises:
            LabError: one kind of text.
        """
        if len(self.texts) < 2:
            raise LabError("one kind of text tells nothing of another: give two or more", key="texts")
        return _pairwise(self.change.mean(0))

    def null(self, over: str, *, draws: int = 200, seed: int = 0) -> tuple[float, float]:
        """The same rank correlation where heads are exchanged at random within each layer: mean and 97.5 % quantile.

        What is left is what the layers alone tell: late layers move more than early ones in every model.
        ``over`` is ``seeds`` or ``texts``.
        """
        one = self.change.mean(1 if over == "seeds" else 0)  # [one, layer, head]
        source = torch.Generator().manual_seed(seed)
        found = []
        for _ in range(draws):
            order = torch.rand(one.shape, generator=source).argsort(-1)  # [one, layer, head]
            found.append(_pairwise(one.gather(-1, order)))
        return float(np.mean(found)), float(np.quantile(found, 0.975))


Tell = Callable[[], None]
"""Called after each part of the work; what it raises ends it."""


def changes(
    base: Variant,
    tuned: Sequence[Variant],
    tokenizer: Tokenizer,
    texts: Mapping[str, Sequence[str | Encoded]],
    tell: Tell = lambda: None,
) -> Changes:
    """Compares a base with two or more models tuned from it with different training seeds, over the same texts.

    One text at a time is held in memory: [layer, head, query, key] of each model. The first query sees itself alone and
    is left out. A text that is encoded already is a batch of one; ``tell`` is called after each text.

    Raises:
        LabError: fewer than two tuned models, tuned models that attend alike, a text of one token or none, beyond the
            context, or models of different shapes.
    """
    if len(tuned) < 2:
        raise LabError("a change needs a floor: give two models tuned with different seeds", key="rival")
    if not texts or not all(texts.values()):
        raise LabError("no text is given: name at least one of each kind", key="texts")
    per_kind = []
    for kind in texts.values():
        sums: list[torch.Tensor] = []
        rows = 0
        for text in kind:
            batch, found = _attend([base, *tuned], tokenizer, text)
            if batch.lengths[0] < 2:
                raise LabError(
                    f"the text {_begins(text)!r} has one token, which sees itself alone: write more", key="texts"
                )
            pairs = [(0, at) for at in range(1, len(found))]
            pairs += list(itertools.combinations(range(1, len(found)), 2))
            distances = [total_variation(found[one], found[other]) for one, other in pairs]
            sums.append(torch.stack(distances) * (batch.lengths[0] - 1))  # [pair, layer, head]
            rows += batch.lengths[0] - 1
            tell()
        per_kind.append(torch.stack(sums).sum(0) / rows)
    by_pair = torch.stack(per_kind, dim=1)  # [pair, text, layer, head]
    answer = Changes(tuple(texts), by_pair[: len(tuned)], by_pair[len(tuned) :])
    if float(answer.floor.mean()) < ALIKE:
        raise LabError("the tuned models attend alike: take adapters of two different training seeds", key="rival")
    return answer


def total_variation(one: torch.Tensor, other: torch.Tensor) -> Heads:
    """Mean over rows but the first of half the sum of absolute differences: of [layer, head, query, key] each, fp64."""
    rows = (one.double() - other.double()).abs().sum(-1) / 2  # [layer, head, query]
    return rows[..., 1:].mean(-1)


def _begins(text: str | Encoded) -> str:
    return (text if isinstance(text, str) else "".join(text.tokens[0]))[:40]


def _attend(models: Sequence[Variant], tokenizer: Tokenizer, text: str | Encoded) -> tuple[Encoded, list[torch.Tensor]]:
    """What each model's heads look at: [layer, head, query, key] each."""
    found: list[torch.Tensor] = []
    batch: Encoded | None = None
    for opened in models:
        with opened() as model:
            if batch is None:
                batch = text if isinstance(text, Encoded) else encode(tokenizer, text, limit=positions(model))
            kept: dict[int, torch.Tensor] = {}

            def keep(seen: Seen, kept: dict[int, torch.Tensor] = kept) -> None:
                kept[seen.layer] = seen.weights[0].detach().float().to("cpu", copy=True)

            AttentionExtractor(model, tokenizer).observe(batch, keep)
        found.append(torch.stack([kept[layer] for layer in sorted(kept)]))
    assert batch is not None
    shapes = {tuple(each.shape[:2]) for each in found}
    if len(shapes) > 1:
        listed = " and ".join(f"{layers} layers of {heads} heads" for layers, heads in sorted(shapes))
        raise LabError(f"the models have {listed}: compare models of one base", key="adapter")
    return batch, found


def rank_correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    """Spearman's, ties at their mean rank; of [layer, head] each."""
    a, b = (_ranks(each.flatten().double().numpy()) for each in (one, other))
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: NDArray[np.float64] = (last - (count - 1) / 2)[inverse]
    return ranks


def _pairwise(each: torch.Tensor) -> float:
    """Mean rank correlation over pairs of [one, layer, head]."""
    return float(np.mean([rank_correlation(a, b) for a, b in itertools.combinations(each, 2)]))


@dataclass(frozen=True)
class PatchedBack:
    """Losses in nats a scored token, with heads of a tuned model computing what the base's do."""

    base: float
    tuned: float
    heads: tuple[tuple[int, int], ...]
    """The heads that moved most, as (layer, head)."""
    moved: float
    """With these patched back."""
    random: tuple[float, ...]
    """With as many others of the same layers each time: the null."""

    @property
    def given_back(self) -> float:
        """Share of what tuning gained that is lost with the moved heads; NaN where tuning gained nothing."""
        return self._share(self.moved)

    @property
    def given_back_at_random(self) -> tuple[float, ...]:
        """The same of each draw of other heads."""
        return tuple(self._share(each) for each in self.random)

    def _share(self, loss: float) -> float:
        gain = self.base - self.tuned
        return (loss - self.tuned) / gain if gain > 0 else float("nan")


def patch_back(
    base: Variant,
    tuned: Variant,
    batch: Encoded,
    scored: torch.Tensor,
    moved: Heads,
    *,
    count: int,
    draws: int = 10,
    seed: int = 0,
    tell: Tell = lambda: None,
) -> PatchedBack:
    """Puts what the base's heads add in the place of the tuned model's, for the heads that moved most and for others.

    What a head adds is its slice of what goes into the attention's output projection (activation patching: Meng et al.
    2022, arXiv:2202.05262); the projection itself stays the tuned model's. Random heads are drawn from the same layers,
    as many in each, among those not moved: moved heads lie late, where any change costs more or less than early.

    Args:
        base: the model before.
        tuned: the model after.
        batch: texts that the loss is of: others than those ``moved`` was measured on.
        scored: [batch, seq]: 1 at the tokens whose loss counts.
        moved: [layer, head]: how far each head moved.
        count: how many of the most moved heads are patched, at most half of each layer.
        draws: of other heads.
        seed: of the draws.
        tell: called after each loss: ``draws`` and three.

    Raises:
        LabError: no token is scored, more heads than there are, or too many in one layer to draw others.
    """
    if not bool(scored[:, 1:].any()):
        raise LabError("no token is scored: mark those whose loss counts", key="texts")
    chosen = best(moved, count)
    others = [_others(chosen, moved.shape[1], seed=seed + draw) for draw in range(draws)]
    with base() as model, _recorded(model) as outputs:
        before = scored_loss(model, batch, scored)
        tell()
    with tuned() as model:
        after = scored_loss(model, batch, scored)
        tell()
        losses = []
        for heads in [chosen, *others]:
            with _replaced(model, heads, outputs):
                losses.append(scored_loss(model, batch, scored))
                tell()
    return PatchedBack(before, after, tuple(chosen), losses[0], tuple(losses[1:]))


def scored_loss(model: Model, batch: Encoded, scored: torch.Tensor) -> float:
    """Mean loss, nats a token, of the tokens where ``scored`` [batch, seq] is 1, each given those before it."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(**batch.to(model.device), use_cache=False).logits.float().cpu()  # [batch, seq, vocabulary]
    finally:
        model.train(training)
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), batch.input_ids[:, 1:], reduction="none").double()
    counted = scored[:, 1:] * batch.attention_mask[:, 1:]  # [batch, seq - 1]
    return float((each * counted).sum() / counted.sum())


def _others(chosen: Sequence[tuple[int, int]], heads: int, *, seed: int) -> list[tuple[int, int]]:
    source = torch.Generator().manual_seed(seed)
    found = []
    for layer in sorted({layer for layer, _ in chosen}):
        taken = {head for at, head in chosen if at == layer}
        free = [head for head in range(heads) if head not in taken]
        if len(free) < len(taken):
            raise LabError(
                f"{len(taken)} of {heads} heads of layer {layer} are among the most moved, which leaves too few to "
                "compare with: patch fewer heads",
                key="moved.heads",
            )
        order = torch.randperm(len(free), generator=source)[: len(taken)]
        found += [(layer, free[int(at)]) for at in order]
    return found


@contextlib.contextmanager
def _recorded(model: Model) -> Iterator[dict[int, torch.Tensor]]:
    """What goes into the output projection of each layer in the forward pass inside: [batch, seq, head x width]."""
    outputs: dict[int, torch.Tensor] = {}

    def keeper(layer: int):  # type: ignore[no-untyped-def]  # a hook of torch
        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            outputs[layer] = inputs[0].detach().clone()

        return hook

    with contextlib.ExitStack() as stack:
        for layer, module in attention_modules(bare(model)).items():
            stack.callback(projection_of(module).register_forward_pre_hook(keeper(layer)).remove)
        yield outputs


@contextlib.contextmanager
def _replaced(model: Model, heads: Sequence[tuple[int, int]], outputs: Mapping[int, torch.Tensor]) -> Iterator[None]:
    inner = bare(model)
    count = int(inner.config.get_text_config().num_attention_heads)

    def changer(layer: int):  # type: ignore[no-untyped-def]  # a hook of torch
        chosen = [head for at, head in heads if at == layer]

        def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
            split = inputs[0].view(*inputs[0].shape[:-1], count, -1).clone()  # [batch, seq, head, width]
            split[..., chosen, :] = outputs[layer].view_as(split)[..., chosen, :].to(split.dtype)
            return (split.view_as(inputs[0]), *inputs[1:])

        return hook

    with contextlib.ExitStack() as stack:
        for layer, module in attention_modules(inner).items():
            if any(at == layer for at, _ in heads):
                stack.callback(projection_of(module).register_forward_pre_hook(changer(layer)).remove)
        yield
