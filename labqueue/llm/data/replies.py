"""Checks that a model can be taught to answer, and asked: its template, a reply's end, room for one. No torch, no runs.

Found out before anything is loaded, from the files of the model's folder; what they do not tell is left to the run,
which finds out the same with the loaded tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, lengths, tokenize
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.data.lengths import Opened

RENDERED = 100_000
"""Rows that are rendered at most: 4 s of one core (20,000 took 0.75 s). The run renders all before its first step."""


def check(
    model: str,
    template: str,
    learned: Sequence[Row] = (),
    asked: Sequence[Row] = (),
    *,
    max_new_tokens: int = 0,
    masked: bool = True,
    place: str = "row",
) -> None:
    """Checks that the model's template writes every row of ``learned`` and ends its answers, and leaves each
    question of ``asked`` room for ``max_new_tokens``. ``masked``: prompts carry no loss, so each must be found again
    before its answer. ``place`` says what a row's key counts.

    Raises:
        LabError: it does not; the row is named.
    """
    found = lengths.opened(model, template)
    if found is None:
        return
    chat_templates.check_tokens(template, found.vocabulary, found.eos is not None)
    if not found.templated and found.eos is None:
        fitting = chat_templates.fitting(found.vocabulary, False)
        raise LabError(
            chat_templates.no_end(f"the tokenizer of {model} has neither a chat template nor an eos_token", fitting),
            key="data.template",
        )
    render, masked = (_checked(found, model), masked) if found.templated else (found.render, False)
    for row in learned[:RENDERED]:
        turns = tokenize.messages(row, answer=True)
        try:
            text = render(turns, False)
            tokenize.check_written(turns, text)
            answered = row.learned() if masked else []
            if not all(text.startswith(render(turns[:at], True)) for at in answered):
                raise LabError(chat_templates.OTHER_PROMPT, key="data.template")
        except LabError as error:
            raise LabError(f"{place} {row.key}: {error.message}", key=error.key) from error
    prompts = [render(tokenize.messages(row, answer=False), True) for row in asked]
    sizes = [len(found.tokens(text, not found.templated)) for text in prompts]
    check_room(sizes, asked, max_new_tokens, found.positions, place=place)


def readable(model: str, template: str) -> bool:
    """Whether ``check`` can tell anything about the model here."""
    return lengths.opened(model, template) is not None


def check_room(
    prompts: Sequence[int], rows: Sequence[Row], max_new_tokens: int, limit: int | None, *, place: str = "row"
) -> None:
    """Checks that each prompt (in tokens, one of each row) leaves room for a reply in ``limit`` positions.

    Raises:
        LabError: one does not; the longest is named.
    """
    longest = max(range(len(prompts)), key=prompts.__getitem__, default=None)
    if limit is None or longest is None or prompts[longest] + max_new_tokens <= limit:
        return
    spare = limit - prompts[longest]
    cure = f"set max_new_tokens to {spare} at most, or " if spare > 0 else ""
    raise LabError(
        f"the question of {place} {rows[longest].key} ({rows[longest].question[:40]!r}) is a prompt of "
        f"{prompts[longest]} tokens, {max_new_tokens} of a reply are to follow, and the model has positions for "
        f"{limit}: {cure}shorten the question, or take a model with more positions",
        key="max_new_tokens",
    )


def _checked(found: Opened, model: str) -> chat_templates.Render:
    """The template as the run will complete it, errors in our words."""

    def render(turns: chat_templates.Conversation, prompt: bool) -> str:
        try:
            return found.render(turns, prompt)
        except Exception as error:  # a template is a program: whatever it stumbles over, it is not a text
            raise chat_templates.refusal(turns, error) from error

    frame = chat_templates.frame(render)
    if not found.marks.intersection(found.tokens(frame.tail, False)):
        fitting = chat_templates.fitting(found.vocabulary, found.eos is not None)
        raise LabError(
            chat_templates.no_end(f"the chat template of {model} writes {frame.tail!r} after an answer", fitting),
            key="data.template",
        )
    return lambda turns, prompt: render(turns, prompt) + (frame.header if prompt else "")
