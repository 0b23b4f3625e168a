"""Chat templates: how a conversation becomes one text. Knows tokenizers, no models and no runs.

A tokenizer comes with its model's own (``auto``); the others are for base models, and for asking what a template does.
Formats: ChatML (OpenAI 2023, as Qwen and SmolLM2 use it), Llama 3 (Meta's model card, without its dated system turn),
Alpaca (Taori et al. 2023, stanford_alpaca's prompt). ``none`` is the bare text: each turn and a newline, the answer
and the end-of-text token.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.data.generated.tasks import TOLD
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from labqueue.llm.types import Tokenizer


@dataclass(frozen=True)
class Template:
    """One template. ``needs`` are tokens that the tokenizer must have."""

    jinja: str
    needs: tuple[str, ...] = ()


CHATML = Template(
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ("<|im_start|>", "<|im_end|>"),
)

LLAMA3 = Template(
    "{{ '<|begin_of_text|>' }}"
    "{% for m in messages %}"
    "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
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

DAY = datetime.date(2024, 7, 26)
"""The day that a template is told, the default of Llama 3's own: told today's, the same rows are other tokens tomorrow.
"""

SETTINGS: Json = {
    "date_string": DAY.strftime("%d %b %Y"),
    "strftime_now": DAY.strftime,
    "enable_thinking": False,
}
"""What every template is told besides the conversation. Most rows have answers and no thoughts: told so, templates of
reasoning models close the empty thought in the prompt, where it carries no loss and no reply has to repeat it. Of rows
with thoughts they are told otherwise (``parted``)."""

QUESTION, ANSWERS = "okapi", ("Zebra", "quagga")
"""Words by which a template is asked what it does: none that stands in one already."""

OTHER_PROMPT = (
    "the chat template writes the prompt differently once its answer follows: training would see another prompt than "
    "sampling. Name another chat template, or another model"
)

Conversation = list[Json]

Render = Callable[[Conversation, bool], str]
"""(turns, whether the assistant's next turn is begun) as one text."""


@dataclass(frozen=True)
class Frame:
    """What a template writes around the last answer."""

    header: str
    """Before it, and not in the prompt: "" where the template begins the assistant's turn when it is asked to."""
    tail: str
    """After it."""


@dataclass(frozen=True)
class Applied:
    """What ends an answer, and what is to be said of it."""

    ends: tuple[int, ...]
    """Token ids: what the template writes after an answer, and the tokenizer's own eos."""
    notes: tuple[str, ...] = ()


def parted(messages: Conversation) -> tuple[Conversation, Json]:
    """Messages of a row as a chat template takes them, and what it is told besides."""
    told: Json = next((message[TOLD] for message in messages if TOLD in message), {})
    plain = [{key: value for key, value in message.items() if key != TOLD} for message in messages]
    return plain, SETTINGS | told


def check(name: str, key: str = "data.template") -> None:
    """Does nothing for a known name.

    Raises:
        LabError: there is none of that name; the message names the nearest.
    """
    if name not in NAMES:
        raise LabError(f"unknown chat template {name!r}: {nearest(name, NAMES)}", key=key)


def apply(tokenizer: Tokenizer, name: str) -> Applied:
    """Makes the tokenizer render conversations so, and end its answers so: sampling stops where training did.

    What ends an answer is read from what the template really writes after one. The tokenizer's eos becomes that token,
    unless the template would then write another text. A template that never begins the assistant's turn is completed.

    Raises:
        LabError: unknown name; a template whose tokens this tokenizer does not have (they would be spelt out in pieces,
            which no model was ever shown); nothing that ends an answer; as ``frame``.
    """
    check(name)
    if name == "none":
        tokenizer.chat_template = None
    elif name != "auto":
        _set(tokenizer, name)
    if not tokenizer.chat_template:
        if tokenizer.eos_token_id is None:
            raise LabError(
                no_end("this model's tokenizer has neither a chat template nor an eos_token", _fitting(tokenizer)),
                key="data.template",
            )
        return Applied((tokenizer.eos_token_id,))
    found = frame(lambda turns, prompt: render(tokenizer, turns, prompt=prompt))
    notes = []
    if found.header:
        tokenizer.chat_template = with_header(tokenizer.get_chat_template(), found.header)
        notes.append(
            f"the chat template does not begin the assistant's turn (add_generation_prompt): {found.header!r}, which "
            "it writes before an answer, was added to its prompts and carries no loss"
        )
    marks = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    after = tokenizer(found.tail, add_special_tokens=False)["input_ids"]
    written = [
        token for token in after if token in marks and str(tokenizer.decode([token])).strip()
    ]  # runs of spaces end none
    if not written:
        raise LabError(
            no_end(f"the chat template writes {found.tail!r} after an answer", _fitting(tokenizer)),
            key="data.template",
        )
    own = tokenizer.eos_token_id
    if written[0] != own:
        notes.append(_renamed(tokenizer, written[0]))
    return Applied(tuple(dict.fromkeys(token for token in (written[0], own) if token is not None)), tuple(notes))


def frame(render: Render) -> Frame:
    """What a template writes around an answer, from two conversations that differ in the answer alone.

    Raises:
        LabError: it refuses a question with an answer, writes an answer otherwise than it is given, or the prompt
            otherwise once an answer follows.
    """
    asked = [{"role": "user", "content": QUESTION}]
    wholes = [render([*asked, {"role": "assistant", "content": answer}], False) for answer in ANSWERS]
    before, written, tail = wholes[0].rpartition(ANSWERS[0])
    if not written or wholes[1] != before + ANSWERS[1] + tail:
        raise LabError(
            f"the chat template does not write an answer as it is given: {ANSWERS[0]!r} becomes {wholes[0]!r}. Name "
            "another chat template",
            key="data.template",
        )
    prompt = render(asked, True)
    if not before.startswith(prompt):
        raise LabError(f"{OTHER_PROMPT}. A prompt that is {prompt!r} becomes {before!r}", key="data.template")
    # A space that the answer's first token takes with it is no header.
    header = before[len(prompt) :]
    return Frame(header.rstrip(" ") if header.strip() else "", tail)


def render(tokenizer: Tokenizer, turns: Conversation, *, prompt: bool = False) -> str:
    """The conversation as its chat template writes it; ``prompt``: with the beginning of the assistant's next turn.

    Raises:
        LabError: the template refuses it.
    """
    try:
        plain, told = parted(turns)
        return str(tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=prompt, **told))
    except Exception as error:  # a template is a program: whatever it stumbles over, it is not this conversation's text
        raise refusal(turns, error) from error


