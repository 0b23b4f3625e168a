"""What the lab costs per step of a fine-tuning, against a hand-written TRL script with the same settings.

    python benchmarks/overhead.py [--steps 8] [--rounds 3] [--model smollm2-135m-instruct] [--json]

Both train the same 4-bit model on the same token rows in the same order with the same seed and the same CPU
workarounds, in processes of their own, turn by turn (lab, hand, hand, lab, …) so that a busy machine touches both. The
lab's side is the whole kind with a recorder that commits every metric to SQLite, as the real one does. Process start
and loading are excluded: a step's time runs from one update to the next. Prints the ratio of the medians and both
final losses, which must agree to 1e-6.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
ITEMS, HELD_OUT, BATCH, RANK, ALPHA, DROPOUT, RATE, SEED, LENGTH = 256, 8, 4, 16, 32, 0.05, 1e-3, 0, 256
LIMIT, TOLERANCE = 1.03, 1e-6


def lab(model: str, steps: int) -> dict[str, Any]:
    """The kind itself; each metric is one durable commit."""
    from labqueue.kinds import finetune
    from tests.helpers_recorder import MemoryRecorder

    folder = Path(tempfile.mkdtemp())
    store = sqlite3.connect(folder / "store.db", isolation_level=None)
    store.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE metric(name, step, value);")
    ends: list[float] = []

    class Recorder(MemoryRecorder):
        def metric(self, name: str, value: float | None, step: int) -> None:
            super().metric(name, value, step)
            store.execute("INSERT INTO metric VALUES (?, ?, ?)", (name, step, value))

        def progress(self, done: int, total: int, *, phase: str | None = None) -> None:  # the last thing told of a step
            super().progress(done, total, phase=phase)
            ends.append(time.perf_counter())

    params = {
        "model": model,
        "data": {"task": "chain_sum", "options": DATA, "train_items": ITEMS, "eval_items": HELD_OUT},
        "steps": steps,
        "batch": BATCH,
        "learning_rate": RATE,
        "lora": {"rank": RANK, "alpha": ALPHA, "dropout": DROPOUT},
        "max_length": LENGTH,
        "gradient_checkpointing": False,
        "evaluations": 0,
        "samples": 0,
        "backend": "hf",
    }
    rec = Recorder(folder, seed=SEED)
    finetune.run(finetune.Params.model_validate(params), rec)
    return {"steps_s": _gaps(ends[1:]), "losses": list(rec.metrics["train_loss"].values())}


def hand(model: str, steps: int) -> dict[str, Any]:
    """What one would write without the lab, with every workaround that a CPU needs."""
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    import bitsandbytes
    import torch
    import transformers
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # trl exports them lazily

    from labqueue.llm import processor
    from labqueue.llm.data.generated import tasks
    from labqueue.llm.data.tokenize import encode
    from labqueue.llm.models import catalogue, gguf, tiny
    from labqueue.llm.training.recipe import epoch_order

    folder = tiny.folder() if model == "random-tiny" else gguf.converted(catalogue.find(model))
    dtype = getattr(torch, processor.cpu_dtype())
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    base = AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, quantization_config=four_bit, device_map={"": "cpu"}
    )
    for layer in base.modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            layer.support_avx512bf16_for_cpu = False
    tokenizer = AutoTokenizer.from_pretrained(folder)
    transformers.set_seed(SEED)
    wanted = LoraConfig(
        task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules="all-linear"
    )
    adapted = get_peft_model(base, wanted)
    adapters = {name: value.detach().clone() for name, value in adapted.named_parameters() if value.requires_grad}
    split = tasks.generated("chain_sum", train_items=ITEMS, held_out_items=HELD_OUT, options=DATA)
    rows = encode(tokenizer, split.train, LENGTH).rows
    data = Dataset.from_list([rows[number] for number in epoch_order(ITEMS, steps * BATCH, SEED)])

    class Plain(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, _return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:  # TRL's loss head needs a GPU, and transformers' loss makes logits that nobody asks for
            targets = inputs.pop("labels")[:, 1:]
            columns = torch.where((targets >= 0).any(dim=0))[0]
            logits = model(**inputs, logits_to_keep=columns).logits.float()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), targets[:, columns], ignore_index=-100, reduction="none"
            )
            return losses.sum() / num_items_in_batch

    ends: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_log(self, *_: Any, **told: Any) -> None:
            logs: dict[str, Any] = told["logs"]
            if "loss" in logs:
                ends.append(time.perf_counter())
                losses.append(logs["loss"])

    trainer = Plain(
        model=adapted,
        args=SFTConfig(
            output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=BATCH, learning_rate=RATE,
            lr_scheduler_type="cosine", gradient_checkpointing=False, use_cpu=True, bf16=dtype == torch.bfloat16,
            logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, max_length=None, seed=SEED,
            dataset_kwargs={"skip_prepare_dataset": True}, train_sampling_strategy="sequential",
            dataloader_pin_memory=False,
        ),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Clock()],
    )  # fmt: skip
    assert trainer.model is not None
    for name, value in trainer.model.named_parameters():
        if value.requires_grad:
            value.data = adapters[name]
    trainer.train()
    return {"steps_s": _gaps(ends), "losses": losses}


def _gaps(ends: list[float]) -> list[float]:
    """Seconds from one update to the next; the first step, which warms up, falls away."""
    return [later - earlier for earlier, later in itertools.pairwise(ends)]


def _measure(which: str, model: str, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, which, "--model", model, "--steps", str(steps)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{which} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(model: str, steps: int, rounds: int) -> dict[str, Any]:
    """Runs both in turn and compares medians over all steps of all rounds."""
    took: dict[str, list[float]] = {"lab": [], "hand": []}
    losses: dict[str, list[float]] = {}
    for number in range(rounds):
        for which in ("lab", "hand") if number % 2 == 0 else ("hand", "lab"):
            found = _measure(which, model, steps)
            took[which] += found["steps_s"]
            losses[which] = found["losses"]
    medians = {which: statistics.median(values) for which, values in took.items()}
    fastest = {which: min(values) for which, values in took.items()}
    difference = max(abs(a - b) for a, b in zip(losses["lab"], losses["hand"], strict=True))
    return {
        "model": model,
        "peer": "hand-written TRL script, same settings and workarounds",
        "steps_measured": {which: len(values) for which, values in took.items()},
        "median_step_s": medians,
        "ratio_of_medians": medians["lab"] / medians["hand"],
        "ratio_of_fastest": fastest["lab"] / fastest["hand"],
        "limit": LIMIT,
        "final_loss": {which: values[-1] for which, values in losses.items()},
        "largest_loss_difference": difference,
        "tolerance": TOLERANCE,
    }


def main() -> None:
    """Parses the command line; exit status 1 when the losses differ or the lab costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="?", choices=("compare", "lab", "hand"), default="compare")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.which != "compare":
        print(json.dumps({"lab": lab, "hand": hand}[given.which](given.model, given.steps)))
        return
    found = compare(given.model, given.steps, given.rounds)
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"median step: lab {found['median_step_s']['lab']:.3f} s, hand {found['median_step_s']['hand']:.3f} s")
        print(f"lab / hand: {found['ratio_of_medians']:.3f} (at most {LIMIT}); fastest {found['ratio_of_fastest']:.3f}")
        print(f"final losses differ by at most {found['largest_loss_difference']:.1e} (at most {TOLERANCE:.0e})")
    sys.exit(found["ratio_of_medians"] > LIMIT or found["largest_loss_difference"] > TOLERANCE)


if __name__ == "__main__":
    main()
