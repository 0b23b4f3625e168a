"""Kinds of experiment, found by file name: a new kind is one module here and one YAML in ``jobs/``.

A module whose name begins with ``_`` is no kind; it is a part of some.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from labqueue.domain.errors import LabError, nearest
from labqueue.domain.kind import Kind


def names() -> list[str]:
    """All kinds, sorted. Imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str) -> Kind:
    """Returns the kind of that name.

    Raises:
        LabError: there is none; the message names the nearest.
    """
    if name not in names():
        raise LabError(f"unknown kind {name!r}: {nearest(name, names())}", key="kind")
    module = importlib.import_module(f"{__name__}.{name}")
    about = (inspect.getdoc(module) or "").partition("\n")[0]
    return Kind(name, about, module.Params, module)
