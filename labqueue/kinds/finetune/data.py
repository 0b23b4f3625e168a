"""Parameters of the training and held-out data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind
from labqueue.domain.errors import Conflict

if TYPE_CHECKING:
    from labqueue.llm.data.files import records
    from labqueue.llm.data.generated.tasks import Split

Names = Annotated[tuple[str, ...], Field(strict=False)]


class Columns(kind.Params):
    """Which columns of a file or hub dataset are what."""

    question: str | Names = ()
    """One or several, joined by an empty line; by default question or prompt."""
    answer: str | None = None
    """By default answer or completion."""
    messages: str | None = None
    """A list of {role, content} instead: a conversation of one or several turns; by default messages or conversations.
    An assistant's turn with ``weight: 0`` or ``train: false`` is shown and not learned."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.messages is not None and (self.question or self.answer):
            words = "data.columns name messages, or question and answer, not both; messages is"
            raise Conflict("messages", f"{words} {self.messages!r}: leave it or the others out")
        return self

    @property
    def plain(self) -> records.Columns:
        """As ``labqueue.llm.data.files.records.Columns``."""
        from labqueue.llm.data.files import records

        question = (self.question,) if isinstance(self.question, str) else self.question
        return records.Columns(question, self.answer, self.messages)


class Data(kind.Params):
    """What is learned: a generated task, a file or a hub dataset, one of them."""

    task: str | None = None
    """A reasoning-gym task with an exact scorer, such as ``chain_sum``; ``labqueue corpora`` lists them."""
    options: dict[str, int | float | str | bool | list[int | float | str]] = Field(default={})
    """Options of the task, as reasoning-gym names them."""
    path: str | None = None
    """A file of rows: JSON lines or an array, CSV, TSV, Parquet or Arrow, also as .gz. A row has question (or prompt)
    and answer (or completion), or messages, ShareGPT's conversations, or Alpaca's instruction, input and output."""
    hub: str | None = None
    """A dataset of the hub, such as ``yahma/alpaca-cleaned``: its Parquet, JSON or CSV, fetched at submission."""
    revision: str = "main"
    """Branch, tag or commit of the hub dataset; what it pointed at when it was fetched is used and recorded."""
    commit: str | None = Field(default=None, pattern=r"^[0-9a-f]{40,64}$")
    """What revision pointed at, filled in at submission: another commit is another run, and none else is read."""
    subset: str | None = None
    """Subset (configuration) of the hub dataset, where it has several."""
    split: str = "train"
    """Split of the hub dataset; held-out rows are drawn from it, too."""
    columns: Columns = Columns()
    """Which columns of a file or hub dataset are what."""
    sha256: str | None = None
    """SHA-256 of path, filled in at submission: another content is another run."""
    eval_path: str | None = None
    """A file of held-out rows; by default they are drawn from the data. Overlap with training is refused."""
    eval_sha256: str | None = None
    """SHA-256 of eval_path, likewise."""
    empty_answers: Literal["refuse", "leave_out"] = "refuse"
    """What becomes of rows without an answer; those left out are counted in a note."""
    train_items: int | None = Field(default=None, ge=1, le=10_000_000)
    """Rows to train on; a task needs it, a file or dataset gives all that are not held out."""
    eval_items: int = Field(default=64, ge=1, le=100_000)
    """Held-out rows; none of their questions, and none of their answers to one, occurs in training."""
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    """Draws rows and split. Not the run's seed: all runs of a sweep share their data."""
    template: Literal["auto", "none", "chatml", "llama3", "alpaca"] = "auto"
    """Chat template: ``auto`` (the model's own; a base model without one gets none), ``none`` (question, newline,
    answer), ``chatml``, ``llama3``, ``alpaca``."""
    loss: Literal["answer", "full"] = "answer"
    """Where loss falls: on answers, or on every token but a row's first."""
    packing: bool = False
    """Packs rows into sequences of max_length tokens without letting them see each other; batch then counts packed
    sequences, not rows. Held-out rows are never packed."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        sources = {"task": self.task, "path": self.path, "hub": self.hub}
        given = [f"{name} {source!r}" for name, source in sources.items() if source is not None]
        if len(given) != 1:
            raise Conflict("", f"data needs exactly one of task, path, hub; given {' and '.join(given) or 'none'}")
        if self.task is not None and self.train_items is None:
            raise Conflict("train_items", "data.train_items is needed with data.task: how many rows to generate")
        if self.task is None and self.options:
            raise Conflict("options", "data.options belong to data.task; files and datasets have none: leave them out")
        # Frozen parameters spell every default out: what counts is whether a value differs from it.
        changed = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        if (self.sha256 and self.path is None) or (self.eval_sha256 and self.eval_path is None):
            name = "sha256" if self.sha256 and self.path is None else "eval_sha256"
            raise Conflict(name, "data.sha256 belongs to data.path, data.eval_sha256 to data.eval_path: leave it out")
        if self.hub is None and (wrong := sorted(changed & {"revision", "commit", "subset", "split"})):
            words = f"data.{wrong[0]} belongs to data.hub, which is not given; it is {getattr(self, wrong[0])!r}"
            raise Conflict(wrong[0], f"{words}: leave it out")
        if self.task is not None and (wrong := sorted(changed & {"columns", "eval_path", "empty_answers"})):
            words = f"data.{wrong[0]} belongs to data.path or data.hub; a task draws its own rows: leave it out"
            raise Conflict(wrong[0], words)
        return self

    def pinned(self) -> Data:
        """The same with the hashes of its files and the dataset's commit, where they are there and none were given."""
        found = {"sha256": content(self.path, "data.path"), "commit": self._commit()}
        found["eval_sha256"] = content(self.eval_path, "data.eval_path")
        return self.model_copy(update={name: getattr(self, name) or value for name, value in found.items()})

    def _commit(self) -> str | None:
        from labqueue.llm.data import hub_datasets

        return None if self.hub is None else hub_datasets.commit(self.hub, self.revision, self.subset)

    @property
    def assets(self) -> list[str]:
        """Their names for ``labqueue.llm.assets``."""
        held_out = [f"file:{self.eval_path}"] if self.eval_path is not None else []
        if self.task is not None:
            return [f"task:{self.task}"]
        if self.path is not None:
            return [f"file:{self.path}", *held_out]
        subset = f"#{self.subset}" if self.subset is not None else ""
        return [f"hub:{self.hub}@{self.commit or self.revision}{subset}", *held_out]

    def load(self) -> Split:
        """The rows, as a ``labqueue.llm.data.generated.tasks.Split``.

        Raises:
            LabError: as ``labqueue.llm.data.split.load``, or a file's content is not the one that was submitted.
        """
        from labqueue.llm.data import split

        return split.load(
            task=self.task,
            path=self.path,
            hub=self.hub,
            revision=self.commit or self.revision,
            subset=self.subset,
            split=self.split,
            columns=self.columns.plain,
            options=self.options,
            sha256=self.sha256,
            eval_path=self.eval_path,
            eval_sha256=self.eval_sha256,
            empty_answers=self.empty_answers,
            train_items=self.train_items,
            eval_items=self.eval_items,
            seed=self.seed,
        )

    def too_few(self, batch: int, accumulation: int, rows: int, packed: int | None = None) -> str | None:
        """What is wrong where one step would see a row twice; None where nothing is. ``packed``: sequences."""
        step, items = batch * accumulation, rows if packed is None else packed
        if step <= items:
            return None
        what = f"{rows} training rows" if packed is None else f"{packed} packed sequences of {rows} training rows"
        return f"a step takes batch {batch} * accumulation {accumulation} = {step}, but there are only {what}"


def content(path: str | None, key: str) -> str | None:
    """Returns the SHA-256 (hex) of a file; None if it is missing, which the caller reports.

    Raises:
        LabError: it cannot be read, or is being written.
    """
    from labqueue.llm.data.files import formats

    file = Path(path).expanduser() if path is not None else None
    return formats.sha256(file, key) if file is not None and file.is_file() else None
