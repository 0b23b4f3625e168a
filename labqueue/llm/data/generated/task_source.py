"""Rows of one task of reasoning-gym that depend on seed, index and options alone, and their scorer. No torch."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import random
import re
import sys
from collections.abc import Generator, Iterable, Iterator
from decimal import Decimal
from types import ModuleType

from labqueue.domain.errors import LabError
from labqueue.llm.data.generated import task_list
from labqueue.llm.types import Json, JsonMapping

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
"""A number as answers write it; no exponent, no nan."""


@functools.cache
def library() -> ModuleType:
    """reasoning-gym, whose game of life would import all of matplotlib: it does so when it is first played."""
    if "cellpylib" not in sys.modules:
        unused = ModuleType("cellpylib")

        def first_use(name: str) -> object:
            if name.startswith("__"):  # whoever only looks through all modules
                raise AttributeError(name)
            sys.modules.pop("cellpylib", None)
            return getattr(importlib.import_module("cellpylib"), name)

        unused.__getattr__ = first_use  # type: ignore[method-assign]  # a module's own, PEP 562
        sys.modules["cellpylib"] = unused
    return importlib.import_module("reasoning_gym")


class Source:
    """Any task of the library, offered or not. Makes no promise for a task that is not offered."""

    def __init__(self, task: str, options: JsonMapping, *, seed: int, rows: int) -> None:
        """Makes the library's data set.

        Raises:
            LabError: options that the task refuses.
        """
        reasoning_gym = library()
        self.task, self.options, self.seed, self.rows = task, dict(options), seed, rows
        try:
            with _alone():
                self._dataset = reasoning_gym.create_dataset(task, size=rows, seed=seed, **self.options)
        except Exception as error:  # the library raises what it likes, an assertion mostly
            raise self._refused(str(error) or repr(error)) from error

    def entries(self, indices: Iterable[int] | None = None) -> Generator[Json, None, None]:
        """The library's own rows, all or those at ``indices``: ``question`` and ``answer``, both text, and what their
        scorer needs. Whoever stops early closes the iterator, which puts the process's random state back.

        Raises:
            LabError: options that the task refuses only now, or an answer that is no text.
        """
        with _alone():
            for index in range(self.rows) if indices is None else indices:
                yield self._entry(index)

    def _entry(self, index: int) -> Json:
        import numpy

        random.seed(self.seed + index)
        numpy.random.seed((self.seed + index) % 2**32)
        try:
            found: Json = self._dataset[index]
        except Exception as error:
            raise self._refused(str(error) or repr(error)) from error
        for what in ("question", "answer"):
            if not isinstance(found[what], str):
                raise self._refused(f"the {what} of row {index} is no text but {type(found[what]).__name__}")
        return found

    def score(self, entry: JsonMapping, reply: str) -> float:
        """1.0 for a right answer to an entry, else 0.0; never raises."""
        if self.task in task_list.BY_TEXT:
            return float(_equal(reply.strip(), entry["answer"].strip()))
        return self.by_library(entry, reply)

    def by_library(self, entry: JsonMapping, reply: str) -> float:
        """The same by the library's scorer, whatever it is worth; 0.0, too, for a reply that it cannot read."""
        try:
            with _alone():
                # Partial credit (a right format, say) is not an answer.
                return float(self._dataset.score_answer(reply.strip(), entry) >= 1.0)
        except Exception:
            return 0.0

    def _refused(self, why: str) -> LabError:
        return LabError(f"task {self.task!r} refuses options {self.options}: {why}", key="data.options")


def _equal(reply: str, answer: str) -> bool:
    if NUMBER.fullmatch(reply) and NUMBER.fullmatch(answer):
        return Decimal(reply) == Decimal(answer)
    return reply == answer


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Nothing is printed within, and the process's random state is put back after: some generators and scorers use it,
    some print, and none may disturb what else the process does."""
    import numpy

    of_python, of_numpy = random.getstate(), numpy.random.get_state()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        random.setstate(of_python)
        numpy.random.set_state(of_numpy)
