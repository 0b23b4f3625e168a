"""Changes the residual stream as a model computes, and measures what follows: the causal side of what a probe finds.

Patching puts what one text gave into the pass of another (Meng et al. 2022, arXiv:2202.05262; Heimersheim and Nanda
2024, arXiv:2404.15255); ablation along a direction takes the stream's part along it away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch.utils.hooks import RemovableHandle

from labqueue.domain.errors import LabError
from labqueue.llm.interp.activations import ActivationExtractor, BlockSeen, Given, Out, first
from labqueue.llm.interp.attention_tap import bare
from labqueue.llm.interp.blocks import Block, find_blocks
from labqueue.llm.interp.encoding import Encoded

if TYPE_CHECKING:
    from labqueue.llm.types import Model

Part = Literal["pre_attn", "attn", "ffn", "post_ffn"]

PARTS: tuple[Part, ...] = ("pre_attn", "attn", "ffn", "post_ffn")

AT_ONCE = 8
"""Places that are patched in one pass: logits of all of 512 at once would be 50 GB with a vocabulary of 49,152."""

Change = Callable[[torch.Tensor], torch.Tensor]
"""Of [batch, seq, hidden], another of the same shape."""


@contextlib.contextmanager
def changed(model: Model, changes: dict[tuple[int, Part], Change]) -> Iterator[None]:
    """Changes the stream, or what a part adds to it, in every forward pass inside.

    Raises:
        LabError: a layer or part that is not there; a model whose blocks are not known.
    """
    blocks = find_blocks(bare(model))
    handles: list[RemovableHandle] = []
    try:
        for (layer, part), change in changes.items():
            if not 0 <= layer < len(blocks):
                raise LabError(f"layer {layer} is not there: the model has 0 to {len(blocks) - 1}", key="layers")
            handles.append(_hook(blocks[layer], part, change))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _hook(block: Block, part: Part, change: Change) -> RemovableHandle:
    if part == "pre_attn":

        def entering(
            _module: torch.nn.Module, given: Given, named: dict[str, torch.Tensor]
        ) -> tuple[Given, dict[str, torch.Tensor]]:
            if given:
                return (change(given[0]), *given[1:]), named
            return given, named | {"hidden_states": change(named["hidden_states"])}

        return block.module.register_forward_pre_hook(entering, with_kwargs=True)
    if part not in PARTS:
        raise LabError(f"part {part!r} is not known: {', '.join(PARTS)} are", key="part")
    module = {"attn": block.attention, "ffn": block.ffn, "post_ffn": block.module}[part]

    def leaving(_module: torch.nn.Module, _given: Given, out: Out) -> Out:
        value = first(out)
        new = change(value)
        return (new, *out[1:]) if isinstance(out, tuple) else new

    return module.register_forward_hook(leaving)


@contextlib.contextmanager
def without_direction(model: Model, direction: torch.Tensor, layers: Sequence[int] | None = None) -> Iterator[None]:
    """Takes the stream's part along a direction away after each of some layers, in every forward pass inside.

    ``direction`` [hidden], of any length; ``layers`` None for all.

    Raises:
        LabError: a direction of length 0 or another width; a layer that is not there.
    """
    blocks = find_blocks(bare(model))
    width = int(bare(model).config.get_text_config().hidden_size)
    if direction.shape != (width,) or not float(direction.norm()) > 0:
        raise LabError(
            f"a direction has {width} numbers and is not 0; this one has the shape {tuple(direction.shape)} and the "
            f"length {float(direction.norm()):.3g}",
            key="direction",
        )
    unit = direction / direction.norm()

    def project(stream: torch.Tensor) -> torch.Tensor:
        along = unit.to(stream.device, stream.dtype)
        across: torch.Tensor = stream - (stream @ along)[..., None] * along
        return across

    wanted = range(len(blocks)) if layers is None else layers
    with changed(model, {(layer, "post_ffn"): project for layer in wanted}):
        yield


def patch_effects(
    model: Model,
    clean: Encoded,
    corrupted: Encoded,
    measure: Callable[[torch.Tensor], float],
    *,
    layers: Sequence[int] | None = None,
    part: Part = "post_ffn",
) -> tuple[torch.Tensor, float, float]:
    """Patches each layer and place of the clean pass into the corrupted one, one at a time.

    Args:
        model: of transformers, with or without adapter.
        clean: one text.
        corrupted: one of as many tokens, which differs where the answer is decided.
        measure: of logits [batch, seq, token], such as the right answer's less the wrong one's at the last place.
        layers: by number; None for all.
        part: which part of a block.

    Returns:
        [layer, place]: the share of the difference that comes back, 1 for all of it and 0 for none; then the measure of
        the clean and of the corrupted pass.

    Raises:
        LabError: texts of different lengths, several of them, or two that measure the same.
    """
    if len(clean.input_ids) != 1:
        raise LabError(f"{len(clean.input_ids)} clean texts are given: patching compares one with one", key="texts")
    if clean.input_ids.shape != corrupted.input_ids.shape:
        raise LabError(
            f"the clean text has {clean.input_ids.shape[1]} tokens and the corrupted one "
            f"{corrupted.input_ids.shape[1]}: patching needs as many",
            key="texts",
        )
    held: dict[int, torch.Tensor] = {}

    def keep(seen: BlockSeen) -> None:
        held[seen.layer] = getattr(seen, part).detach().clone()  # [1, seq, hidden]

    extractor = ActivationExtractor(model, None, layers=layers)  # type: ignore[arg-type]  # texts are encoded already
    extractor.observe(clean, keep)
    best, worst = measure(_logits(model, clean)), measure(_logits(model, corrupted))
    if best == worst:
        raise LabError("the clean and the corrupted text measure the same: nothing can come back", key="texts")
    places = clean.input_ids.shape[1]
    effects = torch.zeros(len(held), places)  # [layer, place]
    for row, (layer, value) in enumerate(sorted(held.items())):
        # Several places in one pass: each row of the batch has one place patched.
        for begin in range(0, places, AT_ONCE):
            count = min(AT_ONCE, places - begin)
            rows = Encoded(
                corrupted.input_ids.repeat(count, 1),
                corrupted.attention_mask.repeat(count, 1),
                [],
                [],
                corrupted.special_mask,
            )
            with changed(model, {(layer, part): _diagonal(value, model, layer, part, begin)}):
                logits = _logits(model, rows)  # [place, seq, token]
            back = [(measure(each[None]) - worst) / (best - worst) for each in logits]
            effects[row, begin : begin + count] = torch.tensor(back)
    return effects, best, worst


def _diagonal(value: torch.Tensor, model: Model, layer: int, part: Part, begin: int = 0) -> Change:
    """Puts the place of its own number, from ``begin`` on, into each row of a batch."""
    multiplier = find_blocks(bare(model))[layer].multiplier if part in ("attn", "ffn") else 1.0

    def change(x: torch.Tensor) -> torch.Tensor:
        new = x.clone().view(-1, value.shape[1], value.shape[2])  # [place, seq, hidden]
        each = torch.arange(len(new), device=x.device)
        new[each, begin + each] = value[0, begin : begin + len(new)].to(x.device) / multiplier
        return new.view(x.shape)

    return change


def _logits(model: Model, batch: Encoded) -> torch.Tensor:
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            found: torch.Tensor = model(**batch.to(model.device), use_cache=False).logits.float().cpu()
    finally:
        model.train(was)
    return found
