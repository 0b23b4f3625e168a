"""Greedy answers to questions, in batches. Leaves the model as it was: mode, caches and random numbers. No runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from labqueue.llm.encode import prompt_ids
from labqueue.llm.tasks import Row
from labqueue.llm.train import Left


def answers(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    *,
    max_new_tokens: int,
    batch: int = 16,
    backend: Literal["hf", "unsloth"] = "hf",
    gradient_checkpointing: bool = False,
    leave: Callable[[], bool] = lambda: False,
) -> list[str]:
    """The model's greedy answer to each row's question, at most ``max_new_tokens`` tokens each.

    Greedy, so equal weights give equal text; prompts are padded on the left and masked.

    Raises:
        Left: ``leave``, asked before each batch, said so.
    """
    import torch

    prompts = [prompt_ids(tokenizer, row) for row in rows]
    # By length, so that little is padded; the order of the answers is that of the rows.
    order = sorted(range(len(rows)), key=lambda number: len(prompts[number]))
    texts = [""] * len(rows)
    with _inference(model, backend, gradient_checkpointing), torch.no_grad():
        for first in range(0, len(order), batch):
            if leave():
                raise Left
            chosen = order[first : first + batch]
            width = max(len(prompts[number]) for number in chosen)
            ids = [[tokenizer.pad_token_id] * (width - len(prompts[n])) + prompts[n] for n in chosen]
            mask = [[0] * (width - len(prompts[n])) + [1] * len(prompts[n]) for n in chosen]
            out = model.generate(
                input_ids=torch.tensor(ids, device=model.device),  # [batch, position]
                attention_mask=torch.tensor(mask, device=model.device),  # [batch, position]
                max_new_tokens=max_new_tokens,
                do_sample=False,
                use_cache=True,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )  # [batch, width + new]
            replies = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
            for number, reply in zip(chosen, replies, strict=True):
                texts[number] = reply.strip()
    return texts


@contextlib.contextmanager
def _inference(model: Any, backend: str, gradient_checkpointing: bool) -> Iterator[None]:
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
