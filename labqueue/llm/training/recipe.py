"""Defines a fine-tuning for every library: recipe, order of the data, when and how held-out loss is measured, and what
a caller is told. Knows nothing of runs, files or the recorder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labqueue.llm.data.tokenize import IGNORED, Collator, TokenRow
from labqueue.llm.models.load import bare
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import torch
    from transformers import TrainerState, TrainingArguments

    from labqueue.llm.types import Accelerator, Batch, Model


@dataclass(frozen=True)
class Recipe:
    """How to train. ``steps`` are optimizer steps; each sees ``batch * accumulation`` rows."""

    steps: int
    batch: int
    accumulation: int
    learning_rate: float
    schedule: str
    warmup_steps: int
    weight_decay: float
    max_grad_norm: float
    optimizer: str
    gradient_checkpointing: bool
    seed: int
    min_rate: float = 0.1
    """Where ``cosine_with_min_lr`` ends, as a share of the peak rate."""
    decay_steps: int | None = None
    """Last steps, over which ``warmup_stable_decay`` falls to 0; None: a tenth of all, at least 1."""

    def schedule_options(self) -> dict[str, float | int]:
        """What transformers' schedule of that name needs beside the steps and the warmup."""
        if self.schedule == "cosine_with_min_lr":
            return {"min_lr_rate": self.min_rate}
        if self.schedule == "warmup_stable_decay":
            return {"num_decay_steps": self.decay_steps or max(1, self.steps // 10)}
        return {}


@dataclass(frozen=True)
class Step:
    """One finished optimizer step. ``wall_s`` is from its first batch to its update; ``tokens`` excludes padding."""

    number: int
    train_loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    wall_s: float


class Interrupted(Exception):
    """An evaluation stopped on request: the caller is to stop. Model and random numbers are as before it."""


class Trainer(Protocol):
    """What the lab uses of the trainer that ``trl_trainer`` makes: TRL's, with the lab's own parts."""

    model: Model
    data_collator: Collator
    accelerator: Accelerator
    state: TrainerState
    args: TrainingArguments
    optimizer: torch.optim.Optimizer
    lr_scheduler: torch.optim.lr_scheduler.LambdaLR
    watch: Watch
    step_tokens: list[int]
    """Tokens without padding of each step."""

    def train(self, resume_from_checkpoint: str | None = None) -> object:
        """Trains to the last step, from a checkpoint's folder where one is given."""

    def evaluate(self) -> dict[str, float]:
        """Measures held-out loss and tells the watch."""

    def _prepare_inputs(self, inputs: Batch) -> Batch: ...


class Watch(Protocol):
    """What a caller is told, in this order at each step: ``step``, ``evaluated``, ``checkpoint``."""

    def begin(self, trainer: Trainer) -> None:
        """A fresh start: model, optimizer and schedule stand as step 1 will find them. Not called on a resume."""

    def resumed(self, trainer: Trainer) -> None:
        """A resume: model and optimizer stand as after the checkpoint's step."""

    def leave(self) -> bool:
        """Asked between the batches of a measurement: whether the rest is left undone (``Interrupted``)."""

    def step(self, step: Step) -> None:
        """A step is done."""

    def evaluate_after(self, step: int) -> bool:
        """Whether held-out loss is measured after this step."""

    def evaluated(self, step: int, loss: float) -> None:
        """Mean held-out loss after this step, nats per answer token."""

    def checkpoint_after(self, step: int) -> bool:
        """Whether the state is saved after this step."""

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """``save`` writes the state into a folder."""

    def about(self) -> Json:
        """What the caller wants to find again in the checkpoint, as JSON."""

    def stop_after(self, step: int) -> bool:
        """Whether training ends here (after the checkpoint, if one is due)."""


def epoch_order(rows: int, wanted: int, seed: int) -> list[int]:
    """``wanted`` row numbers: whole epochs, each in an order of its own, drawn with ``seed`` alone.

    The order is ours, so that the same seed means the same data at each step whatever the micro-batch, the backend
    or the place of a resume.
    """
    import numpy

    source = numpy.random.Generator(numpy.random.PCG64(seed))
    order: list[int] = []
    while len(order) < wanted:
        order.extend(int(number) for number in source.permutation(rows))
    return order[:wanted]


def evaluation_steps(steps: int, between: int) -> list[int]:
    """Step 0, ``between`` steps spread evenly inside, and the last step.

    Raises:
        ValueError: there are fewer steps inside than asked for.
    """
    if between > steps - 1:
        raise ValueError(f"{between} evaluations do not fit between step 0 and step {steps}; at most {steps - 1} do")
    return sorted({round(steps * part / (between + 1)) for part in range(between + 2)})


LOGITS_ROWS = 64
"""Positions whose logits are held at once in an evaluation: 0.1 GiB at a vocabulary of 152,000 in fp32, twice over."""


def held_out_loss(trainer: Trainer, rows: Sequence[TokenRow], batch: int) -> float:
    """Mean loss over the answer tokens of ``rows``, nats: every token weighs the same, whatever the batches.

    Only answer positions go through the head, a few at a time, so that an evaluation never sets the run's peak of
    memory. Changes no random number, no mode and no weight.

    Raises:
        Interrupted: the trainer's watch wants to stop.
    """
    import torch

    total, count = 0.0, 0
    for states, targets in answer_states(trainer, rows, batch):
        for start in range(0, len(targets), LOGITS_ROWS):
            part = slice(start, start + LOGITS_ROWS)
            logits = answer_logits(trainer, states[part])  # [token, vocabulary]
            total += float(torch.nn.functional.cross_entropy(logits, targets[part], reduction="sum"))
        count += len(targets)
    return total / count


def answer_states(
    trainer: Trainer, rows: Sequence[TokenRow], batch: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Of each batch of ``rows``, shortest first: what the head sees where it predicts an answer token, ``[token,
    hidden]``, and those tokens, ``[token]``. Leaves the model's mode as it was once it has ended.

    Raises:
        Interrupted: the trainer's watch wants to stop.
    """
    import torch

    model = trainer.model
    inner = bare(model)
    training = model.training
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))  # less padding
    try:
        for first in range(0, len(ordered), batch):
            if trainer.watch.leave():
                raise Interrupted
            inputs = trainer._prepare_inputs(trainer.data_collator(ordered[first : first + batch]))
            labels = inputs.pop("labels")[:, 1:]  # [batch, position]: what each position is to predict
            with torch.no_grad(), trainer.accelerator.autocast():
                states = inner.base_model(**inputs, use_cache=False)[0][:, :-1]  # [batch, position, hidden]
            scored = labels != IGNORED
            yield states[scored], labels[scored]  # [token, hidden], [token]
    finally:
        model.train(training)


def answer_logits(trainer: Trainer, states: torch.Tensor) -> torch.Tensor:
    """The head's logits of ``states`` (``[token, hidden]``), ``[token, vocabulary]``, fp32."""
    import torch

    head = bare(trainer.model).get_output_embeddings()
    with torch.no_grad(), trainer.accelerator.autocast():
        logits: torch.Tensor = head(states.to(head.weight.dtype)).float()
    return logits


def answer_loss(model: torch.nn.Module, inputs: Batch, count: torch.Tensor | int | None) -> torch.Tensor:
    """The loss of a micro-batch, nats: summed over its tokens with loss, divided by ``count``, that of the whole step.

    ``count`` None is their own number. Only positions at which some row has loss go through the head.

    Transformers' own loss makes the logits of every position: for rows of 50 tokens with 4 of an answer, a sixth of the
    small model's step on a CPU.
    """
    import torch

    labels = inputs["labels"][:, 1:]  # [batch, position]: what each position is to predict
    kept = (labels != IGNORED).any(0).nonzero()[:, 0]  # [kept]
    others = {name: value for name, value in inputs.items() if name != "labels"}
    logits = model(**others, logits_to_keep=kept).logits.float()  # [batch, kept, vocabulary]
    targets = labels[:, kept]
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / ((targets != IGNORED).sum() if count is None else count)


def release_cache() -> None:
    """Gives unused blocks of the CUDA allocator back. What an evaluation leaves has the wrong shapes for training:
    kept, it stayed reserved beside training's own blocks, 0.3 to 0.7 GiB of a 7B model's peak (measured)."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
