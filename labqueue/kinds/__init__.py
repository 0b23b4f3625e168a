"""Kinds of experiment, found by file name: a new kind is one module here and one YAML in ``jobs/``.

A module whose name begins with ``_`` is no kind; it is a part of some.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import traceback
from pathlib import Path
from types import ModuleType

from labqueue.domain.declarations import Metrics, fault
from labqueue.domain.errors import LabError, nearest
from labqueue.domain.kind import Kind

_MISTAKES = (SyntaxError, NameError, TypeError, AttributeError)
"""What a mistake in a module's source raises as it is imported, every time; anything else may be the machine's."""


def names() -> list[str]:
    """All kinds, sorted. Imports none of them."""
    return sorted(_places())


def get(name: str) -> Kind:
    """Returns the kind of that name.

    Raises:
        LabError: there is none (the message names the nearest), there are two, its source cannot be imported, or what
            it declares of its metrics and artifacts is wrong; ``file`` is the kind's.
    """
    places = _places()
    if name not in places:
        raise LabError(f"unknown kind {name!r}: {nearest(name, places)}", key="kind")
    file, *others = places[name]
    if others:
        also = ", ".join(map(str, others))
        raise LabError(f"the kind {name!r} is there twice, here and in {also}: rename one", file=str(file), key="kind")
    module = _imported(name, file)
    metrics, artifacts = getattr(module, "METRICS", None), getattr(module, "ARTIFACTS", None)
    if words := fault(metrics, artifacts):
        raise LabError(f"the kind {name!r} cannot be used: its {words}", file=str(file), key="kind")
    about = (inspect.getdoc(module) or "").partition("\n")[0]
    return Kind(name, about, module.Params, module, Metrics(metrics), dict(artifacts or {}))


def _places() -> dict[str, list[Path]]:
    """The files of each kind, by name; more than one where folders that were added hold the same name."""
    found: dict[str, list[Path]] = {}
    for folder in dict.fromkeys(Path(each).resolve() for each in __path__):
        for module in pkgutil.iter_modules([str(folder)]):
            if not module.name.startswith("_"):
                file = folder / module.name / "__init__.py" if module.ispkg else folder / f"{module.name}.py"
                found.setdefault(module.name, []).append(file)
    return found


def _imported(name: str, file: Path) -> ModuleType:
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except _MISTAKES as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
        line = error.lineno if isinstance(error, SyntaxError) else frames[-1].lineno if frames else None
        words = f"the kind {name!r} cannot be imported: {type(error).__name__}: {error}"
        raise LabError(words, file=str(file), line=line, key="kind") from error
