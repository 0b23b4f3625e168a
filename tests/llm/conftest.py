"""A tiny model with an adapter and a trainer for it, for laws that hold for every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from labqueue.llm.data import tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.models import load
from labqueue.llm.training import trl_trainer
from labqueue.llm.training.lora import add_lora, train_all
from labqueue.llm.training.recipe import Recipe, Step


@dataclass
class Told:
    """A watch that keeps what it is told; ``evaluate`` says after which steps."""

    evaluate: tuple[int, ...] = ()
    steps: list[Step] = field(default_factory=list)
    losses: dict[int, float] = field(default_factory=dict)

    def begin(self, trainer: Any) -> None:
        if 0 in self.evaluate:
            trainer.evaluate()

    def resumed(self, trainer: Any) -> None:
        raise AssertionError("nothing is resumed here")

    def leave(self) -> bool:
        return False

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def evaluate_after(self, step: int) -> bool:
        return step in self.evaluate

    def evaluated(self, step: int, loss: float) -> None:
        self.losses[step] = loss

    def checkpoint_after(self, step: int) -> bool:
        return False

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        raise AssertionError("not asked for")

    def about(self) -> dict[str, Any]:
        return {}

    def stop_after(self, step: int) -> bool:
        return False


RECIPE = Recipe(
    steps=4,
    batch=2,
    accumulation=1,
    learning_rate=1e-2,
    schedule="constant",
    warmup_steps=0,
    weight_decay=0.0,
    max_grad_norm=1.0,
    optimizer="adamw",
    gradient_checkpointing=False,
    seed=0,
)


@dataclass
class Bench:
    """Everything of one training: what went in, the trainer, and what it told."""

    loaded: load.Loaded
    adapted: Any
    rows: tuple[tokenize.TokenRow, ...]
    held_out: tuple[tokenize.TokenRow, ...]
    trainer: Any
    told: Told


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def build(
        recipe: Recipe = RECIPE,
        *,
        model: str = "random-tiny",
        quantization: Any = "none",
        dtype: str = "float32",
        device: str = "cpu",
        full: bool = False,
        lora: dict[str, Any] | None = None,
        dropout: float = 0.0,
        rows: tuple[tokenize.TokenRow, ...] | None = None,
        **told: Any,
    ) -> Bench:
        split = tasks.generated("chain_sum", train_items=24, held_out_items=5, options={"max_terms": 3})
        loaded = load.load_model(model, backend="hf", quantization=quantization, device=device, dtype=dtype)
        asked: dict[str, Any] = {"rank": 4, "alpha": 8.0, "scaling": "standard", "targets": "all-linear"}
        adapted = (
            train_all(loaded, recipe.seed)
            if full
            else add_lora(
                loaded,
                **asked | (lora or {}),
                dropout=dropout,
                seed=recipe.seed,
                max_length=512,
                gradient_checkpointing=recipe.gradient_checkpointing,
            )
        )
        rows = rows or tokenize.encode(loaded.tokenizer, split.train, 512).rows
        held_out = tokenize.encode(loaded.tokenizer, split.held_out, 512).rows
        watch = Told(**told)
        made = trl_trainer.make_trainer(loaded, adapted, rows, held_out, recipe, watch, tmp_path)
        return Bench(loaded, adapted, rows, held_out, made, watch)

    return build
