"""Lets observers see a model's attention weights as it computes them, and changes nothing of what it computes.

transformers asks a registry which function computes attention. The one registered here calls the model's own eager
function, with the eager mask, so that soft-caps, windows and grouped heads are the model's; what it returns is what the
model goes on with. Observers see each piece and nothing is held. Split over queries, memory is chunk x keys.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
<<<<<<< HEAD
from typing import TYPE_CHECKING, Any
=======
from typing import TYPE_CHECKING, cast
>>>>>>> main

import torch

from labqueue.domain.errors import LabError

if TYPE_CHECKING:
<<<<<<< HEAD
    from labqueue.llm.types import Model
=======
    from labqueue.llm.types import CausalModel, Model
>>>>>>> main

NAME = "lab_tap"
"""The implementation's name in a model's config while it is observed."""


@dataclass(frozen=True)
class Seen:
    """Attention weights of some queries of one layer."""

    layer: int
    first: int
    """Place of the first query."""
    weights: torch.Tensor
    """[batch, head, query, key]: the live tensor, after softmax. Copy what you keep."""


Observer = Callable[[Seen], None]


@dataclass
class _Watch:
    layers: frozenset[int]
    chunk: int | None
    observers: Sequence[Observer]
    fired: set[int]


_WATCH: ContextVar[_Watch | None] = ContextVar("attention", default=None)


@contextlib.contextmanager
def observed(
    model: Model, observers: Sequence[Observer], *, layers: Sequence[int] | None = None, chunk: int | None = None
) -> Iterator[None]:
    """Shows the attention weights of every forward pass inside to observers; afterwards the model is as it was.

    Args:
        model: with or without adapter.
        observers: each is called with every piece of every layer asked for.
        layers: by number; None for all.
        chunk: queries at a time; None for all at once, equal bit for bit to the model's eager attention. A product of
            fewer rows may be summed in another order: up to 1e-6 of a weight.

    Raises:
        LabError: a model without an interface for attention, or with sinks that take weight away from all keys; a
            layer that is not there; a layer that did not attend.
    """
    inner = bare(model)
    modules = attention_modules(inner)
    wanted = sorted(modules) if layers is None else list(layers)
    if wrong := [layer for layer in wanted if layer not in modules]:
        raise LabError(
            f"layer {wrong[0]} is not there: {type(inner).__name__} has {len(modules)}, 0 to {len(modules) - 1}",
            key="layers",
        )
    if chunk is not None and chunk < 1:
        raise LabError(f"chunk is {chunk}, at least 1 is needed", key="chunk")
    _register()
    was = inner.config._attn_implementation
    watch = _Watch(frozenset(wanted), chunk, observers, set())
    token = _WATCH.set(watch)
    try:
        inner.set_attn_implementation(NAME)
        if inner.config._attn_implementation != NAME:
            raise _without_interface(inner)
        yield
    finally:
        _WATCH.reset(token)
        inner.set_attn_implementation(was)
    if lost := sorted(watch.layers - watch.fired):
        raise LabError(f"layer {lost[0]} of {type(inner).__name__} did not attend: run the model inside", key="layers")


<<<<<<< HEAD
def bare(model: Model) -> Any:
    """The model of transformers itself, within its adapters where it has any."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def attention_modules(model: Any) -> dict[int, torch.nn.Module]:
=======
def bare(model: Model) -> CausalModel:
    """The model of transformers itself, within its adapters where it has any."""
    from peft import PeftModel

    return cast("CausalModel", model.get_base_model() if isinstance(model, PeftModel) else model)


def attention_modules(model: torch.nn.Module) -> dict[int, torch.nn.Module]:
>>>>>>> main
    """A model's self-attention by number of layer.

    Raises:
        LabError: its attention goes past the registry (GPT-J, Bloom, Falcon, MPT), or has sinks.
    """
    found = {
<<<<<<< HEAD
        int(module.layer_idx): module
=======
        cast("int", module.layer_idx): module
>>>>>>> main
        for module in model.modules()
        if isinstance(getattr(module, "layer_idx", None), int) and _own(module) is not None and _attends(module)
    }
    if not found:
        raise _without_interface(model)
    if any(getattr(module, "sinks", None) is not None for module in found.values()):
        raise LabError(
            f"{type(model).__name__} gives part of each row to a sink that is no token, so that rows do not sum to 1: "
            "it is not supported",
            key="model",
        )
    return dict(sorted(found.items()))


def _attends(module: torch.nn.Module) -> bool:
    """Whether it is attention itself, not a block that has a number too."""
    return "attention" in type(module).__name__.lower()


def _own(module: torch.nn.Module) -> Callable[..., tuple[torch.Tensor, torch.Tensor]] | None:
    return getattr(sys.modules[type(module).__module__], "eager_attention_forward", None)


<<<<<<< HEAD
def _without_interface(model: Any) -> LabError:
    return LabError(
        f"{type(model).__name__} computes attention past transformers' interface, so that its weights cannot be seen as "
        "they are used: take a model of another architecture",
=======
def _without_interface(model: torch.nn.Module) -> LabError:
    return LabError(
        f"{type(model).__name__} computes attention past transformers' interface, so that its weights cannot be seen "
        "as they are used: take a model of another architecture",
>>>>>>> main
        key="model",
    )


def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(NAME, _tap)
    # Without a mask function of its own a registered name gets no mask at all, and says nothing of it.
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS["eager"])


def _tap(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
<<<<<<< HEAD
    **settings: Any,
=======
    **settings: object,
>>>>>>> main
) -> tuple[torch.Tensor, None]:
    """``query`` [batch, head, query, width], ``key`` and ``value`` [batch, group, key, width]."""
    own, watch = _own(module), _WATCH.get()
    assert own is not None
<<<<<<< HEAD
    if watch is None or module.layer_idx not in watch.layers:  # type: ignore[operator]  # attention_modules saw a number
        return own(module, query, key, value, attention_mask, **settings)[0], None
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # likewise
=======
    if watch is None or module.layer_idx not in watch.layers:
        return own(module, query, key, value, attention_mask, **settings)[0], None
    layer = int(module.layer_idx)
>>>>>>> main
    watch.fired.add(layer)
    queries = query.shape[2]
    step = watch.chunk or queries
    parts = []
    for first in range(0, queries, step):
        piece = slice(first, first + step)
        # [batch, 1, query, key]; some models mask by a row for all queries
        mask = attention_mask
        if mask is not None and mask.shape[2] == queries:
            mask = mask[:, :, piece]
        out, weights = own(module, query[:, :, piece], key, value, mask, **settings)
        for observer in watch.observers:
            observer(Seen(layer, first, weights))
        parts.append(out)  # [batch, query, head, width]
        del weights
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)), None
