"""Pins models and adapters by content: fields beside their names, shared by several kinds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from labqueue.domain.spec.references import is_unresolved

Pin = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{64}|commit:[0-9a-f]{40,64})$")]
"""``sha256:`` of a folder's files, or ``commit:`` of a hub model's snapshot."""

Dtype = Literal["auto", "float32", "bfloat16"]
"""Type of number that is computed in."""


def model(name: str | None, given: str | None) -> str | None:
    """The pin of a model, unless one was given; None where nothing needs one.

    Raises:
        LabError: as ``labqueue.llm.models.pins.of``.
    """
    from labqueue.llm.models import pins

    return given or (None if name is None or is_unresolved(name) else pins.of(name))


def folder(path: str | None, given: str | None, key: str) -> str | None:
    """The pin of a folder, likewise.

    Raises:
        LabError: as ``labqueue.llm.models.pins.of_folder``.
    """
    from labqueue.llm.models import pins

    return given or (None if path is None or is_unresolved(path) else pins.of_folder(path, key))
