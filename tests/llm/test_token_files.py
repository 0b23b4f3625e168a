"""Token files: the tokens of a corpus are those of its text, its sides share no document, a cache is whole or none."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.llm import assets
from labqueue.llm.corpora import held_out, pieces, token_files, tokenizers
from labqueue.llm.corpora.choice import TokenizerChoice
from labqueue.llm.corpora.token_files import TokenizedCorpus, prepare
from tests.conftest import wait_until

CHARACTER, BYTE = TokenizerChoice(kind="character"), TokenizerChoice(kind="byte")
BPE = TokenizerChoice(kind="bpe", vocabulary=400)
MADE = pytest.mark.parametrize("choice", [CHARACTER, BYTE, BPE], ids=lambda choice: choice.kind)
TEXT = "To be, or not to be:\r\n\tthat is the question 😀\n\nWhether 'tis nobler in the mind to suffer — ça va?\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made(path: Path, choice: TokenizerChoice = BYTE, **more: Any) -> TokenizedCorpus:
    return prepare(str(path), choice, Path(os.environ["LABQUEUE_CACHE"]), **more)


def written(folder: Path, texts: list[str], name: str = "a.txt") -> Path:
    (folder / name).write_text("<|endoftext|>\n".join(texts), newline="")
    return folder / name


def many(count: int = 40) -> list[str]:
    return [f"Document {n}, which says {n * n}.\n{TEXT * (1 + n % 3)}" for n in range(count)]


def documents(corpus: TokenizedCorpus, side: npt.NDArray[Any]) -> list[list[int]]:
    """The tokens of each document of a side."""
    ends = np.flatnonzero(side == corpus.end)
    return [part[part != corpus.end].tolist() for part in np.split(side, ends)]


def texts(corpus: TokenizedCorpus) -> tuple[set[str], set[str]]:
    train, validation = (documents(corpus, side) for side in (corpus.train, corpus.validation))
    decode = corpus.tokenizer.decode
    return {str(decode(ids)) for ids in train}, {str(decode(ids)) for ids in validation}


@MADE
def test_a_text_comes_back_whole_from_its_tokens(tmp_path: Path, choice: TokenizerChoice) -> None:
    corpus = made(written(tmp_path, [TEXT * 50]), choice)
    train, validation = (corpus.tokenizer.decode(side) for side in (corpus.train, corpus.validation))
    assert train + validation == TEXT * 50
    assert max(corpus.train.max(), corpus.validation.max()) < corpus.vocabulary
    assert corpus.validation_bytes == len(validation.encode())
    assert corpus.train_bytes == len(train.encode())


@pytest.mark.parametrize("choice", [BYTE, BPE], ids=lambda choice: choice.kind)
@pytest.mark.parametrize("piece", [64, 2**16])
def test_tokens_are_those_that_the_tokenizer_gives_each_document(
    tmp_path: Path, choice: TokenizerChoice, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pieces, "PIECE", piece)
    monkeypatch.setattr(pieces, "LONGEST", 4 * piece)
    monkeypatch.setattr(token_files, "BATCH", 7 * piece)
    corpus = made(written(tmp_path, many()), choice)
    plain = [corpus.tokenizer(text, add_special_tokens=False)["input_ids"] for text in many()]
    found = documents(corpus, corpus.train) + documents(corpus, corpus.validation)
    assert sorted(found) == sorted(plain)
    assert corpus.train_documents + corpus.validation_documents == len(plain)


QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""The words of Llama 3's and Qwen's tokenizers; GPT-2's are the lab's own."""


