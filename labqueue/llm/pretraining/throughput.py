"""How much of a card a training step uses: FLOPs a token, what this card reaches, and what cards are sold with."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labqueue.llm.pretraining.config import GPTConfig

PEAKS_TFLOPS = {
    "RTX 5090": 209.5,
    "RTX 5080": 112.6,
    "RTX 5070 Ti": 87.9,
    "RTX 5070": 61.7,
    "RTX 5060 Ti": 47.4,
    "RTX 4090": 165.2,
    "RTX 4080": 97.5,
    "RTX 4070 Ti": 80.2,
    "RTX 4070": 58.3,
    "RTX 4060 Ti": 44.1,
    "RTX 3090": 71.2,
    "RTX 3080": 59.5,
    "RTX 3070": 40.6,
    "RTX 3060": 25.5,
    "T4": 65.1,
    "A100": 312.0,
    "H100": 989.4,
    "H200": 989.4,
}
"""Dense bf16 products with fp32 sums, TFLOP/s, as NVIDIA's architecture papers state them (Blackwell RTX, Ada and
GA102, where GeForce cards reach twice their fp32 rate; A100; H100 and H200 as SXM modules). T4 has fp16 alone."""

MEASURED_SIZE = 8192
"""Rows, inputs and outputs of the product whose speed counts as the card's peak."""


def flops_a_token(config: GPTConfig, context: int | None = None) -> float:
    """Floating-point operations of forward and backward pass for a token: 6 N + 12 L H h T.

    Chowdhery et al. 2022 (PaLM, arXiv:2204.02311), appendix B, as nanoGPT counts: N are the parameters of matrix
    products (the head's among them, the embeddings' not), and attention is counted over the whole context, though half
    of it is masked.
    """
    matrices = config.layers * config.block_matrices + config.vocabulary * config.width
    return 6.0 * matrices + 12.0 * config.layers * config.width * (context or config.context)


def sold_peak_tflops(card: str) -> float | None:
    """The stated peak of a card by the name that its driver gives; None where the table does not have it."""
    names = sorted((name for name in PEAKS_TFLOPS if name in card), key=len)
    return PEAKS_TFLOPS[names[-1]] if names else None


def measured_peak_tflops(device: str, dtype: str) -> float:
    """The best of several large products on this device, TFLOP/s: what a step can reach at most.

    Values are normal, not zeros: a card that saves power on zeros clocks higher.
    """
    import torch

    cuda = device.startswith("cuda")
    size = MEASURED_SIZE if cuda else 512
    source = torch.Generator(device=device).manual_seed(0)  # leaves the run's own random state alone
    shape, kind = (size, size), getattr(torch, dtype)
    left = torch.randn(shape, device=device, generator=source).to(kind)
    right = torch.randn(shape, device=device, generator=source).to(kind)
    best = float("inf")
    for number in range(6):
        if cuda:
            torch.cuda.synchronize(device)
        begin = time.perf_counter()
        left @ right
        if cuda:
            torch.cuda.synchronize(device)
        if number:  # the first builds the kernel
            best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best / 1e12
