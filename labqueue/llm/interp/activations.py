"""Extracts the residual stream: what stands in it before, between and after each block's parts, and what each adds.

Stream and contributions are seen at different modules and are never derived from one another. That they add up, exactly
and in the model's own type of number, is checked in each forward pass: a block that is not what its names say is found.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch.utils.hooks import RemovableHandle

from labqueue.domain.errors import LabError
from labqueue.llm.evaluation.generate import positions as context_of
from labqueue.llm.interp.attention_tap import bare
from labqueue.llm.interp.blocks import Block, find_blocks
from labqueue.llm.interp.encoding import Encoded, encode

if TYPE_CHECKING:
    from labqueue.llm.types import Model, Tokenizer

Position = Literal["pre_attn", "post_attn", "post_ffn"]

POSITIONS: tuple[Position, ...] = ("pre_attn", "post_attn", "post_ffn")

PARALLEL_ULPS = 4
"""Units in the last place by which a parallel block's sum may differ: its order of sums is not known from outside."""


@dataclass(frozen=True)
class BlockSeen:
    """What one block did to the stream; all [batch, seq, hidden], in the model's type. Copy what you keep."""

    layer: int
    pre_attn: torch.Tensor
    """The stream as the block finds it."""
    post_attn: torch.Tensor | None
    """The stream between attention and FFN; None in a parallel block, which has none."""
    post_ffn: torch.Tensor
    """The stream as the block leaves it."""
    attn: torch.Tensor
    """What attention added: after a norm behind it, and a multiplier."""
    ffn: torch.Tensor
    """What the FFN added, likewise."""


Given: TypeAlias = tuple[torch.Tensor, ...]
"""What a module is called with, as far as it has no name."""

Out: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]
"""What a module hands on: one tensor, or one with others behind it."""

BlockObserver = Callable[[BlockSeen], None]


@dataclass(frozen=True)
class ActivationOutput:
    """The residual stream of one forward pass. Places of padding hold what the model computed there."""

    activations: dict[int, dict[Position, torch.Tensor]]
    """By number of layer and position: [batch, seq, hidden], on the CPU, in the model's type."""
    tokens: list[list[str]]
    """Of each text, a label per token."""
    offsets: list[list[tuple[int, int]]]
    """Of each text, where its tokens stand, in characters."""
    special_mask: torch.Tensor
    """[batch, seq]: tokens that the tokenizer put, and padding."""
    added: dict[int, dict[str, torch.Tensor]] = field(repr=False)

    def get_layer_diff(self) -> dict[int, dict[str, torch.Tensor]]:
        """What each block's parts really added: {layer: {"attn": …, "ffn": …}}, [batch, seq, hidden] each."""
        return self.added


class ActivationExtractor:
    """One forward pass for several observers of the residual stream. Holds no activations itself."""

    def __init__(self, model: Model, tokenizer: Tokenizer, *, layers: Sequence[int] | None = None) -> None:
        """``layers`` by number; None for all.

        Raises:
            LabError: a model whose blocks are not known, or a layer that is not there.
        """
        self.model, self.tokenizer = model, tokenizer
        blocks = find_blocks(bare(model))
        self.layers = list(range(len(blocks))) if layers is None else list(layers)
        if wrong := [layer for layer in self.layers if not 0 <= layer < len(blocks)]:
            raise LabError(f"layer {wrong[0]} is not there: the model has 0 to {len(blocks) - 1}", key="layers")
        self.blocks = [blocks[layer] for layer in sorted(set(self.layers))]

    def observe(self, text: str | Sequence[str] | Encoded, *observers: BlockObserver) -> Encoded:
        """Runs the model once; observers are called with each block as it ends.

        Raises:
            LabError: a text without tokens or longer than the model's context; a block whose parts do not add up. What
                an observer raises comes through, and the model is as it was.
        """
        batch = text if isinstance(text, Encoded) else encode(self.tokenizer, text, limit=context_of(self.model))
        training = self.model.training
        self.model.eval()
        try:
            with torch.no_grad(), _hooked(self.blocks, observers) as ended:
                self.model(**batch.to(self.model.device), use_cache=False)
        finally:
            self.model.train(training)
        if lost := [block.layer for block in self.blocks if block.layer not in ended]:
            raise LabError(f"layer {lost[0]} was not passed through: nothing of it was seen", key="layers")
        return batch


