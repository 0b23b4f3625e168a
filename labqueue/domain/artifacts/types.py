"""Types of artifacts that a run leaves. A page that can show each type here can show every kind of experiment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Text(_Value):
    """Plain text or Markdown, shown as it is."""

    type: Literal["text"] = "text"
    text: str


class Table(_Value):
    """Named columns and rows; a cell is text, a number, a boolean or null."""

    type: Literal["table"] = "table"
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | bool | None, ...], ...]


class Curve(_Value):
    """One or more named series over one axis; every series has as many values as ``x``."""

    type: Literal["curve"] = "curve"
    x_label: str
    y_label: str
    x: tuple[float, ...]
    series: dict[str, tuple[float | None, ...]]


class Grid(_Value):
    """A heatmap: ``values[row][column]``, each axis with a name and one label per position."""

    type: Literal["grid"] = "grid"
    row_label: str
    column_label: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    value_label: str = ""


class Json(_Value):
    """Anything structured that is none of the others: a resolved configuration, say."""

    type: Literal["json"] = "json"
    data: dict[str, object]


class Files(_Value):
    """A file or folder that the kind wrote itself; it is copied in and hashed. Models are ``type="model"``."""

    type: Literal["file", "model"] = "file"
    path: Path


class Tensor(_Value):
    """One file of numbers too many for JSON, as ``attention_maps`` writes them; it is copied in and hashed."""

    type: Literal["tensor"] = "tensor"
    path: Path


class Page(_Value):
    """An HTML page that needs nothing else. It may have scripts: it is opened without network or cookies."""

    type: Literal["page"] = "page"
    html: str


Artifact = Annotated[Text | Table | Curve | Grid | Json | Files | Tensor | Page, Field(discriminator="type")]
