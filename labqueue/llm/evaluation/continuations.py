"""Continues plain prompts token by token, greedily or by sampling, and tells the text as it grows. No runs.

A text depends on the weights, the prompt, the settings and the seed alone: not on what else is asked, nor on the
device's own random numbers, for the next token is drawn on the CPU.
"""

from __future__ import annotations

import functools
import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.llm.data import lengths
from labqueue.llm.evaluation.generate import ends, positions
from labqueue.llm.training.recipe import Interrupted

if TYPE_CHECKING:
    import torch

    from labqueue.llm.types import Model, Tokenizer

HALF = "\ufffd"
"""What stands for bytes that are no letter yet: the next token may complete them."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """Divides the logits; 0 takes the most likely token each time."""
    top_k: int | None = None
    """Only the k most likely tokens (Fan et al. 2018, arXiv:1805.04833, section 5); None: all."""
    top_p: float = 1.0
    """Only the fewest most likely tokens that hold this much probability (Holtzman et al. 2020, arXiv:1904.09751)."""


def check(model: str, prompts: Sequence[str]) -> None:
    """Raises LabError if a prompt has a letter that is no token, or fills all positions, as far as the model's folder
    tells."""
    found = lengths.opened(model, "none")
    if found is None:
        return
    encode = functools.partial(_encoded, lambda text: found.tokens(text, True))
    for prompt in prompts:
        _check_room(prompt, len(encode(prompt)), found.positions)


def continuation(
    model: Model,
    tokenizer: Tokenizer,
    prompt: str,
    how: Sampling,
    *,
    seed: int,
    max_new_tokens: int,
    tell: Callable[[str], None] = lambda _text: None,
    leave: Callable[[], bool] = lambda: False,
) -> str:
    """What the model writes after a prompt: at most ``max_new_tokens`` tokens, fewer where it ends the text or its
    positions end. ``tell`` is given the text so far after each token, without a letter that is not whole yet.

    Raises:
        LabError: a prompt that fills all positions, or with letters that the model has no token for.
        Interrupted: ``leave``, asked before each token, said so.
    """
    import torch

    ids = prompt_tokens(tokenizer, prompt)
    limit = positions(model)
    _check_room(prompt, len(ids), limit)
    last = {*ends(model), tokenizer.eos_token_id}
    digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
    source = torch.Generator("cpu").manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    before = _text(tokenizer, ids)
    written: list[int] = []
    text, cache = "", None
    inputs = torch.tensor([ids], device=model.device)  # [1, position]
    training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens if limit is None else min(max_new_tokens, limit - len(ids))):
            if leave():
                raise Interrupted
            with torch.no_grad():
                out = model(input_ids=inputs, past_key_values=cache, use_cache=True)
            # Rows beyond the vocabulary, which make its size a round number, are no tokens.
            token = choose(out.logits[0, -1, : len(tokenizer)].double().cpu(), how, source)
            if token in last:
                break
            written.append(token)
            text = _text(tokenizer, [*ids, *written])[len(before) :]
            tell(text.rstrip(HALF))
            inputs, cache = torch.tensor([[token]], device=model.device), out.past_key_values
    finally:
        model.train(training)
    return text


def choose(logits: torch.Tensor, how: Sampling, source: torch.Generator) -> int:
    """The next token. ``logits`` [vocabulary]."""
    import torch

    if how.temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial(probabilities(logits, how), 1, generator=source))


def probabilities(logits: torch.Tensor, how: Sampling) -> torch.Tensor:
    """What the next token is drawn from, [vocabulary], sum 1: temperature, then top-k, then top-p, as transformers
    orders them. ``logits`` [vocabulary]; the temperature is above 0."""
    import torch

    # Less the greatest, so that no small temperature overflows.
    scaled = (logits - logits.max()) / how.temperature
    if how.top_k is not None and how.top_k < len(scaled):
        scaled = scaled.masked_fill(scaled < scaled.topk(how.top_k).values[-1], -torch.inf)
    found = scaled.softmax(0)
    if how.top_p < 1:
        ordered, order = found.sort(descending=True, stable=True)
        # A token is kept while those before it hold less than p: the first always is.
        kept = ordered.cumsum(0) - ordered < how.top_p
        found = torch.zeros_like(found).scatter(0, order, ordered * kept)
    return found / found.sum()


def prompt_tokens(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """The tokens of a prompt, with what the tokenizer puts before a text by itself; of an empty one, what parts texts.

    Raises:
        LabError: it is no token, or some of its letters are none.
    """
    ids = _encoded(lambda text: [int(token) for token in tokenizer(text)["input_ids"]], prompt)
    if not prompt and not ids:
        begins = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        if begins is None:
            raise LabError(
                "an empty prompt is no token, and the model has none that begins a text: write a first letter",
                key="prompts",
            )
        return [begins]
    # Tokenizers may write a letter in another form, and spaces as they like; no more is forgiven.
    known = {*unicodedata.normalize("NFC", _text(tokenizer, ids))}
    letters = dict.fromkeys(unicodedata.normalize("NFC", prompt))
    if lost := [letter for letter in letters if letter not in known and not letter.isspace()]:
        raise _unknown(lost, prompt)
    return ids


def _encoded(encode: Callable[[str], list[int]], prompt: str) -> list[int]:
    """The tokens of a prompt, where the vocabulary has all its letters or a token for the others."""

    def fails(text: str) -> bool:
        try:
            encode(text)
        except Exception:  # tokenizers raises nothing narrower
            return True
        return False

    try:
        return encode(prompt)
    except Exception as error:  # likewise
        lost = [letter for letter in dict.fromkeys(prompt) if fails(letter)]
        raise _unknown(lost, prompt) from error


def _unknown(letters: Sequence[str], prompt: str) -> LabError:
    named = ", ".join(map(repr, letters[:8])) or "what stands"
    return LabError(
        f"the model has no token for {named} in prompt {prompt!r:.60}: its training text has no such letter; write the "
        "prompt without it",
        key="prompts",
    )


def _check_room(prompt: str, tokens: int, limit: int | None) -> None:
    if limit is not None and tokens >= limit:
        raise LabError(
            f"prompt {prompt!r:.60} has {tokens} tokens and the model has positions for {limit}, so no room is left "
            f"for a single one more: shorten it to {limit - 1} at most",
            key="prompts",
        )


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))
