"""The head's product and the cross-entropy in one, some rows at a time: logits are never whole in memory.

Logits are by far the largest tensor of a small model: 12,288 tokens over 50,304 words are 2.5 GB in fp32, beside 1.2 GB
of a gradient in bf16. Here the gradient of a chunk is made while its logits are there, in the forward pass, so that
nothing is computed twice. The idea is Liger Kernel's (Hsu et al. 2024, arXiv:2410.10989, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Chunk = Callable[[Tensor, Tensor, Tensor, float, float | None], tuple[Tensor, Tensor]]


def chunk_loss(x: Tensor, w: Tensor, y: Tensor, scale: float, softcap: float | None) -> tuple[Tensor, Tensor]:
    """Loss and d loss / d logits of some rows, times ``scale``.

    ``x`` [rows, d] and ``w`` [V, d] in the type of the product, ``y`` [rows]; returns ([], [rows, V] in x's type).
    """
    raw = (x @ w.t()).float()  # [rows, V]
    z = raw if softcap is None else softcap * torch.tanh(raw / softcap)  # [rows, V]
    total = torch.logsumexp(z, dim=-1)  # [rows]
    loss = (total - z.gather(1, y[:, None]).squeeze(1)).sum() * scale  # []
    right = torch.arange(w.shape[0], device=z.device)[None, :] == y[:, None]  # [rows, V]
    dz = (torch.exp(z - total[:, None]) - right.float()) * scale  # [rows, V]: softmax minus one-hot
    if softcap is not None:
        dz = dz * (1.0 - (z / softcap).square())  # tanh' = 1 - tanh²
    return loss, dz.to(x.dtype)


class _Context(Protocol):
    """What torch hands to both passes of a function."""

    saved_tensors: tuple[Tensor, ...]
    types: tuple[torch.dtype, torch.dtype]

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: _Context,
        x: Tensor,
        w: Tensor,
        y: Tensor,
        rows: int,
        softcap: float | None,
        dtype: torch.dtype,
        chunk: Chunk,
    ) -> Tensor:
        xs, ws = x.to(dtype), w.to(dtype)  # [N, d], [V, d]
        gx = torch.empty_like(xs)  # [N, d]
        gw: Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=x.device)
        for first in range(0, len(y), rows):
            part = slice(first, first + rows)
            loss, dz = chunk(xs[part], ws, y[part], 1.0 / len(y), softcap)  # [], [rows, V]
            total += loss
            torch.mm(dz, ws, out=gx[part])  # [rows, d]
            # Summed over chunks in fp32: bf16 would lose what a later chunk adds.
            if dz.is_cuda and dtype == torch.bfloat16:
                more = torch.mm(dz.t(), xs[part], out_dtype=torch.float32)  # [V, d]
            else:
                more = (dz.t() @ xs[part]).float()  # [V, d]
            gw = more if gw is None else gw.add_(more)
        assert gw is not None, "there are rows"
        ctx.save_for_backward(gx, gw)
        ctx.types = x.dtype, w.dtype
        return total

    @staticmethod
    def backward(ctx: _Context, g: Tensor) -> tuple[Tensor | None, ...]:
        gx, gw = ctx.saved_tensors
        of_x, of_w = ctx.types
        return (gx * g).to(of_x), gw.mul_(g).to(of_w), None, None, None, None, None


def fused_loss(
    x: Tensor,
    w: Tensor,
    y: Tensor,
    *,
    rows: int,
    softcap: float | None = None,
    dtype: torch.dtype | None = None,
    chunk: Chunk = chunk_loss,
) -> Tensor:
    """Mean cross-entropy of ``x @ w.T`` against ``y``, nats; differentiable once in ``x`` and ``w``.

    ``x`` [N, d], ``w`` [V, d], ``y`` [N]; ``rows`` of N at a time. ``dtype`` is that of the products (None: x's own);
    ``chunk`` may be a compiled ``chunk_loss``.
    """
    loss: Tensor = _FusedLoss.apply(x, w, y, rows, softcap, dtype or x.dtype, chunk)  # type: ignore[no-untyped-call]  # torch's own
    return loss


def rows_at_once(tokens: int, vocabulary: int, limit_bytes: float) -> int:
    """Rows of a chunk: a divisor of ``tokens``, so that one compiled shape serves all, whose logits and gradient in
    bf16 stay below ``limit_bytes`` where a divisor does."""
    parts = max(1, -(-tokens * vocabulary * 4 // max(1, int(limit_bytes))))
    while parts < tokens and tokens % parts:
        parts += 1
    return tokens // min(parts, tokens)