@functools.cache
def learned(pattern: str | None) -> tokenizers.Encoder:
    """A BPE with some merges in and across words, over GPT-2's words or those of a pattern."""
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers, trainers

    if pattern is None:
        return tokenizers.bpe(many(), 600)
    tokenizer = hf.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(hf.Regex(pattern), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(many(), trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return tokenizers.of(tokenizers.wrapped(tokenizer, None))


WORDS = st.sampled_from(
    [
        "the",
        " the",
        "The",
        " 12",
        "7",
        ".",
        ",",
        ". ",
        ".\n",
        "\n",
        "\n\n",
        "\r\n",
        "  ",
        "\t",
        "'t",
        "’s",
        "(",
        "—",
        "会",
        "。",
        "é",
        "e\u0301",
        "😀",
    ]
)


@given(words=st.lists(WORDS, max_size=120), blocks=st.integers(1, 50), pattern=st.sampled_from([None, QWEN]))
def test_pieces_have_the_text_and_the_tokens_of_the_whole(words: list[str], blocks: int, pattern: str | None) -> None:
    text = "".join(words)
    encode = learned(pattern).encode
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 8)
        patch.setattr(pieces, "LONGEST", 64)
        found = list(pieces.of_blocks((text[at : at + blocks] for at in range(0, len(text), blocks)), separator=None))
    assert "".join(piece.text for piece in found) == (text if text.strip() else "")
    assert [piece.last for piece in found] == [False] * (len(found) - 1) + [True] * bool(found)
    if all(len(piece.text) < 64 for piece in found):  # else it was cut where it is
        ids = [number for each in encode([piece.text for piece in found]) for number in each.tolist()]
        assert ids == (encode([text])[0].tolist() if text.strip() else [])


@given(lists=st.lists(st.text("ab \n<|", max_size=30), max_size=8), blocks=st.integers(1, 20))
def test_a_separator_divides_documents_wherever_the_blocks_of_a_file_end(lists: list[str], blocks: int) -> None:
    text = "<|endoftext|>\n".join(lists)
    found = list(pieces.of_blocks(text[at : at + blocks] for at in range(0, len(text), blocks)))
    assert [piece.text for piece in found if piece.last] == [
        each for each in text.split("<|endoftext|>\n") if each.strip()
    ]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_sides_share_no_document_and_divide_at_the_share(tmp_path: Path, share: float) -> None:
    corpus = made(written(tmp_path, many(200)), BPE, validation_share=share)
    train, validation = texts(corpus)
    assert train | validation == set(many(200))
    assert not train & validation
    assert corpus.validation_bytes / (corpus.train_bytes + corpus.validation_bytes) == pytest.approx(share, abs=0.01)


def test_copies_of_a_document_are_on_one_side_whatever_their_white_space_and_place(tmp_path: Path) -> None:
    copies = [text for text in many(30) for _ in range(3)] + [text.replace("\n", "  \n") for text in many(30)]
    one = texts(made(written(tmp_path, copies), BYTE))
    assert not {"".join(text.split()) for text in one[0]} & {"".join(text.split()) for text in one[1]}
    assert texts(made(written(tmp_path, copies[::-1], "b.txt"), BYTE)) == one


def test_a_single_document_is_cut_at_a_line_end_near_the_share(tmp_path: Path) -> None:
    lines = [f"line {n} of the one document\n" for n in range(1000)]
    (train,), (validation,) = texts(made(written(tmp_path, ["".join(lines)])))
    assert train + validation == "".join(lines)
    assert train.endswith("\n")
    assert len(validation) / len(train + validation) == pytest.approx(0.1, abs=0.002)


@given(
    text=st.text("ab \n", min_size=2, max_size=60).filter(lambda text: len(text.strip()) > 1),
    share=st.floats(0.01, 0.99),
)
def test_no_side_of_a_cut_document_is_empty_and_nothing_is_lost(text: str, share: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 8)
        found = list(pieces.of_document(text))
    sides = held_out.sides(held_out.scan(found), share)
    parts = list(sides.of(found))
    both = ["".join(part.text for part in parts if part.side == side) for side in (held_out.TRAIN, held_out.VALIDATION)]
    assert "".join(both) == text
    assert all(both)


@MADE
def test_what_is_in_the_cache_is_read_from_it(tmp_path: Path, choice: TokenizerChoice) -> None:
    path = written(tmp_path, many())
    told: list[tuple[int, int]] = []
    first = made(path, choice, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] == path.stat().st_size * (3 if choice.kind == "bpe" else 2)
    told.clear()
    again = made(path, choice, progress=lambda done, total: told.append((done, total)))
    assert told == []
    assert isinstance(again.train, np.memmap)
    for side in ("train", "validation"):
        assert np.array_equal(getattr(again, side), getattr(first, side))
    assert again.folder == first.folder
    assert made(path, choice, validation_share=0.2).folder != first.folder


def test_another_text_is_another_cache_and_a_pinned_one_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, many())
    first = made(path)
    assert made(path, sha256=first.text_sha256).folder == first.folder
    path.write_text(path.read_text() + "more")
    assert made(path).folder != first.folder
    with pytest.raises(LabError, match=r"has changed since it was submitted .*: put it back, or submit again"):
        made(path, sha256=first.text_sha256)


