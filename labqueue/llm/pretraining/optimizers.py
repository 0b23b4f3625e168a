"""The optimizers of a run: AdamW with nanoGPT's groups, and Muon for the hidden matrices; their states, out and back.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) orthogonalises each update; ``match_rms_adamw`` scales it
to the size of AdamW's (Liu et al. 2025, arXiv:2502.16982), so that one learning rate serves both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from labqueue.llm.pretraining.gpt import GPT
from labqueue.llm.pretraining.schedules import Recipe
from labqueue.llm.types import Json

MUON_MOMENTUM = 0.95
"""Jordan et al. 2024."""

State = Json


class Optimizers:
    """All optimizers of a model as one. With ``captured`` a step can be recorded into a CUDA graph."""

    def __init__(self, model: GPT, recipe: Recipe, *, captured: bool = False) -> None:
        self.captured = captured
        named = dict(model.named_parameters())
        hidden = {name for name, weight in named.items() if name.startswith("blocks.") and weight.dim() == 2}
        by_muon = hidden if recipe.optimizer == "muon" else set()
        self.matrices = [named[name] for name in sorted(by_muon)]
        rest = [weight for name, weight in named.items() if name not in by_muon]
        device = model.embedding.weight.device
        self.rate = torch.tensor(recipe.learning_rate, device=device)  # []
        self.muon_rate = torch.tensor(recipe.muon_rate or recipe.learning_rate, device=device)  # []
        # Matrices and embeddings decay, norms do not (nanoGPT, configure_optimizers).
        self.adamw = torch.optim.AdamW(
            [
                {"params": [weight for weight in rest if weight.dim() >= 2], "weight_decay": recipe.weight_decay},
                {"params": [weight for weight in rest if weight.dim() < 2], "weight_decay": 0.0},
            ],
            lr=self.rate if captured else recipe.learning_rate,
            betas=(recipe.beta1, recipe.beta2),
            fused=True,
            capturable=captured,
        )
        self.muon: torch.optim.Muon | None = None
        if self.matrices:
            self.muon = torch.optim.Muon(
                self.matrices,
                lr=1.0 if captured else recipe.learning_rate,
                weight_decay=recipe.weight_decay,
                momentum=MUON_MOMENTUM,
                adjust_lr_fn="match_rms_adamw",
            )
            if captured:
                self.muon.param_groups[0]["weight_decay"] = recipe.weight_decay

    def set_rates(self, rate: float, muon_rate: float) -> None:
        """Sets the rates of the next step."""
        if self.captured:
            self.rate.fill_(rate)
            self.muon_rate.fill_(muon_rate)
            return
        for group in self.adamw.param_groups:
            group["lr"] = rate
        if self.muon is not None:
            self.muon.param_groups[0]["lr"] = muon_rate

    @torch.no_grad()
    def step(self) -> None:
        """Updates every weight by its gradient."""
        self.adamw.step()
        if self.muon is None:
            return
        if not self.captured:
            self.muon.step()
            return
        # torch.optim.Muon reads its rate on the host, which a graph cannot. Its update is linear in the rate, so a step
        # at rate 1 is taken, and as much of it as the rate says is kept.
        before = [weight.clone() for weight in self.matrices]
        self.muon.step()
        for weight, old in zip(self.matrices, before, strict=True):
            weight.copy_(torch.lerp(old, weight, self.muon_rate.to(weight.dtype)))

    def state(self) -> dict[str, State]:
        """Everything a later process needs, as tensors and plain values."""
        found = {"adamw": dict(self.adamw.state_dict()["state"])}
        if self.muon is not None:
            found["muon"] = dict(self.muon.state_dict()["state"])
        return found

    def restore(self, state: dict[str, State]) -> None:
        """The inverse of ``state``; rates and groups stay as they are."""
        for name, optimizer in (("adamw", self.adamw), ("muon", self.muon)):
            if optimizer is None:
                continue
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state[name], "param_groups": groups})
        if self.captured:
            for group in self.adamw.param_groups:
                group["lr"] = self.rate  # loading copies it, and a graph reads the tensor that it was recorded with

    def tensors(self) -> list[Tensor]:
        """Every tensor of the states that exist by now."""
        optimizers = [optimizer for optimizer in (self.adamw, self.muon) if optimizer is not None]
        return [
            value
            for optimizer in optimizers
            for state in optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
