"""Finds the blocks of a model and where in each the residual stream can be seen: what kind of block it is, by name.

A sequential pre-norm block is ``x + attention(norm(x))``, then ``y + FFN(norm(y))``; a parallel one adds both to one
``x``, so that there is no stream between them; a post-norm one (BERT) normalises the stream itself, so that nothing is
simply added. What a table of names finds is proved by each forward pass that is observed: the sums must be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import torch

from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    from labqueue.llm.types import CausalModel

BlockKind = Literal["sequential", "parallel"]


@dataclass(frozen=True)
class Block:
    """One block: its module, and the modules at which its parts can be seen."""

    layer: int
    kind: BlockKind
    module: torch.nn.Module
    attention: torch.nn.Module
    """Its output, times ``multiplier``, is what attention adds to the stream, after a norm behind it."""
    ffn: torch.nn.Module
    """Likewise of the FFN."""
    between: torch.nn.Module | None
    """Its input is the stream between attention and FFN; None in a parallel block."""
    multiplier: float


@dataclass(frozen=True)
class _Layout:
    attention: str
    ffn: str
    between: str | None
    there: tuple[str, ...] = ()
    """Further modules by which it is told from others."""


_LAYOUTS = (
    # Gemma-2 and 3: norms before and behind each part (arXiv:2408.00118, table 1).
    _Layout(
        "post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm", ("self_attn", "mlp")
    ),
    # OLMo-2: norms behind each part alone (arXiv:2501.00656, section 3.3).
    _Layout("post_attention_layernorm", "post_feedforward_layernorm", "mlp", ("self_attn",)),
    # Llama, Mistral, Qwen, SmolLM, Granite.
    _Layout("self_attn", "mlp", "post_attention_layernorm"),
    # GPT-NeoX, sequential or parallel by its config.
    _Layout("attention", "mlp", "post_attention_layernorm"),
    # GPT-2.
    _Layout("attn", "mlp", "ln_2"),
    # OPT.
    _Layout("self_attn", "fc2", "final_layer_norm", ("fc1",)),
    # Phi, Cohere.
    _Layout("self_attn", "mlp", None, ("input_layernorm",)),
)

_POST_NORM = {"attention", "intermediate", "output"}
"""What BERT's family calls the parts of a block."""


def find_blocks(model: CausalModel) -> list[Block]:
    """The blocks of a model of transformers, from the first.

    Raises:
        LabError: it has none, they normalise the stream itself (BERT), or their parts have no known names.
    """
    config = model.config.get_text_config()
    count = int(config.num_hidden_layers)
    multiplier = float(getattr(config, "residual_multiplier", 1.0))
    lists = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList) and len(each) == count]
    if not lists:
        raise LabError(f"{type(model).__name__} has no list of {count} blocks: it cannot be looked into", key="model")
    # Where a block has a list of as many parts, that of the blocks comes first.
    return [_block(layer, module, multiplier) for layer, module in enumerate(lists[0])]


def _block(layer: int, module: torch.nn.Module, multiplier: float) -> Block:
    parts = dict(module.named_children())
    if parts.keys() >= _POST_NORM or getattr(module, "do_layer_norm_before", True) is False:
        raise LabError(
            f"{type(module).__name__} normalises the stream itself after each sum (post-norm), so that its parts do "
            "not simply add up: it is not supported",
            key="model",
        )
    for layout in _LAYOUTS:
        names = {layout.attention, layout.ffn, *layout.there} | ({layout.between} if layout.between else set())
        if names <= parts.keys():
            parallel = layout.between is None or bool(getattr(module, "use_parallel_residual", False))
            between = None if parallel else parts[cast("str", layout.between)]
            kind: BlockKind = "parallel" if parallel else "sequential"
            return Block(layer, kind, module, parts[layout.attention], parts[layout.ffn], between, multiplier)
    raise LabError(
        f"{type(module).__name__} is a block of parts that are not known ({', '.join(sorted(parts))}): what its "
        "attention and FFN add cannot be told apart",
        key="model",
    )
