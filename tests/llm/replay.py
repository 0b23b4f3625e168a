"""Counts every byte that a real training step of transformers and PEFT holds, op by op, on the CPU.

What a GPU does otherwise is put in its place: autocast to bfloat16, an attention that keeps what flash attention keeps,
and TRL's loss head, which is a Triton kernel there.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from labqueue.llm.memory.footprint import TILE_COLUMNS, TILE_TOKENS
from labqueue.llm.memory.workload import Workload
from labqueue.llm.models.shapes import Shape

BF16 = torch.bfloat16


class Live(TorchDispatchMode):
    """Bytes of the tensors that are alive and were made under it."""

    def __init__(self, known: list[Any]) -> None:
        super().__init__()
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.sizes: dict[int, int] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                if key not in self.known and key not in self.sizes:
                    self.sizes[key] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, key)
        return out

    def _gone(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


class Attention(torch.autograd.Function):
    """Keeps q, k, v, the output and an fp32 normaliser, as flash attention does; the numbers are of no account."""

    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any) -> Any:
        out = q.new_zeros(q.shape[0], q.shape[2], q.shape[1], q.shape[3])
        ctx.save_for_backward(q, k, v, out, torch.zeros(q.shape[:3]))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        return tuple(torch.zeros_like(tensor) for tensor in ctx.saved_tensors[:3])


class Head(torch.autograd.Function):
    """TRL's loss head: one tile of logits, and going back fp32 gradients of the rows and of trained weights."""

    @staticmethod
    def forward(ctx: Any, hidden: Any, weight: Any) -> Any:
        tile = hidden.new_empty(min(len(hidden), TILE_TOKENS), min(len(weight), TILE_COLUMNS), dtype=BF16)
        part = weight[:TILE_COLUMNS].to(BF16)
        ctx.save_for_backward(hidden, weight)
        del tile, part
        return torch.zeros(len(hidden))

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        hidden, weight = ctx.saved_tensors
        rows = torch.zeros(hidden.shape)
        trained = torch.zeros(weight.shape) if ctx.needs_input_grad[1] else None
        tile = hidden.new_empty(min(len(hidden), TILE_TOKENS), min(len(weight), TILE_COLUMNS), dtype=BF16)
        part = weight[:TILE_COLUMNS].to(BF16)
        found = rows.to(hidden.dtype), None if trained is None else trained.to(weight.dtype)
        del tile, part
        return found


@dataclass(frozen=True)
class Step:
    """What was counted: the most bytes beside weights and moments, and how many parameters are trained."""

    most: int
    trained: int


def step(shape: Shape, plan: Workload) -> Step:
    """Runs two optimizer steps of a Llama of that shape and counts the second."""
    # Without a device it asks for CUDA's state, by which PEFT decides whether to cast.
    real = torch.is_autocast_enabled
    with mock.patch("torch.is_autocast_enabled", lambda *device: real(*device) if device else real("cpu")):
        return _step(shape, plan)


def _step(shape: Shape, plan: Workload) -> Step:
    model, inner = _model(shape, plan)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    ids = torch.randint(0, shape.vocabulary, (plan.batch, plan.sequence))  # [batch, position]
    live = Live([*model.parameters(), *model.buffers()])
    with live:
        for number in range(2):
            start = live.now
            live.most = start
            for _ in range(plan.accumulation):
                with torch.autocast("cpu", dtype=BF16):
                    hidden = inner.base_model(input_ids=ids, use_cache=False)[0][:, :-1]
                    loss = Head.apply(hidden[ids[:, 1:] >= 0], inner.lm_head.weight).sum()
                del hidden
                loss.backward()
                del loss
            if number == 0:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return Step(live.most - start, sum(value.numel() for value in trained))


def _attend(_module: Any, query: Any, key: Any, value: Any, _mask: Any, **_: Any) -> Any:
    return Attention.apply(query.to(BF16), key.to(BF16), value.to(BF16)), None


def _model(shape: Shape, plan: Workload) -> tuple[Any, Any]:
    import bitsandbytes
    from peft import LoraConfig, get_peft_model
    from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register("replay", _attend)
    AttentionMaskInterface.register("replay", lambda *_, **__: None)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
        attn_implementation="replay",
    )
    model: Any = LlamaForCausalLM(config).to(torch.float32 if plan.method == "full" else BF16)
    if plan.quantization == "4bit":
        for name, layer in list(model.model.named_modules()):
            if isinstance(layer, torch.nn.Linear):
                made = bitsandbytes.nn.Linear4bit(
                    layer.in_features, layer.out_features, bias=False, compute_dtype=BF16, quant_type="nf4"
                )
                made.weight = bitsandbytes.nn.Params4bit(layer.weight.data, requires_grad=False, quant_type="nf4")
                made.support_avx512bf16_for_cpu = False
                model.model.set_submodule(name, made.to("cpu"))
        model.is_loaded_in_4bit = True
    inner = model
    if plan.method == "lora":
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=plan.rank, target_modules="all-linear"))
        for value in model.parameters():
            if value.requires_grad:
                value.data = value.data.float()
        if plan.checkpointing:
            model.enable_input_require_grads()
    if plan.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    return model, inner
