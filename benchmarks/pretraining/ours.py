"""One run of the lab's own training path: its model, its ``TrainStep``, its validation. No pydantic, no store.

python -m benchmarks.pretraining.ours '{"preset": …, "corpus": …, …}'
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.pretraining import packed


def main() -> None:
    """Runs the job of the command line and prints what came out."""
    job = json.loads(sys.argv[1])
    print("RESULT " + json.dumps(run(job)))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Trains as ``job`` says: ``preset``, ``corpus``, ``seed``, ``device``; changes of ``config``, ``recipe`` and
    ``way``; ``marks`` (steps at which the clock is read), ``evaluations`` (steps), ``save`` and ``resume``
    (folders of a checkpoint)."""
    import torch

    from labqueue.llm.pretraining import checkpoint, memory, presets
    from labqueue.llm.pretraining.gpt import GPT
    from labqueue.llm.pretraining.train_step import TrainStep, Way
    from labqueue.llm.pretraining.validation import split_loss

    device = job["device"]
    cuda = device.startswith("cuda")
    train, held_out, vocabulary = packed.read(Path(job["corpus"]))
    preset = presets.find(job["preset"])
    config = replace(preset.config, vocabulary=vocabulary, **job.get("config", {}))
    recipe = replace(preset.recipe, **job.get("recipe", {}))
    begin = time.perf_counter()
    model = GPT(config, seed=job["seed"]).to(device)
    taken = TrainStep(model, train, recipe, Way(**job.get("way", {})), seed=job["seed"], device=device)
    first = 0
    if "resume" in job:
        first = int(checkpoint.restore(Path(job["resume"]), taken)["step"])
    taken.prepare()
    marks, evaluations = set(job.get("marks", ())), set(job.get("evaluations", ()))
    times: dict[int, float] = {}
    losses: dict[int, float] = {}
    training: dict[int, float] = {}
    apart_s = 0.0

    def now() -> float:
        if cuda:
            torch.cuda.synchronize()
        return time.perf_counter() - apart_s

    ready_s = now() - begin

    def evaluate(step: int) -> None:
        nonlocal apart_s
        from_s = now()
        losses[step] = split_loss(model, held_out, device, taken.way.dtype)
        apart_s += now() - from_s
        print("SO FAR " + json.dumps(losses), flush=True)

    if 0 in evaluations:
        evaluate(0)
    last = job.get("steps", recipe.steps)
    for step in range(first + 1, last + 1):
        before = taken.weights() if job.get("norms") and step == last else None
        taken.run(step)
        if taken.full or step == last or step in evaluations:
            training.update({each.step: each.loss for each in taken.read()})
        if before is not None:
            taken.gradient_norms()
            taken.update_norms(before)
        if step in marks:
            times[step] = now()
        if step in evaluations:
            evaluate(step)
    if "save" in job:
        Path(job["save"]).mkdir(parents=True)
        checkpoint.save(Path(job["save"]), taken, {"step": last})
    limit = taken.way.logits_bytes
    assert limit is not None
    card_gib = limit / memory.LOGITS_SHARE / 2**30  # of the card for which the chunks would be as large
    estimated = memory.estimate(
        config, recipe, recompute=taken.way.recompute, card_gib=card_gib, corpus_bytes=train.nbytes
    )
    return {
        "who": "ours",
        "estimated_gib": sum(estimated.values()),
        "estimated_items_gib": estimated,
        "initial_law": config.initial_loss,
        "preset": job["preset"],
        "config": asdict(config),
        "recipe": asdict(recipe),
        "way": asdict(taken.way),
        "rows_of_logits": None if taken.plain else taken.rows,
        "tokens_a_step": taken.tokens,
        "times_s": times,
        "losses": losses,
        "train_losses": {
            step: loss
            for step, loss in training.items()
            if job.get("every") or step <= 5 or step % 50 == 0 or step == last
        },
        "peak_gib": torch.cuda.max_memory_reserved(device) / 2**30 if cuda else None,
        "ready_s": round(ready_s, 1),
        "wall_s": round(time.perf_counter() - begin, 1),
        "parameters": config.parameters,
    }


if __name__ == "__main__":
    main()
