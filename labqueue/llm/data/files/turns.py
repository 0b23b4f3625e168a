"""Conversations as people write them down, as turns. No torch.

Read are messages (``role``, ``content``), ShareGPT's turns (``from``, ``value``), and OpenAI's tool calls, old and new.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from labqueue.domain.errors import LabError
from labqueue.llm.data.files import json_rows
from labqueue.llm.data.generated.tasks import REASONING, Row
from labqueue.llm.types import Json

ROLES = {role: role for role in ("system", "user", "assistant", "tool")} | {"function": "tool"}
"""Roles of messages; ``function`` is what OpenAI's first tool calls said."""

SPEAKERS = ROLES | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
"""What public ShareGPT sets have in ``from``."""

PASSED = (*REASONING, "name", "tool_call_id")
"""Texts of a turn that the chat template is given as they are."""

READ = {"role", "content", "from", "value", "weight", "train", "tool_calls", "function_call", *PASSED}


@dataclass
class Seen:
    """What was met in a source besides its rows' text, for its notes."""

    forms: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    unused_in_turns: Counter[str] = field(default_factory=Counter)
    greeted: int = 0
    without_answer_column: int = 0
    columns: tuple[str, ...] = ()
    """Of the last row without a column for its answer."""
    unlearned: int = 0


class Turn(NamedTuple):
    """One turn; ``extra`` as in ``tasks.Row``."""

    role: str
    content: str
    extra: str = ""
    learned: bool = True


def conversation(turns: list[Turn], number: int, seen: Seen, *, tools: str = "") -> Row | None:
    """The row of a conversation; None where a turn to be learned is empty, or nothing is answered.

    What the assistant says before anybody asked answers nothing: it is shown, not learned.

    Raises:
        LabError: nobody asks anything, or no turn is to be learned.
    """
    if not any(turn.content.strip() for turn in turns if turn.role != "assistant"):
        raise LabError("a conversation begins with what is asked; here nobody asks anything")
    asked = next((at for at, turn in enumerate(turns) if turn.role in ("user", "tool")), 0)
    greeting = {at for at, turn in enumerate(turns[:asked]) if turn.role == "assistant"}
    unlearned = greeting | {at for at, turn in enumerate(turns) if turn.role == "assistant" and not turn.learned}
    answers = [at for at, turn in enumerate(turns) if turn.role == "assistant" and at not in unlearned]
    if unlearned - greeting and not answers:
        raise LabError("every turn of the assistant has weight 0 or train false: nothing of it would be learned")
    if not answers or not all(_says(turns[at]) for at in answers):
        return None
    kept = turns[: answers[-1] + 1]  # what nobody learns an answer to carries no loss and is no prompt of anything
    question = "\n".join(turn.content for turn in kept[:-1] if turn.role != "assistant")
    if not question.strip():
        raise LabError("a conversation begins with what is asked; here nobody asks anything")
    seen.greeted += bool(greeting)
    shown = frozenset(at for at in unlearned if at < len(kept))
    seen.unlearned += len(unlearned - greeting)
    extras = tuple(turn.extra for turn in kept)
    last = kept[-1]
    return Row(
        question,
        last.content if last.content.strip() else json.dumps(json.loads(last.extra)["tool_calls"], ensure_ascii=False),
        number,
        tuple((turn.role, turn.content) for turn in kept),
        extras if any(extras) else (),
        tools,
        shown,
    )


def _says(turn: Turn) -> bool:
    return bool(turn.content.strip()) or "tool_calls" in json.loads(turn.extra or "{}")


def read(values: object, seen: Seen, name: str = "messages") -> list[Turn]:
    """The turns of a list of messages, or of one as JSON text.

    Raises:
        LabError: it is none, or one of them is not a message.
    """
    values = unpacked(values, name)
    if not isinstance(values, list) or not values:
        raise LabError(f"{name} is a list of {{role, content}}, got {_short(values)}")
    return [_turn(value, seen) for value in values]


def unpacked(value: object, name: str) -> object:
    """A list or object that a table holds as JSON text, as itself.

    Raises:
        LabError: text that begins as JSON and is none.
    """
    if not isinstance(value, str) or value.strip()[:1] not in ("[", "{"):
        return value
    try:
        return json_rows.parsed(value)
    except LabError as error:
        raise LabError(f"{name} {error.message}") from error


