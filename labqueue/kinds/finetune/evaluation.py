"""Measures the further evaluations of a fine-tuning run, and keeps the scores of single questions."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from labqueue.domain import artifacts
from labqueue.domain.errors import LabError
from labqueue.kinds.finetune.extra_evals import ExtraEval

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder
    from labqueue.llm.data.generated.tasks import Row, Split
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.training.recipe import Trainer
    from labqueue.llm.types import Model


class ItemScores:
    """Which questions were answered exactly, after the first and the last evaluation that scores them: a report tells
    from it how far a share may move with other questions."""

    def __init__(self) -> None:
        self.items: dict[str, list[str]] = {}
        self.scores: dict[str, dict[int, list[float]]] = {}

    def take(self, metric: str, step: int, rows: Sequence[Row], scores: Sequence[float]) -> None:
        """Keeps the scores of rows, whose mean is the metric's value after a step."""
        seen: Counter[str] = Counter()
        self.items[metric] = []
        for name in map(_digest, rows):
            seen[name] += 1
            self.items[metric].append(name if seen[name] == 1 else f"{name} {seen[name]}")  # a row that stands twice
        steps = self.scores.setdefault(metric, {})
        steps[step] = list(scores)
        for between in sorted(steps)[1:-1]:
            del steps[between]

    def rows(self) -> list[tuple[str, int, str, float]]:
        """Returns metric, step, item and score of each; what ``restore`` takes."""
        return [
            (metric, step, item, score)
            for metric, steps in self.scores.items()
            for step, found in sorted(steps.items())
            for item, score in zip(self.items[metric], found, strict=True)
        ]

    def restore(self, rows: Sequence[tuple[str, int, str, float]]) -> None:
        """Takes up what an earlier attempt had kept."""
        for metric, step, item, score in rows:
            steps = self.scores.setdefault(metric, {})
            steps.setdefault(step, []).append(score)
            if len(steps) == 1:
                self.items.setdefault(metric, []).append(item)

    def table(self) -> artifacts.Table | None:
        """All of them; None where nothing was scored."""
        rows = self.rows()
        return artifacts.Table(columns=("metric", "step", "item", "score"), rows=tuple(rows)) if rows else None


def _digest(row: Row) -> str:
    """The same for the same question and answer in every run."""
    return hashlib.sha256(json.dumps([row.question, row.answer]).encode()).hexdigest()[:16]


class Evaluations:
    """The further evaluations of one run: what they measure goes to the recorder."""

    def __init__(self, wanted: Sequence[ExtraEval], rec: Recorder, loaded: Loaded, max_length: int) -> None:
        """Draws the items.

        Raises:
            LabError: an unknown task or corpus, or too few items in it.
        """
        from labqueue.llm.evaluation import evaluate

        self.rec, self.loaded, self.wanted = rec, loaded, wanted
        self.scores = ItemScores()
        self.all: list[evaluate.Evaluation] = []
        for each in wanted:
            if each.task is not None:
                found = evaluate.of_task(
                    loaded.tokenizer,
                    each.name,
                    each.task,
                    options=dict(each.options),
                    items=each.items,
                    seed=each.seed,
                    max_length=max_length,
                )
            else:
                found = evaluate.of_text(
                    loaded.tokenizer,
                    each.name,
                    corpus=each.corpus,
                    path=each.path,
                    sha256=each.sha256,
                    tokens=each.tokens,
                    window=each.window,
                )
            self.all.append(found)

    def decontaminate(self, split: Split) -> Split:
        """The split without training rows that share a question with the items; says how many there were.

        Raises:
            LabError: nothing is left to train on.
        """
        from labqueue.llm.evaluation import evaluate

        train = evaluate.decontaminate(split.train, self.all)
        if gone := len(split.train) - len(train):
            of = f"{gone} of {len(split.train)} training rows"
            self.rec.note(f"{of} ask what `extra_evals` measures and were left out")
        if not train:
            raise LabError(f"all {len(split.train)} training rows ask what `extra_evals` measures", key="extra_evals")
        return replace(split, train=train)

    def describe(self) -> None:
        """Says what is measured on, once."""
        if not self.all:
            return
        columns = ("name", "source", "licence", "items", "tokens with loss", "sha256 of the text")
        rows = tuple((e.name, e.source, e.licence, len(e.rows), e.tokens, e.sha256) for e in self.all)
        self.rec.artifact("evaluations", artifacts.Table(columns=columns, rows=rows))
        for each in self.all:
            if each.truncated:
                self.rec.note(f"{each.name}: {each.truncated} of {len(each.rows)} answers lost their end at max_length")

    def measure(self, trainer: Trainer, model: Model, step: int, *, last: bool, gradient_checkpointing: bool) -> None:
        """Losses after a step, and scores where they are due: before the first step, after the last, or always."""
        from labqueue.llm.evaluation import evaluate

        for each, asked in zip(self.all, self.wanted, strict=True):
            loss = evaluate.loss(trainer, each)
            self.rec.metric(f"{each.name}_loss", loss, step)
            if not each.questions:
                # Above e^50 it is a number for nobody, and past e^709 it is none at all.
                self.rec.metric(f"{each.name}_perplexity", math.exp(loss) if loss < 50 else None, step)
            if asked.score_always or (asked.score and (step == 0 or last)):
                replies = evaluate.answers(
                    model,
                    self.loaded.tokenizer,
                    each,
                    backend=self.loaded.backend,
                    gradient_checkpointing=gradient_checkpointing,
                    leave=trainer.watch.leave,
                )
                right = evaluate.scores(each, replies)
                self.rec.metric(f"{each.name}_exact", sum(right) / len(right), step)
                self.scores.take(f"{each.name}_exact", step, each.questions, right)
