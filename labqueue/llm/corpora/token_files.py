"""A corpus as token files: tokenized once in constant memory, cached by content, read through a memory map.

A folder of the cache holds the tokens of both sides, the tokenizer and what they are. It is written aside and renamed:
whoever finds one finds all of it. No torch at import.
"""

from __future__ import annotations

import errno
import functools
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypedDict

import numpy as np
import numpy.typing as npt

from labqueue.domain.canonical import digest
from labqueue.domain.errors import DiskFull, LabError
from labqueue.llm.corpora import catalogue, held_out, model_tokenizers, tokenizers
from labqueue.llm.corpora.choice import TokenizerChoice
from labqueue.llm.corpora.documents import Opened
from labqueue.llm.corpora.held_out import TRAIN, VALIDATION, Part
from labqueue.llm.corpora.pieces import Piece
from labqueue.llm.corpora.tokenizers import Encoder
from labqueue.system import files

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

FORMAT = 1
"""Raised whenever what is written changes: older folders are then made again."""

BATCH = 2**20
"""Characters that are tokenized at once: as Python objects their tokens are some 100 MB at one token a character."""

WHOLE = 2**23
"""Characters of a document that a tokenizer gets at once if pieces would change its tokens; it needs some 100 bytes for
each."""

ASK_S = 0.2
"""Seconds between two questions whether to leave."""

ABOUT, TOKENIZER = "about.json", "tokenizer"
SIDES = ("train.bin", "validation.bin")

Progress = Callable[[int, int], None]


class About(TypedDict):
    """What lies beside token files; pairs are (train, validation)."""

    dtype: str
    vocabulary: int
    end: int | None
    tokens: list[int]
    bytes: list[int]
    documents: list[int]


class Interrupted(Exception):
    """The caller asked to leave before the tokens were written; nothing of them is kept."""


@dataclass(frozen=True)
class TokenizedCorpus:
    """The tokens of a corpus."""

    train: npt.NDArray[np.uint16 | np.uint32]
    """[tokens]: documents one after the other, an end-of-text token between them where the tokenizer has one."""
    validation: npt.NDArray[np.uint16 | np.uint32]
    """[tokens]: likewise; no document of it is in ``train``."""
    train_bytes: int
    validation_bytes: int
    """Bytes of the text as UTF-8: bits per byte are nats per token · tokens / bytes / ln 2."""
    train_documents: int
    validation_documents: int
    vocabulary: int
    """Ids are below this."""
    text_sha256: str
    """Of the corpus's content (hex)."""
    name: str
    licence: str
    """"" where nobody has said: a person's own files."""
    end: int | None
    """The end-of-text token."""
    folder: Path
    """Where they lie; ``tokenizer`` in it is a folder that ``AutoTokenizer`` opens."""

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, opened when it is first asked for: transformers takes seconds to import."""
        return tokenizers.opened(self.folder / TOKENIZER)


def prepare(
    corpus: str,
    tokenizer: TokenizerChoice,
    cache: Path,
    *,
    validation_share: float = 0.1,
    sha256: str | None = None,
    progress: Progress | None = None,
    leave: Callable[[], bool] | None = None,
) -> TokenizedCorpus:
    """The tokens of a corpus of the catalogue, or of a file or folder of text; from the cache where they are in it.

    ``sha256`` is what its content must have. ``progress`` is told the bytes that were read and how many there are to
    read, in all passes. ``leave`` is asked some times a second.

    Raises:
        LabError: no such corpus, one that is not on this machine, is no text, is empty, changes while it is read or has
            changed since; a tokenizer that is not on this machine or not the pinned one.
        DiskFull: the cache has no room.
        Interrupted: ``leave`` said so.
    """
    if not 0 < validation_share < 1:
        raise LabError(
            f"the share of validation is above 0 and below 1, got {validation_share}", key="validation_share"
        )
    opened = catalogue.open_corpus(corpus)
    if sha256 is not None and opened.sha256 != sha256:
        raise LabError(
            f"corpus {corpus!r} has changed since it was submitted (SHA-256 {opened.sha256[:12]}…, was "
            f"{sha256[:12]}…): put it back, or submit again",
            key="corpus",
        )
    identity = {
        "format": FORMAT,
        "text": opened.sha256,
        "cut_exactly": opened.cut_exactly,
        "share": validation_share,
        "tokenizer": _identity(tokenizer),
    }
    target = cache / "corpora" / "tokens" / digest(identity)[:32]
    if (found := _read(target, opened)) is not None:
        return found
    watch = _Watch(opened, 3 if tokenizer.kind == "bpe" else 2, progress, leave)
    with files.exclusive(target.with_suffix(".lock"), watch.ask):
        if (found := _read(target, opened)) is None:  # another process has not made it meanwhile
            _write(target, opened, tokenizer, validation_share, watch)
            found = _read(target, opened)
    if found is None:
        raise LabError(f"{target} cannot be read although it was just written: is its disk whole?", key="corpus")
    return found


def check_fits(corpus: TokenizedCorpus, *, context: int, embedding: int | None = None) -> None:
    """Raises if a model cannot be trained on the tokens.

    Raises:
        LabError: a side has no whole window of ``context`` tokens and the one after them, or there are tokens for which
            an embedding of so many rows has none.
    """
    for side, tokens in (("training", corpus.train), ("validation", corpus.validation)):
        if len(tokens) <= context:
            raise LabError(
                f"corpus {corpus.name!r} has {len(tokens):,} {side} tokens, a context of {context:,} needs at least "
                f"{context + 1:,}: give more text, or a shorter context",
                key="corpus",
            )
    if embedding is not None and corpus.vocabulary > embedding:
        raise LabError(
            f"the tokenizer of corpus {corpus.name!r} has tokens up to number {corpus.vocabulary - 1:,}, the embedding "
            f"only {embedding:,} rows: give the model a vocabulary of at least {corpus.vocabulary:,}, or take another "
            "tokenizer",
            key="tokenizer",
        )


class _Watch:
    """Tells how far the reading of a corpus has come, and asks whether to leave it."""

    def __init__(
        self, opened: Opened, passes: int, progress: Progress | None, leave: Callable[[], bool] | None
    ) -> None:
        self._opened, self._progress, self._leave = opened, progress, leave
        self._done, self._total = 0, opened.size * passes
        self._asked = -math.inf

    def read(self) -> Iterable[Piece]:
        """The corpus's pieces."""
        return self._opened.read(self._tell)

    def ask(self) -> None:
        """Asks whether to leave, but not for each of a million documents: it may be a question to a database."""
        if self._leave is None or time.monotonic() < self._asked + ASK_S:
            return
        self._asked = time.monotonic()
        if self._leave():
            raise Interrupted

    def _tell(self, size: int) -> None:
        self._done += size
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)
        self.ask()


