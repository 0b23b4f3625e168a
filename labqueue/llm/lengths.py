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

Conversation = list[dict[str, Any]]


def longest(model: str, rows: Iterable[Row], template: str = "auto") -> int:
    """Tokens of the longest row with its chat template; where they cannot be counted, more than they are.

    Counted by the model's own tokenizer and template where those are on this machine; else by bytes, of which a
    byte-level tokenizer, as all of the catalogue's are, never makes more tokens.
    """
    count = _counter(model, template) or _by_bytes
    return max((count(row) for row in rows), default=0)


def _by_bytes(row: Row) -> int:
    texts = [content for _, content in row.turns] or [row.question, row.answer]
    more = len("".join(row.extras).encode()) + len(row.tools.encode())
    return TEMPLATE_TOKENS + sum(len(text.encode()) for text in texts) + more + TURN_TOKENS * max(0, len(texts) - 2)


def _counter(model: str, template: str) -> Callable[[Row], int] | None:
    """Counts the tokens of a conversation as the model's tokenizer renders it; None where that cannot be done here."""
    found = folder(model)
    # Not kept where it is missing: a model can be fetched or converted while this process lives.
    return None if found is None or not (found / "tokenizer.json").is_file() else _made(found, template)


def control_tokens(folder: Path) -> tuple[str, ...]:
    """Texts that the tokenizer of a model's folder takes for control tokens wherever they stand."""
    added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")).get("added_tokens") or []
    return tuple(str(token["content"]) for token in added if token.get("special"))


def template_of(folder: Path) -> tuple[Any, dict[str, str]]:
    """The chat template of a model's folder, None where it has none, and the tokens that it may name."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    own = folder / "chat_template.jinja"
    names = ("bos_token", "eos_token", "unk_token", "pad_token")
    tokens = {name: _text(config.get(name)) for name in names}
    return own.read_text() if own.is_file() else config.get("chat_template"), tokens


@functools.cache
def _made(folder: Path, template: str) -> Callable[[Row], int] | None:
    from jinja2 import TemplateError
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def count(row: Row) -> int:
        try:
            return len(tokenizer.encode(render(row.messages())).ids)
        except (TemplateError, ValueError, TypeError, KeyError):
            return _by_bytes(row)  # who trains on the row says what is wrong with it

    try:
        render = _renderer(folder, template)
        render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    except (TemplateError, OSError, ValueError, TypeError, KeyError):
        return None  # a template that asks for what only transformers offers
    return count


def _renderer(folder: Path, template: str) -> Callable[[Conversation], str]:
    """What renders a conversation as one text, as transformers does it (utils/chat_template_utils.py)."""
    import jinja2.sandbox

    found, tokens = template_of(folder)
    source = found if template == "auto" else templates.TEMPLATES[template].jinja if template != "none" else None
    if source is None:
        return lambda turns: "".join(turn["content"] + "\n" for turn in turns)
    world = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    compiled = world.from_string(source)

    def render(conversation: Conversation) -> str:
        turns, told = templates.parted(conversation)
        return compiled.render(messages=turns, add_generation_prompt=False, **tokens | told)

    return render


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def folder(model: str) -> Path | None:
    """Where the files of a model lie on this machine; None where they do not, or it has none."""
    try:
        entry = models.find(model)
        if entry.where == "random":
            return None
        return convert.folder(entry) if entry.where == "package" else models.local(model)
    except LabError:
        return None
