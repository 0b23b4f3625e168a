"""What a fine-tuning run learns from, as parameters. No kind itself."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from labqueue.domain import kind


class Data(kind.Params):
    """What is learned: a generated task or a file, never both."""

    task: str | None = None
    """A reasoning-gym task with an exact scorer, such as ``chain_sum``."""
    options: dict[str, int | float | str | bool | list[int | float | str]] = Field(default={})
    """Options of the task, as reasoning-gym names them."""
    path: str | None = None
    """A JSONL file: question (or prompt) and answer (or completion) in every row."""
    train_items: int | None = Field(default=None, ge=1, le=10_000_000)
    """Rows to train on; a task needs it, a file gives all that are not held out."""
    eval_items: int = Field(default=64, ge=1, le=100_000)
    """Held-out rows; none of their questions occurs in training."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Draws rows and split. Not the run's seed: all runs of a sweep share their data."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.task is None) == (self.path is None):
            raise ValueError("data needs exactly one of task, path")
        if self.task is not None and self.train_items is None:
            raise ValueError("data.train_items is needed with data.task: how many rows to generate")
        if self.path is not None and self.options:
            raise ValueError("data.options belong to data.task; a file has none")
        return self
