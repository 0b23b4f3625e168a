"""Measures what training added to each linear layer: norms and spectrum of the update ΔW = W' - W. No runs.

The singular values of ΔW are the roots of the eigenvalues of a small Gram matrix in float64. For LoRA, ΔW = s B A and
the matrix is ``[rank, rank]``: of AᵀBᵀBA, whose eigenvalues other than 0 are those of (AAᵀ)(BᵀB). Squaring costs half
the digits, so values below about 1e-8 of the largest are rounding; B and A themselves have fp32's 1e-7.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labqueue.llm.training import lora

if TYPE_CHECKING:
    import torch

    from labqueue.llm.types import Model


@dataclass(frozen=True)
class Update:
    """The update of one layer. Ranks are None where nothing was added yet."""

    name: str
    """The layer's name in the base model, such as ``model.layers.0.self_attn.q_proj``."""
    singular: tuple[float, ...]
    """Singular values of ΔW, falling; the others are 0."""
    weight_norm: float
    """Frobenius norm of W, dequantised."""

    @property
    def module(self) -> str:
        """The last part of the name, ``q_proj``."""
        return self.name.rsplit(".", 1)[-1]

    @property
    def block(self) -> int | None:
        """The number in the name: which block of the model; None outside of them."""
        return next((int(part) for part in self.name.split(".") if part.isdecimal()), None)

    @property
    def norm(self) -> float:
        """Frobenius norm of ΔW: root of the summed squared singular values."""
        return math.sqrt(sum(value * value for value in self.singular))

    @property
    def spectral_norm(self) -> float:
        """The largest singular value of ΔW."""
        return max(self.singular, default=0.0)

    @property
    def relative_norm(self) -> float:
        """Frobenius norm of ΔW over that of W."""
        return self.norm / self.weight_norm

    @property
    def stable_rank(self) -> float | None:
        """(Frobenius norm / spectral norm)², at least 1 and at most the rank (Rudelson and Vershynin 2007)."""
        largest = self.spectral_norm
        return sum((value / largest) ** 2 for value in self.singular) if largest else None

    @property
    def effective_rank(self) -> float | None:
        """exp of the entropy of the singular values as shares of their sum (Roy and Vetterli 2007)."""
        total = sum(self.singular)
        if not total:
            return None
        shares = [value / total for value in self.singular if value > 0]
        return math.exp(-sum(share * math.log(share) for share in shares))


class Meter:
    """Measures updates of a model that is being trained, one layer at a time on its device; keeps nothing there.

    Without an adapter (all weights trained), or with DoRA, ΔW is dense: each layer then costs the eigenvalues of a
    matrix of its smaller dimension. Without an adapter the initial weights are copied to the CPU here, so make it
    before training.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._norms: dict[str, float] = {}
        self._before: dict[str, torch.Tensor] = {}
        if not lora.is_adapter(model):
            for name, layer in lora.linear_layers(model).items():
                self._before[name] = lora.base_weight(layer).to("cpu", copy=True)  # [outputs, inputs]

    def measure(self) -> list[Update]:
        """The update of every layer that is trained, in the model's order."""
        import torch

        threads = torch.get_num_threads()
        # Small matrices gain nothing from threads, and beside another job they wait for each other: rank 64 on the
        # 210 layers of the small model took 17 s on 2 busy cores, 0.5 s with one thread.
        torch.set_num_threads(1)
        try:
            with torch.no_grad():
                return [Update(name, _singular(one, other), norm) for name, one, other, norm in self._grams()]
        finally:
            torch.set_num_threads(threads)

    def _grams(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor | None, float]]:
        if not lora.is_adapter(self._model):
            for name, plain in lora.linear_layers(self._model).items():
                now = lora.base_weight(plain)
                update = now - self._before[name].to(now.device)
                yield name, _smaller_gram(update), None, self._weight_norm(name, plain)
            return
        for name, layer in lora.lora_layers(self._model):
            norm = self._weight_norm(name, layer)
            if getattr(layer, "lora_magnitude_vector", None):  # DoRA
                yield name, _smaller_gram(lora.folded_weight(layer) - lora.base_weight(layer).float()), None, norm
            else:
                b, a, scale = lora.factors(layer)
                b, a = b.double() * scale, a.double()
                yield name, a @ a.T, b.T @ b, norm  # [rank, rank], twice

    def _weight_norm(self, name: str, layer: torch.nn.Module) -> float:
        import torch

        if name not in self._norms:  # the base never changes
            weight = self._before.get(name)
            weight = lora.base_weight(layer) if weight is None else weight
            self._norms[name] = float(torch.linalg.vector_norm(weight, dtype=torch.float32))
        return self._norms[name]


def _smaller_gram(update: torch.Tensor) -> torch.Tensor:
    update = update.double()  # [outputs, inputs]
    return update @ update.T if update.shape[0] <= update.shape[1] else update.T @ update


def _singular(outer: torch.Tensor, inner: torch.Tensor | None) -> tuple[float, ...]:
    """Roots of the eigenvalues of ``outer``, or of ``outer @ inner`` (both symmetric, not negative), falling."""
    import torch

    outer = outer.cpu()  # [n, n]
    if inner is not None:
        values, vectors = torch.linalg.eigh(outer)
        root = vectors * values.clamp(min=0).sqrt()  # [n, n]: root @ root.T = outer
        outer = root.T @ inner.cpu() @ root
    if not torch.isfinite(outer).all():
        return (math.nan,) * len(outer)
    return tuple(float(value) for value in torch.linalg.eigvalsh(outer).clamp(min=0).sqrt().flip(0))
