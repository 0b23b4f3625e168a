"""Counts or bounds the tokens of rows before anything is loaded. Knows no torch and no transformers."""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.models import catalogue, gguf
from labqueue.llm.types import Json

TEMPLATE_TOKENS = 52
"""What a chat template adds to a row where it cannot be asked: 51 in Llama 3's, whose system turn has dates, and 32 in
SmolLM2's."""

TURN_TOKENS = 8
"""What it then adds for each further turn (at most 5 in the catalogue's)."""

TYPICAL_TEMPLATE = {"none": 2, "chatml": 10, "alpaca": 31, "llama3": 51, "auto": 32}
"""Tokens that a chat template adds to a row, where a guess is enough; ``auto`` is SmolLM2's own with its system."""

PIECE = re.compile(r"(\d)| ?([A-Za-z]+)| ?((?:[^\w\s]|_)+)|(\s+)|(.)")
"""A digit, a word, marks, spaces, another letter: as GPT-2's pattern parts a text, with digits alone."""

WORD_LETTERS = 8
"""Of a word that is one token; a longer one is several. Assumption."""

SAMPLED = 256
"""Rows of a generated task that stand for all of it."""

NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")

PLAIN_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")
"""Tokenizer classes of transformers without special tokens of their own."""

SPARE = 1.15
"""The longest of all rows of a task is taken to be at most this much longer than the longest of those. Assumption."""

Conversation = chat_templates.Conversation


def longest(model: str, rows: Iterable[Row], template: str = "auto") -> int:
    """Tokens of the longest row with its chat template; where they cannot be counted, more than they are.

    Counted by the model's own tokenizer and template where those are on this machine; else by bytes, of which a
    byte-level tokenizer, as all of the catalogue's are, never makes more tokens.
    """
    count = _counter(model, template) or _by_bytes
    return max((count(row) for row in rows), default=0)


def padded(
    model: str, rows: Sequence[Row], template: str = "auto", *, batch: int = 1, most: int | None = None
) -> float:
    """Tokens that a row takes on average in a batch that is padded to its longest row; ``most`` cuts longer rows.

    Counted as ``longest`` does; where the tokenizer is not here yet (a packaged model before its first run), guessed by
    words, since bytes are several times too many.
    """
    count = _counter(model, template) or functools.partial(_by_words, template=template)
    found = sorted(min(count(row), most or math.inf) for row in rows)
    if not found:
        return 0.0
    # The longest of ``batch`` rows drawn at random is at most the nth of n with the probability (place / n) ** batch.
    places = [(place / len(found)) ** batch for place in range(len(found) + 1)]
    return math.fsum(tokens * (to - since) for tokens, since, to in zip(found, places, places[1:], strict=False))


def _texts(row: Row) -> list[str]:
    return [content for _, content in row.turns] or [row.question, row.answer]


