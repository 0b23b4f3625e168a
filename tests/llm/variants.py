"""Folders of the tiny model with another tokenizer, chat template or generation config: what real ones differ in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from labqueue.llm.models import tiny

NO_PROMPT = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
"""ChatML that never begins the assistant's turn."""

THOUGHTFUL = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' if loop.last }}"
    "{{ m['content'].split('</think>')[-1] + '<|im_end|>\n' }}{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{% endif %}"
)
"""A reasoning model's: empty thoughts before the last answer, none before earlier ones."""

DATED = "{{ strftime_now('%d %b %Y') }}" + tiny.CHAT

ENDLESS = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"

STRICT = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% endfor %}" + tiny.CHAT
)

DEAF = tiny.CHAT.replace("{{ '<|im_start|>'", "{% if message['role'] != 'system' %}{{ '<|im_start|>'", 1).replace(
    "{% endfor %}", "{% endif %}{% endfor %}", 1
)
"""Leaves system turns out without a word."""

LOUD = tiny.CHAT.replace("message['content']", "message['content'] | upper")

BROKEN = "{% if messages | length == 4 %}{{ 1 / 0 }}{% endif %}" + tiny.CHAT

SPACED = (
    "{% for m in messages %}{{ '[Q] ' + m['content'] + ' [A]' if m['role'] == 'user' "
    "else ' ' + m['content'] + eos_token }}{% endfor %}"
)
"""Mistral's manner: no beginning of the assistant's turn but a space."""

EMPHATIC = tiny.CHAT.replace("<|im_start|>assistant\n", "<|im_start|>assistant: ")
"""Begins the assistant's turn otherwise than it writes it."""


def tokenizer(*, chat: str | None = tiny.CHAT, eos: str | None = "<|im_end|>", appends: bool = False) -> Any:
    """The tiny model's, one byte a token; ``appends``: puts its bos before and its eos behind every text."""
    from tokenizers import processors

    made = tiny.tokenizer()
    made.chat_template, made.eos_token = chat, eos
    if appends:
        named = [(token, made.convert_tokens_to_ids(token)) for token in ("<|im_start|>", str(eos))]
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"<|im_start|> $A {eos}", special_tokens=named
        )
    return made


def folder(
    where: Path, *, generation: dict[str, Any] | None = None, config: dict[str, Any] | None = None, **own: Any
) -> Path:
    """The tiny model in a folder, with that tokenizer; ``generation`` and ``config`` are merged into the JSON files."""
    shutil.copytree(tiny.folder(), where, ignore=shutil.ignore_patterns("*tokenizer*", "*.jinja"))
    tokenizer(**own).save_pretrained(where)
    for name, changes in (("generation_config.json", generation), ("config.json", config)):
        values = json.loads((where / name).read_text()) | (changes or {})
        (where / name).write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return where
