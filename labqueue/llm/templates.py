"""Chat templates: how a conversation becomes one text. Knows tokenizers, no models and no runs.

A tokenizer comes with its model's own (``auto``); the others are for base models, and for asking what a template does.
Formats: ChatML (OpenAI 2023, as Qwen and SmolLM2 use it), Llama 3 (Meta's model card, without its dated system turn),
Alpaca (Taori et al. 2023, stanford_alpaca's prompt). ``none`` is the bare text: each turn and a newline, the answer
and the end-of-text token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.tasks import TOLD

TEMPLATE_DATE = "26 Jul 2024"
"""The day that Llama 3's own templates write into the system turn: their default, where they would otherwise write
today's, so that the same rows are other tokens tomorrow."""

FIXED: dict[str, Any] = {"date_string": TEMPLATE_DATE}
"""What every chat template is told besides the conversation."""


@dataclass(frozen=True)
class Template:
    """One template. ``needs`` are tokens that the tokenizer must have; ``end`` ends the assistant's turn (None: the
    tokenizer's own eos)."""

    jinja: str
    needs: tuple[str, ...] = ()
    end: str | None = None


CHATML = Template(
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>"),
    "<|im_end|>",
)

LLAMA3 = Template(
    "{{ '<|begin_of_text|>' }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "<|eot_id|>",
)

ALPACA = Template(
    "{{ 'Below is an instruction that describes a task. Write a response that appropriately completes the request.' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}{{ '\\n\\n### Response:\\n' + m['content'] + eos_token }}"
    "{% elif m['role'] == 'system' %}{{ '\\n\\n' + m['content'] }}"
    "{% else %}{{ '\\n\\n### Instruction:\\n' + m['content'] }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n\\n### Response:\\n' }}{% endif %}"
)

TEMPLATES = {"chatml": CHATML, "llama3": LLAMA3, "alpaca": ALPACA}

NAMES = ("auto", "none", *TEMPLATES)


def parted(messages: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Messages of a row as a chat template takes them, and what it is told besides: tools, the day."""
    told: dict[str, Any] = next((message[TOLD] for message in messages if TOLD in message), {})
    plain = (
        [{key: value for key, value in message.items() if key != TOLD} for message in messages] if told else messages
    )
    return plain, FIXED | told


def check(name: str) -> None:
    """Does nothing for a known name.

    Raises:
        LabError: there is none of that name; the message names the nearest.
    """
    if name not in NAMES:
        raise LabError(f"unknown chat template {name!r}: {nearest(name, NAMES)}", key="data.template")


def apply(tokenizer: Any, name: str) -> None:
    """Makes the tokenizer render conversations so, and end its answers so: sampling stops where training did.

    Raises:
        LabError: unknown name, or a template whose tokens this tokenizer does not have (they would be spelt out in
            pieces, which no model was ever shown).
    """
    check(name)
    if name == "auto":
        return
    if name == "none":
        tokenizer.chat_template = None
        return
    template = TEMPLATES[name]
    known = tokenizer.get_vocab()
    missing = [token for token in template.needs if token not in known]
    if missing:
        fitting = [other for other, one in TEMPLATES.items() if all(token in known for token in one.needs)]
        raise LabError(
            f"chat template {name!r} needs the tokens {', '.join(missing)}, which this model's tokenizer lacks; "
            f"use auto, none, or {', '.join(fitting)}",
            key="data.template",
        )
    # A tokenizer that begins every text with its bos does not when it renders a template: the template must.
    begins = list(tokenizer("")["input_ids"]) == [tokenizer.bos_token_id] and "<|begin_of_text|>" not in template.needs
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + template.jinja
    if template.end is not None:
        tokenizer.eos_token = template.end
