"""Token files: the tokens of a corpus are those of its text, its sides share no document, a cache is whole or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.corpora import token_files
from labqueue.llm.corpora.choice import TokenizerChoice
from labqueue.llm.corpora.token_files import TokenizedCorpus, prepare

CHARACTER, BYTE = TokenizerChoice(kind="character"), TokenizerChoice(kind="byte")
BPE = TokenizerChoice(kind="bpe", vocabulary=400)
TEXT = "To be, or not to be:\r\n\tthat is the question 😀\n\nWhether 'tis nobler in the mind to suffer — ça va?\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))


def made(path: Path, choice: TokenizerChoice = BYTE, **more: object) -> TokenizedCorpus:
    return prepare(str(path), choice, path.parent / "cache", **more)  # type: ignore[arg-type]


def documents(folder: Path, count: int = 40) -> list[str]:
    texts = [f"Document {n}, which says {n * n}.\n{TEXT * (1 + n % 3)}" for n in range(count)]
    (folder / "a.txt").write_text("<|endoftext|>\n".join(texts), newline="")
    return texts


@pytest.mark.parametrize("choice", [CHARACTER, BYTE, BPE], ids=lambda choice: choice.kind)
def test_a_text_comes_back_whole_from_its_tokens(tmp_path: Path, choice: TokenizerChoice) -> None:
    (tmp_path / "a.txt").write_text(TEXT * 50, newline="")
    corpus = made(tmp_path / "a.txt", choice)
    assert "".join(corpus.tokenizer.decode(side) for side in (corpus.train, corpus.validation)) == TEXT * 50
    assert max(corpus.train.max(), corpus.validation.max()) < corpus.vocabulary
    assert corpus.validation_bytes == len(corpus.tokenizer.decode(corpus.validation).encode())


@pytest.mark.parametrize("choice", [BYTE, BPE], ids=lambda choice: choice.kind)
def test_tokens_are_those_that_the_tokenizer_gives_each_document(tmp_path: Path, choice: TokenizerChoice) -> None:
    texts = documents(tmp_path)
    corpus = made(tmp_path / "a.txt", choice)
    plain = {tuple(corpus.tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts}
    assert corpus.end is not None
    found = [tuple(each.tolist()) for side in (corpus.train, corpus.validation) for each in _split(side, corpus.end)]
    assert len(found) == len(texts)
    assert set(found) == plain


def _split(tokens: np.ndarray, end: int) -> list[np.ndarray]:
    at = np.flatnonzero(tokens == end)
    return [part[part != end] for part in np.split(tokens, at)]


def test_a_corpus_shorter_than_a_context_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("short text")
    corpus = made(tmp_path / "a.txt")
    with pytest.raises(LabError, match=r"has 9 training tokens, a context of 64 needs at least 65: .* shorter context"):
        token_files.check_fits(corpus, context=64)
