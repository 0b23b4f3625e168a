"""Further evaluations of a fine-tuning run, as parameters and as what is recorded of them. No kind itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import artifacts, kind
from labqueue.domain.errors import LabError
from labqueue.kinds._data import content

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder

TAKEN = {"eval", "train"}
"""Names whose ``_loss`` is a metric of every run."""


class Also(kind.Params):
    """Something else to measure: ``NAME_loss`` at every evaluation, and with ``score`` ``NAME_exact``."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    """Beginning of its metrics' names."""
    task: str | None = None
    """A reasoning-gym task."""
    options: dict[str, int | float | str | bool | list[int | float | str]] = Field(default={})
    """Options of the task, as reasoning-gym names them."""
    items: int = Field(default=256, ge=1, le=100_000)
    """Questions of the task; none of them is trained on."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Draws the questions: those that ``data`` with the same task, options and seed holds out first."""
    score: bool = False
    """Also answers them greedily, before the first step and after the last: ``NAME_exact`` is the share right."""
    score_always: bool = False
    """Answers them at every evaluation."""
    corpus: Literal["python_docs"] | None = None
    """Running text of ``labqueue.llm.corpora`` instead: loss over every token, and ``NAME_perplexity``."""
    path: str | None = None
    """Or of a UTF-8 text file."""
    sha256: str | None = None
    """SHA-256 of path, filled in at submission: another content is another run."""
    tokens: int = Field(default=8192, ge=16, le=100_000_000)
    """Tokens of text to measure on."""
    window: int = Field(default=256, ge=8, le=1_000_000)
    """Tokens that the model sees at once."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.task, self.corpus, self.path)) != 1:
            raise ValueError(f"also {self.name!r} needs exactly one of task, corpus, path")
        if (self.score or self.score_always) and self.task is None:
            raise ValueError(f"also {self.name!r} has score, which needs a task: text has no scorer")
        if self.sha256 is not None and self.path is None:
            raise ValueError(f"also {self.name!r} has sha256, which belongs to a path")
        if self.options and self.task is None:
            raise ValueError(f"also {self.name!r} has options, which belong to a task")
        if self.task is None and self.window > self.tokens:
            raise ValueError(f"also {self.name!r} has a window of {self.window} tokens, more than its {self.tokens}")
        if self.name in TAKEN:
            raise ValueError(f"also cannot be named {self.name!r}: {self.name}_loss is a metric of every run")
        return self

    def pinned(self) -> Also:
        """The same with the hash of its file."""
        return self.model_copy(update={"sha256": self.sha256 or content(self.path, "also")})

    @property
    def assets(self) -> list[str]:
        """What must be on this machine, as ``labqueue.llm.assets`` names it; text is looked at by ``_early.check``."""
        return [] if self.task is None else [f"task:{self.task}"]


def check_names(also: Sequence[Also], max_length: int, data_path: str | None) -> None:
    """Does nothing where the evaluations fit together and to the run.

    Raises:
        ValueError: a name stands there twice, a window is longer than a row, or text is measured that is trained on.
    """
    names = [each.name for each in also]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"also has {', '.join(twice)} twice; a name is one metric")
    for each in also:
        if each.task is None and each.window > max_length:
            raise ValueError(f"also {each.name!r} has a window of {each.window} tokens, max_length is {max_length}")
        if each.path is not None and data_path is not None and _same_file(each.path, data_path):
            raise ValueError(f"also {each.name!r} measures on {each.path}, which is data.path: it is trained on")


def _same_file(one: str, other: str) -> bool:
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


class Evaluations:
    """The further evaluations of one run: what they measure goes to the recorder."""

    def __init__(self, wanted: Sequence[Also], rec: Recorder, loaded: Any, max_length: int) -> None:
        """Draws the items.

        Raises:
            LabError: an unknown task or corpus, or too few items in it.
        """
        from labqueue.llm import evals

        self.rec, self.loaded, self.wanted = rec, loaded, wanted
        self.all: list[evals.Evaluation] = []
        for each in wanted:
            if each.task is not None:
                found = evals.of_task(
                    loaded.tokenizer,
                    each.name,
                    each.task,
                    options=dict(each.options),
                    items=each.items,
                    seed=each.seed,
                    max_length=max_length,
                )
            else:
                found = evals.of_text(
                    loaded.tokenizer,
                    each.name,
                    corpus=each.corpus,
                    path=each.path,
                    sha256=each.sha256,
                    tokens=each.tokens,
                    window=each.window,
                )
            self.all.append(found)

    def apart(self, split: Any) -> Any:
        """The split without training rows that share a question with the items; says how many there were.

        Raises:
            LabError: nothing is left to train on.
        """
        from labqueue.llm import evals

        train = evals.apart(split.train, self.all)
        if gone := len(split.train) - len(train):
            self.rec.note(f"{gone} of {len(split.train)} training rows ask what `also` measures and were left out")
        if not train:
            raise LabError(f"all {len(split.train)} training rows ask what `also` measures", key="also")
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

    def measure(self, trainer: Any, model: Any, step: int, *, last: bool, gradient_checkpointing: bool) -> None:
        """Losses after a step, and scores where they are due: before the first step, after the last, or always."""
        from labqueue.llm import evals

        for each, asked in zip(self.all, self.wanted, strict=True):
            loss = evals.loss(trainer, each)
            self.rec.metric(f"{each.name}_loss", loss, step)
            if not each.questions:
                # Above e^50 it is a number for nobody, and past e^709 it is none at all.
                self.rec.metric(f"{each.name}_perplexity", math.exp(loss) if loss < 50 else None, step)
            if asked.score_always or (asked.score and (step == 0 or last)):
                replies = evals.answers(
                    model,
                    self.loaded.tokenizer,
                    each,
                    backend=self.loaded.backend,
                    gradient_checkpointing=gradient_checkpointing,
                    leave=trainer.watch.leave,
                )
                self.rec.metric(f"{each.name}_exact", evals.exact(each, replies), step)


def short(also: Sequence[Also], rows: int) -> tuple[Also, ...]:
    """The same for a rehearsal: few items, a single window, no answers."""
    less = {"items": rows, "score": False, "score_always": False}
    return tuple(
        each.model_copy(update={**less, "tokens": each.window if each.task is None else each.tokens}) for each in also
    )
