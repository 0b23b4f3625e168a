"""Makes labelled tokens for probes: parts of speech, the class of the next token, whether a statement is true.

Each sample has a label, a *type* (what a control label goes by: the word itself) and a *group* (what must not be on
both sides of a split: the document, or all statements that share a country or a capital).
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from labqueue.domain.errors import LabError
from labqueue.llm.interp.encoding import Encoded, encode

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

Numbers = npt.NDArray[np.int64]

PARTS_OF_SPEECH = {
    "noun": ("nn", "np", "nr"),
    "pronoun": ("pp", "pn", "wp"),
    "verb": ("vb", "be", "hv", "do", "md"),
    "adjective": ("jj",),
    "adverb": ("rb", "wrb", "ql", "rn", "wql"),
    "determiner": ("at", "dt", "ab", "ap", "wdt"),
    "preposition": ("in", "to"),
    "conjunction": ("cc", "cs"),
    "number": ("cd", "od"),
}
"""Classes by how the Brown corpus's tags begin (its manual of 1979); what is no word is punctuation, the rest other."""

ENTRY = 5
"""Samples of a class below which it is left out: it could not be on both sides of every split. Assumption."""


@dataclass(frozen=True)
class Labelled:
    """Tokens with labels, in the order of the texts."""

    texts: list[str]
    batch: Encoded
    """The texts as the model reads them."""
    places: list[list[int]]
    """Of each text, which of its tokens are samples."""
    labels: Numbers
    """[sample]: number of the class."""
    types: Numbers
    """[sample]: what the sample is, apart from where it stands."""
    groups: Numbers
    """[sample]."""
    classes: list[str]

    def __len__(self) -> int:
        """Samples."""
        return len(self.labels)


def part_of_speech(
    documents: Sequence[str], tokenizer: Tokenizer, *, count: int, words: int, seed: int, limit: int | None
) -> Labelled:
    """Words of some tagged documents (``word/tag``), each read at its last token; groups are documents.

    Args:
        documents: as corpus ``brown_tagged`` has them.
        tokenizer: the model's.
        count: documents, drawn by ``seed``.
        words: of each, from its beginning.
        seed: of the draw.
        limit: tokens that the model has positions for.

    Raises:
        LabError: fewer documents than asked for, or no word with a tag in one.
    """
    drawn = _drawn(documents, count, seed)
    samples, texts = [], []
    for document in drawn:
        tagged = [word.rpartition("/")[::2] for word in document.split()[:words]]
        if wrong := [word for word in document.split()[:words] if not all(word.rpartition("/")[::2])]:
            raise LabError(f"{wrong[0]!r} has no tag: a tagged text has word/tag, with spaces between", key="corpus")
        text, ends = "", []
        for word, _ in tagged:
            text += f"{' ' if text else ''}{word}"
            ends.append(len(text))
        texts.append(text)
        samples.append([(end, _part(word, tag), word.lower()) for end, (word, tag) in zip(ends, tagged, strict=True)])
    batch = encode(tokenizer, texts, limit=limit)
    found = []
    for number, (offsets, of_text) in enumerate(zip(batch.offsets, samples, strict=True)):
        at = {end: place for place, (_, end) in enumerate(offsets)}
        found += [(number, at[end], label, word, number) for end, label, word in of_text if end in at]
    return _labelled(texts, batch, found)


def _part(word: str, tag: str) -> str:
    if not re.search(r"\w", word):
        return "punctuation"
    first = tag.lower().removeprefix("fw-").split("-")[0].split("+")[0]
    # The longest beginning decides: "wdt" is no "w" of another class.
    starts = ((start, name) for name, several in PARTS_OF_SPEECH.items() for start in several)
    fits = [(len(start), name) for start, name in starts if first.startswith(start)]
    return max(fits)[1] if fits else "other"


