"""A GPT in one file: GPT-2 with nanoGPT's numerics, or Llama and Qwen 3, by ``GPTConfig.family``.

Reading order: ``GPT.forward`` is the whole model; ``Block`` is what it repeats; ``Attention`` and ``MLP`` are the two
branches of a block. Shapes stand beside each line, in these letters: B sequences, T positions, d width, H heads of
width h = d / H, G key-value heads, f hidden width of the MLP, V vocabulary.

What the two families choose, and from whom:

- ``gpt2`` (Radford et al. 2019; numerics of github.com/karpathy/nanoGPT): norms before each branch and at the end,
  LayerNorm with epsilon 1e-5, learned positions, GELU by the error function, an MLP of 4 d, the head tied to the
  embedding (Press and Wolf 2017, arXiv:1608.05859), and no biases, which changes no result and saves time (nanoGPT).
- ``llama`` (Touvron et al. 2023, arXiv:2302.13971): RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467), rotary
  positions (Su et al. 2021, arXiv:2104.09864), SwiGLU (Shazeer 2020, arXiv:2002.05202), grouped key-value heads
  (Ainslie et al. 2023, arXiv:2305.13245); with ``qk_norm`` Qwen 3 (arXiv:2505.09388; Dehghani et al. 2023,
  arXiv:2302.05442).

Ablation-only, because no class of transformers computes them: ungated ReLU² (So et al. 2021, arXiv:2109.08668), value
embeddings (Zhou et al. 2024, arXiv:2410.17897, as github.com/KellerJordan/modded-nanogpt uses them), capped logits
(Gemma 2, arXiv:2408.00118). Starting projections and head at 0 (modded-nanogpt) is an initialisation alone: it loads
anywhere.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from labqueue.llm.pretraining.config import INIT_STD, GPTConfig

__all__ = ["GPT", "GPTConfig"]

LAYER_NORM_EPSILON, RMS_NORM_EPSILON = 1e-5, 1e-6
"""GPT-2's and Llama's."""


class Norm(nn.Module):
    """LayerNorm without bias (gpt2), or RMSNorm (llama), over the last dimension, in fp32."""

    def __init__(self, width: int, *, centred: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))  # [width]
        self.centred = centred

    def forward(self, x: Tensor) -> Tensor:
        """[..., width] to the same shape."""
        # bf16 has 8 bits: a mean of squares over the width needs more (all of the cited code does this in fp32).
        x = x.float()
        if self.centred:
            return F.layer_norm(x, self.weight.shape, self.weight, None, LAYER_NORM_EPSILON)
        return F.rms_norm(x, self.weight.shape, self.weight, RMS_NORM_EPSILON)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x_i, x_{i + h/2}) by its position's angle: then q · k depends on the distance alone.

    ``x`` [B, heads, T, h]; ``cos`` and ``sin`` [T, h / 2]. The halves are paired as in transformers' Llama.
    """
    first, second = x.chunk(2, dim=-1)  # two of [B, heads, T, h / 2]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)  # [B, heads, T, h]


