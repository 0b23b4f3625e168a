"""What a model is measured on besides its training data: fixed items, apart from training, measured without a trace."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from labqueue.domain.errors import LabError
from labqueue.kinds.finetune.extra_evals import ExtraEval
from labqueue.llm.corpora import catalogue, windows
from labqueue.llm.data import tokenize
from labqueue.llm.data.generated import tasks
from labqueue.llm.evaluation import evaluate
from labqueue.llm.models import load

OPTIONS = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load.load_model("random-tiny", quantization="none").tokenizer


def of_task(tokenizer: Any, items: int, seed: int = 0) -> evaluate.Evaluation:
    return evaluate.of_task(tokenizer, "a", "chain_sum", options=OPTIONS, items=items, seed=seed, max_length=512)


def test_items_are_what_a_training_with_the_same_task_holds_out(tokenizer: Any) -> None:
    # So a second training, on something else, can measure what the first one learned, on questions neither saw.
    first = tasks.generated("chain_sum", train_items=3000, held_out_items=60, options=OPTIONS)
    measured = of_task(tokenizer, 40)
    assert measured.questions == first.held_out[:40]
    assert not {row.question for row in measured.questions} & {row.question for row in first.train}
    assert of_task(tokenizer, 40).sha256 == measured.sha256 != of_task(tokenizer, 40, seed=1).sha256


def test_training_rows_that_ask_what_is_measured_are_left_out(tokenizer: Any) -> None:
    other = tasks.generated("chain_sum", train_items=3000, held_out_items=4, options=OPTIONS, seed=5)
    measured = of_task(tokenizer, 60)
    asked = {row.question for row in measured.questions}
    kept = evaluate.decontaminate(other.train, [measured])
    assert asked & {row.question for row in other.train}, "else this shows nothing"
    assert kept == tuple(row for row in other.train if row.question not in asked)


def test_only_a_whole_answer_counts(tokenizer: Any) -> None:
    measured = of_task(tokenizer, 10)
    right = [row.answer for row in measured.questions]
    assert evaluate.exact(measured, right) == 1.0
    assert evaluate.exact(measured, [f"It is {answer}." for answer in right]) == 0.0
    assert evaluate.exact(measured, [answer + "0" for answer in right]) == 0.0
    assert evaluate.exact(measured, [*right[:3], *["x"] * 7]) == 0.3


def test_windows_are_equally_long_different_and_the_same_each_time(tokenizer: Any) -> None:
    text = windows.find("python_docs", None)
    rows = windows.windows(tokenizer, text, tokens=640, window=32)
    assert [len(row["input_ids"]) for row in rows] == [32] * 20
    assert len({tuple(row["input_ids"]) for row in rows}) == 20
    assert sum(tokenize.loss_tokens(row) for row in rows) == 20 * 31
    assert rows == windows.windows(tokenizer, text, tokens=640, window=32)
    # A window is a run of tokens of one document.
    whole = [tokenizer(document, add_special_tokens=False)["input_ids"] for document in text.documents]
    assert all(any(_within(row["input_ids"], ids) for ids in whole) for row in rows)


def _within(part: list[int], whole: list[int]) -> bool:
    return any(whole[at : at + len(part)] == part for at in range(0, len(whole), len(part)))


def test_a_text_that_is_too_short_missing_or_unknown_is_said(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("too short")
    with pytest.raises(LabError, match=r"text.txt has 0 tokens in whole windows of 16, 64 were asked for"):
        windows.windows(tokenizer, windows.find(None, str(file)), tokens=64, window=16)
    file.write_text(" \n")
    with pytest.raises(LabError, match="has no text"):
        windows.find(None, str(file))
    with pytest.raises(LabError, match=r"none.txt' does not exist"):
        windows.find(None, str(tmp_path / "none.txt"))
    with pytest.raises(LabError, match="did you mean 'python_docs'"):
        windows.find("python_doc", None)


def test_the_kind_knows_every_corpus_of_the_catalogue_that_fits_in_memory() -> None:
    annotation = ExtraEval.model_fields["corpus"].annotation
    literal, _ = get_args(annotation)
    assert set(get_args(literal)) == {name for name, corpus in catalogue.CATALOGUE.items() if corpus.in_memory}
    assert all(corpus.licence and (corpus.characters or 0) > 1000 for corpus in catalogue.CATALOGUE.values())


def test_a_corpus_that_is_measured_on_has_to_be_on_the_machine() -> None:
    measured = ExtraEval(name="novels", corpus="austen")
    assert measured.assets == ["corpus:austen"]
    assert ExtraEval(name="text", path="a.txt").assets == []


def test_the_loss_is_that_of_the_models_own_cross_entropy_whatever_the_batch(bench: Callable[..., Any]) -> None:
    import torch

    made = bench()
    text = windows.find("python_docs", None)
    rows = windows.windows(made.loaded.tokenizer, text, tokens=160, window=32)
    measured = evaluate.Evaluation("text", rows, (), None, "python_docs", "", "")
    losses = []
    for row in rows:
        ids = torch.tensor([row["input_ids"]])  # [1, position]
        with torch.no_grad():
            losses.append(float(made.trainer.model(input_ids=ids, labels=ids).loss))
    made.trainer.model.train()
    before = torch.get_rng_state()
    assert evaluate.loss(made.trainer, measured) == pytest.approx(math.fsum(losses) / len(losses), rel=1e-5)
    assert made.trainer.model.training
    assert torch.equal(before, torch.get_rng_state())


def test_batching_answers_changes_none_of_them(bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench()
    measured = evaluate.of_task(
        made.loaded.tokenizer, "a", "chain_sum", options={"max_terms": 4}, items=7, seed=0, max_length=512
    )

    def answers() -> list[str]:
        return evaluate.answers(
            made.adapted, made.loaded.tokenizer, measured, backend="hf", gradient_checkpointing=False
        )

    together = answers()
    monkeypatch.setattr(evaluate, "CPU_TOKENS", 1)
    assert answers() == together
    assert evaluate.answer_batch(made.adapted, made.loaded.tokenizer, measured.questions, 4) == 1
