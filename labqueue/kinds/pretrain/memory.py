"""What a pretraining run will reserve on a GPU, and how it could do with less."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from labqueue.kinds.pretrain import params as parameters

if TYPE_CHECKING:
    from labqueue.kinds.pretrain.params import Params

LEAST_CONTEXT = 64
"""Below it a shorter sequence is no longer the same question."""

CHARACTERS = 256
"""Rows for a character tokenizer whose corpus has not been read: more than most texts have."""


def vocabulary(params: Params) -> int:
    """Rows of the embedding, as far as they are known before the corpus is tokenized."""
    if params.vocabulary is not None:
        return params.vocabulary
    choice = params.tokenizer
    if choice.kind == "bpe":
        return parameters.rows_for(choice.tokens)
    if choice.kind == "model":
        return parameters.rows_for(_tokens_of(str(choice.model)))
    return 257 if choice.kind == "byte" else CHARACTERS


@functools.lru_cache(maxsize=16)
def _tokens_of(model: str) -> int:
    """Tokens of a model's tokenizer; GPT-2's number where it is not here yet."""
    from labqueue.domain.errors import LabError
    from labqueue.llm.corpora import model_tokenizers

    try:
        return len(model_tokenizers.opened(model))
    except LabError:
        return 50_257


def estimate(params: Params, device: str) -> dict[str, float] | None:
    """Predicted peak of the allocator's reserved bytes by item, GiB (``labqueue.llm.pretraining.memory``); None on a
    CPU.

    Raises:
        LabError: numbers of model or recipe that do not fit each other.
    """
    from labqueue.llm.pretraining import memory

    if not device.startswith("cuda"):
        return None
    return memory.estimate(
        parameters.config(params, vocabulary(params)),
        parameters.recipe(params),
        recompute=params.activation_checkpointing,
        card_gib=_card_gib() or memory.CARD_GIB,
    )


@functools.cache
def _card_gib() -> float | None:
    """Memory of the largest card that this process sees, GiB; None without a card."""
    from labqueue.system.cards import gpus

    return max((card.total_gib for card in gpus()), default=None)


def memory_groups(params: Params) -> tuple[object, object]:
    """Runs of one model and way of computing are off by the same ratio; their data change nothing."""
    plain = params.model_dump(mode="json")
    shared = ("preset", "model", "optimizer", "dtype", "compile", "attention", "activation_checkpointing")
    return [plain[name] for name in shared], None


def with_less_memory(params: Params) -> Params | None:
    """Half the micro-batch at the same effective batch, then activation checkpointing; None when both are spent."""
    recipe = parameters.recipe(params)
    if recipe.batch > 1:
        # An odd micro-batch goes to single sequences: no half keeps the effective batch.
        parts = 2 if recipe.batch % 2 == 0 else recipe.batch
        split = {"batch": recipe.batch // parts, "accumulation": recipe.accumulation * parts}
        return params.model_copy(update=split)
    if not params.activation_checkpointing and params.compile != "graph":
        return params.model_copy(update={"activation_checkpointing": True})
    return None


def reduce(params: Params) -> Iterator[Params]:
    """The run in ever less memory, each changing the experiment a little more: shorter sequences, then fewer layers."""
    made = parameters.config(params, 2)
    context = made.context // 2
    while context >= LEAST_CONTEXT:
        yield params.model_copy(update={"model": params.model.model_copy(update={"context": context})})
        context //= 2
    for layers in range(made.layers - 1, 0, -1):
        yield params.model_copy(update={"model": params.model.model_copy(update={"layers": layers})})


def memory_advice(params: Params) -> str:
    """What is left to a person: it changes the experiment."""
    made = parameters.config(params, 2)
    smaller = f"model.context below {made.context}, or model.layers below {made.layers}"
    return f"a preset smaller than {params.preset}, {smaller}"
