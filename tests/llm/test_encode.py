"""Labels: the same tokens and the same mask as TRL's own preparation, whatever the template, and no row without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, packing, tokenize
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.models import tiny

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
            "prompt": tokenize.messages(row, answer=False),
            "completion": tokenize.messages(row, answer=True)[1:],
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
    ours = tokenize.encode(tokenizer, ROWS, 512).rows
    for row, theirs in zip(ours, oracle.train_dataset, strict=True):
        assert row["input_ids"] == theirs["input_ids"]
        assert row["labels"] == theirs["labels"]


def test_the_masked_part_is_the_prompt_and_the_rest_is_the_answer(tokenizer: Any) -> None:
    for row, encoded in zip(ROWS, tokenize.encode(tokenizer, ROWS, 512).rows, strict=True):
        learned = [token for token, label in zip(*encoded.values(), strict=True) if label != tokenize.IGNORED]
        assert tokenizer.decode(learned) == f"{row.answer}<|im_end|>\n"
        assert tokenize.loss_tokens(encoded) == len(learned)


def test_a_row_whose_prompt_fills_max_length_is_refused_with_its_source(tokenizer: Any) -> None:
    with pytest.raises(LabError, match=r"training row 1 \(source 1\) has a prompt of \d+ tokens, max_length is 49"):
        tokenize.encode(tokenizer, ROWS, 49)


def test_an_answer_that_is_cut_is_counted(tokenizer: Any) -> None:
    whole = tokenize.encode(tokenizer, ROWS, 512)
    longest = max(len(row["input_ids"]) for row in whole.rows)
    assert whole.truncated == 0
    assert tokenize.encode(tokenizer, ROWS, longest - 1).truncated == 1


def test_padding_is_masked_and_carries_no_loss_even_where_a_real_token_pads() -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [7], "labels": [7]}]
    batch = tokenize.Collator(pad_token_id=7)(rows)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [7, 7, 7]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [7, -100, -100]]


def test_a_base_model_without_a_template_gets_question_newline_answer_eos(tokenizer: Any) -> None:
    plain = tiny.tokenizer()
    plain.chat_template = None
    (row,) = tokenize.encode(plain, ROWS[:1], 512).rows
    assert plain.decode(row["input_ids"]) == "What is 2 + 2?\n4<|im_end|>"
    assert plain.decode([label for label in row["labels"] if label != tokenize.IGNORED]) == "4<|im_end|>"


TALK = Row(
    "Be brief.\n1+1?\n+1?",
    "3",
    7,
    (("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "+1?"), ("assistant", "3")),
)


def learned(tokenizer: Any, row: tokenize.TokenRow) -> str:
    return str(tokenizer.decode([label for label in row["labels"] if label != tokenize.IGNORED]))


def named(name: str) -> Any:
    made = tiny.tokenizer()
    made.add_special_tokens({"additional_special_tokens": list(chat_templates.LLAMA3.needs)})
    chat_templates.apply(made, name)
    return made


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("auto", "2<|im_end|>\n3<|im_end|>\n"),
        ("none", "2<|im_end|>3<|im_end|>"),
        ("chatml", "2<|im_end|>\n3<|im_end|>\n"),
        ("llama3", "2<|eot_id|>3<|eot_id|>"),
        ("alpaca", "2<|im_end|>3<|im_end|>"),
    ],
)
def test_every_assistant_turn_of_a_conversation_is_learned_through_its_end_and_nothing_else(
    name: str, expected: str
) -> None:
    tokenizer = named(name)
    (row,) = tokenize.encode(tokenizer, [TALK], 512).rows
    assert learned(tokenizer, row) == expected
    prompt = tokenize.prompt_ids(tokenizer, TALK)
    assert row["input_ids"][: len(prompt)] == prompt
    assert tokenizer.eos_token_id in row["labels"][len(prompt) :]  # where sampling stops


def test_llama_3_is_written_as_metas_model_card_does() -> None:
    tokenizer = named("llama3")
    (row,) = tokenize.encode(tokenizer, ROWS[:1], 512).rows
    assert tokenizer.decode(row["input_ids"]) == (
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is 2 + 2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n4<|eot_id|>"
    )


def test_full_loss_falls_on_every_token_but_the_first(tokenizer: Any) -> None:
    for row in tokenize.encode(tokenizer, (*ROWS, TALK), 512, loss="full").rows:
        assert row["labels"] == [tokenize.IGNORED, *row["input_ids"][1:]]


def test_an_unknown_template_and_one_whose_tokens_are_missing_are_refused_with_what_fits() -> None:
    with pytest.raises(LabError, match="unknown chat template 'chatmll': did you mean 'chatml'"):
        chat_templates.apply(tiny.tokenizer(), "chatmll")
    with pytest.raises(LabError, match=r"'llama3' needs the tokens .*<\|eot_id\|>.* use auto, none, or chatml, alpaca"):
        chat_templates.apply(tiny.tokenizer(), "llama3")


def test_the_templates_of_the_parameters_are_those_there_are() -> None:
    from labqueue.kinds.finetune.data import Data

    assert tuple(Data.model_json_schema()["properties"]["template"]["enum"]) == chat_templates.NAMES


def test_a_template_that_refuses_a_conversation_or_writes_the_prompt_otherwise_is_said(tokenizer: Any) -> None:
    strict = tiny.tokenizer()
    strict.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(
        LabError, match=r"refuses a conversation of the turns system, user.*: System role not supported"
    ):
        tokenize.encode(strict, [TALK], 512)
    moody = tiny.tokenizer()
    moody.chat_template = "{{ messages | length }}" + tiny.CHAT
    with pytest.raises(
        LabError, match=r"^training row 0 \(source 0\): .* writes the prompt differently once its answer follows"
    ):
        tokenize.encode(moody, ROWS, 512)


def test_a_template_that_writes_todays_date_writes_a_fixed_one() -> None:
    dated = tiny.tokenizer()
    dated.chat_template = (
        "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "{{ date_string }}" + tiny.CHAT
    )
    (row,) = tokenize.encode(dated, ROWS[:1], 512).rows
    assert dated.decode(row["input_ids"]).startswith(chat_templates.SETTINGS["date_string"])


def test_rows_without_any_loss_are_counted_and_the_first_named(tokenizer: Any) -> None:
    many = tuple(Row("x" * (40 + 10 * n), "y", n) for n in range(9))
    with pytest.raises(
        LabError, match=r"row 4 \(source 4\) .*row 6 .* in 5 of 9 of the training rows\. Raise"
    ) as raised:
        tokenize.encode(tokenizer, many, 90)
    assert raised.value.key == "max_length"
    with pytest.raises(LabError, match="in every one of the held-out rows"):
        tokenize.encode(tokenizer, many, 20, "held-out")


def test_the_preview_shows_which_tokens_are_learned(tokenizer: Any) -> None:
    rows = tokenize.encode(tokenizer, ROWS, 512).rows
    shown = tokenize.preview(tokenizer, rows, 1)
    assert len(shown) == len(rows[0]["input_ids"])
    assert "".join(token for _, _, token, _, learned, _ in shown if learned) == "4<|im_end|>\n"
    assert "".join(token for _, _, token, *_ in shown).startswith("<|im_start|>user\nWhat is 2 + 2?")
    assert [learned for *_, learned, _ in shown] == [False] * (len(shown) - 3) + [True] * 3, "the answer stands last"


def test_the_preview_of_a_packed_row_restarts_with_each_document(tokenizer: Any) -> None:
    rows = tokenize.encode(tokenizer, ROWS, 512, loss="full").rows
    (packed,) = packing.pack(rows, 512)
    shown = tokenize.preview(tokenizer, [packed], 1)
    first = [(position, learned, document) for _, position, _, _, learned, document in shown if position == 0]
    assert first == [(0, False, 0), (0, False, 1)]
    assert sum(learned for *_, learned, _ in shown) == len(packed["input_ids"]) - 2 == tokenize.loss_tokens(packed)
    texts = ["".join(token for _, _, token, *_, document in shown if document == one) for one in (0, 1)]
    assert all(text.startswith("<|im_start|>user") for text in texts)
