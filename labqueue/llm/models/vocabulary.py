"""Checks that a folder's tokenizer belongs to its model: its tokens have rows in the embedding, and it needs no code of
its own. Knows no torch.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures
from labqueue.llm.types import Json


def check(folder: Path, name: str) -> None:
    """Checks that the folder's tokenizer can be loaded and none of its tokens is beyond the embedding.

    A tokenizer that is a ``tokenizer.model`` alone is left to ``check_highest``, as the model is loaded.

    Raises:
        LabError: it cannot, or one is.
    """
    settings = _json(folder / "tokenizer_config.json", name)
    if (settings.get("auto_map") or {}).get("AutoTokenizer"):
        raise LabError(
            f"the tokenizer of model {name!r} needs code of its own (auto_map in tokenizer_config.json), which the lab "
            "does not run: save it with a tokenizer that transformers knows, or use another model",
            key="model",
        )
    highest = [int(number) for number in settings.get("added_tokens_decoder") or {} if str(number).isdigit()]
    for file, read in (("tokenizer.json", _whole), ("vocab.json", _words)):
        if (path := folder / file).is_file():
            stamp = path.stat()
            highest.append(read(path, name, stamp.st_mtime_ns, stamp.st_size))
            break
    if highest:
        rows = architectures.count(
            architectures.read_config(folder / "config.json", name), "vocab_size", folder / "config.json"
        )
        check_highest(max(highest), rows, name)


def check_highest(token: int, rows: int, name: str) -> None:
    """Checks that the embedding has a row for the highest token.

    Raises:
        LabError: it has not.
    """
    if token >= rows:
        raise LabError(
            f"the tokenizer of model {name!r} has tokens up to number {token}, its embedding only {rows} rows "
            f"(vocab_size), 0 to {rows - 1}: give the tokenizer that the model was trained with, or enlarge the "
            "embedding (resize_token_embeddings) and train it",
            key="model",
        )


@functools.lru_cache(maxsize=32)
def _whole(path: Path, name: str, *_stamp: int) -> int:
    """The highest token of a ``tokenizer.json``."""
    from tokenizers import Tokenizer

    try:
        return max(Tokenizer.from_file(str(path)).get_vocab(with_added_tokens=True).values(), default=-1)
    except Exception as error:  # the library raises a bare Exception
        raise LabError(
            f"tokenizer.json of model {name!r} cannot be read ({error}): copy it again", key="model"
        ) from error


@functools.lru_cache(maxsize=32)
def _words(path: Path, name: str, *_stamp: int) -> int:
    return max((number for number in _json(path, name).values() if isinstance(number, int)), default=-1)


def _json(path: Path, name: str) -> Json:
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LabError(f"{path.name} of model {name!r} cannot be read: {error}", key="model") from error
    return found if isinstance(found, dict) else {}