def _identity(choice: TokenizerChoice) -> list[object]:
    """What the tokenizer follows from, beside the corpus.

    Raises:
        LabError: that of a model is not here, or is not the pinned one.
    """
    if choice.kind == "bpe":
        import tokenizers as library

        return ["bpe", choice.tokens, library.__version__]  # another version may merge equal counts otherwise
    if choice.kind != "model":
        return [choice.kind]
    name = str(choice.model)
    model_tokenizers.folder(name)
    found = model_tokenizers.pin(name)
    if choice.sha256 is not None and found != choice.sha256:
        raise LabError(
            f"the tokenizer of {name!r} has changed since it was submitted (SHA-256 {str(found)[:12]}…, was "
            f"{choice.sha256[:12]}…): put it back, or submit again",
            key=model_tokenizers.KEY,
        )
    return ["model", found]


def _read(folder: Path, opened: Opened) -> TokenizedCorpus | None:
    """The tokens in a folder of the cache; None where there is none that is whole."""
    try:
        about: About = json.loads((folder / ABOUT).read_text())
        train, validation = (np.memmap(folder / name, np.dtype(about["dtype"]), "r") for name in SIDES)
        if [len(train), len(validation)] != about["tokens"]:
            return None
        if not (folder / TOKENIZER / "tokenizer_config.json").is_file():
            return None
        (train_bytes, validation_bytes), (train_documents, validation_documents) = about["bytes"], about["documents"]
        return TokenizedCorpus(
            train=train,
            validation=validation,
            train_bytes=train_bytes,
            validation_bytes=validation_bytes,
            train_documents=train_documents,
            validation_documents=validation_documents,
            vocabulary=about["vocabulary"],
            text_sha256=opened.sha256,
            name=opened.name,
            licence=opened.licence,
            end=about["end"],
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(target: Path, opened: Opened, choice: TokenizerChoice, share: float, watch: _Watch) -> None:
    scan = held_out.scan(watch.read(), alphabet=choice.kind == "character", leave=watch.ask)
    opened.unchanged()
    if not scan.documents:
        raise LabError(f"corpus {opened.name!r} has no text", key="corpus")
    if scan.characters < 2:
        raise LabError(f"corpus {opened.name!r} is a single character: it cannot be divided", key="corpus")
    sides = held_out.sides(scan, share, cut_exactly=opened.cut_exactly)
    if choice.kind == "bpe":
        encoder = tokenizers.bpe(sides.sample(watch.read(), tokenizers.BPE_SAMPLE), choice.tokens)
    elif choice.kind == "character":
        assert scan.alphabet is not None
        encoder = tokenizers.character(scan.alphabet)
    elif choice.kind == "byte":
        encoder = tokenizers.byte()
    else:
        encoder = tokenizers.of(model_tokenizers.opened(str(choice.model)))
    for left in target.parent.glob(f".{target.name}.*"):  # of writers that were killed: who holds the lock is alone
        shutil.rmtree(left, ignore_errors=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        about = _tokenize(sides.of(watch.read()), encoder, aside, watch)
        opened.unchanged()
        encoder.tokenizer.save_pretrained(aside / TOKENIZER)
        words = {"corpus": opened.name, "text_sha256": opened.sha256, "tokenizer": choice.model_dump(mode="json")}
        (aside / ABOUT).write_text(json.dumps({**words, **about}, indent=1))
        files.publish(aside, target)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        needed = f"its tokens need up to {scan.size * 4 / 2**30:.1f} GiB"
        raise DiskFull(
            f"no room in {target.parent} for the tokens of corpus {opened.name!r} ({needed}): free some, or set "
            "LABQUEUE_CACHE to a folder on a larger disk",
            key="corpus",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class _Side:
    """One side's tokens as they are written."""

    def __init__(self, file: IO[bytes], dtype: type[np.uint16 | np.uint32], end: int | None) -> None:
        self._file, self._dtype = file, dtype
        self._end: npt.NDArray[np.uint16 | np.uint32] = np.array([] if end is None else [end], dtype)
        self._between = False
        self.tokens = self.bytes = self.documents = 0

    def write(self, part: Part, ids: npt.NDArray[np.integer]) -> None:
        """Adds a piece of a document with its tokens."""
        if self._between:
            self._put(self._end)
        self._put(ids.astype(self._dtype))
        self._between = part.last
        self.bytes += len(part.text.encode())
        self.documents += part.last

    def _put(self, ids: npt.NDArray[np.uint16 | np.uint32]) -> None:
        self._file.write(ids.tobytes())
        self.tokens += len(ids)


def _tokenize(parts: Iterable[Part], encoder: Encoder, folder: Path, watch: _Watch) -> About:
    """Writes the token files of both sides; returns what they are."""
    dtype: type[np.uint16 | np.uint32] = np.uint16 if encoder.vocabulary <= 2**16 else np.uint32
    with (folder / SIDES[TRAIN]).open("wb") as train, (folder / SIDES[VALIDATION]).open("wb") as validation:
        sides = tuple(_Side(file, dtype, encoder.end) for file in (train, validation))
        for batch in _batches(parts if encoder.in_pieces else _joined(parts)):
            for part, ids in zip(batch, encoder.encode([part.text for part in batch]), strict=True):
                sides[part.side].write(part, ids)
            watch.ask()
    return {
        "dtype": np.dtype(dtype).name,
        "vocabulary": encoder.vocabulary,
        "end": encoder.end,
        "tokens": [side.tokens for side in sides],
        "bytes": [side.bytes for side in sides],
        "documents": [side.documents for side in sides],
    }


def _batches(parts: Iterable[Part]) -> Iterable[list[Part]]:
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += len(part.text)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _joined(parts: Iterable[Part]) -> Iterable[Part]:
    """Whole documents.

    Raises:
        LabError: one is longer than can be tokenized at once.
    """
    held: list[str] = []
    for part in parts:
        held.append(part.text)
        if part.last:
            yield part._replace(text="".join(held))
            held = []
        elif sum(map(len, held)) > WHOLE:
            raise LabError(
                f"a document has more than {WHOLE:,} characters, and this tokenizer gives other tokens to a text in "
                "pieces: divide it (a line <|endoftext|> between documents), or take another tokenizer",
                key="tokenizer",
            )
