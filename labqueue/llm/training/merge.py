"""Folds an adapter into the weights of its base, writes model folders, and measures what folding changed. No runs.

A base in 4 bit is folded into its dequantised weights, not into 4 bit again: quantising the sum again would lose
most of a small update. All is done a layer at a time, so that a merged 7B model never has to fit anywhere.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.llm.data.tokenize import TokenRow
from labqueue.llm.models import snapshot
from labqueue.llm.models.load import Loaded, bare
from labqueue.llm.training import lora
from labqueue.llm.training.recipe import LOGITS_ROWS, answer_logits, answer_states

if TYPE_CHECKING:
    import torch

    from labqueue.llm.training.recipe import Trainer
    from labqueue.llm.types import Model, Tokenizer

SHARD_BYTES = 2 * 2**30
"""Bytes of a weight file at most (but one tensor at least): what is held in memory while a model is written."""

COMPARED_ROWS = 64
"""Held-out rows on which a merge is compared with its adapter: their hidden states are kept."""


@dataclass(frozen=True)
class Difference:
    """What folding changed at the answer tokens of some held-out rows."""

    logit_max: float
    """The largest absolute difference of a logit."""
    logit_mean: float
    """The mean absolute difference over all tokens and the whole vocabulary."""
    loss_before: float
    """Mean loss with the adapter, nats per answer token."""
    loss_after: float
    """Mean loss of the merged weights."""
    rows: int


def merge(loaded: Loaded, adapted: Model, folder: Path) -> str:
    """Writes the base with its adapter folded in as a model folder for ``load_model``; returns its type of number.

    The type is that of the base's embeddings (of a base in 4 bit, what it keeps beside its 4-bit weights). Changes
    nothing of ``adapted``.
    """
    save_model(adapted, loaded.tokenizer, folder)
    return str(_number(adapted)).removeprefix("torch.")


def save_model(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes a model, whether all of it was trained or an adapter of it, as a folder for ``load_model``."""
    import copy

    folder.mkdir(parents=True, exist_ok=True)
    inner = bare(model)
    _write_weights(_weights(model), folder)
    config = copy.deepcopy(inner.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = _number(model)
    config.architectures = [type(inner).__name__]
    config.save_pretrained(folder)
    snapshot.write_companions(inner, tokenizer, folder)


def difference(trainer: Trainer, rows: Sequence[TokenRow], batch: int) -> Difference:
    """Compares adapter and merged weights on the first ``COMPARED_ROWS`` of ``rows``, on the trainer's device.

    The merged model is not loaded: each of its layers is folded when it is used and dropped again.
    """
    import torch

    rows = rows[:COMPARED_ROWS]
    before = list(answer_states(trainer, rows, batch))
    with folded(trainer.model):
        after = list(answer_states(trainer, rows, batch))
    highest, total, count = 0.0, 0.0, 0
    losses = [0.0, 0.0]
    tokens = 0
    for (states, targets), (others, _) in zip(before, after, strict=True):
        tokens += len(targets)
        for start in range(0, len(targets), LOGITS_ROWS):
            part = slice(start, start + LOGITS_ROWS)
            both = [answer_logits(trainer, kept[part]) for kept in (states, others)]  # [token, vocabulary]
            gap = (both[0] - both[1]).abs()
            highest, total, count = max(highest, float(gap.max())), total + float(gap.sum()), count + gap.numel()
            for at, logits in enumerate(both):
                losses[at] += float(torch.nn.functional.cross_entropy(logits, targets[part], reduction="sum"))
    return Difference(highest, total / count, losses[0] / tokens, losses[1] / tokens, len(rows))


@contextlib.contextmanager
def folded(model: Model) -> Iterator[None]:
    """Within, every linear layer computes as the merged model's would: with one weight, folded at each use."""
    inner = bare(model)
    number = _number(model)
    layers: list[tuple[str, torch.nn.Module]] = list(lora.lora_layers(model))
    adapted = tuple(f"{name}." for name, _ in layers)
    # On a CPU a layer in 4 bit may compute in another type than the rest, and as a merged model's it will not.
    layers += [
        (name, module)
        for name, module in inner.named_modules()
        if getattr(module, "quant_state", None) is not None and not name.startswith(adapted)
        if module.compute_dtype != number
    ]
    for name, layer in layers:
        parent, _, last = name.rpartition(".")
        setattr(inner.get_submodule(parent), last, _folded(layer, number))
    try:
        yield
    finally:
        for name, layer in layers:
            parent, _, last = name.rpartition(".")
            setattr(inner.get_submodule(parent), last, layer)


def _folded(layer: torch.nn.Module, number: torch.dtype) -> torch.nn.Module:
    """A linear layer whose weight is made when it is asked for. It has what Unsloth's kernels read of a plain one."""
    import torch

    class Folded(torch.nn.Module):
        @property
        def weight(self) -> torch.Tensor:
            whole = lora.folded_weight(layer) if lora.is_adapter_layer(layer) else lora.base_weight(layer)
            return whole.to(number)

        @property
        def bias(self) -> torch.Tensor | None:
            return lora.base_layer(layer).bias

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(states.to(number), self.weight, self.bias)

    return Folded()


def _number(model: Model) -> torch.dtype:
    """The type in which a model's embeddings are kept: that of all its weights, but for those in 4 bit."""
    return bare(model).get_input_embeddings().weight.dtype


def _weights(model: Model) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor on the CPU) of every weight of the model without its adapter; a shared weight once."""
    inner = bare(model)
    number = _number(model)
    layers = dict(lora.lora_layers(model))
    for name, value in inner.named_parameters():
        owner, _, last = name.rpartition(".")
        layer = layers.get(owner.removesuffix(".base_layer"))
        if layer is None and any(name.startswith(f"{adapted}.") for adapted in layers):
            continue  # the adapter's own: it is in the folded weight
        if layer is None and getattr(value, "quant_state", None) is None:
            yield name, value.detach().cpu().contiguous()
        elif layer is None:
            yield name, lora.base_weight(inner.get_submodule(owner)).to(number).cpu().contiguous()
        elif owner.endswith(".base_layer"):
            plain = f"{owner.removesuffix('.base_layer')}.{last}"
            if last != "weight":
                yield plain, value.detach().cpu().contiguous()
                continue
            made = lora.folded_weight(layer).to(number)  # [outputs, inputs]
            transposed = lora.is_transposed(layer)
            yield plain, (made.T if transposed else made).cpu().contiguous()


def _write_weights(weights: Iterator[tuple[str, torch.Tensor]], folder: Path) -> None:
    from safetensors.torch import save_file

    written: list[list[str]] = []
    held: dict[str, torch.Tensor] = {}
    size = total = 0

    def flush() -> None:
        save_file(held, folder / f"shard-{len(written)}", metadata={"format": "pt"})
        written.append(list(held))

    for name, value in weights:
        if held and size + value.nbytes > SHARD_BYTES:
            flush()
            held, size = {}, 0
        held[name] = value
        size, total = size + value.nbytes, total + value.nbytes
    flush()
    if len(written) == 1:
        (folder / "shard-0").rename(folder / "model.safetensors")
        return
    places: dict[str, str] = {}
    for number, names in enumerate(written):
        file = f"model-{number + 1:05d}-of-{len(written):05d}.safetensors"
        (folder / f"shard-{number}").rename(folder / file)
        places |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True))
