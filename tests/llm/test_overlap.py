"""What two rows share: nothing that is held out is trained on, whatever the form of the conversations."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.llm.data import overlap
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.data.split import divided, load
from labqueue.llm.evaluation import evaluate


def talk(key: int, *turns: tuple[str, str], unlearned: frozenset[int] = frozenset()) -> Row:
    question = "\n".join(text for role, text in turns[:-1] if role != "assistant")
    return Row(question, turns[-1][1], key, turns, unlearned=unlearned)


def row(key: int, *texts: str, system: str = "") -> Row:
    roles = ["user", "assistant"] * len(texts)
    turns = [("system", system)] * bool(system) + list(zip(roles, texts, strict=False))
    return talk(key, *turns)


def pairs(each: Row) -> set[tuple[str, str]]:
    """Question and answer of every turn of the assistant, read off the turns: what nothing else may train on."""
    found, last = set(), ""
    for role, text in each.turns or (("user", each.question), ("assistant", each.answer)):
        if role == "assistant":
            found.add((last, " ".join(text.lower().split())))
        elif role == "user":
            last = " ".join(text.lower().split())
    return found


def asked(each: Row) -> list[str]:
    return [" ".join(text.lower().split()) for role, text in each.turns if role == "user"]


WORD = st.sampled_from(["a", "A ", "b", "c", "d", "e", "go on", "f", "g", "h"])
TALKS = st.lists(
    st.tuples(st.sampled_from(["", "x", "y"]), st.lists(st.tuples(WORD, WORD), min_size=1, max_size=3)),
    min_size=2,
    max_size=30,
)


@settings(max_examples=200)
@given(TALKS, st.integers(1, 3), st.integers(0, 3))
def test_no_held_out_question_and_no_held_out_answer_to_one_is_trained_on(talks: Any, items: int, seed: int) -> None:
    rows = [row(n, *(w for pair in texts for w in pair), system=system) for n, (system, texts) in enumerate(talks)]
    try:
        split = divided(rows, train_items=None, held_out_items=items, seed=seed, name="rows")
    except LabError:
        return  # too many of them ask the same
    assert len(split.held_out) == items
    for held in split.held_out:
        for trained in split.train:
            assert not pairs(held) & pairs(trained)
            assert asked(held)[0] not in asked(trained)
            assert asked(trained)[0] not in asked(held)
    left_out = len(rows) - len(split.held_out) - len(split.train)
    assert bool(left_out) == any(f"{left_out} rows left out of training" in note for note in split.notes)


def test_a_conversation_and_its_beginning_are_not_parted_by_the_split() -> None:
    rows = [row(2 * n, f"q{n}", f"a{n}") for n in range(20)]
    rows += [row(2 * n + 1, f"q{n}", f"a{n}", f"p{n}", f"b{n}") for n in range(20)]
    split = divided(rows, train_items=None, held_out_items=5, seed=0, name="rows")
    assert not {r.question.split("\n")[0] for r in split.held_out} & {r.question.split("\n")[0] for r in split.train}
    assert (len(split.held_out), len(split.train)) == (5, 30)


def test_one_question_under_three_system_prompts_is_one_question() -> None:
    rows = [row(10 * n + at, f"q{n}", f"a{n}{at}", system=f"s{at}") for n in range(12) for at in range(3)]
    split = divided(rows, train_items=None, held_out_items=4, seed=0, name="rows")
    assert not {asked(r)[0] for r in split.held_out} & {asked(r)[0] for r in split.train}
    assert (len(split.held_out), len(split.train)) == (4, 24)


def test_a_later_question_alone_is_another_one_in_another_conversation() -> None:
    rows = [row(n, f"q{n}", f"a{n}", "Go on.", f"b{n}") for n in range(20)]
    split = divided(rows, train_items=None, held_out_items=5, seed=0, name="rows")
    assert (len(split.held_out), len(split.train)) == (5, 15)


def test_a_greeting_that_every_row_begins_with_is_named_and_with_weight_0_is_no_question() -> None:
    turns = [(("user", "Hi"), ("assistant", "Hello!"), ("user", f"q{n}"), ("assistant", f"a{n}")) for n in range(20)]
    rows = [talk(n, *each) for n, each in enumerate(turns)]
    with pytest.raises(LabError, match=r"20 rows, 0 of them .* 20 rows ask 'hi': .* give the answer to it weight: 0"):
        divided(rows, train_items=None, held_out_items=5, seed=0, name="rows")
    rows = [talk(n, *each, unlearned=frozenset({1})) for n, each in enumerate(turns)]
    split = divided(rows, train_items=None, held_out_items=5, seed=0, name="rows")
    assert (len(split.held_out), len(split.train)) == (5, 15)


def written(path: Path, *conversations: list[str]) -> str:
    roles = ("user", "assistant")
    values = [
        {"messages": [{"role": roles[at % 2], "content": text} for at, text in enumerate(each)]}
        for each in conversations
    ]
    path.write_text("\n".join(map(json.dumps, values)))
    return str(path)


@pytest.mark.parametrize(
    "held_out",
    [["q1", "other"], ["q1", "a1", "q9", "a9"], ["p1", "x"], ["q9", "a9", "q1", "x"], ["q9", "x", "P1 ", "b1"]],
)
def test_an_own_held_out_file_keeps_the_same_rule(tmp_path: Path, held_out: list[str]) -> None:
    train = written(tmp_path / "train.jsonl", ["q0", "a0"], ["q1", "a1", "p1", "b1"])
    other = written(tmp_path / "held_out.jsonl", ["q5", "a5"], held_out)
    with pytest.raises(LabError, match=r"1 rows of train.jsonl ask .* its line 2 .* which is line 2 of held_out.jsonl"):
        load(path=train, eval_path=other, eval_items=1)
    fine = written(tmp_path / "fine.jsonl", ["q5", "a5"], ["q6", "a6", "p1", "b2"])
    assert len(load(path=train, eval_path=fine, eval_items=2).train) == 2


def test_a_conversation_in_which_what_is_measured_is_asked_is_left_out_of_training() -> None:
    measured = [Row("What is 1 + 1?", "2", 0)]
    training = [
        row(0, "what is 1 + 1?", "two"),
        row(1, "Hello", "Hi", "What is  1 + 1?", "2"),
        row(2, "Hello", "Hi", "What is 1 + 2?", "3"),
    ]
    one = evaluate.Evaluation("a", (), tuple(measured), None, "", "", "")
    assert [each.key for each in evaluate.decontaminate(training, [one])] == [2]


def test_thirty_thousand_conversations_are_split_in_seconds() -> None:
    rows = [row(n, f"q {n} " * 20, f"a {n} " * 20, f"p {n} " * 20, f"b {n} " * 20) for n in range(30_000)]
    before = time.process_time()
    split = divided(rows, train_items=None, held_out_items=64, seed=0, name="rows")
    assert time.process_time() - before < 5  # 0.5 s measured; comparing each row with each held-out one takes a minute
    assert len(split.train) == 30_000 - 64
    assert overlap.Asked.of(split.held_out).twin(split.held_out[3]) is split.held_out[3]