def _by_words(row: Row, template: str) -> int:
    texts = _texts(row)
    tokens = TYPICAL_TEMPLATE.get(template, TEMPLATE_TOKENS) + TURN_TOKENS * max(0, len(texts) - 2)
    for text in (*texts, *row.extras, row.tools):
        for _, word, _, _, other in PIECE.findall(text):
            tokens += max(1, -(-len(word) // WORD_LETTERS), len(other.encode()) // 2)
    return tokens


def _by_bytes(row: Row) -> int:
    texts = _texts(row)
    more = len("".join(row.extras).encode()) + len(row.tools.encode())
    return TEMPLATE_TOKENS + sum(len(text.encode()) for text in texts) + more + TURN_TOKENS * max(0, len(texts) - 2)


def _counter(model: str, template: str) -> Callable[[Row], int] | None:
    """Counts the tokens of a conversation as the model's tokenizer renders it; None where that cannot be done here."""
    found = opened(model, template)
    if found is None:
        return None
    try:
        found.render([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], False)
    except Exception:  # a template is a program; what it stumbles over is said by whoever checks the run
        return None

    def count(row: Row) -> int:
        try:
            return len(found.tokens(found.render(row.messages(), False), True))
        except Exception:  # likewise
            return _by_bytes(row)

    return count


@dataclass(frozen=True)
class Opened:
    """A model's tokenizer and chat template, as its folder holds them."""

    render: chat_templates.Render
    """A conversation as one text, without the tokenizer's own bos or eos around it."""
    tokens: Callable[[str, bool], list[int]]
    """(text, with what the tokenizer puts around it by itself) as token ids."""
    templated: bool
    """Whether there is a chat template, the model's own or a named one."""
    vocabulary: frozenset[str]
    marks: frozenset[int]
    """Ids of the tokens that are no piece of a text."""
    control: tuple[str, ...]
    """Texts that the tokenizer takes for control tokens wherever they stand."""
    eos: str | None
    positions: int | None
    """Tokens that the model has positions for."""


def opened(model: str, template: str) -> Opened | None:
    """Tokenizer and template of a model; None where they are not on this machine or only transformers can read them."""
    found = folder(model)
    # Not kept where it is missing: a model can be fetched or converted while this process lives.
    if found is None or not (found / "tokenizer.json").is_file():
        return None
    files = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
    stamps = tuple((found / name).stat().st_mtime_ns if (found / name).is_file() else 0 for name in files)
    return _opened(found, template, stamps)


@functools.lru_cache(maxsize=8)
def _opened(folder: Path, template: str, _stamps: tuple[int, ...]) -> Opened | None:
    from jinja2 import TemplateError
    from tokenizers import AddedToken, Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        config = json.loads((folder / "tokenizer_config.json").read_text())
        named = _named(folder, config)
        tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in set(named.values()) if text])
        source, render = _renderer(folder, config, named, template)
        sizes = json.loads((folder / "config.json").read_text())
        # Any failure of theirs: tokenizers raises plain Exception for a file that it cannot read.
    except (TemplateError, OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    positions = next((sizes[name] for name in ("max_position_embeddings", "n_positions") if sizes.get(name)), None)
    added = tokenizer.get_added_tokens_decoder()
    return Opened(
        render,
        lambda text, whole: list(tokenizer.encode(text, add_special_tokens=whole).ids),
        source is not None,
        frozenset(tokenizer.get_vocab()),
        frozenset(added),
        tuple(token.content for token in added.values() if token.special),
        named["eos_token"] or None,
        positions,
    )


def _renderer(
    folder: Path, config: Json, named: dict[str, str], template: str
) -> tuple[str | None, chat_templates.Render]:
    """The template's source and what renders a conversation with it."""
    own = folder / "chat_template.jinja"
    found = own.read_text() if own.is_file() else config.get("chat_template")
    source = found if template == "auto" else chat_templates.TEMPLATES[template].jinja if template != "none" else None
    if source is None:
        return None, lambda turns, _prompt: "".join(turn["content"] + "\n" for turn in turns)
    return source, renderer(source, named)


def renderer(source: str, named: dict[str, str]) -> chat_templates.Render:
    """What renders a conversation with a template, as transformers does it (utils/chat_template_utils.py); ``named``
    are the special tokens that it may name."""
    import jinja2.ext
    import jinja2.sandbox

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    world = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    world.filters["tojson"] = lambda value, **how: json.dumps(value, ensure_ascii=False, **how)
    world.globals["raise_exception"] = refuse
    compiled = world.from_string(source)
    told = {name: text for name, text in named.items() if text}

    def render(turns: Conversation, prompt: bool) -> str:
        plain, besides = chat_templates.parted(turns)
        besides = {"tools": None, "documents": None} | told | besides
        return compiled.render(messages=plain, add_generation_prompt=prompt, **besides)

    return render


def _named(folder: Path, config: Json) -> dict[str, str]:
    """The special tokens that the folder names, "" for those that it says there are none of.

    Raises:
        KeyError: it leaves that to a class of tokenizers with tokens of its own.
    """
    older = folder / "special_tokens_map.json"
    given = (json.loads(older.read_text()) if older.is_file() else {}) | config
    if config.get("tokenizer_class") not in PLAIN_CLASSES:
        given["bos_token"], given["eos_token"]
    return {name: _text(given.get(name)) for name in NAMED_TOKENS}


def _text(token: object) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def folder(model: str) -> Path | None:
    """Where the files of a model lie on this machine; None where they do not, or it has none."""
    try:
        entry = catalogue.find(model)
        if entry.where == "random":
            return None
        return gguf.folder(entry) if entry.where == "package" else catalogue.local(model)
    except LabError:
        return None
