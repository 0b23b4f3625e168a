"""QLoRA of a 7B-shaped model on a capped GPU: the lab through its queue, beside hand-written scripts, in one run.

    python benchmarks/gpu_7b.py all FOLDER            make and both pairs, as one JSON document
    python benchmarks/gpu_7b.py make FOLDER           a random Qwen2.5-7B-shaped checkpoint and training rows
    python benchmarks/gpu_7b.py pair BACKEND FOLDER   hand and lab in turns on one card; BACKEND is hf or unsloth
    python benchmarks/gpu_7b.py hand BACKEND FOLDER   a hand-written TRL script
    python benchmarks/gpu_7b.py default BACKEND FOLDER   the same with adapters in the dtype that TRL gives them
    python benchmarks/gpu_7b.py lab BACKEND FOLDER    the same settings as a spec, through submit and worker

Each part is a process of its own, since Unsloth replaces classes process-wide; a pair holds two models at once, each
under its own cap, and so needs a card of 24 GB. Weights are random: speed and memory are those of the real model,
losses mean nothing.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import turns

ROOT = Path(__file__).resolve().parents[1]
LABQUEUE = [sys.executable, "-m", "labqueue"]
CAP_GIB = 14.5
"""What a 16 GB card leaves to one process."""
STEPS, WARM, BATCH, LENGTH, RANK, ALPHA, RATE = 84, 4, 2, 1024, 16, 32, 2e-4
HELD_OUT = 8
GIB = 2**30
READY = "warm"
"""What a hand-written script says once its first steps are done."""


def make(folder: Path) -> None:
    """Writes ``model/`` (Qwen2.5-7B's shape: its public config.json) and ``rows.jsonl`` of LENGTH tokens each."""
    from benchmarks.memory import shapes

    shapes.make(folder, "qwen2.5-7b")
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
    from trl import SFTConfig, SFTTrainer  # type: ignore[attr-defined]  # trl exports them lazily

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

    from labqueue.llm.data.split import from_file
    from labqueue.llm.data.tokenize import Collator, encode

    rows = from_file(folder / "rows.jsonl", train_items=STEPS * BATCH, held_out_items=HELD_OUT)
    data, held_out = (
        Dataset.from_list(list(encode(tokenizer, part, LENGTH).rows)) for part in (rows.train, rows.held_out)
    )
    assert all(len(ids) == LENGTH for ids in data["input_ids"])
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize()
            ends.append(time.perf_counter())
            if len(ends) == WARM:
                print(READY, flush=True)

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
        assert trainer.model is not None
        for value in trainer.model.parameters():
            if value.requires_grad:
                value.data = value.data.float()
    trainer.evaluate()  # as the lab does: held-out loss before the first step and after the last
    trainer.train()
    trainer.evaluate()
    return {
        "peak_memory_gib": torch.cuda.max_memory_reserved() / GIB,
        "step_s": [after - before for before, after in itertools.pairwise(ends[WARM - 1 :])],
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
    given = ["--root", str(root)]
    subprocess.run(
        [*LABQUEUE, "submit", str(root / "spec.yaml"), "--profile", "gpu", "--no-preflight", *given], check=True
    )
    subprocess.run([*LABQUEUE, "worker", "--drain", "--memory-gib", str(CAP_GIB), *given], check=False)
    report = subprocess.run(
        [*LABQUEUE, "report", f"qlora_7b_{backend}", "--json", *given], check=True, capture_output=True
    )
    (run,) = json.loads(report.stdout)["runs"]
    if run["outcome"] != "succeeded":
        log = sorted((root / "outputs").rglob("attempt-*.log"))[-1]
        return {"outcome": run["outcome"], "reason": run["reason"], "log": log.read_text()[-3000:]}
    return {
        "peak_memory_gib": run["peak_memory_gib"],
        "context_gib": run["context_gib"],
        "step_s": _after_warm(_told(root, run["id"])),
        "wall_s": run["wall_s"],
    }


def _told(root: Path, run_id: int) -> list[list[float]]:
    """[step, tokens a second] of a run, as far as it has come."""
    told = subprocess.run(
        [*LABQUEUE, "metrics", str(run_id), "tokens_per_second", "--json", "--root", str(root)],
        check=False,
        capture_output=True,
    )
    found: list[list[float]] = json.loads(told.stdout) if told.returncode == 0 else []
    return found


def _after_warm(series: list[list[float]]) -> list[float]:
    """Seconds of steps WARM + 1 to STEPS; the metric is the mean since step 2."""
    means = {int(step): value for step, value in series}
    passed = [(step - 1) * BATCH * LENGTH / means[step] for step in range(WARM, STEPS + 1)]
    return [after - before for before, after in itertools.pairwise(passed)]


def start(how: str, backend: str, folder: Path) -> turns.Player:
    """One part of a pair as a process that takes turns; what it prints goes to ``how-backend.txt``."""
    name, root = f"{how}-{backend}", folder / f"lab-{backend}"
    printed = folder / f"{name}.txt"
    if how == "lab":
        shutil.rmtree(root, ignore_errors=True)
    (place := folder / f"in-{name}").mkdir(exist_ok=True)  # Unsloth writes compiled code where it runs
    with printed.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks/gpu_7b.py"), how, backend, str(folder)],
            stdout=out,
            cwd=place,
            env={
                **os.environ,
                "LABQUEUE_LOCKS": str(place),
                "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
            },
            start_new_session=True,
        )
    if how != "lab":
        return turns.Player(name, process, lambda: READY in printed.read_text(), turns.own_group(process))
    return turns.Player(
        name,
        process,
        lambda: len(_told(root, 1)) >= WARM - 1,
        lambda: turns.running_with("labqueue.attempt.runner", str(root)),
    )


def pair(backend: str, folder: Path) -> dict[str, Any]:
    """Hand-written and through the lab, in turns: peak, tokens a second at the median step, and their ratios."""
    players = [start(how, backend, folder) for how in ("hand", "lab")]
    late = turns.take_turns(players)
    found: dict[str, Any] = {"killed": late} if late else {}
    for how in ("hand", "lab"):
        lines = (folder / f"{how}-{backend}.txt").read_text().splitlines()
        told = [json.loads(line)["result"] for line in lines if line.startswith('{"result"')]
        found[how] = told[-1] if told else "no result"
    if all("step_s" in found[how] for how in ("hand", "lab")):
        steps = {how: found[how].pop("step_s") for how in ("hand", "lab")}
        for how, step_s in steps.items():
            whole = [each for one in turns.rounds(step_s) for each in one]
            found[how] |= {"tokens_per_second": BATCH * LENGTH / statistics.median(whole), "steps": len(whole)}
        found["peak_memory_gib, lab / hand"] = found["lab"]["peak_memory_gib"] / found["hand"]["peak_memory_gib"]
        found["tokens_per_second, lab / hand, and 95 % interval"] = turns.ratio(steps["lab"], steps["hand"])
    return found


def everything(folder: Path) -> dict[str, Any]:
    """Both backends, with what they were measured with."""
    import importlib.metadata as installed

    names = ("torch", "transformers", "trl", "peft", "bitsandbytes", "unsloth")
    found: dict[str, Any] = {"cap_gib": CAP_GIB, "versions": {name: installed.version(name) for name in names}}
    subprocess.run([sys.executable, __file__, "make", str(folder)], check=True)
    for backend in ("hf", "unsloth"):
        found[backend] = pair(backend, folder)
        print(backend, found[backend], file=sys.stderr, flush=True)
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
    elif what == "pair":
        print(json.dumps(pair(rest[0], folder), indent=1))
    else:
        found = lab(rest[0], folder) if what == "lab" else hand(rest[0], folder, "fp32" if what == "hand" else what)
        print(json.dumps({"result": found}))


if __name__ == "__main__":
    main()
