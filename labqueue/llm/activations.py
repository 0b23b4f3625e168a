"""The residual stream by the names that scripts know: ``from labqueue.llm.activations import extract_activations``."""

from __future__ import annotations

from labqueue.llm.interp.activations import (
    ActivationExtractor,
    ActivationOutput,
    extract_activations,
    get_layer_diff,
)

__all__ = ["ActivationExtractor", "ActivationOutput", "extract_activations", "get_layer_diff"]
