"""Evaluates a model on data that it does not learn: further tasks, and running text. Knows no runs.

Items are drawn with a seed of their own, before and without any training data, so that they are the same for every run
of a sweep; whoever trains leaves their questions out (``apart``).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from labqueue.llm.corpora import windows
from labqueue.llm.data import overlap, tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.data.tokenize import TokenRow
from labqueue.llm.evaluation import generate
from labqueue.llm.training import recipe
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from labqueue.llm.training.recipe import Trainer
    from labqueue.llm.types import Model, Tokenizer

LOSS_VALUES = 2**22
"""Hidden values (tokens x width) of a batch of an evaluation: 7,000 tokens at 576, 1,170 at 3,584. An evaluation holds
no activations for a backward pass, so it stays below the peak of the training around it."""

CUDA_TOKENS = 8192
"""Tokens, with those to come, whose keys and values a batch of answers holds: 0.5 GiB at a 7B model's 57 KiB each."""
CPU_TOKENS = 2048

SPARE_TOKENS = 8
"""Tokens of a reply beyond the longest expected answer: room for a wrong, longer reply to show that it is one."""


@dataclass(frozen=True)
class Evaluation:
    """Items to measure on. ``questions`` and ``score`` are empty for running text."""

    name: str
    rows: tuple[TokenRow, ...]
    questions: tuple[Row, ...]
    score: Callable[[Row, str], float] | None
    source: str
    licence: str
    sha256: str
    """Of the items' text: equal where two runs were measured on the same."""
    truncated: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that carry loss."""
        return sum(tokenize.loss_tokens(row) for row in self.rows)


def of_task(
    tokenizer: Tokenizer, name: str, task: str, *, options: Json, items: int, seed: int, max_length: int
) -> Evaluation:
    """``items`` different questions of a generated task: the first that a training run with the same options and seed
    holds out, so that they stay unseen along a chain of trainings.

    Raises:
        LabError: as ``tasks.generated`` and ``encode.encode``.
    """
    split = tasks.generated(task, train_items=1, held_out_items=items, options=options, seed=seed)
    encoded = tokenize.encode(tokenizer, split.held_out, max_length, name)
    text = json.dumps([[row.question, row.answer] for row in split.held_out])
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Evaluation(
        name, encoded.rows, split.held_out, split.score, split.source, "Apache-2.0", digest, encoded.truncated
    )


def of_text(
    tokenizer: Tokenizer,
    name: str,
    *,
    corpus: str | None,
    path: str | None,
    tokens: int,
    window: int,
    sha256: str | None = None,
) -> Evaluation:
    """Windows of a corpus or of a text file, whose bytes have ``sha256`` (hex) where that is given.

    Raises:
        LabError: as ``windows.find`` and ``windows.windows``.
    """
    text = windows.find(corpus, path, f"extra_evals.{name}", sha256)
    rows = windows.windows(tokenizer, text, tokens=tokens, window=window, key=f"extra_evals.{name}.tokens")
    return Evaluation(name, rows, (), None, text.name, text.licence, text.sha256)


def decontaminate(training: Sequence[Row], evaluations: Sequence[Evaluation]) -> tuple[Row, ...]:
    """The training rows that share no question with what is measured (``overlap``)."""
    asked = overlap.Asked.of(row for each in evaluations for row in each.questions)
    return tuple(row for row in training if asked.twin(row) is None)


def loss(trainer: Trainer, evaluation: Evaluation) -> float:
    """Mean loss over all items, nats per token that carries loss; memory, mode and random numbers as
    ``train.held_out_loss``."""
    longest = max(len(row["input_ids"]) for row in evaluation.rows)
    budget = LOSS_VALUES // int(trainer.model.config.get_text_config().hidden_size)
    return recipe.held_out_loss(trainer, evaluation.rows, max(1, budget // longest))


def answers(
    model: Model,
    tokenizer: Tokenizer,
    evaluation: Evaluation,
    *,
    backend: Literal["hf", "unsloth"],
    gradient_checkpointing: bool,
    leave: Callable[[], bool] = lambda: False,
) -> list[str]:
    """The model's greedy answers to the questions, with room for the longest expected one.

    Raises:
        Interrupted: ``leave``, asked before each batch, said so.
    """
    longest = max(len(tokenizer(row.answer)["input_ids"]) for row in evaluation.questions)
    new = longest + SPARE_TOKENS
    return generate.answers(
        model,
        tokenizer,
        evaluation.questions,
        max_new_tokens=new,
        batch=answer_batch(model, tokenizer, evaluation.questions, new),
        backend=backend,
        gradient_checkpointing=gradient_checkpointing,
        leave=leave,
    )


def answer_batch(model: Model, tokenizer: Tokenizer, rows: Sequence[Row], max_new_tokens: int) -> int:
    """How many of these questions are answered at once: as many as fit the device's budget of tokens, up to 256."""
    longest = max(len(tokenize.prompt_ids(tokenizer, row)) for row in rows)
    budget = CUDA_TOKENS if model.device.type == "cuda" else CPU_TOKENS
    return max(1, min(256, budget // (longest + max_new_tokens)))


def scores(evaluation: Evaluation, replies: Sequence[str]) -> list[float]:
    """1 for each question whose whole reply the task's own scorer takes for right, else 0; never a part of one."""
    assert evaluation.score is not None
    return [evaluation.score(row, reply) for row, reply in zip(evaluation.questions, replies, strict=True)]


def exact(evaluation: Evaluation, replies: Sequence[str]) -> float:
    """The share of questions that are answered exactly."""
    return sum(scores(evaluation, replies)) / len(evaluation.questions)
