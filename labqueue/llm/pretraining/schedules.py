"""Learning rate as a function of the step, and the recipe of a run that it is part of. No torch, no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from labqueue.domain.errors import LabError

Schedule = Literal["cosine", "wsd", "constant"]
Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class Recipe:
    """How a GPT is trained. ``steps`` are optimizer steps; each sees ``batch * accumulation`` sequences.

    Raises:
        LabError: a warm-up or a decay beyond the run, a share that is none; ``key`` is the field.
    """

    steps: int
    batch: int
    accumulation: int = 1
    learning_rate: float = 1e-3
    muon_rate: float | None = None
    """Of what Muon trains; None: ``learning_rate``, to whose scale Muon's updates are matched."""
    min_rate: float = 0.1
    """Where the rate ends, as a share of its peak."""
    schedule: Schedule = "cosine"
    warmup_steps: int = 100
    decay_share: float = 0.2
    """Of ``wsd``: the last share of all steps, over which the rate falls."""
    optimizer: Optimizer = "adamw"
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.99
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "accumulation"):
            if getattr(self, name) < 1:
                raise LabError(f"{name} is {getattr(self, name)}, at least 1 is needed", key=name)
        if self.warmup_steps > self.steps:
            raise LabError(
                f"warmup_steps is {self.warmup_steps}, more than the {self.steps} steps: the rate would never reach "
                "its peak; give fewer, or more steps",
                key="warmup_steps",
            )
        if self.schedule == "wsd" and self.warmup_steps + self.decay_steps > self.steps:
            raise LabError(
                f"warmup_steps and the decay are {self.warmup_steps + self.decay_steps} steps together, more than the "
                f"{self.steps} of the run: give fewer warmup_steps, or a decay_share below {self.decay_share:g}",
                key="warmup_steps",
            )

    @property
    def decay_steps(self) -> int:
        """Steps over which ``wsd`` falls."""
        return max(1, round(self.decay_share * self.steps))

    def scale(self, step: int) -> float:
        """The rate of a step (from 1) as a share of its peak.

        Warm-up and cosine are nanoGPT's (``get_lr`` in its train.py, whose iterations count from 0): the first step has
        1 / (warm-up + 1) of the peak. ``wsd`` stays at the peak and falls as 1 - √x at the end (Hägele et al. 2024,
        arXiv:2405.18392).
        """
        done = step - 1
        if done < self.warmup_steps:
            return (done + 1) / (self.warmup_steps + 1)
        if self.schedule == "constant":
            return 1.0
        if self.schedule == "wsd":
            part = max(0.0, (step - (self.steps - self.decay_steps)) / self.decay_steps)
            return self.min_rate + (1.0 - self.min_rate) * (1.0 - math.sqrt(min(1.0, part)))
        part = min(1.0, (done - self.warmup_steps) / max(1, self.steps - self.warmup_steps))
        return self.min_rate + (1.0 - self.min_rate) * 0.5 * (1.0 + math.cos(math.pi * part))

    def rates(self, step: int) -> tuple[float, float]:
        """(rate, Muon's rate) of a step, from 1."""
        scale = self.scale(step)
        return scale * self.learning_rate, scale * (self.muon_rate or self.learning_rate)


def evaluation_steps(steps: int, between: int) -> list[int]:
    """Step 0, ``between`` steps spread evenly inside, and the last step; fewer inside where there are fewer steps."""
    return sorted({round(steps * part / (between + 1)) for part in range(between + 2)})
