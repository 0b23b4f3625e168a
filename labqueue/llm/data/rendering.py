"""Checks that a tokenizer and its chat template render rows as they are. No torch; asked before a model is loaded.

Two things go wrong without a word. Text in a row that spells a control token becomes one: a false turn, an early end.
And a template leaves out what it does not know: tools, tool calls, reasoning, whole turns.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, lengths
from labqueue.llm.data.generated.tasks import REASONING, TOLD, Row
from labqueue.llm.models import tiny
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer

Messages = list[Json]

PROBE = " 0b5e3c"
"""What is added to a turn to see whether it is shown."""

CURE = "Name another data.template, or take such rows out"


@dataclass(frozen=True)
class Rendering:
    """``control``: texts that the tokenizer takes for control tokens. ``render(messages)`` gives the text of a
    conversation, or raises whatever the template does; None: no template, the bare text."""

    control: tuple[str, ...]
    render: Callable[[Messages], str] | None


def of_tokenizer(tokenizer: Tokenizer) -> Rendering:
    """What a loaded tokenizer does."""
    added = [str(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    control = tuple({*added, *tokenizer.all_special_tokens})
    return Rendering(control, functools.partial(chat_templates.render, tokenizer) if tokenizer.chat_template else None)


def of_model(model: str, template: str) -> Rendering | None:
    """What the tokenizer of a model on this machine will do; None where that cannot be told before it is loaded."""
    needs = chat_templates.TEMPLATES[template].needs if template in chat_templates.TEMPLATES else ()
    if model == "random-tiny":
        source = chat_templates.TEMPLATES[template].jinja if template in chat_templates.TEMPLATES else tiny.CHAT
        render = None if template == "none" else lengths.renderer(source, {"eos_token": tiny.SPECIAL[2]})
        control = tiny.SPECIAL + needs
    else:
        found = lengths.opened(model, template)
        if found is None:
            return None
        render = found.render if found.templated else None
        control = found.control + needs
    return Rendering(control, None if render is None else lambda messages: render(messages, False))


def check(
    rows: Sequence[Row], rendering: Rendering, what: str, *, file: str | None = None, place: str = "line"
) -> None:
    """Checks that every row is shown as it is. ``what`` names the rows; ``file`` is where their keys point, and
    ``place`` what they count there.

    Raises:
        LabError: text of a control token in a row, a template that refuses a conversation, or one that leaves out
            tools, calls, reasoning or the turns of a role.
    """

    def placed(message: str, number: int, key: str | None) -> LabError:
        at = rows[number].key
        if file is None:
            return LabError(f"{what} row {number} (source {at}): {message}", key=key)
        if place == "line":
            return LabError(message, file=file, line=at, key=key)
        return LabError(f"{place} {at}: {message}", file=file, key=key)

    if found := _controlled(rows, rendering.control):
        number, token = found[0]
        others = f" ({len(found)} of {len(rows)} rows have such text)" if len(found) > 1 else ""
        raise placed(
            f"the text {token!r} in it would become a control token of the model, a turn or an end that nobody "
            f"wrote{others}. Write it otherwise (with a space in it, say), or take the row out",
            number,
            None,
        )
    known: set[object] = set()
    for number, row in enumerate(rows):
        shape = _shape(row)
        if shape in known:
            continue
        known.add(shape)
        try:
            _check_shown(row, rendering.render)
        except LabError as error:
            raise placed(error.message, number, "data.template") from error


def _controlled(rows: Sequence[Row], control: Sequence[str]) -> list[tuple[int, str]]:
    """Numbers of the rows that hold text of a control token, each with the first."""
    if not control:
        return []
    pattern = re.compile("|".join(re.escape(token) for token in sorted(control, key=len, reverse=True)))
    begins = {token[:2] for token in control}  # tried first: a hundred times as fast as the pattern
    found: list[tuple[int, str]] = []
    for number, row in enumerate(rows):
        for text in _texts(row):
            if any(begin in text for begin in begins) and (match := pattern.search(text)):
                found.append((number, match.group()))
                break
    return found


def _texts(row: Row) -> Iterator[str]:
    if row.turns:
        yield from (content for _, content in row.turns)
        yield from row.extras
        yield row.tools
    else:
        yield row.question
        yield row.answer


def _shape(row: Row) -> object:
    """Rows of one shape are shown, or not, alike: templates look at roles and at which keys there are."""
    if not row.turns:
        return None
    extras = tuple(tuple(json.loads(extra)) if extra else () for extra in row.extras)
    return tuple(role for role, _ in row.turns), extras, bool(row.tools), row.unlearned


def _check_shown(row: Row, render: Callable[[Messages], str] | None) -> None:
    messages = row.messages()
    keys = [key for key in ("tool_calls", *REASONING) if any(key in message for message in messages)]
    if render is None:
        if row.tools or keys:
            raise LabError(f"without a chat template nobody shows {' and '.join(keys or ['tools'])}. {CURE}")
        return
    if not row.turns:
        return
    try:
        whole = render(messages)
    except LabError:
        raise
    except Exception as error:  # a template is a program: whatever it stumbles over, it is not this conversation's text
        raise chat_templates.refusal(messages, error) from error

    def check_told(what: str, at: int, other: Json) -> None:
        try:
            told = render([*messages[:at], other, *messages[at + 1 :]]) != whole
        except Exception:  # it reads what is gone
            return
        if not told:
            raise LabError(f"the chat template leaves out {what}. {CURE}")

    told = messages[0].get(TOLD, {})
    if "tools" in told:
        check_told("tools", 0, messages[0] | {TOLD: told | {"tools": None}})
    for at, message in enumerate(messages):
        for key in keys:
            if key in message and at not in row.unlearned:
                less = {name: value for name, value in message.items() if name != key}
                check_told(f"{key} of turn {at + 1}", at, less)
    for at in [at for at, message in enumerate(messages) if message["role"] == "tool"][:1]:
        more = messages[at] | {"content": messages[at]["content"] + PROBE}
        check_told("the turns of tool", at, more)