@pytest.mark.parametrize("damage", ["train.bin", "about.json", "tokenizer/tokenizer_config.json"])
def test_a_damaged_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path, many())
    first = made(path)
    before = first.train.tolist()
    file = first.folder / damage
    file.write_bytes(file.read_bytes()[:-4]) if damage == "train.bin" else file.unlink()
    again = made(path)
    assert again.train.tolist() == before
    assert again.tokenizer.decode(again.train[:20])


CHILD = """
import hashlib, json, sys, time
from pathlib import Path
from labqueue.llm.corpora.choice import TokenizerChoice
from labqueue.llm.corpora.token_files import prepare
corpus, cache, hold = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
told = []
def progress(done, total):
    told.append(done)
    if hold and done > total // 2:  # the scan is done, the token files are being written
        Path(hold[0]).touch()
        while not Path(hold[1]).exists():
            time.sleep(0.01)
found = prepare(corpus, TokenizerChoice(kind="byte"), cache, progress=progress)
print(json.dumps([hashlib.sha256(found.train.tobytes()).hexdigest(), len(told)]))
"""


def child(path: Path, cache: Path, *hold: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", CHILD, str(path), str(cache), *map(str, hold)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)


def test_of_two_processes_at_once_one_writes_and_the_other_waits_for_it(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path, many())
    begun, go = tmp_path / "begun", tmp_path / "go"
    first = child(path, cache, begun, go)
    wait_until(begun.exists, 60)
    second = child(path, cache)
    with pytest.raises(subprocess.TimeoutExpired):
        second.communicate(timeout=3)
    go.touch()
    (one, told), (other, none) = (json.loads(each.communicate(timeout=60)[0]) for each in (first, second))
    assert one == other
    assert told > 0
    assert none == 0


def test_a_writer_that_was_killed_leaves_nothing_that_is_believed(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path, many())
    begun = tmp_path / "begun"
    killed = child(path, cache, begun, tmp_path / "never")
    wait_until(begun.exists, 60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    tokens = cache / "corpora" / "tokens"
    assert [each for each in tokens.iterdir() if each.name.startswith(".")], "else it was killed too early to show this"
    assert texts(made(path))[0] <= set(many())
    assert [each.name for each in tokens.iterdir() if each.name.startswith(".")] == []


def test_whoever_is_asked_to_leave_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path, many())
    with pytest.raises(token_files.Interrupted):
        made(path, leave=lambda: True)
    assert not list((cache / "corpora" / "tokens").glob("*/about.json"))
    assert made(path).train_documents


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, cache: Path) -> None:
    path = written(tmp_path, many())

    def more(done: int, total: int) -> None:
        with path.open("a") as file:
            file.write("x")

    with pytest.raises(LabError, match=r"a.txt changed while it was read: begin once whoever writes it is done"):
        made(path, progress=more)
    assert not list((cache / "corpora" / "tokens").glob("*/about.json"))