def extract_activations(
    model: Model,
    tokenizer: Tokenizer,
    text: str | Sequence[str],
    layers: Sequence[int] | None = None,
    positions: Sequence[Position] = POSITIONS,
) -> ActivationOutput:
    """Extracts the residual stream of a text or several.

    Args:
        model: of transformers, quantised or not, with or without adapter.
        tokenizer: the model's.
        text: one or several, padded on the right.
        layers: by number; None for all.
        positions: ``pre_attn``, ``post_attn``, ``post_ffn``.

    Returns:
        ``activations`` {layer: {position: [batch, seq, hidden]}}; ``get_layer_diff()`` is what was added.

    Raises:
        LabError: a text without tokens or beyond the context, a layer or position that is not there (a parallel block
            has no ``post_attn``), a block that is not known or whose parts do not add up.
    """
    if wrong := [each for each in positions if each not in POSITIONS]:
        raise LabError(f"position {wrong[0]!r} is not known: {', '.join(POSITIONS)} are", key="positions")
    extractor = ActivationExtractor(model, tokenizer, layers=layers)
    parallel = [block for block in extractor.blocks if block.kind == "parallel"]
    if parallel and "post_attn" in positions:
        raise LabError(
            f"{type(parallel[0].module).__name__} adds attention and FFN to the same stream, so that there is no "
            "post_attn: ask for pre_attn and post_ffn",
            key="positions",
        )
    kept: dict[int, dict[Position, torch.Tensor]] = {}
    added: dict[int, dict[str, torch.Tensor]] = {}

    def keep(seen: BlockSeen) -> None:
        kept[seen.layer] = {name: _copy(getattr(seen, name)) for name in positions}
        added[seen.layer] = {"attn": _copy(seen.attn), "ffn": _copy(seen.ffn)}

    batch = extractor.observe(text, keep)
    return ActivationOutput(kept, batch.tokens, batch.offsets, batch.special_mask, added)


def get_layer_diff(
    model: Model, tokenizer: Tokenizer, text: str | Sequence[str], layers: Sequence[int] | None = None
) -> dict[int, dict[str, torch.Tensor]]:
    """What each block's parts add to the stream: {layer: {"attn": …, "ffn": …}}, [batch, seq, hidden] each.

    Raises:
        LabError: as ``extract_activations``.
    """
    return extract_activations(model, tokenizer, text, layers, ("pre_attn", "post_ffn")).get_layer_diff()


def _copy(x: torch.Tensor) -> torch.Tensor:
    return x.detach().to("cpu", copy=True)


@contextlib.contextmanager
def _hooked(blocks: Sequence[Block], observers: Sequence[BlockObserver]) -> Iterator[set[int]]:
    """Shows each block to observers as it ends; yields the numbers of those that have."""
    ended: set[int] = set()
    handles: list[RemovableHandle] = []
    try:
        for block in blocks:
            handles += _hook(block, observers, ended)
        yield ended
    finally:
        for handle in handles:
            handle.remove()


def _hook(block: Block, observers: Sequence[BlockObserver], ended: set[int]) -> list[RemovableHandle]:
    held: dict[str, torch.Tensor] = {}

    def entering(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, given: Given, named: dict[str, torch.Tensor]) -> None:
            held[name] = given[0] if given else named["hidden_states"]

        return hook

    def leaving(name: str) -> Callable[..., None]:
        def hook(_module: torch.nn.Module, _given: Given, out: Out) -> None:
            value = first(out)
            held[name] = value if block.multiplier == 1.0 else value * block.multiplier

        return hook

    def over(_module: torch.nn.Module, _given: Given, out: Out) -> None:
        post_ffn = first(out)  # [batch, seq, hidden]
        like = {name: value.reshape(post_ffn.shape) for name, value in held.items()}  # OPT joins batch and sequence
        held.clear()
        seen = BlockSeen(block.layer, like["pre_attn"], like.get("post_attn"), post_ffn, like["attn"], like["ffn"])
        _check_sums(block, seen)
        ended.add(block.layer)
        for observer in observers:
            observer(seen)

    handles = [
        block.module.register_forward_pre_hook(entering("pre_attn"), with_kwargs=True),
        block.attention.register_forward_hook(leaving("attn")),
        block.ffn.register_forward_hook(leaving("ffn")),
        block.module.register_forward_hook(over),
    ]
    if block.between is not None:
        handles.append(block.between.register_forward_pre_hook(entering("post_attn"), with_kwargs=True))
    return handles


def first(out: Out) -> torch.Tensor:
    """What a module hands on: itself, or the first of several."""
    return out[0] if isinstance(out, tuple) else out


def _check_sums(block: Block, seen: BlockSeen) -> None:
    """Checks that the parts of a block add up to what it hands on, in the model's own type.

    Raises:
        LabError: they do not.
    """
    if seen.post_attn is not None:
        sums = [
            ("pre_attn + attn", seen.pre_attn + seen.attn, "post_attn", seen.post_attn, 0.0),
            ("post_attn + ffn", seen.post_attn + seen.ffn, "post_ffn", seen.post_ffn, 0.0),
        ]
    else:
        total = seen.pre_attn + seen.attn + seen.ffn
        largest = max(float(each.abs().max()) for each in (seen.pre_attn, seen.attn, seen.ffn, seen.post_ffn))
        spare = PARALLEL_ULPS * largest * torch.finfo(total.dtype).eps
        sums = [("pre_attn + attn + ffn", total, "post_ffn", seen.post_ffn, spare)]
    for words, found, name, wanted, most in sums:
        if torch.equal(found, wanted):
            continue
        worst = float((found.float() - wanted.float()).abs().max())
        if most == 0.0 or not worst <= most:  # NaN too
            raise LabError(
                f"layer {block.layer} ({type(block.module).__name__}): {words} differs from {name} by up to "
                f"{worst:.3g}: a block of this kind is not supported",
                key="model",
            )
