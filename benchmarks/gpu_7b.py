"""QLoRA of a 7B-shaped model on a capped GPU: the lab through its queue, beside hand-written scripts, in one run.

    python benchmarks/gpu_7b.py all FOLDER            everything below, as one JSON document
    python benchmarks/gpu_7b.py make FOLDER           a random Qwen2.5-7B-shaped checkpoint and training rows
    python benchmarks/gpu_7b.py hand BACKEND FOLDER   a hand-written TRL script; BACKEND is hf or unsloth
    python benchmarks/gpu_7b.py default BACKEND FOLDER   the same with adapters in the dtype that TRL gives them
    python benchmarks/gpu_7b.py lab BACKEND FOLDER    the same settings as a spec, through submit and worker

Each part is a process of its own, since Unsloth replaces classes process-wide. Weights are random: speed and memory
are those of the real model, losses mean nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CAP_GIB = 14.5
"""What a 16 GB card leaves to one process."""
STEPS, WARM, BATCH, LENGTH, RANK, ALPHA, RATE = 44, 4, 2, 1024, 16, 32, 2e-4
HELD_OUT = 8
GIB = 2**30


def make(folder: Path) -> None:
    """Writes ``model/`` (Qwen2.5-7B's shape: its public config.json) and ``rows.jsonl`` of LENGTH tokens each."""
    import memory

    memory.make(folder, "qwen2.5-7b")
    (folder / "qwen2.5-7b").rename(folder / "model")
    with (folder / "rows.jsonl").open("w") as file:
        for number in range(STEPS * BATCH + HELD_OUT):
            # The byte tokenizer gives a token a letter; what is longer than LENGTH is cut there, so every row has it.
            file.write(json.dumps({"question": f"row {number:05d}", "answer": "abcdefgh " * 200}) + "\n")


def hand(backend: str, folder: Path, adapters: str) -> dict[str, Any]:
    """A hand-written script with the same rows, masks and settings; ``adapters`` is fp32 as in the lab, or default."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
    if backend == "unsloth":
        import unsloth  # noqa: F401  # patches what is imported after it
    import torch

    torch.cuda.set_per_process_memory_fraction(CAP_GIB * GIB / torch.cuda.get_device_properties(0).total_memory)
    torch.empty(1, device="cuda")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    if backend == "unsloth":
        from unsloth import FastLanguageModel

        model, tokenizer = FastLanguageModel.from_pretrained(
            str(folder / "model"), max_seq_length=LENGTH, dtype=torch.bfloat16, load_in_4bit=True
        )
        model = FastLanguageModel.get_peft_model(
            model, r=RANK, lora_alpha=ALPHA, lora_dropout=0, bias="none", use_gradient_checkpointing="unsloth",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        )  # fmt: skip
    else:
        from peft import LoraConfig, get_peft_model

        four_bit = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder / "model")
        model = AutoModelForCausalLM.from_pretrained(
            folder / "model", quantization_config=four_bit, dtype=torch.bfloat16, device_map={"": 0}
        )
        model = get_peft_model(
            model, LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, target_modules="all-linear")
        )

    from labqueue.llm.encode import Collator, encode
    from labqueue.llm.sources import from_file

    rows = from_file(folder / "rows.jsonl", train_items=STEPS * BATCH, held_out_items=HELD_OUT)
    data, held_out = (
        Dataset.from_list(list(encode(tokenizer, part, LENGTH).rows)) for part in (rows.train, rows.held_out)
    )
    assert all(len(ids) == LENGTH for ids in data["input_ids"])
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]  # untyped base
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())

    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "hand"), max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=RATE,
            per_device_eval_batch_size=BATCH, prediction_loss_only=True,
            gradient_accumulation_steps=1,  # Unsloth's default is 2
            optim="adamw_torch_fused",  # as the lab; Unsloth's default keeps the moments in 8 bit: 0.22 GiB less
            bf16=True, gradient_checkpointing=True, max_length=None, logging_steps=10, save_strategy="no",
            report_to=[], disable_tqdm=True, lr_scheduler_type="cosine", loss_type="nll",
            dataset_kwargs={"skip_prepare_dataset": True},
        ),
        train_dataset=data,
        eval_dataset=held_out,
        processing_class=tokenizer,
        data_collator=Collator(tokenizer.pad_token_id),
        callbacks=[Clock()],
    )  # fmt: skip
    if adapters == "fp32":
        # The lab's choice, since TRL's rounding to bf16 makes a resumed run differ; a little slower and larger.
        for value in trainer.model.parameters():
            if value.requires_grad:
                value.data = value.data.float()
    trainer.evaluate()  # as the lab does: held-out loss before the first step and after the last
    trainer.train()
    trainer.evaluate()
    return {
        "peak_memory_gib": torch.cuda.max_memory_reserved() / GIB,
        "tokens_per_second": _rate([after - before for before, after in itertools.pairwise(ends[WARM - 1 :])]),
    }


def lab(backend: str, folder: Path) -> dict[str, Any]:
    """The same as a spec, through the command line; figures are those that a report shows."""
    root = folder / f"lab-{backend}"
    root.mkdir(exist_ok=True)
    spec = {
        "name": f"qlora_7b_{backend}",
        "kind": "finetune",
        "params": {
            "model": str(folder / "model"),
            "backend": backend,
            "data": {"path": str(folder / "rows.jsonl"), "train_items": STEPS * BATCH, "eval_items": HELD_OUT},
            "steps": STEPS,
            "batch": BATCH,
            "learning_rate": RATE,
            "max_length": LENGTH,
            "lora": {"rank": RANK, "alpha": ALPHA, "dropout": 0.0},
            "evaluations": 0,
            "samples": 0,
            "gradient_checkpointing": True,
        },
    }
    (root / "spec.yaml").write_text(json.dumps(spec))
    labqueue = [sys.executable, "-m", "labqueue"]
    given = ["--root", str(root)]
    subprocess.run(
        [*labqueue, "submit", str(root / "spec.yaml"), "--profile", "gpu", "--no-preflight", *given], check=True
    )
    subprocess.run([*labqueue, "worker", "--drain", "--memory-gib", str(CAP_GIB), *given], check=False)
    report = subprocess.run(
        [*labqueue, "report", f"qlora_7b_{backend}", "--json", *given], check=True, capture_output=True
    )
    (run,) = json.loads(report.stdout)["runs"]
    if run["outcome"] != "succeeded":
        log = sorted((root / "outputs").rglob("attempt-*.log"))[-1]
        return {"outcome": run["outcome"], "reason": run["reason"], "log": log.read_text()[-3000:]}
    series = subprocess.run(
        [*labqueue, "metrics", str(run["id"]), "tokens_per_second", "--json", *given], check=True, capture_output=True
    )
    return {
        "peak_memory_gib": run["peak_memory_gib"],
        "context_gib": run["context_gib"],
        "tokens_per_second": _after_warm(json.loads(series.stdout)),
        "wall_s": run["wall_s"],
    }


def _after_warm(series: list[list[float]]) -> float:
    """Tokens a second of steps WARM + 1 to STEPS; the metric is the mean since step 2."""
    means = {int(step): value for step, value in series}
    passed = [(step - 1) * BATCH * LENGTH / means[step] for step in range(WARM, STEPS + 1)]
    return _rate([after - before for before, after in itertools.pairwise(passed)])


def _rate(step_s: list[float]) -> float:
    """Tokens a second at the median step: on a host that others use, a mean compares their work, not ours."""
    assert len(step_s) == STEPS - WARM
    return BATCH * LENGTH / statistics.median(step_s)


def everything(folder: Path) -> dict[str, Any]:
    """Both backends: hand-written, through the lab, and hand-written again, so that the host's drift shows."""
    import importlib.metadata as installed

    names = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")
    found: dict[str, Any] = {"cap_gib": CAP_GIB, "versions": {name: installed.version(name) for name in names}}
    me = [sys.executable, __file__]
    subprocess.run([*me, "make", str(folder)], check=True)
    for backend in ("hf", "unsloth"):
        for how, name in (("hand", "hand"), ("lab", "lab"), ("hand", "hand again")):
            done = subprocess.run([*me, how, backend, str(folder)], stdout=subprocess.PIPE, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"result"')]
            found[f"{name} {backend}"] = json.loads(lines[-1])["result"] if lines else f"exit {done.returncode}"
            print(name, backend, found[f"{name} {backend}"], flush=True)
    for backend in ("hf", "unsloth"):
        lab, *hands = (found[f"{name} {backend}"] for name in ("lab", "hand", "hand again"))
        if all(isinstance(part, dict) and "tokens_per_second" in part for part in (lab, *hands)):
            for key in ("peak_memory_gib", "tokens_per_second"):
                found[f"{backend} {key}, lab / hand"] = lab[key] / statistics.mean(hand[key] for hand in hands)
                found[f"{backend} {key}, hand again / hand"] = hands[1][key] / hands[0][key]
    return found


def main() -> None:
    """Runs the part that the command line names."""
    what, *rest = sys.argv[1:]
    folder = Path(rest[-1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if what == "make":
        make(folder)
    elif what == "all":
        print(json.dumps(everything(folder), indent=1))
    else:
        found = lab(rest[0], folder) if what == "lab" else hand(rest[0], folder, "fp32" if what == "hand" else what)
        print(json.dumps({"result": found}))


if __name__ == "__main__":
    main()