def test_a_bpe_is_the_same_in_every_process_whatever_its_threads(tmp_path: Path) -> None:
    program = (
        "import sys, hashlib\nfrom pathlib import Path\nfrom labqueue.llm.corpora import tokenizers\n"
        "made = tokenizers.learned([Path(sys.argv[1]).read_text()] * 3, 700)\n"
        "print(hashlib.sha256(made.to_str().encode()).hexdigest())"
    )
    found = set()
    for threads, hashing in (("1", "0"), ("2", "1"), ("4", "2")):
        told = os.environ | {"RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hashing}
        path = written(tmp_path, many())
        done = subprocess.run(
            [sys.executable, "-c", program, path], env=told, capture_output=True, text=True, check=True
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_a_bpe_learns_from_no_held_out_text(tmp_path: Path) -> None:
    texts_ = [f"{chr(0x4E00 + n) * 50} and some words of document {n}\n" for n in range(40)]
    corpus = made(written(tmp_path, texts_), TokenizerChoice(kind="bpe", vocabulary=2000))
    train, validation = texts(corpus)
    assert train
    assert validation
    whole = {text[0] for text in texts_ if len(corpus.tokenizer(text[:50])["input_ids"]) < 50}
    assert whole == {text[0] for text in train}


def test_a_text_with_a_special_tokens_letters_is_text(tmp_path: Path) -> None:
    rows = [{"text": f"{text} <|endoftext|> {text}"} for text in many()]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for choice in (BYTE, BPE, TokenizerChoice(kind="model", model="random-tiny")):
        corpus = made(tmp_path / "a.jsonl", choice)
        train, validation = texts(corpus)
        assert train | validation == {row["text"] for row in rows}


def test_the_tokenizer_opens_beside_a_models_config_as_it_was(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, LlamaConfig, Qwen3Config

    for choice in (CHARACTER, BYTE, BPE):
        corpus = made(written(tmp_path, [TEXT * 20]), choice)
        for config in (GPT2Config(), LlamaConfig(), Qwen3Config()):
            corpus.tokenizer.save_pretrained(tmp_path / "model")
            config.save_pretrained(tmp_path / "model")
            again = AutoTokenizer.from_pretrained(tmp_path / "model")
            assert again(TEXT)["input_ids"] == corpus.tokenizer(TEXT)["input_ids"]
            assert again.decode(again(TEXT)["input_ids"]) == TEXT


def test_a_character_that_the_corpus_does_not_have_is_refused_by_its_tokenizer(tmp_path: Path) -> None:
    corpus = made(written(tmp_path, ["abc\n" * 20]), CHARACTER)
    assert corpus.vocabulary == 4
    assert corpus.end is None
    with pytest.raises(Exception, match="UNK"):
        corpus.tokenizer("abx")


def folder_with_words(folder: Path, count: int) -> Path:
    import tokenizers as hf
    from tokenizers import models, pre_tokenizers

    vocabulary = {f"w{number}": number for number in range(count)}
    tokenizer = hf.Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizers.wrapped(tokenizer, None).save_pretrained(folder)
    return folder


def test_ids_above_16_bits_are_kept_whole_and_an_embedding_without_them_is_refused(tmp_path: Path) -> None:
    choice = TokenizerChoice(kind="model", model=str(folder_with_words(tmp_path / "words", 70_000)))
    path = written(tmp_path, [" ".join(f"w{number}" for number in range(n, 70_000, 7)) for n in range(7)])
    corpus = made(path, choice)
    assert corpus.train.dtype == np.uint32
    assert sorted([*corpus.train.tolist(), *corpus.validation.tolist()]) == list(range(70_000))
    token_files.check_fits(corpus, context=64, embedding=70_000)
    with pytest.raises(LabError, match=r"tokens up to number 69,999, the embedding only 50,304 rows"):
        token_files.check_fits(corpus, context=64, embedding=50_304)


def test_a_models_tokenizer_is_pinned_by_its_files(tmp_path: Path) -> None:
    from labqueue.llm.corpora import model_tokenizers

    place = folder_with_words(tmp_path / "words", 100)
    path = written(tmp_path, ["w1 w2 w3 w4\n" * 20])
    pinned = TokenizerChoice(kind="model", model=str(place)).pinned()
    assert pinned.sha256 == model_tokenizers.pin(str(place)) is not None
    assert [assets.available(name) for name in pinned.assets] == [True]
    assert BPE.pinned() == BPE
    first = made(path, pinned)
    assert made(path, pinned).folder == first.folder
    folder_with_words(place, 101)
    with pytest.raises(LabError, match=r"tokenizer of '.*words' has changed since it was submitted"):
        made(path, pinned)
    assert made(path, TokenizerChoice(kind="model", model=str(place))).folder != first.folder


def test_a_tokenizer_that_pieces_would_change_gets_whole_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tokenizers as hf
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = hf.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")  # as SentencePiece's
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer.train_from_iterator(many(), trainers.BpeTrainer(vocab_size=500))
    tokenizers.wrapped(tokenizer, None).save_pretrained(tmp_path / "sentence")
    choice = TokenizerChoice(kind="model", model=str(tmp_path / "sentence"))
    monkeypatch.setattr(pieces, "PIECE", 64)
    path = written(tmp_path, many(10))
    corpus = made(path, choice)
    ids = [number for text in many(10) for number in corpus.tokenizer(text)["input_ids"]]
    assert sorted([*corpus.train.tolist(), *corpus.validation.tolist()]) == sorted(ids)
    monkeypatch.setattr(token_files, "WHOLE", 100)
    with pytest.raises(
        LabError, match=r"a document has more than 100 characters, and this tokenizer gives other tokens"
    ):
        made(path, choice, validation_share=0.3)


def test_a_corpus_shorter_than_a_context_is_refused(tmp_path: Path) -> None:
    corpus = made(written(tmp_path, ["short text"]))
    with pytest.raises(LabError, match=r"has 6 training tokens, a context of 64 needs at least 65: .* shorter context"):
        token_files.check_fits(corpus, context=64)
