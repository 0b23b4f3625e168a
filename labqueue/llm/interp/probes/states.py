"""Collects what stands in the residual stream at labelled tokens, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import torch

from labqueue.domain.errors import LabError
from labqueue.llm.interp.activations import ActivationExtractor, BlockSeen
from labqueue.llm.interp.attention_tap import bare
from labqueue.llm.interp.encoding import Encoded

if TYPE_CHECKING:
    from labqueue.llm.interp.probes.labelled import Labelled
    from labqueue.llm.types import CausalModel, Model, Tokenizer

States = npt.NDArray[np.float32]

BATCH = 16
"""Texts of a forward pass."""


def depth(model: Model, tokenizer: Tokenizer) -> int:
    """The number of the last layer: layer 0 is the embedding, layer n the stream after n blocks."""
    return len(ActivationExtractor(model, tokenizer).layers)


def untrained(model: Model, seed: int) -> Model:
    """The same architecture with weights as training would begin with them, fp32, on the same device."""
    from transformers import AutoModelForCausalLM

    was = bare(model).config
    config = type(was).from_dict(was.to_dict())
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return cast("CausalModel", made.to(model.device).eval())


def spread(last: int, count: int) -> list[int]:
    """``count`` layers from 0 to ``last``, evenly spread, both among them.

    Raises:
        LabError: fewer than two.
    """
    if count < 2:
        raise LabError(f"{count} layers are asked for: give 2 or more, the first and the last", key="layers")
    return sorted({round(each * last / (count - 1)) for each in range(count)})


def states(
    model: Model,
    tokenizer: Tokenizer,
    labelled: Labelled,
    layers: Sequence[int],
    tell: Callable[[int, int], None] = lambda _done, _total: None,
) -> dict[int, States]:
    """The stream at each sample: {layer: [sample, hidden]}, fp32; layer 0 is the embedding.

    ``tell`` is called with texts done and texts in all.

    Raises:
        LabError: as ``extract_activations``; a layer that is not there.
    """
    last = depth(model, tokenizer)
    if wrong := [layer for layer in layers if not 0 <= layer <= last]:
        raise LabError(f"layer {wrong[0]} is not there: 0 (the embedding) to {last} are", key="layers")
    # What block n finds is what n blocks have left.
    extractor = ActivationExtractor(model, tokenizer, layers=sorted({min(layer, last - 1) for layer in layers}))
    found: dict[int, list[States]] = {layer: [] for layer in layers}
    batch, total = labelled.batch, len(labelled.texts)
    for first in range(0, total, BATCH):
        rows = slice(first, min(first + BATCH, total))
        longest = max(batch.lengths[rows])
        part = Encoded(
            batch.input_ids[rows, :longest],
            batch.attention_mask[rows, :longest],
            batch.tokens[rows],
            batch.offsets[rows],
            batch.special_mask[rows, :longest],
        )
        places = labelled.places[rows]
        text = torch.tensor([row for row, each in enumerate(places) for _ in each], dtype=torch.long)
        place = torch.tensor([each for row in places for each in row], dtype=torch.long)

        def keep(seen: BlockSeen, text: torch.Tensor = text, place: torch.Tensor = place) -> None:
            for layer, stream in ((seen.layer, seen.pre_attn), (seen.layer + 1, seen.post_ffn)):
                if layer in found and (layer == seen.layer or layer == last):
                    found[layer].append(stream[text, place].float().cpu().numpy())

        extractor.observe(part, keep)
        tell(rows.stop, total)
    return {layer: np.concatenate(each) for layer, each in found.items()}
