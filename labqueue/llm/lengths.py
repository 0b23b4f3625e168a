"""How many tokens a row of text has at most, asked before anything is loaded. Knows no torch and no transformers."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError
from labqueue.llm import convert, models, templates
from labqueue.llm.tasks import Row

TEMPLATE_TOKENS = 52
"""What a chat template adds to a row where it cannot be asked: 51 in Llama 3's, whose system turn has dates, and 32 in
SmolLM2's."""

TURN_TOKENS = 8
"""What it then adds for each further turn (at most 5 in the catalogue's)."""

SAMPLED = 256
"""Rows of a generated task that stand for all of it."""

SPARE = 1.15
"""The longest of all rows of a task is taken to be at most this much longer than the longest of those. Assumption."""

Conversation = list[dict[str, str]]


def longest(model: str, rows: Iterable[Row], template: str = "auto") -> int:
    """Tokens of the longest row with its chat template; where they cannot be counted, more than they are.

    Counted by the model's own tokenizer and template where those are on this machine; else by bytes, of which a
    byte-level tokenizer, as all of the catalogue's are, never makes more tokens.
    """
    count = _counter(model, template) or _by_bytes
    return max((count(_conversation(row)) for row in rows), default=0)


def _conversation(row: Row) -> Conversation:
    turns = row.turns or (("user", row.question), ("assistant", row.answer))
    return [{"role": role, "content": content} for role, content in turns]


def _by_bytes(turns: Conversation) -> int:
    return TEMPLATE_TOKENS + sum(len(turn["content"].encode()) for turn in turns) + TURN_TOKENS * max(0, len(turns) - 2)


def _counter(model: str, template: str) -> Callable[[Conversation], int] | None:
    """Counts the tokens of a conversation as the model's tokenizer renders it; None where that cannot be done here."""
    folder = _folder(model)
    # Not kept where it is missing: a model can be fetched or converted while this process lives.
    return None if folder is None or not (folder / "tokenizer.json").is_file() else _made(folder, template)


@functools.cache
def _made(folder: Path, template: str) -> Callable[[Conversation], int] | None:
    from jinja2 import TemplateError
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def count(turns: Conversation) -> int:
        return len(tokenizer.encode(render(turns)).ids)

    try:
        render = _renderer(folder, template)
        count([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    except (TemplateError, OSError, ValueError, TypeError, KeyError):
        return None  # a template that asks for what only transformers offers
    return count


def _renderer(folder: Path, template: str) -> Callable[[Conversation], str]:
    """What renders a conversation as one text, as transformers does it (utils/chat_template_utils.py)."""
    import jinja2.sandbox

    config = json.loads((folder / "tokenizer_config.json").read_text())
    own = folder / "chat_template.jinja"
    found = own.read_text() if own.is_file() else config.get("chat_template")
    source = found if template == "auto" else templates.TEMPLATES[template].jinja if template != "none" else None
    if source is None:
        return lambda turns: "".join(turn["content"] + "\n" for turn in turns)
    world = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    compiled = world.from_string(source)
    tokens = {name: _text(config.get(name)) for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    return lambda turns: compiled.render(messages=turns, add_generation_prompt=False, **tokens)


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def _folder(model: str) -> Path | None:
    try:
        entry = models.find(model)
        if entry.where == "random":
            return None
        return convert.folder(entry) if entry.where == "package" else models.local(model)
    except LabError:
        return None
