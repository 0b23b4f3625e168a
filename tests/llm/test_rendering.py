"""Rows that a tokenizer or a chat template would show otherwise than they are written: refused, with row and what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, lengths, rendering, tokenize
from labqueue.llm.data.files import records
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.models import tiny
from tests.llm.test_rows import ASKED, CALL, TOLD, WRAPPED, called, messages

QWEN = (
    "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool | tojson }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}{{ m.content }}"
    "{% for call in m.tool_calls %}{{ '<call>' + call.function | tojson + '</call>' }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As Qwen3's writes tools, calls and reasoning, in short."""

ALTERNATING = (
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant') }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As Mistral's and Gemma's do."""


def tokenizer(template: str | None = tiny.CHAT) -> Any:
    made = tiny.tokenizer()
    made.chat_template = template
    return made


def row(value: dict[str, Any], number: int = 7) -> Row:
    found = records.collect([(number, value)], None, "rows", "line", lambda at: {"line": at})
    return found.rows[0]


def learned(encoded: tokenize.TokenRow) -> str:
    return str(tokenizer().decode([label for label in encoded["labels"] if label != tokenize.IGNORED]))


CALLED = row({"messages": called({"tool_calls": [CALL]}), "tools": [WRAPPED]})
THOUGHT = row(messages(ASKED, TOLD | {"reasoning_content": "It is dry."}))


def test_tools_calls_and_reasoning_are_shown_where_the_template_knows_them() -> None:
    made = tokenizer(QWEN)
    encoded = tokenize.encode(made, [CALLED, THOUGHT], 4096).rows
    text = made.decode(encoded[0]["input_ids"])
    assert json.dumps(WRAPPED) in text
    assert json.dumps({"name": "weather", "arguments": {"city": "Paris"}}) in text
    assert learned(encoded[0]) == f"<call>{json.dumps(CALL)}</call><|im_end|>\nNo.<|im_end|>\n"
    assert learned(encoded[1]) == "<think>It is dry.</think>No.<|im_end|>\n"
    prompt = tokenize.prompt_ids(made, CALLED)
    assert encoded[0]["input_ids"][: len(prompt)] == prompt


@pytest.mark.parametrize(
    ("which", "template", "reason"),
    [
        (CALLED, tiny.CHAT, r"row 1 \(source 7\): the chat template leaves out tools\. Name another data.template"),
        (row({"messages": called({"tool_calls": [CALL]})}), tiny.CHAT, "leaves out tool_calls of turn 2"),
        (THOUGHT, tiny.CHAT, "leaves out reasoning_content of turn 2"),
        (row(messages(ASKED, TOLD | {"thinking": "It is dry."})), QWEN, "leaves out thinking of turn 2"),
        (CALLED, None, "without a chat template nobody shows tool_calls"),
        (
            row(messages(ASKED, {"role": "assistant", "content": "?"}, {"role": "tool", "content": "dry"}, TOLD)),
            "{% for m in messages %}{% if m.role != 'tool' %}{{ m.role + m.content }}{% endif %}{% endfor %}",
            "leaves out the turns of tool",
        ),
        (
            row(messages({"role": "system", "content": "Be brief."}, ASKED, TOLD)),
            "{% for m in messages %}{% if m.role != 'system' %}{{ m.role + m.content }}{% endif %}{% endfor %}",
            r"leaves out or alters turn 1 \(system\)",
        ),
        (row(messages(TOLD, ASKED, TOLD)), ALTERNATING, "refuses a conversation of the turns assistant, user"),
    ],
)  # fmt: skip
def test_what_the_template_leaves_out_or_refuses_is_said_with_its_row(
    which: Row, template: str | None, reason: str
) -> None:
    with pytest.raises(LabError, match=reason) as raised:
        tokenize.encode(tokenizer(template), [Row("q", "a", 0), which], 4096)
    assert raised.value.key == "data.template"


def test_a_conversation_that_begins_with_the_assistant_is_learned_where_the_template_shows_it() -> None:
    hello = {"role": "assistant", "content": "Hello!"}
    for loss, expected in (("answer", "No.<|im_end|>\n"), ("full", "user\nRain?<|im_end|>\n")):
        # ``loss`` is one of the two literals, which a loop variable does not show.
        (encoded,) = tokenize.encode(tokenizer(), [row(messages(hello, ASKED, TOLD))], 4096, loss=loss).rows  # type: ignore[arg-type]
        assert "Hello!" in tokenizer().decode(encoded["input_ids"])
        assert "Hello!" not in learned(encoded)
        assert expected in learned(encoded)


@pytest.mark.parametrize("template", [tiny.CHAT, None, chat_templates.ALPACA.jinja])
@pytest.mark.parametrize("loss", ["answer", "full"])
def test_a_turn_of_weight_0_carries_no_loss(template: str | None, loss: Any) -> None:
    shown = {"role": "assistant", "content": "Perhaps.", "weight": 0}
    weighed = row(messages(ASKED, shown, {"role": "user", "content": "Sure?"}, TOLD))
    plain = row(messages(ASKED, shown | {"weight": 1}, {"role": "user", "content": "Sure?"}, TOLD))
    (with_weight,), (without,) = (
        tokenize.encode(tokenizer(template), [each], 4096, loss=loss).rows for each in (weighed, plain)
    )
    assert with_weight["input_ids"] == without["input_ids"]
    assert "Perhaps." in learned(without)
    assert "Perhaps." not in learned(with_weight)
    assert learned(with_weight) == learned(without).replace("Perhaps.<|im_end|>" + "\n" * (template == tiny.CHAT), "")


@pytest.mark.parametrize("token", tiny.SPECIAL)
@pytest.mark.parametrize("place", ["question", "answer", "turn", "call"])
def test_text_of_a_control_token_in_a_row_is_refused_with_row_and_token(token: str, place: str) -> None:
    text = f"say {token}system"
    bad = {
        "question": Row(text, "a", 7),
        "answer": Row("q", text, 7),
        "turn": row(messages(ASKED, TOLD, ASKED | {"content": text}, TOLD)),
        "call": row(messages(ASKED, TOLD | {"tool_calls": [{"name": "f", "arguments": {"x": text}}]})),
    }[place]
    with pytest.raises(LabError, match=r"training row 1 \(source 7\): the text '<.*\|>' in it would become") as raised:
        tokenize.encode(tokenizer(), [Row("a < b, a <| b", "<think> <|im_en|>", 0), bad, Row("q", "a", 9)], 4096)
    assert repr(token) in raised.value.message
    with pytest.raises(LabError, match=r"rows.jsonl:7: the text .* \(2 of 2 rows have such text\)"):
        rendering.check([bad, bad], rendering.of_tokenizer(tokenizer()), "training", file="rows.jsonl")


def test_what_is_asked_before_a_model_is_loaded_is_what_its_tokenizer_does(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    tiny.write(folder)
    for template in (QWEN, ALTERNATING, None):
        made = tokenizer(template)
        made.save_pretrained(folder)
        if template is None:
            (folder / "chat_template.jinja").unlink(missing_ok=True)
        early, late = rendering.of_model(str(folder), "auto"), rendering.of_tokenizer(made)
        assert early is not None
        assert set(early.control) == set(late.control) == set(tiny.SPECIAL)
        assert (early.render is None) == (late.render is None) == (template is None)
        if early.render is not None and late.render is not None:
            asked = row(messages(ASKED, TOLD | {"reasoning_content": "dry"}) | {"tools": [WRAPPED]}).messages()
            assert early.render(asked) == late.render(asked)
    assert rendering.of_model(str(folder), "none") == rendering.Rendering(tiny.SPECIAL, None)
    named = rendering.of_model("random-tiny", "llama3")
    assert named is not None
    assert set(named.control) == {*tiny.SPECIAL, *chat_templates.LLAMA3.needs}
    assert rendering.of_model(str(tmp_path / "none"), "auto") is None


def test_a_row_that_a_template_refuses_has_a_length_all_the_same(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    tokenizer(ALTERNATING).save_pretrained(tmp_path)
    refused = row(messages(TOLD, ASKED, TOLD))
    assert lengths.longest(str(tmp_path), [refused]) >= sum(len(text) for _, text in refused.turns)
    tokenizer(QWEN).save_pretrained(tmp_path)
    real = len(tokenize.encode(tokenizer(QWEN), [CALLED], 4096).rows[0]["input_ids"])
    assert lengths.longest(str(tmp_path), [CALLED]) >= real - 8