def tools(value: object) -> str:
    """What may be called, as JSON; empty where it is nothing. A bare function is wrapped as templates expect it.

    Raises:
        LabError: it is no list of objects.
    """
    value = unpacked(value, "tools")
    if not value or (isinstance(value, str) and not value.strip()):
        return ""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise LabError(f"tools is a list of objects, or one as JSON text, got {_short(value)}")
    bare = [each if "function" in each or "name" not in each else _function(each) for each in value]
    return _json(bare)


def plain(value: object, name: str) -> str:
    """A text that can be written down; empty for None.

    Raises:
        LabError: it is no text, or has half a surrogate pair in it.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        cure = "; put it in quotes" if isinstance(value, int | float) else ""
        raise LabError(f"{name} must be text, got {_short(value)}{cure}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise LabError(f"{name} has {code} at character {error.start}, half of a pair that is no character") from error
    return value


def _turn(value: object, seen: Seen) -> Turn:
    if not isinstance(value, dict):
        raise LabError(f"a message has a role ({', '.join(ROLES)}) and a text content, got {_short(value)}")
    share = "from" in value and "role" not in value
    said, words = ("from", "value") if share else ("role", "content")
    role = (SPEAKERS if share else ROLES).get(str(value.get(said)))
    if role is None:
        raise LabError(f"a message has a {said} ({', '.join(SPEAKERS if share else ROLES)}), got {_short(value)}")
    for key, each in value.items():
        if key not in READ and each not in (None, "", [], {}):
            seen.unused_in_turns[key] += 1
    extra: Json = {key: given for key in PASSED if (given := plain(value.get(key), key)).strip()}
    called = value.get("tool_calls") or value.get("function_call")
    if value.get(said) == "function_call":
        called = value.get(words)
        if not isinstance(unpacked(called, words), dict | list):
            raise LabError(f"a turn of function_call holds the call as JSON, got {_short(called)}")
    elif value.get(words) is None and not (called or extra):
        raise LabError(f"a message has a role and a text {words}, got {_short(value)}")
    if called and role != "assistant":
        raise LabError(f"tool_calls belong to the assistant, here they stand in a turn of {value.get(said)}")
    if called:
        extra["tool_calls"] = _calls(called)
    content = "" if value.get(said) == "function_call" else _content(value.get(words), words)
    return Turn(role, content, _json(extra) if extra else "", _learned(value, role))


def _content(value: object, name: str) -> str:
    if isinstance(value, list):  # parts, of which only text is text
        for part in value:
            if not isinstance(part, dict) or not isinstance(part.get("text"), str):
                raise LabError(f"{name} has a part that is no text: {_short(part)}")
        return "".join(plain(part["text"], name) for part in value)
    return plain(value, name)


def _learned(value: Json, role: str) -> bool:
    weight, train = value.get("weight"), value.get("train")
    if weight is not None and (not isinstance(weight, int | float) or weight not in (0, 1)):
        raise LabError(f"weight is 1 (learned) or 0 (shown only), got {weight!r}: no turn counts more than another")
    if train is not None and not isinstance(train, bool):
        raise LabError(f"train is true or false, got {train!r}")
    if weight is not None and train is not None and bool(weight) != train:
        raise LabError(f"weight is {weight!r} and train is {train!r}: one of them says the other thing")
    asked = weight if weight is not None else train
    if asked and role != "assistant":
        raise LabError(
            f"a turn of {role} is to be learned; loss falls on the assistant's turns, or with loss: full on all"
        )
    return bool(asked) if asked is not None else True


def _calls(value: object) -> list[Json]:
    value = unpacked(value, "tool_calls")
    calls = value if isinstance(value, list) else [value]
    made = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise LabError(f"a tool call has a function with a name and arguments, got {_short(call)}")
        arguments = unpacked(function.get("arguments") or {}, "arguments")
        if not isinstance(arguments, dict):
            raise LabError(f"arguments of the tool call {function['name']!r} are an object, got {_short(arguments)}")
        function = function | {"arguments": arguments}  # templates write an object as JSON; text they would quote again
        made.append(
            call | {"function": function} if function is not call and "function" in call else _function(function)
        )
    return made


def _function(value: Json) -> Json:
    return {"type": "function", "function": value}


def _json(value: object) -> str:
    try:
        return plain(json.dumps(value, ensure_ascii=False), "a tool or tool call")
    except TypeError as error:  # a date of Parquet, say
        raise LabError(f"a tool or tool call is no JSON: {error}") from error


def _short(value: object, length: int = 200) -> str:
    words = repr(value)
    return words if len(words) <= length else words[: length - 1] + "…"