def manual_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """What ``F.scaled_dot_product_attention`` computes, written out: softmax(q kᵀ / √h) v over earlier positions.

    ``q`` [B, H, T, h], ``k`` and ``v`` [B, H, T, h] to [B, H, T, h].
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # [B, H, T query, T key]
    future = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)  # [T, T], True above the diagonal
    weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)  # [B, H, T, T], rows sum to 1
    return F.dropout(weights, dropout) @ v  # [B, H, T, h]


class Attention(nn.Module):
    """Causal self-attention: each position takes a weighted mean of the values at and before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        d, kv = config.width, config.kv_width
        if config.family == "gpt2":
            self.qkv = nn.Linear(d, 3 * d, bias=False)  # one product is faster than three
        else:
            self.query = nn.Linear(d, d, bias=False)  # apart, as Llama keeps them: Muon treats each by itself
            self.key = nn.Linear(d, kv, bias=False)
            self.value = nn.Linear(d, kv, bias=False)
        if config.qk_norm:
            self.query_norm = Norm(config.head_width, centred=False)
            self.key_norm = Norm(config.head_width, centred=False)
        if config.value_embeddings:
            self.value_scale = nn.Parameter(torch.tensor([0.5]))
        self.projection = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, values: Tensor | None, manual: bool) -> Tensor:
        """``x`` [B, T, d]; ``rotary`` cos and sin [T, h / 2]; ``values`` the tokens' value embeddings [B, T, G h]."""
        c = self.config
        b, t, d = x.shape
        if c.family == "gpt2":
            q, k, v = self.qkv(x).split(d, dim=2)  # three of [B, T, d]
        else:
            q, k, v = self.query(x), self.key(x), self.value(x)  # [B, T, d], [B, T, G h], [B, T, G h]
        if values is not None:
            v = v + self.value_scale.to(v.dtype) * values.to(v.dtype)  # [B, T, G h]
        q = q.view(b, t, c.heads, c.head_width).transpose(1, 2)  # [B, H, T, h]
        k = k.view(b, t, c.groups, c.head_width).transpose(1, 2)  # [B, G, T, h]
        v = v.view(b, t, c.groups, c.head_width).transpose(1, 2)  # [B, G, T, h]
        if c.qk_norm:
            q, k = self.query_norm(q), self.key_norm(k)  # unchanged shapes; no product of theirs can grow without bound
        if rotary is not None:
            q, k = rotate(q, *rotary), rotate(k, *rotary)  # unchanged shapes
        q, k = q.to(v.dtype), k.to(v.dtype)
        if c.groups != c.heads:
            k = k.repeat_interleave(c.heads // c.groups, dim=1)  # [B, H, T, h]
            v = v.repeat_interleave(c.heads // c.groups, dim=1)  # [B, H, T, h]
        dropout = c.dropout if self.training else 0.0
        if manual:
            y = manual_attention(q, k, v, dropout)  # [B, H, T, h]
        else:
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)  # [B, H, T, h]
        y = y.transpose(1, 2).reshape(b, t, d)  # [B, T, d], heads side by side
        return F.dropout(self.projection(y), c.dropout, self.training)  # [B, T, d]


class MLP(nn.Module):
    """What a block computes at each position by itself; most of the parameters are here."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.up = nn.Linear(config.width, config.inner, bias=False)
        if config.mlp == "swiglu":
            self.gate = nn.Linear(config.width, config.inner, bias=False)
        self.projection = nn.Linear(config.inner, config.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, d] to [B, T, d]."""
        if self.config.mlp == "swiglu":
            x = F.silu(self.gate(x)) * self.up(x)  # [B, T, f]
        elif self.config.mlp == "relu2":
            x = F.relu(self.up(x)).square()  # [B, T, f]
        else:
            x = F.gelu(self.up(x))  # [B, T, f]
        return F.dropout(self.projection(x), self.config.dropout, self.training)  # [B, T, d]


class Block(nn.Module):
    """Adds what attention and then the MLP compute to the residual stream, each from a normalised copy of it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        centred = config.family == "gpt2"
        self.attention_norm = Norm(config.width, centred=centred)
        self.attention = Attention(config)
        self.mlp_norm = Norm(config.width, centred=centred)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None, values: Tensor | None, manual: bool) -> Tensor:
        """[B, T, d] to [B, T, d]; the others as ``Attention.forward``."""
        x = x + self.attention(self.attention_norm(x), rotary, values, manual)  # [B, T, d]
        out: Tensor = x + self.mlp(self.mlp_norm(x))  # [B, T, d]
        return out


class GPT(nn.Module):
    """The model: tokens in, the last hidden state out. ``logits`` is the head, apart: a loss can go in chunks."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: GPTConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        if config.family == "gpt2":
            self.positions = nn.Embedding(config.context, config.width)
        if config.value_embeddings:
            self.value_embedding = nn.Embedding(config.vocabulary, config.kv_width)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.layers)])
        self.norm = Norm(config.width, centred=config.family == "gpt2")
        if not config.tied:
            self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.family == "llama":
            pairs = torch.arange(0, config.head_width, 2).float() / config.head_width  # [h / 2], from 0 to 1
            angles = torch.arange(config.context).float()[:, None] / config.rope_base**pairs  # [context, h / 2]
            self.register_buffer("cos", angles.cos(), persistent=False)
            self.register_buffer("sin", angles.sin(), persistent=False)
        self.recompute = False
        """Activation checkpointing: blocks are computed again in the backward pass instead of being kept."""
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Draws every matrix from N(0, 0.02²), on the CPU, so that one seed is one model on every device."""
        source = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.dim() < 2:
                continue  # norms start at 1
            if name.endswith("projection.weight"):
                # 2 L branches add up in the residual stream: 1/√(2 L) each keeps its variance (GPT-2, section 2.3).
                std = 0.0 if self.config.zero_projections else INIT_STD / math.sqrt(2 * self.config.layers)
            else:
                std = 0.0 if name == "head.weight" and self.config.zero_head else INIT_STD
            with torch.no_grad():
                weight.copy_(torch.randn(weight.shape, generator=source) * std)

    @property
    def head_weight(self) -> Tensor:
        """[V, d]: the head's matrix, which may be the embedding's."""
        weight: Tensor = self.embedding.weight if self.config.tied else self.head.weight
        return weight

    def forward(self, tokens: Tensor, *, manual: bool = False) -> Tensor:
        """Token ids [B, T] to the normalised last hidden state [B, T, d]; T is at most the context.

        ``manual`` writes attention out instead of calling the fused kernel.
        """
        t = tokens.shape[1]
        x = self.embedding(tokens)  # [B, T, d]
        rotary = values = None
        if self.config.family == "gpt2":
            x = x + self.positions.weight[:t]  # [B, T, d] + [T, d]
        else:
            rotary = self.cos[:t], self.sin[:t]  # two of [T, h / 2]
        if self.config.value_embeddings:
            values = self.value_embedding(tokens)  # [B, T, G h]
        x = F.dropout(x, self.config.dropout, self.training)  # [B, T, d]
        for block in self.blocks:
            if self.recompute and self.training:
                x = checkpoint(block, x, rotary, values, manual, use_reentrant=False)  # [B, T, d]
            else:
                x = block(x, rotary, values, manual)  # [B, T, d]
        hidden: Tensor = self.norm(x)  # [B, T, d]
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., d] to logits [..., V], fp32."""
        return cap(F.linear(hidden, self.head_weight).float(), self.config.softcap)  # [..., V]

    @torch.no_grad()
    def continuation(
        self, prompt: list[int], new: int, *, seed: int, temperature: float = 0.8, top_k: int | None = 40
    ) -> list[int]:
        """``new`` tokens sampled after ``prompt`` (at least one), each from the ``top_k`` likeliest; temperature 0
        takes the likeliest. Draws on the CPU: the same seed draws alike on every device."""
        source = torch.Generator().manual_seed(seed)
        training, device = self.training, self.embedding.weight.device
        self.eval()
        tokens = list(prompt)
        for _ in range(new):
            seen = torch.tensor([tokens[-self.config.context :]], device=device)  # [1, T]
            scores = self.logits(self(seen)[:, -1]).squeeze(0).cpu()  # [V]
            if temperature == 0:
                tokens.append(int(scores.argmax()))
                continue
            if top_k is not None:
                least = scores.topk(min(top_k, len(scores))).values[-1]  # []
                scores = scores.masked_fill(scores < least, float("-inf"))  # [V]
            chances = (scores / temperature).softmax(dim=-1)  # [V]
            tokens.append(int(torch.multinomial(chances, 1, generator=source)))
        self.train(training)
        return tokens[len(prompt) :]


def cap(logits: Tensor, softcap: float | None) -> Tensor:
    """Squeezes logits into (-softcap, softcap); unchanged without one."""
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)
