"""Tokenizers made from a corpus, or taken from a model: ids for text, and a folder that ``AutoTokenizer`` opens.

Imports ``tokenizers`` and transformers only where one is made; no torch but for a model whose tokenizer needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from labqueue.domain.errors import LabError
from labqueue.llm.corpora.pieces import SEPARATOR

if TYPE_CHECKING:
    import tokenizers

    from labqueue.llm.types import Tokenizer

Encode = Callable[[Sequence[str]], list[npt.NDArray[np.integer]]]
"""Ids of each text: [tokens]. No special token is put around it, and none is read out of it."""

BPE_SAMPLE = 2**27
"""Bytes of training text that a BPE is made from, at most: its words are counted in memory."""

ENDS = (SEPARATOR, "<|end_of_text|>", "</s>")
"""What separates documents in the text that models were pretrained on, by what their makers call it; the end of an
answer, which chat models have as their eos, is another."""

SEAMS = (("the cat sat", "\non the mat"), ("It is 12 cats", " and  a dog.\n"), ("end\n\n\tfoo", "(bar)"))
"""Texts cut as ``pieces`` cuts a document."""


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, and the fastest way to its ids."""

    tokenizer: Tokenizer
    vocabulary: int
    """Ids are below this."""
    encode: Encode
    end: int | None
    """The token that stands between documents, where the tokenizer has one."""
    in_pieces: bool = True
    """Whether the pieces of a document give the tokens of the whole."""


def character(alphabet: npt.NDArray[np.uint32]) -> Encoder:
    """One token a character of ``alphabet`` (code points, sorted), numbered in its order, as nanoGPT's are.

    It has no other token: no end of text, and none for a character that the corpus does not have, which it refuses.
    """
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers

    vocabulary = {chr(point): number for number, point in enumerate(alphabet.tolist())}
    made = hf.Tokenizer(models.WordLevel(vocabulary, unk_token=None))
    # Not "(?s).", which the library's regular expressions refuse; and a dot alone loses the ends of lines.
    made.pre_tokenizer = pre_tokenizers.Split(hf.Regex(r"[\s\S]"), behavior="isolated")
    made.decoder = decoders.Fuse()
    table = np.zeros(int(alphabet[-1]) + 1, np.uint32)
    table[alphabet] = np.arange(len(alphabet), dtype=np.uint32)

    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.integer]]:
        return [table[np.frombuffer(text.encode("utf-32-le"), np.uint32)] for text in texts]

    return Encoder(wrapped(made, end=None), len(vocabulary), encode, None)


def byte() -> Encoder:
    """One token a byte of UTF-8, numbered as the byte is, and the end of text behind them."""
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers

    letters = _letters()
    made = hf.Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([hf.AddedToken(SEPARATOR, special=True, normalized=False)])

    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.integer]]:
        return [np.frombuffer(text.encode(), np.uint8) for text in texts]

    return Encoder(wrapped(made, end=SEPARATOR), len(letters) + 1, encode, len(letters))


def bpe(texts: Iterable[str], vocabulary: int) -> Encoder:
    """A tokenizer made from the texts; see ``learned``."""
    return of(wrapped(learned(texts, vocabulary), end=SEPARATOR))


def learned(texts: Iterable[str], vocabulary: int) -> tokenizers.Tokenizer:
    """Byte pairs (Sennrich et al. 2016, arXiv:1508.07909) within GPT-2's words, merged by how often they occur; equal
    counts by number. Same text, same tokenizer. ``vocabulary`` has the 256 bytes and, first, the end of text; it gets
    smaller where the text has no further pair.
    """
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = hf.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(texts, trainer)
    return made


def of(tokenizer: Tokenizer) -> Encoder:
    """Any tokenizer of transformers."""
    backend = cast("tokenizers.Tokenizer | None", getattr(tokenizer, "backend_tokenizer", None))
    encode = _slowly(tokenizer) if backend is None else _fast(backend)
    known = tokenizer.get_vocab()
    end = next((known[name] for name in ENDS if name in known), tokenizer.eos_token_id)
    return Encoder(tokenizer, max(known.values()) + 1, encode, end, _in_pieces(encode))


def opened(folder: Path) -> Tokenizer:
    """The tokenizer that was saved in a folder, without touching the network.

    Raises:
        LabError: there is none, or it needs code of its own.
    """
    from transformers import AutoTokenizer

    try:
        found: Tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LabError(f"the tokenizer in {folder} cannot be opened: {reason}", key="tokenizer.model") from error
    return found


def wrapped(made: tokenizers.Tokenizer, end: str | None) -> Tokenizer:
    """As transformers has it; it is saved and opened as it is, whatever model lies beside it."""
    from transformers import PreTrainedTokenizerFast

    ends = {} if end is None else {"eos_token": end, "bos_token": end}
    return PreTrainedTokenizerFast(tokenizer_object=made, clean_up_tokenization_spaces=False, **ends)


def _letters() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary, by the byte's number (GPT-2's
    ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}
    return [letters[byte] for byte in range(256)]


def _fast(backend: tokenizers.Tokenizer) -> Encode:
    import tokenizers as hf

    copy = hf.Tokenizer.from_str(backend.to_str())  # the tokenizer itself stays as it was
    copy.encode_special_tokens = True  # a special token's letters in a text are text: they would end it in its middle
    copy.no_truncation()
    copy.no_padding()

    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.integer]]:
        return [
            np.asarray(each.ids, np.int64) for each in copy.encode_batch_fast(list(texts), add_special_tokens=False)
        ]

    return encode


def _slowly(tokenizer: Tokenizer) -> Encode:
    def encode(texts: Sequence[str]) -> list[npt.NDArray[np.integer]]:
        given = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
        return [np.asarray(ids, np.int64) for ids in given]

    return encode


def _in_pieces(encode: Encode) -> bool:
    cut = [encode([left, right, left + right]) for left, right in SEAMS]
    return all([*left.tolist(), *right.tolist()] == whole.tolist() for left, right, whole in cut)
