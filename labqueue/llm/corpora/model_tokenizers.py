"""The tokenizer of an existing model, without its weights: where its files are, what they are, and how they come here.

No torch, but for the packaged model, which is converted once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.llm.corpora import tokenizers
from labqueue.llm.models import catalogue, gguf, hub, pins, snapshot, tiny

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

KEY = "tokenizer.model"

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""What transformers reads of a tokenizer; ``config.json``, which it looks at too, says nothing on tokens."""


def available(name: str) -> bool:
    """Whether the tokenizer's files are on this machine.

    Raises:
        LabError: no model, folder or tokenizer has that name.
    """
    try:
        folder(name)
    except NotHere:
        return False
    return True


def fetch(name: str) -> None:
    """Brings the tokenizer's files here, and no weights.

    Raises:
        LabError: they cannot be had; the message says what to do.
    """
    model = catalogue.find(name) if not _is_folder(name) else None
    if model is not None and model.where == "hub":
        cure = (
            f"Connect once and submit again, or use a tokenizer that is here ({catalogue.SMOLLM2.alias}, or kind: bpe)"
        )
        hub.download(model.source, [*FILES, "config.json"], kind="model", revision=None, cure=cure, key=KEY)
    folder(name)


def folder(name: str) -> Path | None:
    """Where the tokenizer's files are; None: it is made in memory.

    Raises:
        NotHere: they are not on this machine.
        LabError: no model, folder or tokenizer has that name.
    """
    if _is_folder(name):
        return Path(name).expanduser()
    model = catalogue.find(name)
    if model.where == "random":
        return None
    if model.where == "package":
        return gguf.converted(model)
    found = Path(model.source) if model.where == "folder" else hub.here(model.source, [*FILES, "config.json"])
    if found is not None and _has_tokenizer(found):
        return found
    if model.where == "folder":
        raise LabError(f"folder {name!r} has no tokenizer ({', '.join(snapshot.TOKENIZERS)})", key=KEY)
    raise NotHere(
        f"the tokenizer of {name!r} ({model.source}) is not on this machine: submit an experiment that names it while "
        f"connected, or use that of {catalogue.SMOLLM2.alias}, which needs no hub",
        key=KEY,
    )


class NotHere(LabError):
    """The tokenizer's files have to be fetched first."""


def pin(name: str) -> str | None:
    """SHA-256 (hex) of the tokenizer's files; None where they are not here, which is said elsewhere.

    Raises:
        LabError: as ``folder``, or a file cannot be read.
    """
    try:
        place = folder(name)
    except NotHere:
        return None
    if place is None:
        return digest(name)  # pinned by the code
    try:
        return digest({file: pins.sha256(place / file, KEY) for file in FILES if (place / file).is_file()})
    except OSError as error:
        raise LabError(f"a file of the tokenizer in {place} cannot be read: {error}", key=KEY) from error


def opened(name: str) -> Tokenizer:
    """The tokenizer.

    Raises:
        LabError: as ``folder`` and ``tokenizers.opened``.
    """
    place = folder(name)
    return tiny.tokenizer() if place is None else tokenizers.opened(place)


def _is_folder(name: str) -> bool:
    return name not in catalogue.CATALOGUE and _has_tokenizer(Path(name).expanduser())


def _has_tokenizer(place: Path) -> bool:
    return any((place / file).is_file() for file in snapshot.TOKENIZERS)
