"""Folders as ``save_pretrained`` writes them: whether all that loading needs is there. Knows no torch."""

from __future__ import annotations

import json
from pathlib import Path

from labqueue.domain.errors import LabError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""A tokenizer has one of these files."""


def checked(folder: Path, name: str) -> Path:
    """The folder, once it holds weights and a tokenizer.

    Raises:
        LabError: no safetensors weights, a file that their index names is missing, or no tokenizer.
    """
    if not has_weights(folder):
        raise LabError(
            f"model folder {name!r} has a config.json but not all of its weights ({WEIGHTS}, or the files that {INDEX} "
            "names): copy them there, or write them with save_pretrained. `labqueue estimate` needs none",
            key="model",
        )
    if not any((folder / file).is_file() for file in TOKENIZERS):
        raise LabError(
            f"model folder {name!r} has no tokenizer ({', '.join(TOKENIZERS)}): copy its files there", key="model"
        )
    return folder


def has_weights(folder: Path) -> bool:
    """Whether every weight file that the index names is there: a snapshot can exist half-fetched."""
    return all((folder / name).is_file() for name in weights(folder))


def weights(folder: Path) -> set[str]:
    """Names of the weight files, as the folder's index gives them.

    Raises:
        LabError: the index cannot be read.
    """
    index = folder / INDEX
    if not index.is_file():
        return {WEIGHTS}
    try:
        return {str(name) for name in json.loads(index.read_text())["weight_map"].values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"{index} is no index of weights: copy it there again, or write the folder with save_pretrained",
            key="model",
        ) from error
