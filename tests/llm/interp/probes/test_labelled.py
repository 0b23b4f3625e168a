"""Labels: each stands at its own token, and what must not be on both sides of a split shares a group."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from labqueue.domain.errors import LabError
from labqueue.llm.activations import extract_activations
from labqueue.llm.interp.probes import labelled, states
from labqueue.llm.models import load

TAGGED = [
    "The/at dog/nn quickly/rb ran/vbd ./. It/pps saw/vbd 3/cd cats/nns and/cc a/at mouse/nn in/in Rome/np ./.\n"
    "She/pps is/bez very/ql old/jj ,/, who/wps would/md know/vb ?/. Of/in course/nn he/pps had/hvd two/cd dogs/nns ./.",
] * 12
CAPITALS = ["".join(f"Land{n}\tCity{n}\n" for n in range(40))]


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load.load_model("random-tiny", dtype="float32")


def shown(found: labelled.Labelled) -> list[tuple[str, str]]:
    """(what the text has up to and with the sample's token, its class)."""
    told, at = [], 0
    for text, offsets, places in zip(found.texts, found.batch.offsets, found.places, strict=True):
        for place in places:
            told.append((text[: offsets[place][1]], found.classes[found.labels[at]]))
            at += 1
    assert at == len(found)
    return told


def test_a_words_label_stands_at_its_last_token(tiny: Any) -> None:
    found = labelled.part_of_speech(TAGGED, tiny.tokenizer, count=8, words=50, seed=0, limit=256)
    told = shown(found)
    for begin, name in (
        ("The", "determiner"), ("The dog", "noun"), ("The dog quickly", "adverb"), ("The dog quickly ran", "verb"),
        ("The dog quickly ran .", "punctuation"), ("The dog quickly ran . It", "pronoun"),
        ("The dog quickly ran . It saw 3", "number"), ("The dog quickly ran . It saw 3 cats and", "conjunction"),
    ):  # fmt: skip
        assert told.count((begin, name)) == 8
    assert len(found) == 8 * 31
    assert len(np.unique(found.groups)) == 8
    words = [begin.split()[-1].lower() for begin, _ in told]
    for one, other in ((0, 31), (2, 5)):
        assert (words[one] == words[other]) == (found.types[one] == found.types[other])


def test_tags_of_one_beginning_fall_into_the_class_of_the_longest() -> None:
    assert labelled._part("which", "wdt") == "determiner"
    assert labelled._part("who", "wps") == "pronoun"
    assert labelled._part("where", "wrb") == "adverb"
    assert labelled._part("l'etat", "fw-at+nn") == "determiner"
    assert labelled._part("oh", "uh") == "other"
    assert labelled._part("--", "--") == "punctuation"


def test_the_next_tokens_class_is_of_the_token_that_follows(tiny: Any) -> None:
    texts = [f"one 23, two\nthree number {n} ends. And more words follow here" for n in range(9)]
    found = labelled.next_token_class(texts, tiny.tokenizer, count=9, words=50, seed=0, limit=256)
    at = 0
    for text, offsets, places in zip(found.texts, found.batch.offsets, found.places, strict=True):
        for place in places:
            piece = text[slice(*offsets[place + 1])]
            name = found.classes[found.labels[at]]
            assert ("\n" in piece) == (name == "line break")
            if name == "number":
                assert piece.strip()[0].isdigit()
            at += 1
    assert {"number", "punctuation"} <= set(found.classes)


def test_statements_are_half_true_and_share_no_country_or_capital_with_another_group(tiny: Any) -> None:
    found = labelled.truth(CAPITALS, tiny.tokenizer, count=40, seed=3, limit=256)
    told = {}
    for text, label, group in zip(found.texts, found.labels, found.groups, strict=True):
        country, capital = text.removeprefix("The capital of ").removesuffix(".").split(" is ")
        assert (country[4:] == capital[4:]) == (found.classes[label] == "true")
        for name in (country, capital):
            assert told.setdefault(name, group) == group
        assert found.places[found.texts.index(text)] == [len(found.batch.tokens[found.texts.index(text)]) - 1]
    assert found.labels.sum() == 20
    names = [name for text in found.texts for name in told if f"{name} is" in text or f"is {name}." in text]
    assert {names.count(name) for name in told} == {2}, "each once in a true and once in a false statement"
    again = labelled.truth(CAPITALS, tiny.tokenizer, count=40, seed=3, limit=256)
    assert again.texts == found.texts
    assert labelled.truth(CAPITALS, tiny.tokenizer, count=40, seed=4, limit=256).texts != found.texts


def test_a_token_that_the_tokenizer_puts_behind_a_text_is_neither_read_nor_a_class(tiny: Any) -> None:
    ending = copy.deepcopy(tiny.tokenizer)
    last = ending.convert_ids_to_tokens(2)
    ending.backend_tokenizer.post_processor = TemplateProcessing(single=f"$A {last}", special_tokens=[(last, 2)])
    for make, given in (
        (labelled.truth, {"documents": CAPITALS, "count": 16}),
        (labelled.next_token_class, {"documents": TAGGED, "count": 8, "words": 12}),
        (labelled.part_of_speech, {"documents": TAGGED, "count": 8, "words": 12}),
    ):
        with_end = make(tokenizer=ending, seed=0, limit=256, **given)
        without = make(tokenizer=tiny.tokenizer, seed=0, limit=256, **given)
        assert with_end.batch.lengths == [count + 1 for count in without.batch.lengths]
        assert with_end.places == without.places
        assert with_end.classes == without.classes
        assert with_end.labels.tolist() == without.labels.tolist()


def test_states_are_those_that_extraction_gives(tiny: Any) -> None:
    found = labelled.part_of_speech(TAGGED, tiny.tokenizer, count=8, words=12, seed=0, limit=256)
    held = states.states(tiny.model, tiny.tokenizer, found, [0, 1, 2])
    row = 0
    for text, places in zip(found.texts, found.places, strict=True):
        alone = extract_activations(tiny.model, tiny.tokenizer, text).activations
        for place in places:
            for layer, stream in ((0, alone[0]["pre_attn"]), (1, alone[0]["post_ffn"]), (2, alone[1]["post_ffn"])):
                assert torch.allclose(torch.from_numpy(held[layer][row]), stream[0, place], atol=1e-5)
            row += 1
    assert row == len(found) == len(held[0])
    assert states.spread(30, 7) == [0, 5, 10, 15, 20, 25, 30]
    assert states.spread(2, 7) == [0, 1, 2]


def test_what_no_probe_can_be_fitted_on_is_refused(tiny: Any) -> None:
    with pytest.raises(LabError, match="13 documents are asked for, and the corpus has 12"):
        labelled.part_of_speech(TAGGED, tiny.tokenizer, count=13, words=12, seed=0, limit=256)
    with pytest.raises(LabError, match=r"'bare' has no tag: a tagged text has word/tag"):
        labelled.part_of_speech(["bare words"] * 9, tiny.tokenizer, count=8, words=12, seed=0, limit=256)
    with pytest.raises(LabError, match=r"one class \(noun\) of 5 samples or more: a probe needs two"):
        labelled.part_of_speech(["dog/nn dog/nn"] * 9, tiny.tokenizer, count=8, words=12, seed=0, limit=256)
    with pytest.raises(LabError, match="100 statements need 50 countries with their capitals, and there are 40"):
        labelled.truth(CAPITALS, tiny.tokenizer, count=100, seed=0, limit=256)
    with pytest.raises(LabError, match="positions for 16: shorten it"):
        labelled.part_of_speech(TAGGED, tiny.tokenizer, count=8, words=60, seed=0, limit=16)
    found = labelled.part_of_speech(TAGGED, tiny.tokenizer, count=8, words=12, seed=0, limit=256)
    with pytest.raises(LabError, match=r"layer 3 is not there: 0 \(the embedding\) to 2 are"):
        states.states(tiny.model, tiny.tokenizer, found, [3])
    with pytest.raises(LabError, match="1 layers are asked for"):
        states.spread(30, 1)
