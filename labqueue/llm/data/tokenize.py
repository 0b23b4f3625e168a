"""Rows of text as token rows with labels where loss falls. Knows tokenizers, no models and no runs.

A token row is ``{"input_ids": [token], "labels": [token or -100]}``; -100 carries no loss. The same rows serve every
backend: Unsloth and TRL prepare data differently, so neither is asked to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, rendering
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from labqueue.llm.types import Batch, Tokenizer

IGNORED = -100
"""The label that cross-entropy leaves out (torch's default ``ignore_index``)."""

NAMED_ROWS = 3
"""Rows that an error names; it says how many there are besides."""

Loss = Literal["answer", "full"]

TokenRow = dict[str, list[int]]


@dataclass(frozen=True)
class Encoded:
    """Token rows, and how many of them lost their end to ``max_length``."""

    rows: tuple[TokenRow, ...]
    truncated: int


def messages(row: Row, *, answer: bool) -> list[Json]:
    """The row as a conversation, with or without its last answer."""
    return row.messages(answer=answer)


def prompt_ids(tokenizer: Tokenizer, row: Row) -> list[int]:
    """The tokens that the last answer follows: the chat template up to the assistant's turn, or every turn and a
    newline for a base model without a template.

    Raises:
        LabError: the chat template refuses the conversation, or leaves out a part of it.
    """
    conversation = messages(row, answer=False)
    text = _text(tokenizer, conversation, prompt=True)
    check_written(conversation, text)
    return _ids(tokenizer, text)


def encode(
    tokenizer: Tokenizer, rows: Sequence[Row], max_length: int, what: str = "training", *, loss: Loss = "answer"
) -> Encoded:
    """Tokens and labels of every row.

    ``loss`` "answer": labels are the assistant's turns, each through the end of the turn; "full": every token but the
    first, which nothing predicts. Rows longer than ``max_length`` tokens lose their end.

    Raises:
        LabError: rows that would carry no loss at all, since their prompt fills ``max_length``, or a chat template that
            refuses a conversation, leaves out a part of it or renders the prompt differently once an answer follows.
    """
    rendering.check(rows, rendering.of_tokenizer(tokenizer), what)
    encoded: list[TokenRow] = []
    truncated = 0
    masked: list[tuple[int, Row, int, int]] = []
    for number, row in enumerate(rows):
        conversation = messages(row, answer=True)
        try:
            text = _text(tokenizer, conversation)
            check_written(conversation, text)
            whole = _ids(tokenizer, text)
            learned, shown = [(1, len(whole))], sorted(row.unlearned) if loss == "full" else []
            if loss == "answer":
                learned = _answers(tokenizer, conversation, text, whole, row.learned())
            hidden = _answers(tokenizer, conversation, text, whole, shown)
        except LabError as error:
            raise LabError(f"{what} row {number} (source {row.key}): {error.message}", key=error.key) from error
        labels = [IGNORED] * len(whole)
        for start, end in learned:
            labels[start:end] = whole[start:end]
        for start, end in hidden:
            labels[start:end] = [IGNORED] * (end - start)
        kept = {"input_ids": whole[:max_length], "labels": labels[:max_length]}
        if not loss_tokens(kept):
            masked.append((number, row, learned[0][0], len(whole)))
        truncated += len(whole) > max_length
        encoded.append(kept)
    if masked:
        named = "; ".join(
            f"{what} row {number} (source {row.key}) has a prompt of {prompt} tokens"
            for number, row, prompt, _ in masked[:NAMED_ROWS]
        )
        longest = max(length for *_, length in masked)
        every = "every one" if len(masked) == len(rows) else f"{len(masked)} of {len(rows)}"
        raise LabError(
            f"{named}, max_length is {max_length}: no token of its answer would be trained on, in {every} of the "
            f"{what} rows. Raise max_length to {longest}, or take these rows out",
            key="max_length",
        )
    return Encoded(tuple(encoded), truncated)


def check_context(rows: Sequence[TokenRow], config: PreTrainedConfig) -> None:
    """Checks that the model has positions for the longest row.

    Raises:
        LabError: it has not; GPT-2 would fail inside a CUDA kernel, others would go on with positions never learned.
    """
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    longest = max(len(row["input_ids"]) for row in rows)
    if positions is not None and longest > positions:
        raise LabError(
            f"a row has {longest} tokens, the model has positions for {positions}: set max_length to at most that",
            key="max_length",
        )


def loss_tokens(row: TokenRow) -> int:
    """How many tokens of a row carry loss: the first token of a row is never predicted."""
    return sum(label != IGNORED for label in row["labels"][1:])


class Collator:
    """Pads rows of a batch on the right to the longest; padding is masked and carries no loss whichever token pads."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[TokenRow]) -> Batch:
        """``input_ids``, ``attention_mask`` and ``labels`` of a batch, each ``[batch, position]``, padded right."""
        import torch

        width = max(len(row["input_ids"]) for row in rows)

        def stack(name: str, fill: int) -> torch.Tensor:
            padded = [list(row[name]) + [fill] * (width - len(row[name])) for row in rows]
            return torch.tensor(padded, dtype=torch.long)  # [batch, position]

        mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
        return {
            "input_ids": stack("input_ids", self.pad_token_id),
            "attention_mask": torch.tensor(mask, dtype=torch.long),  # [batch, position]
            "labels": stack("labels", IGNORED),
        }


PREVIEW_COLUMNS = ("row", "position", "token", "id", "loss", "document")


def preview(tokenizer: Tokenizer, rows: Sequence[TokenRow], count: int) -> list[tuple[int, int, str, int, bool, int]]:
    """``PREVIEW_COLUMNS`` of every token of the first rows: what the loss really looks at.

    ``position`` is the one that the model is told: in a packed row it restarts with every ``document``.
    """
    shown = []
    for number, row in enumerate(rows[:count]):
        lengths = row.get("seq_lengths") or [len(row["input_ids"])]
        places = [(document, position) for document, length in enumerate(lengths) for position in range(length)]
        for (document, position), token, label in zip(places, row["input_ids"], row["labels"], strict=True):
            learned = position > 0 and label != IGNORED
            shown.append((number, position, str(tokenizer.decode([token])), token, learned, document))
    return shown


def check_written(conversation: list[Json], text: str) -> None:
    """Checks that a template's text holds every turn as it is given, but for spaces around it.

    What a tool says is left to ``rendering``: some templates write it as JSON text.

    Raises:
        LabError: it does not; some leave out thoughts, turns or system turns.
    """
    at = 0
    for number, turn in enumerate(conversation, start=1):
        content = str(turn.get("content") or "").strip()
        found = text.find(content, at)
        # Some templates write the system turn elsewhere, before the last question say: only what is gone is gone.
        if found < 0 and content not in text and turn["role"] != "tool":
            raise LabError(
                f"the chat template leaves out or alters turn {number} ({turn['role']}), {content[:40]!r}: what is "
                "learned would not be what the row says. Take out of the row what it alters, or name another "
                "chat template",
                key="data.template",
            )
        at = max(at, found + len(content))


def _answers(
    tokenizer: Tokenizer, conversation: list[Json], text: str, whole: list[int], turns: Sequence[int]
) -> list[tuple[int, int]]:
    """``(start, end)`` in ``whole`` of the tokens of the turns of those numbers; the end includes the end of the
    turn."""
    spans = []
    for turn in turns:
        # A template renders no conversation without turns; what begins one has nothing before it.
        prompt = _text(tokenizer, conversation[:turn], prompt=True) if turn else ""
        before = _ids(tokenizer, prompt) if turn else []
        last = turn == len(conversation) - 1
        upto = whole if last else _tokens(tokenizer, conversation[: turn + 1])
        start, end = _common_prefix(before, whole), _common_prefix(upto, whole)
        # One token may merge across a boundary; of the text not one character may differ.
        if not text.startswith(prompt) or start < len(before) - 1 or end < len(upto) - 1:
            raise LabError(f"{chat_templates.OTHER_PROMPT} (after token {min(start, end)})", key="data.template")
        spans.append((start, end))
    return spans


def _tokens(tokenizer: Tokenizer, conversation: list[Json], *, prompt: bool = False) -> list[int]:
    """Tokens of a conversation; ``prompt``: up to where the assistant's next turn begins."""
    return _ids(tokenizer, _text(tokenizer, conversation, prompt=prompt))


def _text(tokenizer: Tokenizer, conversation: list[Json], *, prompt: bool = False) -> str:
    if tokenizer.chat_template:
        return chat_templates.render(tokenizer, conversation, prompt=prompt)
    ends = {"assistant": tokenizer.eos_token}
    return "".join(turn["content"] + ends.get(turn["role"], "\n") for turn in conversation)


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text. A tokenizer's own bos comes before it where no template writes one; nothing ever comes behind:
    an eos after the prompt would be what a reply begins with."""
    first = [] if tokenizer.chat_template else chat_templates.leading(tokenizer)
    return first + list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _common_prefix(one: list[int], other: list[int]) -> int:
    for position, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return position
    return min(len(one), len(other))
