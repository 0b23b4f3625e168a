"""Folders as ``save_pretrained`` writes them: whether all that loading needs is there and fits. Knows no torch."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures, stored_form, tensors, vocabulary

if TYPE_CHECKING:
    from labqueue.llm.types import CausalModel, Tokenizer

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""A tokenizer has one of these files."""


def checked(folder: Path, name: str) -> Path:
    """The folder, once it holds the weights that its ``config.json`` describes, and a tokenizer that fits them.

    Raises:
        LabError: no safetensors weights, a file that their index names is missing, tensors that are missing, unexpected
            or of another shape, weights in a form that the lab cannot train on, no tokenizer, one that needs code of
            its own or whose tokens the embedding does not have.
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
    form(folder, name)
    vocabulary.check(folder, name)
    return folder


def form(folder: Path, name: str) -> stored_form.Stored | None:
    """In which form the folder keeps its weights, once they are what its ``config.json`` says; None: plain.

    By the config alone where there are no weights.

    Raises:
        LabError: they are not, or are in a form that the lab cannot train on.
    """
    config = architectures.read_config(folder / "config.json", name)
    said = stored_form.by_config(config, name)  # of a foreign form this says more than its tensors would
    if not has_weights(folder):
        return said
    return stored_form.of(config, tensors.check(folder, weights(folder), config, name), name)


def write_companions(model: CausalModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Writes what belongs to weights beside them: tokenizer, chat template, and a generation config in which what ends
    the tokenizer's answers ends generation too.
    """
    tokenizer.save_pretrained(folder)
    settings = copy.deepcopy(model.generation_config)
    ends = settings.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        ends = [tokenizer.eos_token_id, *ends]
        settings.eos_token_id = ends if len(ends) > 1 else ends[0]
    # Not save_pretrained: it refuses what many models come with, such as a temperature without do_sample.
    settings.to_json_file(folder / "generation_config.json")


def has_weights(folder: Path) -> bool:
    """Whether every weight file that the index names is there: a snapshot can exist half-fetched."""
    return all((folder / name).is_file() for name in weights(folder))


def weights(folder: Path) -> set[str]:
    """Names of the weight files: the one file, or those that the folder's index gives.

    Raises:
        LabError: the index cannot be read, names a file outside the folder, or lies beside a whole file, which
            transformers would read instead.
    """
    index = folder / INDEX
    if not index.is_file():
        return {WEIGHTS}
    try:
        found = {str(name) for name in json.loads(index.read_text())["weight_map"].values()}
        if any(Path(name).is_absolute() or ".." in Path(name).parts for name in found):
            raise ValueError("a file outside the folder")
        if (folder / WEIGHTS).is_file() and WEIGHTS not in found:
            raise LabError(f"{folder} holds {WEIGHTS} and {INDEX} of other files: take one of the two out", key="model")
        return found
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"{index} is no index of weights: copy it there again, or write the folder with save_pretrained",
            key="model",
        ) from error
