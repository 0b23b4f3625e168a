"""One optimizer step, in three ways: eager, compiled, or compiled and recorded whole into one CUDA graph.

Weights, gradients and moments are fp32; on a GPU products are bf16 (autocast). The host tells a step three numbers (the
hash of its batch, the two rates) and reads losses back only when asked: nothing waits for the device in between. What
each way gains was measured on an H100: nanoGPT's baby is bound by launches, and a graph makes it 2.6 times as fast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from labqueue.llm.pretraining.batches import Batches, signed, step_key
from labqueue.llm.pretraining.chunked_loss import chunk_loss, fused_loss, rows_at_once
from labqueue.llm.pretraining.config import GPTConfig
from labqueue.llm.pretraining.gpt import GPT
from labqueue.llm.pretraining.optimizers import Optimizers
from labqueue.llm.pretraining.schedules import Recipe

if TYPE_CHECKING:
    from labqueue.llm.pretraining.batches import Tokens

Mode = Literal["eager", "compiled", "graph"]
Attention = Literal["auto", "flash", "cudnn"]

GRAPH_PARAMETERS = 50_000_000
"""Up to here a step is recorded into a graph: a larger model's kernels outlast their launches."""

GRAPH_MICRO_STEPS = 8
"""Up to here likewise: a graph holds every kernel of every micro-step."""

PLAIN_LOGITS = 2**25
"""Up to so many logits a micro-batch's are made whole, inside the compiled model."""

LOGITS_SHARE = 1 / 16
"""Of the card's memory, what a chunk of logits with its gradient may take."""

UNREAD = 4096
"""Steps whose losses wait on the device at most."""


class Reading(NamedTuple):
    """What a step measured: mean loss of its tokens before the update, nats, and the gradient's norm unclipped."""

    step: int
    loss: float
    grad_norm: float


@dataclass(frozen=True)
class Way:
    """How steps are computed; None and ``auto`` are decided by ``settled``."""

    mode: Mode | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    attention: Attention = "auto"
    recompute: bool = False
    """Activation checkpointing: less memory, about a third more time."""
    logits_bytes: float | None = None
    """What a chunk of logits with its gradient may take; None: a sixteenth of the card's memory."""

    def settled(self, config: GPTConfig, recipe: Recipe, device: str) -> Way:
        """With nothing left to decide on this device."""
        cuda = device.startswith("cuda")
        mode: Mode = "eager"
        if cuda:
            small = config.parameters <= GRAPH_PARAMETERS and recipe.accumulation <= GRAPH_MICRO_STEPS
            # Recomputing saves and restores the random state, which cannot be recorded.
            mode = "graph" if small and not self.recompute else "compiled"
        dtype = self.dtype
        if dtype == "auto":
            # A card without bf16 units would emulate them (T4, RTX 20).
            dtype = "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
        limit = self.logits_bytes
        if limit is None:
            total = torch.cuda.get_device_properties(device).total_memory if cuda else 2**30
            limit = LOGITS_SHARE * total
        return Way(self.mode or mode, dtype, self.attention, self.recompute, limit)


