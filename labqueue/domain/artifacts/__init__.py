"""Types of artifacts that a run leaves, and the format of those that are too many numbers for JSON."""

from __future__ import annotations

from labqueue.domain.artifacts.types import Artifact, Curve, Files, Grid, Json, Page, Table, Tensor, Text

__all__ = ["Artifact", "Curve", "Files", "Grid", "Json", "Page", "Table", "Tensor", "Text"]
