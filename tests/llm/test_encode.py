"""Labels: the same tokens and the same mask as TRL's own preparation, and no row without an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import encode, tiny
from labqueue.llm.tasks import Row

ROWS = (Row("What is 2 + 2?", "4", 0), Row("Spell hello backwards, please.", "olleh it is", 1))


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer()


def test_labels_equal_those_of_trls_own_preparation(tokenizer: Any, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    raw = [
        {
            "prompt": encode.messages(row, answer=False),
            "completion": encode.messages(row, answer=True)[1:],
        }
        for row in ROWS
    ]
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], completion_only_loss=True, max_length=512
    )
    oracle = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny.folder()),
        args=config,
        train_dataset=Dataset.from_list(raw),
        processing_class=tokenizer,
    )
    ours = encode.encode(tokenizer, ROWS, 512).rows
    for row, theirs in zip(ours, oracle.train_dataset, strict=True):
        assert row["input_ids"] == theirs["input_ids"]
        assert row["labels"] == theirs["labels"]


def test_the_masked_part_is_the_prompt_and_the_rest_is_the_answer(tokenizer: Any) -> None:
    for row, encoded in zip(ROWS, encode.encode(tokenizer, ROWS, 512).rows, strict=True):
        learned = [token for token, label in zip(*encoded.values(), strict=True) if label != encode.IGNORED]
        assert tokenizer.decode(learned) == f"{row.answer}<|im_end|>\n"
        assert encode.loss_tokens(encoded) == len(learned)


def test_a_row_whose_prompt_fills_max_length_is_refused_with_its_source(tokenizer: Any) -> None:
    with pytest.raises(LabError, match=r"training row 1 \(source 1\) has a prompt of \d+ tokens, max_length is 49"):
        encode.encode(tokenizer, ROWS, 49)


def test_an_answer_that_is_cut_is_counted(tokenizer: Any) -> None:
    whole = encode.encode(tokenizer, ROWS, 512)
    longest = max(len(row["input_ids"]) for row in whole.rows)
    assert whole.truncated == 0
    assert encode.encode(tokenizer, ROWS, longest - 1).truncated == 1


def test_padding_is_masked_and_carries_no_loss_even_where_a_real_token_pads() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [7], "labels": [7]}]
    batch = encode.Collator(pad_token_id=7)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [7, 7, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [7, -100, -100]]


def test_a_base_model_without_a_template_gets_question_newline_answer_eos(tokenizer: Any) -> None:
    plain = tiny.tokenizer()
    plain.chat_template = None
    (row,) = encode.encode(plain, ROWS[:1], 512).rows
    assert plain.decode(row["input_ids"]) == "What is 2 + 2?\n4<|im_end|>"
    assert plain.decode([label for label in row["labels"] if label != encode.IGNORED]) == "4<|im_end|>"


def test_the_preview_shows_which_tokens_are_learned(tokenizer: Any) -> None:
    rows = encode.encode(tokenizer, ROWS, 512).rows
    shown = encode.preview(tokenizer, rows, 1)
    assert len(shown) == len(rows[0]["input_ids"])
    assert "".join(token for _, _, token, _, learned in shown if learned) == "4<|im_end|>\n"