def next_token_class(
    documents: Sequence[str], tokenizer: Tokenizer, *, count: int, words: int, seed: int, limit: int | None
) -> Labelled:
    """Tokens of some texts, each with what kind of token follows it; types are tokens, groups are documents.

    Args:
        documents: any text.
        tokenizer: the model's.
        count: documents, drawn by ``seed``.
        words: of each, from its beginning.
        seed: of the draw.
        limit: tokens that the model has positions for.

    Raises:
        LabError: fewer documents than asked for.
    """
    texts = [" ".join(document.split(" ")[:words]) for document in _drawn(documents, count, seed)]
    batch = encode(tokenizer, texts, limit=limit)
    found = []
    for number, (text, offsets) in enumerate(zip(texts, batch.offsets, strict=True)):
        ids, own = batch.input_ids[number].tolist(), batch.special_mask[number].tolist()
        for place, (begin, end) in enumerate(offsets[1:]):
            if not own[place + 1]:  # what a tokenizer puts behind every text is no class
                found.append((number, place, _follows(text[begin:end]), ids[place], number))
    return _labelled(texts, batch, found)


def _follows(piece: str) -> str:
    if "\n" in piece:
        return "line break"
    letters = piece.strip()
    if not letters:
        return "space"
    if letters[0].isdigit():
        return "number"
    if not letters[0].isalpha():
        return "punctuation"
    return "new word" if piece[0].isspace() else "rest of a word"


def truth(documents: Sequence[str], tokenizer: Tokenizer, *, count: int, seed: int, limit: int | None) -> Labelled:
    """True and false statements about capitals, read at their last token, each capital once in a true and a false one.

    Countries trade capitals in pairs, so that a pair shares nothing with another: it is a group.

    Args:
        documents: one, a country and its capital a line, with a tab between.
        tokenizer: the model's.
        count: statements, a multiple of four.
        seed: of the draw and of the pairs.
        limit: tokens that the model has positions for.

    Raises:
        LabError: fewer countries than asked for.
    """
    known = [line.split("\t", 1) for document in documents for line in document.splitlines() if "\t" in line]
    pairs = count // 4
    if pairs < 2 or len(known) < 2 * pairs:
        raise LabError(
            f"{count} statements need {count // 2} countries with their capitals, and there are {len(known)}: ask for "
            f"8 or more, and {len(known) // 2 * 4} at most",
            key="documents",
        )
    drawn = random.Random(seed).sample(known, 2 * pairs)
    told = []
    for group in range(pairs):
        (one, its), (other, others) = drawn[2 * group], drawn[2 * group + 1]
        told += [(one, its, "true", group), (other, others, "true", group)]
        told += [(one, others, "false", group), (other, its, "false", group)]
    texts = [f"The capital of {country} is {capital}." for country, capital, _, _ in told]
    batch = encode(tokenizer, texts, limit=limit)
    found = [
        (number, _last_of_text(batch, number), label, (country, capital), group)
        for number, (country, capital, label, group) in enumerate(told)
    ]
    return _labelled(texts, batch, found)


def _last_of_text(batch: Encoded, number: int) -> int:
    """The place of a text's last token that is no token of the tokenizer's own."""
    return int((~batch.special_mask[number]).nonzero().max())


TASKS: dict[str, Callable[..., Labelled]] = {
    "part_of_speech": part_of_speech,
    "next_token_class": next_token_class,
}
"""Labels that are read from documents."""


def _drawn(documents: Sequence[str], count: int, seed: int) -> list[str]:
    if len(documents) < count:
        raise LabError(f"{count} documents are asked for, and the corpus has {len(documents)}", key="documents")
    return random.Random(seed).sample(list(documents), count)


def _labelled(texts: list[str], batch: Encoded, found: Iterable[tuple[int, int, str, Hashable, int]]) -> Labelled:
    """Of (text, place, class, type, group); classes of a few samples are left out."""
    rows = list(found)
    often = Counter(label for _, _, label, _, _ in rows)
    rows = [row for row in rows if often[row[2]] >= ENTRY]
    classes = sorted({label for _, _, label, _, _ in rows})
    if len(classes) < 2:
        raise LabError(
            f"the samples have {'one class (' + classes[0] + ')' if classes else 'no class'} of {ENTRY} samples or "
            "more: a probe needs two",
            key="labels",
        )
    number = {name: place for place, name in enumerate(classes)}
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(row[3] for row in rows))}
    places: list[list[int]] = [[] for _ in texts]
    for text, place, *_ in rows:
        places[text].append(place)
    return Labelled(
        texts,
        batch,
        places,
        np.array([number[row[2]] for row in rows], dtype=np.int64),
        np.array([kinds[row[3]] for row in rows], dtype=np.int64),
        np.array([row[4] for row in rows], dtype=np.int64),
        classes,
    )