class TrainStep:
    """Takes the steps of one run: ``prepare`` once, ``run`` a step, ``read`` what steps have measured."""

    def __init__(self, model: GPT, tokens: Tokens, recipe: Recipe, way: Way, *, seed: int, device: str) -> None:
        """``model`` is on ``device``; ``tokens`` is the training split.

        Raises:
            LabError: the split is shorter than a context.
        """
        self.model, self.recipe, self.seed, self.device = model, recipe, seed, device
        self.way = way.settled(model.config, recipe, device)
        self.dtype = getattr(torch, self.way.dtype)
        self.batches = Batches(tokens, model.config.context, device)
        self.optimizers = Optimizers(model, recipe, captured=self.way.mode == "graph")
        model.recompute = self.way.recompute
        model.train()
        self.key = torch.zeros((), dtype=torch.int64, device=device)  # []
        spans = (recipe.accumulation, recipe.batch, model.config.context + 1)
        self.spans = None if self.batches.whole is not None else torch.zeros(spans, dtype=torch.int64, device=device)
        self.out = torch.zeros(2, device=device)  # [2]: loss, norm of the gradient
        self.history = torch.zeros(UNREAD, 2, device=device)  # [step, 2]
        self.unread: list[int] = []
        self.graph: torch.cuda.CUDAGraph | None = None
        compiled = self.way.mode != "eager"
        self._net = torch.compile(model, dynamic=False) if compiled else model
        self._plain = torch.compile(self._plain_loss, dynamic=False) if compiled else self._plain_loss
        self._chunk = torch.compile(chunk_loss, dynamic=False) if compiled else chunk_loss
        micro = recipe.batch * model.config.context
        assert self.way.logits_bytes is not None, "settled"
        self.plain = micro * model.config.vocabulary <= PLAIN_LOGITS
        self.rows = rows_at_once(micro, model.config.vocabulary, self.way.logits_bytes)

    @property
    def tokens(self) -> int:
        """Tokens that a step predicts."""
        return self.recipe.batch * self.recipe.accumulation * self.model.config.context

    def prepare(self) -> None:
        """Compiles and records, where that is the way; weights and optimizer states are as before afterwards.

        Call it after a checkpoint was restored: a graph reads the tensors that it was recorded with.
        """
        if self.way.dtype == "bfloat16" and self.device.startswith("cuda"):
            torch.set_float32_matmul_precision("high")  # TF32 in what autocast leaves in fp32, as nanoGPT
        if self.way.mode != "graph":
            return
        existed = self.optimizers.tensors()
        kept = [(tensor, tensor.detach().clone()) for tensor in (*self.model.parameters(), *existed)]
        self._tell(1)
        with self._attention():
            side = torch.cuda.Stream(self.device)
            side.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(side):
                for _ in range(3):  # compiles, and makes the optimizers' states
                    self._compute()
            torch.cuda.current_stream(self.device).wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._compute()
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
            old = {id(tensor) for tensor in existed}
            for tensor in self.optimizers.tensors():
                if id(tensor) not in old:
                    tensor.zero_()

    def run(self, step: int) -> None:
        """Takes a step (from 1); returns before the device is done."""
        self._tell(step)
        if self.graph is not None:
            self.graph.replay()
        else:
            with self._attention():
                self._compute()
        self.history[len(self.unread)].copy_(self.out)
        self.unread.append(step)

    @property
    def full(self) -> bool:
        """Whether ``read`` must be called before the next step."""
        return len(self.unread) == UNREAD

    def read(self) -> list[Reading]:
        """What the steps since the last call measured; waits for the device."""
        values = self.history[: len(self.unread)].tolist()
        found = [Reading(step, loss, norm) for step, (loss, norm) in zip(self.unread, values, strict=True)]
        self.unread.clear()
        return found

    def _tell(self, step: int) -> None:
        """What a step needs of the host: its batch, its rates, the seed of its dropout."""
        key = step_key(self.seed, step)
        self.key.fill_(signed(key))
        if self.spans is not None:
            for micro in range(self.recipe.accumulation):
                span = self.batches.read(key, micro * self.recipe.batch, self.recipe.batch)  # [B, T + 1]
                if self.device.startswith("cuda"):
                    span = span.pin_memory()
                self.spans[micro].copy_(span, non_blocking=True)
        self.optimizers.set_rates(*self.recipe.rates(step))
        if self.model.config.dropout:
            dropout = step_key(self.seed, step, use=1) >> 1
            if self.device.startswith("cuda"):
                torch.cuda.default_generators[torch.device(self.device).index or 0].manual_seed(dropout)
            else:
                torch.default_generator.manual_seed(dropout)

    def _compute(self) -> None:
        """The step itself: no value comes back to the host."""
        for weight in self.model.parameters():
            weight.grad = None
        loss = torch.zeros((), device=self.device)  # []
        for micro in range(self.recipe.accumulation):
            if self.spans is None:
                span = self.batches.gather(self.key, micro * self.recipe.batch, self.recipe.batch)  # [B, T + 1]
            else:
                span = self.spans[micro]  # [B, T + 1]
            part = self._loss(span[:, :-1], span[:, 1:]) / self.recipe.accumulation  # []
            part.backward()
            loss += part.detach()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.max_grad_norm, foreach=True)  # []
        self.optimizers.step()
        self.out.copy_(torch.stack((loss, norm)))

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean loss of inputs and targets [B, T]."""
        with self._autocast():
            if self.plain:
                return self._plain(x, y)
            hidden = self._net(x)  # [B, T, d]
        return fused_loss(
            hidden.flatten(0, 1),
            self.model.head_weight,
            y.flatten(),
            rows=self.rows,
            softcap=self.model.config.softcap,
            dtype=self.dtype,
            chunk=self._chunk,
        )

    def _plain_loss(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.model.logits(self.model(x))  # [B, T, V]
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return autocast(self.device, self.way.dtype)

    @contextlib.contextmanager
    def _attention(self) -> Iterator[None]:
        """Which kernel of ``scaled_dot_product_attention`` comes first."""
        if self.way.attention == "auto" or not self.device.startswith("cuda"):
            yield
            return
        from torch.nn.attention import SDPBackend, sdpa_kernel

        first = SDPBackend.CUDNN_ATTENTION if self.way.attention == "cudnn" else SDPBackend.FLASH_ATTENTION
        rest = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        with sdpa_kernel([first, *(each for each in rest if each != first)], set_priority=True):
            yield

    def gradient_norms(self) -> dict[str, float]:
        """Norm of the last step's gradient by layer, before clipping."""
        grads = {name: weight.grad for name, weight in self.model.named_parameters() if weight.grad is not None}
        norm = self.out[1]
        clipped = (self.recipe.max_grad_norm / (norm + 1e-6)).clamp(max=1.0)  # [], as clip_grad_norm_ has it
        return layer_norms({name: grad / clipped for name, grad in grads.items()})

    def weights(self) -> dict[str, Tensor]:
        """A copy of every weight, to measure an update against."""
        return {name: weight.detach().clone() for name, weight in self.model.named_parameters()}

    def update_norms(self, before: dict[str, Tensor]) -> dict[str, float]:
        """Norm of the change since ``before`` by layer, as a share of the norm that the layer had."""
        now = dict(self.model.named_parameters())
        moved = layer_norms({name: now[name].detach() - old for name, old in before.items()})
        had = layer_norms(before)
        return {name: norm / had[name] if had[name] else 0.0 for name, norm in moved.items()}


def autocast(device: str, dtype: str) -> contextlib.AbstractContextManager[object]:
    """The context in which products are of a type; none for float32."""
    if dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype))


def layer_norms(tensors: dict[str, Tensor]) -> dict[str, float]:
    """Norm of all tensors of each layer together: ``embedding``, ``layer 0``, …, ``head``."""
    layers: dict[str, list[Tensor]] = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        layers.setdefault(f"layer {rest.partition('.')[0]}" if first == "blocks" else first, []).append(tensor)
    norms = torch.stack([torch.stack([each.norm() for each in group]).norm() for group in layers.values()])  # [layer]
    return dict(zip(layers, norms.tolist(), strict=True))
