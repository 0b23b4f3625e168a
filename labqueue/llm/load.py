"""The loader by the name that scripts know: ``from labqueue.llm.load import load_model``."""

from __future__ import annotations

from labqueue.llm.models.load import Loaded, load_model

__all__ = ["Loaded", "load_model"]
