"""Greedy answers to questions, in batches. Leaves the model as it was: mode, caches and random numbers. No runs.

What a model's folder says of sampling (``generation_config.json``) is for chatting with it; of that the lab uses which
tokens end a reply, and nothing else.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates, replies
from labqueue.llm.data.generated.tasks import Row
from labqueue.llm.data.tokenize import prompt_ids
from labqueue.llm.models.load import Loaded, bare
from labqueue.llm.training.recipe import Interrupted

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from labqueue.llm.types import Model, Tokenizer

GREEDY: dict[str, bool | float] = {
    "do_sample": False,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "use_cache": True,
}
"""The most likely token each time, and nothing that changes which one that is. What is not named here is off."""


def settle(loaded: Loaded, template: str) -> tuple[str, ...]:
    """Applies a chat template, and makes tokenizer and model agree on what ends a reply; returns what is to be said.

    A reply ends at what the template writes after an answer, at the tokenizer's eos, and at each eos of the folder's
    own ``generation_config``. That list is what sampling follows and what is saved with the model.

    Raises:
        LabError: as ``templates.apply``.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    applied = chat_templates.apply(tokenizer, template)
    kept = model.generation_config
    kept.eos_token_id = list(dict.fromkeys((*applied.ends, *_listed(kept.eos_token_id))))
    model.config.eos_token_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else applied.ends[0]
    if tokenizer.pad_token_id is None:  # it has no eos and no unk either
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(applied.ends[0])
    for config in (model.config, kept):
        config.pad_token_id = tokenizer.pad_token_id
    named = ", ".join(f"{tokenizer.convert_ids_to_tokens(end)} ({end})" for end in kept.eos_token_id)
    ours = ", ".join(f"{name} {value}" for name, value in GREEDY.items())
    said = f"replies are greedy ({ours}; nothing suppressed, forced or penalised) and end at {named}"
    if ignored := _ignored(kept):
        said += f"; of the model's generation_config is ignored: {', '.join(ignored)}"
    return (*applied.notes, said)


def ends(model: Model) -> tuple[int, ...]:
    """The tokens that end a reply of this model."""
    return _listed(bare(model).generation_config.eos_token_id)


def answers(
    model: Model,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    batch: int = 16,
    backend: Literal["hf", "unsloth"] = "hf",
    gradient_checkpointing: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> list[str]:
    """The model's greedy answer to each row's question, at most ``max_new_tokens`` tokens each.

    Raises:
        LabError: as ``reply_tokens``.
        Interrupted: ``leave``, asked before each batch, said so.
    """
    found = reply_tokens(
        model,
        tokenizer,
        rows,
        max_new_tokens=max_new_tokens,
        batch=batch,
        backend=backend,
        gradient_checkpointing=gradient_checkpointing,
        leave=leave,
    )
    texts = tokenizer.batch_decode(found, skip_special_tokens=True) if found else []
    return [text.strip() for text in texts]


def reply_tokens(
    model: Model,
    tokenizer: Tokenizer,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    batch: int = 16,
    backend: Literal["hf", "unsloth"] = "hf",
    gradient_checkpointing: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> list[list[int]]:
    """The tokens of the model's greedy answer to each row's question, without what ends it.

    Greedy, so equal weights give equal tokens; prompts are padded on the left and masked.

    Raises:
        LabError: a chat template that refuses a row, or a prompt that leaves no room for ``max_new_tokens`` in the
            model's positions; the row is named.
        Interrupted: ``leave``, asked before each batch, said so.
    """
    import torch

    prompts = [_prompt(tokenizer, row, number) for number, row in enumerate(rows)]
    replies.check_room([len(prompt) for prompt in prompts], rows, max_new_tokens, positions(model))
    # By length, so that little is padded; the order of the answers is that of the rows.
    order = sorted(range(len(rows)), key=lambda number: len(prompts[number]))
    found: list[list[int]] = [[] for _ in rows]
    with _inference(model, backend, gradient_checkpointing), _greedy(model, tokenizer, max_new_tokens) as config:
        for first in range(0, len(order), batch):
            if leave():
                raise Interrupted
            chosen = order[first : first + batch]
            width = max(len(prompts[number]) for number in chosen)
            ids = [[tokenizer.pad_token_id] * (width - len(prompts[n])) + prompts[n] for n in chosen]
            mask = [[0] * (width - len(prompts[n])) + [1] * len(prompts[n]) for n in chosen]
            with torch.no_grad():
                out = model.generate(
                    input_ids=torch.tensor(ids, device=model.device),  # [batch, position]
                    attention_mask=torch.tensor(mask, device=model.device),  # [batch, position]
                    generation_config=config,
                )  # [batch, width + new]
            for number, reply in zip(chosen, out[:, width:].tolist(), strict=True):
                found[number] = list(itertools.takewhile(lambda token: token not in config.eos_token_id, reply))
    return found


def positions(model: Model) -> int | None:
    """How many tokens the model has positions for; None where its config does not say."""
    found = getattr(bare(model).config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


def _prompt(tokenizer: Tokenizer, row: Row, number: int) -> list[int]:
    try:
        return prompt_ids(tokenizer, row)
    except LabError as error:
        raise LabError(f"question {number} (source {row.key}): {error.message}", key=error.key) from error


@contextlib.contextmanager
def _greedy(model: Model, tokenizer: Tokenizer, max_new_tokens: int) -> Iterator[GenerationConfig]:
    """The lab's own generation config, and the model without any other meanwhile: transformers takes from the model's
    what a given one leaves open, and "no suppressed tokens" cannot be said otherwise than by leaving it open."""
    from transformers import GenerationConfig

    inner = bare(model)
    folders = inner.generation_config
    config = GenerationConfig(
        **GREEDY, max_new_tokens=max_new_tokens, eos_token_id=list(ends(model)), pad_token_id=tokenizer.pad_token_id
    )
    inner.generation_config = config
    try:
        yield config
    finally:
        inner.generation_config = folders


def _ignored(config: GenerationConfig) -> list[str]:
    """What a model's generation config says and greedy decoding ignores."""
    ours = {*GREEDY, "eos_token_id", "pad_token_id", "bos_token_id", "transformers_version", "_from_model_config"}
    said = config.to_diff_dict()
    other = {name: said[name] for name in GREEDY if name in said and said[name] not in (None, GREEDY[name])}
    other |= {name: value for name, value in said.items() if name not in ours and value not in (None, False)}
    return [f"{name} {value}" for name, value in sorted(other.items())]


def _listed(ids: int | Sequence[int] | None) -> tuple[int, ...]:
    return () if ids is None else (ids,) if isinstance(ids, int) else tuple(ids)


@contextlib.contextmanager
def _inference(model: Model, backend: str, gradient_checkpointing: bool) -> Iterator[None]:
    training = model.training
    if backend == "unsloth":
        from unsloth import FastLanguageModel

        FastLanguageModel.for_inference(model)
    else:
        model.eval()
    try:
        yield
    finally:
        if backend == "unsloth" and training:
            FastLanguageModel.for_training(model, use_gradient_checkpointing=gradient_checkpointing)
        model.train(training)
