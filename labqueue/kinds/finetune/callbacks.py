"""Training callbacks of a fine-tuning run: record metrics, evaluate, save checkpoints."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.kinds.finetune import loss_curve
from labqueue.kinds.finetune.weight_updates import Updates

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.kinds.finetune.evaluation import Evaluations
    from labqueue.kinds.finetune.params import Params
    from labqueue.llm.data.generated.tasks import Split
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.training.recipe import Step, Trainer
    from labqueue.llm.types import Json, Model


class MissingEvaluations(RuntimeError):
    """A run without the evaluations that it promised: its curve would lie by omission."""


class Watch:
    """Turns what training tells into what the recorder keeps. ``trainer`` is to be set before training begins."""

    trainer: Trainer

    def __init__(
        self, params: Params, rec: Recorder, loaded: Loaded, adapted: Model, split: Split, extra: Evaluations
    ) -> None:
        from labqueue.llm.training.recipe import evaluation_steps

        self.params, self.rec, self.loaded, self.adapted, self.split = params, rec, loaded, adapted, split
        self.extra = extra
        self.held_out: list[loss_curve.Point] = []
        self.smoothed = loss_curve.Smoothed(params.steps)
        self.expected = evaluation_steps(params.steps, params.evaluations)
        self.done: list[int] = []
        self.before: list[str] = []
        self.stopped: str | None = None
        self.saved_s = time.monotonic()
        self.warm, self.tokens, self.wall_s = False, 0, 0.0
        self.peak_before: float | None = None
        self.times_s: list[float] = []
        self.updates = Updates(params, rec, adapted)

    def restore(self, about: Json) -> None:
        """Takes up what an earlier attempt had measured."""
        self.done, self.before = list(about["evaluated"]), list(about["before"])
        self.held_out = [(step, loss) for step, loss in about["held_out"]]
        self.smoothed = loss_curve.Smoothed(self.params.steps, **about["smoothed"])
        if about.get("peak_of") == self._peak_of():  # what the memory ladder has changed since needs less
            self.peak_before = about["peak_gib"]
        self.updates.restore(about["updates"])
        if "item_scores" in about:  # a checkpoint of an earlier version has none
            self.extra.scores.restore(about["item_scores"])

    def about(self) -> Json:
        """Returns what ``restore`` takes, as JSON."""
        smoothed = {"sums": self.smoothed.sums, "counts": self.smoothed.counts}
        kept = {"evaluated": self.done, "before": self.before, "held_out": self.held_out, "smoothed": smoothed}
        kept |= {"peak_gib": self.peak_gib(), "peak_of": self._peak_of()}
        return kept | {"updates": self.updates.about(), "item_scores": self.extra.scores.rows()}

    def peak_gib(self) -> float | None:
        """The most memory that any attempt of the run has held, as far as its checkpoints know; None: not measured."""
        from labqueue.llm.memory import device

        found = [peak for peak in (self.peak_before, device.peak_gib(self.rec.device)) if peak is not None]
        return max(found, default=None)

    def _peak_of(self) -> list[int | bool]:
        return [self.params.batch, self.params.accumulation, self.params.gradient_checkpointing]

    def leave(self) -> bool:
        """Says whether the run was asked to stop."""
        self.stopped = self.rec.should_stop
        return self.stopped is not None

    def resumed(self, trainer: Trainer) -> None:
        """Evaluates where the checkpoint was taken before an evaluation was done."""
        step = trainer.state.global_step
        if self.evaluate_after(step) and step not in self.done:
            trainer.evaluate()

    def begin(self, trainer: Trainer) -> None:
        """Measures before the first step."""
        trainer.evaluate()
        self.before = self._answers()
        self._score("before", self.before, 0)

    def step(self, step: Step) -> None:
        """Records a step."""
        number = step.number
        self.rec.metric("train_loss", step.train_loss, number)
        self.smoothed.take(number, step.train_loss)
        self.rec.metric("grad_norm", step.grad_norm, number)
        self.rec.metric("learning_rate", step.learning_rate, number)
        tokens, wall_s = step.tokens, step.wall_s
        if self.warm:  # the first step of an attempt compiles and allocates: it is no measure of the others
            self.tokens, self.wall_s = self.tokens + tokens, self.wall_s + wall_s
            tokens, wall_s = self.tokens, self.wall_s
            self.times_s.append(step.wall_s)
        self.warm = True
        self.rec.metric("tokens_per_second", tokens / wall_s, number)
        self.rec.progress(number, self.params.steps)

    def evaluate_after(self, step: int) -> bool:
        """Says whether held-out loss is due after a step."""
        return step in self.expected

    def evaluated(self, step: int, loss: float) -> None:
        """Records a held-out loss, and what else is measured with it."""
        self.rec.metric("eval_loss", loss, step)
        self.extra.measure(
            self.trainer,
            self.adapted,
            step,
            last=step == self.params.steps,
            gradient_checkpointing=self.params.gradient_checkpointing,
        )
        # Last: of an evaluation that was left nothing is kept, and all of it is done again.
        self.held_out.append((step, loss))
        self.updates.evaluated(step)
        self.done.append(step)

    def checkpoint_after(self, step: int) -> bool:
        """Says whether a checkpoint is due after a step."""
        self.stopped = self.rec.should_stop
        every = self.params.checkpoint_every
        due = step % every == 0 if every else time.monotonic() - self.saved_s > 60 * self.params.checkpoint_minutes
        return due or self.stopped is not None

    def checkpoint(self, step: int, save: Callable[[Path], None]) -> None:
        """Writes a checkpoint."""
        self.rec.checkpoint(step, save)
        self.saved_s = time.monotonic()

    def stop_after(self, _step: int) -> bool:
        """Says whether the run ends early after a step."""
        return self.stopped is not None

    def finish(self) -> None:
        """Records what the last step leaves; raises where an evaluation is missing."""
        missing = sorted(set(self.expected) - set(self.done))
        if missing:
            raise MissingEvaluations(f"held-out loss was not measured at steps {missing} of {self.expected}")
        after = self._answers()
        self._score("after", after, self.params.steps)
        self._samples(after)
        if (scores := self.extra.scores.table()) is not None:
            self.rec.artifact("item_scores", scores)
        self.read_curve()
        self.updates.finish()
        if self.times_s:
            self.rec.metric("step_s", statistics.median(self.times_s), self.params.steps)

    def read_curve(self, *, finite: bool = True) -> None:
        """Records what the curves show by the rules of ``loss_curve``; ``finite`` is False where a NaN ended them.
        What cannot be said is left out of the metrics, and stands in the table as nothing."""
        if not self.held_out:
            return
        steps = self.params.steps
        reading = loss_curve.read(self.held_out, self.smoothed, finite=finite)
        rows = loss_curve.table(reading, steps)
        self.rec.artifact("curve_reading", artifacts.Table(columns=("feature", "value", "rule"), rows=rows))
        for name in loss_curve.MEASURED:
            value = getattr(reading, name)
            if value is not None:
                self.rec.metric(name, float(value), steps)

    def _answers(self) -> list[str]:
        """Greedy answers to the first held-out questions: as many as samples and score need."""
        from labqueue.llm.evaluation import evaluate, generate

        wanted = max(self.params.samples, self.params.scored)
        if not wanted:
            return []
        rows, tokenizer, new = self.split.held_out[:wanted], self.loaded.tokenizer, self.params.max_new_tokens
        return generate.answers(
            self.adapted,
            tokenizer,
            rows,
            max_new_tokens=new,
            batch=evaluate.answer_batch(self.adapted, tokenizer, rows, new),
            backend=self.loaded.backend,
            gradient_checkpointing=self.params.gradient_checkpointing,
            leave=self.leave,
        )

    def _score(self, when: str, answers: list[str], step: int) -> None:
        if not self.params.scored:
            return
        rows = self.split.held_out[: self.params.scored]
        score = self.split.score
        assert score is not None, "refused at submission"
        scores = [score(row, answer) for row, answer in zip(rows, answers, strict=False)]
        right = sum(scores)
        self.rec.metric("exact_answers", right / len(rows), step)
        self.extra.scores.take("exact_answers", step, rows, scores)
        self.rec.note(f"{when} training: {right:.0f} of {len(rows)} held-out questions answered exactly")

    def _samples(self, after: list[str]) -> None:
        if not self.params.samples:
            return
        columns = ("question", "expected", "before", "after")
        table = [
            (row.question, row.answer, before, now)
            for row, before, now in zip(self.split.held_out[: self.params.samples], self.before, after, strict=False)
        ]
        self.rec.artifact("samples", artifacts.Table(columns=columns, rows=tuple(table)))
