"""Silences heads and measures what it costs: the causal effect to print beside a weight.

What a head adds is its slice of what goes into the attention's output projection. ``zero`` takes it away, ``mean``
puts its mean over the batch and all positions there, ``resample`` that of another sequence at the same position. They
disagree on heads that matter little, so that each is worth a look (Wang et al. 2022, arXiv:2211.00593).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from labqueue.domain.errors import LabError
from labqueue.llm.interp.attention_tap import attention_modules, bare

if TYPE_CHECKING:
    from labqueue.llm.types import Model

Ablation = Literal["zero", "mean", "resample"]

Hook = Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], tuple[torch.Tensor, ...]]
"""What torch calls with a module's inputs, for others to take their place."""

PROJECTIONS = ("o_proj", "c_proj", "out_proj", "dense")
"""Names of the projection behind the heads: Llama's family, GPT-2, OPT, NeoX and Phi."""


@contextlib.contextmanager
def ablated(model: Model, heads: Sequence[tuple[int, int]], how: Ablation = "zero") -> Iterator[None]:
    """Silences heads, (layer, head) each, in every forward pass inside.

    Raises:
        LabError: a head that is not there; ``resample`` of a single sequence; a model whose projection has no known
            name.
    """
    inner = bare(model)
    count = int(inner.config.get_text_config().num_attention_heads)
    modules = attention_modules(inner)
    by_layer: dict[int, list[int]] = defaultdict(list)
    for layer, head in heads:
        if layer not in modules or not 0 <= head < count:
            raise LabError(
                f"head {layer}.{head} is not there: the model has {len(modules)} layers of {count} heads", key="ablate"
            )
        by_layer[layer].append(head)
    handles = []
    try:
        for layer, chosen in by_layer.items():
            projection = projection_of(modules[layer])
            handles.append(projection.register_forward_pre_hook(_silencer(chosen, count, how)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def projection_of(module: torch.nn.Module) -> torch.nn.Module:
    """The projection behind the heads of an attention module: its input is [batch, seq, head x width].

    Raises:
        LabError: none has a known name.
    """
    for name in PROJECTIONS:
        found = getattr(module, name, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise LabError(
        f"{type(module).__name__} has no output projection of a known name ({', '.join(PROJECTIONS)}): its heads "
        "cannot be silenced",
        key="model",
    )


def _silencer(heads: Sequence[int], count: int, how: Ablation) -> Hook:
    def hook(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        x = inputs[0]  # [batch, seq, head x width]
        split = x.view(*x.shape[:-1], count, -1).clone()  # [batch, seq, head, width]
        own = split[..., heads, :]  # [batch, seq, chosen, width]
        if how == "zero":
            other = torch.zeros_like(own)
        elif how == "mean":
            other = own.mean((0, 1), keepdim=True).expand_as(own)
        elif x.shape[0] > 1:
            other = own.roll(1, 0)
        else:
            raise LabError(
                "resample takes another sequence's, and the batch has one: give two or more", key="ablate.how"
            )
        split[..., heads, :] = other
        return (split.view_as(x), *inputs[1:])

    return hook


def loss(model: Model, ids: torch.Tensor, *, first: int = 1, mask: torch.Tensor | None = None) -> float:
    """Mean loss, nats a token, of the tokens from place ``first`` on, each given those before it.

    ``ids`` [batch, seq]; ``mask`` [batch, seq] is 0 at padding.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            there = None if mask is None else mask.to(model.device)
            logits = model(input_ids=ids.to(model.device), attention_mask=there, use_cache=False).logits.float()
    finally:
        model.train(training)
    # [batch, seq - 1]: the loss of the token at each place from 1 on
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2).cpu(), ids[:, 1:], reduction="none").double()
    counted = torch.ones_like(ids[:, 1:]) if mask is None else mask[:, 1:].clone()  # [batch, seq - 1]
    counted[:, : first - 1] = 0
    return float((each * counted).sum() / counted.sum())
