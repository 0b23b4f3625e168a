"""Replies: the most likely token each time, ended where training ended, from a prompt that training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, lengths, replies, tokenize
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.evaluation import generate
from labqueue.llm.models import load, tiny
from labqueue.llm.training import lora, merge
from tests.llm import variants

END, TEXT_END, START = 2, 0, 1
"""Ids of <|im_end|>, <|endoftext|> and <|im_start|>."""

QUESTIONS = tuple(Row("what" * (1 + number), "7", number) for number in range(5))

HOSTILE = {
    "repetition_penalty": 1.5,
    "num_beams": 3,
    "do_sample": True,
    "temperature": 3.0,
    "min_new_tokens": 3,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [70, 80, 90],
    "begin_suppress_tokens": [60],
    "bad_words_ids": [[50], [40, 41]],
    "sequence_bias": [[[30], 9.0]],
    "forced_eos_token_id": 33,
    "exponential_decay_length_penalty": [1, 1.5],
    "renormalize_logits": True,
    "max_length": 3,
    "stop_strings": ["a"],
}


def loaded(folder: Path | str) -> load.Loaded:
    return load.load_model(str(folder), backend="hf", quantization="none", dtype="float32")


def by_hand(model: Any, prompt: list[int], ends: set[int], new: int) -> list[int]:
    """The most likely token, again and again."""
    import torch

    ids = list(prompt)
    for _ in range(new):
        with torch.no_grad():
            token = int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())
        if token in ends:
            break
        ids.append(token)
    return ids[len(prompt) :]


def often(model: Any) -> set[int]:
    """Tokens that the model says a while after it began: ends that cut replies at different places."""
    spoken = [by_hand(model, tokenize.prompt_ids(tiny.tokenizer(), row), set(), 8) for row in QUESTIONS]
    return {spoken[0][5], spoken[1][3]}


@pytest.mark.parametrize("adapter", [False, True])
def test_a_reply_is_the_most_likely_token_each_time_whatever_the_folder_says(tmp_path: Path, adapter: bool) -> None:
    import torch

    found = loaded(variants.folder(tmp_path / "model", generation=HOSTILE))
    generate.settle(found, "auto")
    model = found.model
    if adapter:
        model = lora.add_lora(
            found,
            rank=4,
            alpha=8.0,
            dropout=0.0,
            scaling="standard",
            targets="all-linear",
            seed=0,
            max_length=64,
            gradient_checkpointing=False,
        )
        torch.manual_seed(0)
        for name, value in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(value)
    model.eval()
    ends = often(model)
    found.model.generation_config.eos_token_id = sorted(ends)
    before = found.model.generation_config.to_dict()
    expected = [by_hand(model, tokenize.prompt_ids(found.tokenizer, row), ends, 8) for row in QUESTIONS]
    assert {len(reply) for reply in expected} != {8}, "some end before their last token"
    for batch in (1, 3):
        given = generate.reply_tokens(model, found.tokenizer, QUESTIONS, max_new_tokens=8, batch=batch)
        assert given == expected
    assert found.model.generation_config.to_dict() == before, "chatting with the model is its own business"


def test_what_is_not_heeded_of_a_folders_generation_config_is_said(tmp_path: Path) -> None:
    found = loaded(variants.folder(tmp_path / "model", generation={"repetition_penalty": 1.1, "num_beams": 3}))
    said = generate.settle(found, "auto")[-1]
    assert "greedy (do_sample False, num_beams 1, " in said
    assert "end at <|im_end|> (2)" in said
    assert "ignored: num_beams 3, repetition_penalty 1.1" in said
    assert "ignored" not in generate.settle(loaded("random-tiny"), "auto")[-1]


@pytest.mark.parametrize(
    ("own", "template", "generation", "ends"),
    [
        ({}, "auto", None, [END]),
        ({"eos": "<|endoftext|>"}, "auto", None, [END, TEXT_END]),  # Qwen2.5's base models
        ({"eos": "<|endoftext|>"}, "none", END, [TEXT_END, END]),
        ({"eos": "<|endoftext|>"}, "chatml", [7, TEXT_END], [END, TEXT_END, 7]),
        ({"eos": "<|endoftext|>"}, "alpaca", None, [TEXT_END]),
        ({"eos": None}, "auto", None, [END]),
        ({"chat": variants.NO_PROMPT}, "auto", None, [END]),
        ({"chat": None}, "auto", [5, 9], [END, 5, 9]),
    ],
)
def test_a_reply_ends_where_the_template_ends_an_answer_and_at_each_eos_of_tokenizer_and_folder(
    tmp_path: Path, own: dict[str, Any], template: str, generation: Any, ends: list[int]
) -> None:
    found = loaded(variants.folder(tmp_path / "model", generation={"eos_token_id": generation}, **own))
    generate.settle(found, template)
    assert list(generate.ends(found.model)) == ends
    (row,) = tokenize.encode(found.tokenizer, QUESTIONS[:1], 512).rows
    prompt = tokenize.prompt_ids(found.tokenizer, QUESTIONS[0])
    assert row["input_ids"][: len(prompt)] == prompt
    assert row["labels"][: len(prompt)] == [tokenize.IGNORED] * len(prompt), "no loss on the header"
    assert row["labels"][len(prompt) + 1] == ends[0], "the end carries loss, right after the answer's one token"
    # What is kept ends there wherever it is opened.
    merge.save_model(found.model, found.tokenizer, tmp_path / "kept")
    again = loaded(tmp_path / "kept")
    assert again.model.generation_config.eos_token_id == ends
    assert again.model.config.eos_token_id == again.tokenizer.eos_token_id == ends[0]
    assert again.tokenizer.chat_template == found.tokenizer.chat_template


def test_a_tokenizers_eos_that_its_template_writes_elsewhere_stays_what_it_is() -> None:
    made = variants.tokenizer(chat="{{ eos_token }}" + tiny.CHAT, eos="<|endoftext|>")
    applied = chat_templates.apply(made, "auto")
    assert applied.ends == (END, TEXT_END)
    assert made.eos_token == "<|endoftext|>"
    assert "ends an answer with <|im_end|> (2), the tokenizer's eos_token is <|endoftext|>" in applied.notes[0]


def test_a_published_temperature_does_not_keep_a_model_from_being_saved(tmp_path: Path) -> None:
    found = loaded(variants.folder(tmp_path / "model", generation={"temperature": 0.6, "top_p": 0.9}))
    merge.save_model(found.model, found.tokenizer, tmp_path / "kept")
    assert loaded(tmp_path / "kept").model.generation_config.temperature == 0.6


def test_a_template_that_never_begins_the_assistants_turn_is_completed_and_that_is_said() -> None:
    made = variants.tokenizer(chat=variants.NO_PROMPT)
    (note,) = chat_templates.apply(made, "auto").notes
    assert "does not begin the assistant's turn (add_generation_prompt): '<|im_start|>assistant\\n'" in note
    asked = [{"role": "user", "content": "a"}]
    assert chat_templates.render(made, asked, prompt=True) == "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    assert chat_templates.render(made, asked) == "<|im_start|>user\na<|im_end|>\n"
    assert chat_templates.apply(made, "auto").notes == (), "once is enough"


def test_a_space_that_belongs_to_the_answers_first_token_is_no_header() -> None:
    made = variants.tokenizer(chat=variants.SPACED)
    assert chat_templates.apply(made, "auto").notes == ()
    (row,) = tokenize.encode(made, QUESTIONS[:1], 512).rows
    assert made.decode([label for label in row["labels"] if label >= 0]) == " 7<|im_end|>"


@pytest.mark.parametrize("template", ["none", "alpaca"])
def test_a_tokenizer_that_appends_its_eos_appends_it_to_no_prompt(template: str) -> None:
    made = variants.tokenizer(chat=None, appends=True)
    assert made("a")["input_ids"][-1] == END
    chat_templates.apply(made, template)
    prompt = tokenize.prompt_ids(made, QUESTIONS[0])
    (row,) = tokenize.encode(made, QUESTIONS[:1], 512).rows
    assert prompt[0] == START, "its bos stays where it was"
    assert END not in prompt
    assert row["input_ids"] == [*prompt, *made("7", add_special_tokens=False)["input_ids"], END]


def test_an_empty_thought_of_a_reasoning_model_stands_in_the_prompt_and_carries_no_loss() -> None:
    made = variants.tokenizer(chat=variants.THOUGHTFUL)
    assert chat_templates.apply(made, "auto").notes == ()
    (row,) = tokenize.encode(made, QUESTIONS[:1], 512).rows
    assert made.decode([label for label in row["labels"] if label >= 0]) == "7<|im_end|>\n"
    assert made.decode(tokenize.prompt_ids(made, QUESTIONS[0])).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_template_that_always_writes_todays_date_writes_a_fixed_one() -> None:
    (row,) = tokenize.encode(variants.tokenizer(chat=variants.DATED), QUESTIONS[:1], 512).rows
    assert tiny.tokenizer().decode(row["input_ids"]).startswith("26 Jul 2024<|im_start|>")


TALK = Row("", "2", 7, (("system", "Be brief."), ("user", "1+1?"), ("assistant", "2")))
FOUR = Row("", "2", 7, (("user", "1+1?"), ("assistant", "2"), ("user", "Sure?"), ("assistant", "Yes")))
THOUGHT = Row("", "3", 8, (("user", "1+1?"), ("assistant", "<think>hm</think>2"), ("user", "+1?"), ("assistant", "3")))


@pytest.mark.parametrize(
    ("chat", "row", "reason"),
    [
        (
            variants.STRICT,
            TALK,
            r"refuses a conversation of the turns system, user.*: System role not supported\. Leave",
        ),
        (variants.DEAF, TALK, r"leaves out or alters turn 1 \(system\), 'Be brief\.'"),
        (variants.THOUGHTFUL, THOUGHT, r"leaves out or alters turn 2 \(assistant\), '<think>hm</think>2'"),
        (
            variants.BROKEN,
            FOUR,
            "refuses a conversation .*: division by zero",
        ),
    ],
)
def test_a_row_that_a_template_refuses_or_alters_is_named(chat: str, row: Row, reason: str) -> None:
    with pytest.raises(LabError, match=rf"^training row 1 \(source {row.key}\): the chat template {reason}"):
        tokenize.encode(variants.tokenizer(chat=chat), [QUESTIONS[0], row], 512)


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"chat": variants.ENDLESS}, r"writes '\\n' after an answer: nothing would teach .* chatml or alpaca, or give"),
        ({"chat": None, "eos": None}, "neither a chat template nor an eos_token: .* name the chat template chatml, or"),
        ({"chat": variants.LOUD}, r"does not write an answer as it is given: 'Zebra' becomes '.*ZEBRA"),
        ({"chat": variants.EMPHATIC}, "writes the prompt differently once its answer follows"),
    ],
)
def test_a_template_that_teaches_no_end_or_no_prompt_is_refused_before_and_after_loading(
    tmp_path: Path, own: dict[str, Any], reason: str
) -> None:
    with pytest.raises(LabError, match=reason):
        chat_templates.apply(variants.tokenizer(**own), "auto")
    with pytest.raises(LabError, match=reason):
        replies.check(str(variants.folder(tmp_path / "model", **own)), "auto")


@pytest.mark.parametrize(
    "chat", [tiny.CHAT, variants.NO_PROMPT, variants.THOUGHTFUL, variants.DATED, variants.DEAF, None]
)
def test_what_is_read_of_a_folder_before_loading_is_what_the_loaded_tokenizer_writes(
    tmp_path: Path, chat: str | None
) -> None:
    made = variants.tokenizer(chat=chat, appends=True)
    found = lengths.opened(str(variants.folder(tmp_path / "model", chat=chat, appends=True)), "auto")
    assert found is not None
    assert found.positions == 1024
    turns = tokenize.messages(TALK, answer=True)
    assert found.tokens("a<|im_end|>", True) == made("a<|im_end|>")["input_ids"]
    assert found.tokens("a<|im_end|>", False) == made("a<|im_end|>", add_special_tokens=False)["input_ids"]
    if chat is not None:
        assert found.render(turns[:2], True) == chat_templates.render(made, turns[:2], prompt=True)
        assert found.render(turns, False) == chat_templates.render(made, turns)


def test_a_prompt_without_room_for_the_reply_is_named_and_none_is_refused_that_has_room(tmp_path: Path) -> None:
    folder = variants.folder(tmp_path / "model", config={"max_position_embeddings": 64})
    found = loaded(folder)
    rows = [*QUESTIONS, Row("x" * 25, "7", 9)]
    sizes = [len(tokenize.prompt_ids(found.tokenizer, row)) for row in rows]
    room = 64 - sizes[-1]
    assert sizes[-1] == max(sizes)
    replies.check(str(folder), "auto", (), rows, max_new_tokens=room)
    assert len(generate.answers(found.model, found.tokenizer, rows, max_new_tokens=room)) == 6
    reason = (
        rf"row 9 \('x+'\) is a prompt of {sizes[-1]} tokens, {room + 1} of .* positions for 64: set .* to {room} at"
    )
    with pytest.raises(LabError, match=reason):
        replies.check(str(folder), "auto", (), rows, max_new_tokens=room + 1)
    with pytest.raises(LabError, match=reason):
        generate.answers(found.model, found.tokenizer, rows, max_new_tokens=room + 1)


def test_an_earlier_turn_whose_prompt_is_written_otherwise_is_found_before_loading(tmp_path: Path) -> None:
    folder = str(variants.folder(tmp_path / "model", chat=variants.THOUGHTFUL))
    made = variants.tokenizer(chat=variants.THOUGHTFUL)
    for refuse in (
        lambda row: replies.check(folder, "auto", [row], place="line"),
        lambda row: tokenize.encode(made, [row], 512),
    ):
        refuse(QUESTIONS[0])
        with pytest.raises(
            LabError, match=r"(line|\(source) 7.* writes the prompt differently once its answer follows"
        ):
            refuse(FOUR)
    replies.check(folder, "auto", [FOUR], masked=False)
    assert tokenize.encode(made, [FOUR], 512, loss="full").truncated == 0