def refusal(turns: Conversation, error: Exception) -> LabError:
    """What is said of a template that ends in an error."""
    cure = "Name another chat template"
    if any(turn["role"] == "system" for turn in turns):
        cure = f"Leave the system turn out, or write it into the user's; or n{cure[1:]}"
    roles = ", ".join(turn["role"] for turn in turns)
    return LabError(
        f"the chat template refuses a conversation of the turns {roles}: {error}. {cure}", key="data.template"
    )


def no_end(what: str, fitting: list[str]) -> str:
    """What is said where nothing would end a reply."""
    named = f"name the chat template {' or '.join(fitting)}, or " if fitting else ""
    return (
        f"{what}: nothing would teach a model to end a reply, and every one would run on. Cure: {named}give the "
        "model's tokenizer_config.json an eos_token of its vocabulary, and its chat template that token after answers"
    )


def with_header(jinja: str, header: str) -> str:
    """The template, beginning the assistant's turn when it is asked to."""
    literal = json.dumps(header, ensure_ascii=False)
    return f"{jinja}{{% if add_generation_prompt %}}{{{{ {literal} }}}}{{% endif %}}"


def leading(tokenizer: Tokenizer) -> list[int]:
    """The tokens that a tokenizer puts before a text by itself, such as a bos; not those that it puts behind."""
    bare = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    whole = tokenizer(QUESTION)["input_ids"]
    starts = [at for at in range(len(whole)) if whole[at : at + len(bare)] == bare]
    return list(whole[: starts[0]]) if starts else []


def check_tokens(name: str, known: Collection[str], eos: bool) -> None:
    """Checks that a tokenizer that knows these tokens (``eos``: and has an eos_token) can write the template.

    Raises:
        LabError: it lacks some: they would be spelt out in pieces, which no model was ever shown.
    """
    if name not in TEMPLATES or name in (fits := fitting(known, eos)):
        return
    needs = (*TEMPLATES[name].needs, *(["eos_token"] if "eos_token" in TEMPLATES[name].jinja and not eos else []))
    missing = ", ".join(need for need in needs if need not in known)
    raise LabError(
        f"chat template {name!r} needs the tokens {missing}, which this model's tokenizer lacks; use auto, none, or "
        + ", ".join(fits),
        key="data.template",
    )


def _set(tokenizer: Tokenizer, name: str) -> None:
    template = TEMPLATES[name]
    check_tokens(name, tokenizer.get_vocab(), tokenizer.eos_token is not None)
    # A tokenizer that begins every text with its bos does not when it renders a template: the template must.
    bos = tokenizer.bos_token_id
    begins = bos is not None and leading(tokenizer) == [bos] and "<|begin_of_text|>" not in template.needs
    tokenizer.chat_template = ("{{ bos_token }}" if begins else "") + template.jinja


def fitting(known: Collection[str], eos: bool) -> list[str]:
    """Names of the templates whose tokens a tokenizer knows; ``eos``: whether it has an eos_token."""
    return [
        name
        for name, one in TEMPLATES.items()
        if all(token in known for token in one.needs) and (eos or "eos_token" not in one.jinja)
    ]


def _fitting(tokenizer: Tokenizer) -> list[str]:
    return fitting(tokenizer.get_vocab(), tokenizer.eos_token is not None)


def _renamed(tokenizer: Tokenizer, end: int) -> str:
    """Makes the token that ends an answer the tokenizer's eos, where the template's text stays the same; says so."""
    turns = [{"role": role, "content": QUESTION} for role in ("user", "assistant")]
    old, new = tokenizer.eos_token, tokenizer.convert_ids_to_tokens(end)
    before = render(tokenizer, turns)
    tokenizer.eos_token = new
    kept = render(tokenizer, turns) == before
    if not kept:
        tokenizer.eos_token = old
    return (
        f"the chat template ends an answer with {new} ({end}), the tokenizer's eos_token is {old}: replies end at both"
        + (f", and the tokenizer that is kept has {new} as its eos_token" if kept else "")
    )
