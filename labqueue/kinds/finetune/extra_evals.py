"""Further evaluations of a fine-tuning run, as parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind
from labqueue.domain.errors import Conflict
from labqueue.kinds.finetune.data import content

TAKEN = {"eval", "train"}
"""Names whose ``_loss`` is a metric of every run."""


class ExtraEval(kind.Params):
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
    corpus: (
        Literal[
            "python_docs",
            "shakespeare_char",
            "shakespeare",
            "austen",
            "world_english_bible",
            "classics",
            "wikitext_2",
        ]
        | None
    ) = None
    """Running text of `labqueue corpora` instead: loss over every token, and ``NAME_perplexity``."""
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
            raise Conflict("", f"extra_evals {self.name!r} needs exactly one of task, corpus, path")
        if (self.score or self.score_always) and self.task is None:
            words = f"extra_evals {self.name!r} has score, which needs a task: text has no scorer. Leave it out"
            raise Conflict("score" if self.score else "score_always", words)
        if self.sha256 is not None and self.path is None:
            raise Conflict("sha256", f"extra_evals {self.name!r} has sha256, which belongs to a path: leave it out")
        if self.options and self.task is None:
            raise Conflict("options", f"extra_evals {self.name!r} has options, which belong to a task: leave them out")
        if self.task is None and self.window > self.tokens:
            words = f"extra_evals {self.name!r} has a window of {self.window} tokens"
            raise Conflict("window", f"{words}, more than its {self.tokens}: lower it, or measure more tokens")
        if self.name in TAKEN:
            words = f"extra_evals cannot be named {self.name!r}: {self.name}_loss is a metric of every run"
            raise Conflict("name", f"{words}. Choose another name")
        return self

    def pinned(self) -> ExtraEval:
        """The same with the hash of its file."""
        return self.model_copy(update={"sha256": self.sha256 or content(self.path, "extra_evals")})

    @property
    def assets(self) -> list[str]:
        """What must be on this machine, as ``llm.assets`` names it; a file is looked at by ``checks.check``."""
        named = {"task": self.task, "corpus": self.corpus}
        return [f"{kind}:{name}" for kind, name in named.items() if name is not None]


def check_names(extra: Sequence[ExtraEval], max_length: int, data_path: str | None) -> None:
    """Checks that the evaluations fit together and to the run.

    Raises:
        Conflict: a name stands there twice, a window is longer than a row, or text is measured that is trained on.
    """
    names = [each.name for each in extra]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise Conflict("extra_evals", f"extra_evals has {', '.join(twice)} twice; a name is one metric: rename one")
    for at, each in enumerate(extra):
        if each.task is None and each.window > max_length:
            words = f"extra_evals {each.name!r} has a window of {each.window} tokens"
            raise Conflict(f"extra_evals.{at}.window", f"{words}, max_length is {max_length}: lower it, or raise that")
        if each.path is not None and data_path is not None and _same_file(each.path, data_path):
            words = f"extra_evals {each.name!r} measures on {each.path}, which is data.path: it is trained on"
            raise Conflict(f"extra_evals.{at}.path", f"{words}. Name another file")


def _same_file(one: str, other: str) -> bool:
    return Path(one).expanduser().resolve() == Path(other).expanduser().resolve()


def short(extra: Sequence[ExtraEval], rows: int) -> tuple[ExtraEval, ...]:
    """The same for a rehearsal: few items, a single window, no answers."""
    less = {"items": rows, "score": False, "score_always": False}
    return tuple(
        each.model_copy(update={**less, "tokens": each.window if each.task is None else each.tokens}) for each in extra
    )
