"""One fine-tuning run as the memory benchmark measures it: parameters, rows, and what the allocator held when."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

STEPS = 3


def write_rows(path: Path, sequence: int, count: int) -> None:
    """Rows of which every one fills ``sequence`` tokens: the byte tokenizer gives a token a letter, the rest is cut."""
    with path.open("w") as file:
        for number in range(count):
            answer = "abcdefgh " * (sequence // 9 + 1)
            file.write(json.dumps({"question": f"row {number:05d}", "answer": answer}) + "\n")


def params_of(config: dict[str, Any], folder: Path, rows: Path) -> dict[str, Any]:
    """The parameters of the fine-tuning run that a configuration stands for."""
    batch, accumulation = config["batch"], config.get("accumulation", 1)
    known = {
        "model": str(folder / config["shape"]),
        "backend": config["backend"],
        "data": {"path": str(rows), "train_items": STEPS * batch * accumulation, "eval_items": batch},
        "steps": STEPS,
        "batch": batch,
        "accumulation": accumulation,
        "max_length": config["sequence"],
        "lora": {"rank": config.get("rank", 16), "alpha": 32},
        "quantization": config.get("quantization", "4bit"),
        "optimizer": config.get("optimizer", "adamw"),
        "gradient_checkpointing": config.get("checkpointing", True),
        "evaluations": 0,
        "samples": 0,
    }
    more: dict[str, Any] = config.get("params", {})
    return known | more


class Bench:
    """A recorder in memory that notes what the allocator holds whenever the run tells it something."""

    run_id, seed, attempt, resume_from, should_stop = 0, 0, 1, None, None
    keep_wanted = False

    def __init__(self, directory: Path, device: str) -> None:
        self.directory, self.device = directory, device
        self.marks: list[dict[str, Any]] = []

    def mark(self, name: str) -> None:
        """Notes allocated, most allocated and most reserved (GiB) since the mark before."""
        if not self.device.startswith("cuda"):
            return
        import torch

        torch.cuda.synchronize()
        gib = 2**30
        self.marks.append(
            {
                "mark": name,
                "allocated": torch.cuda.memory_allocated() / gib,
                "most_allocated": torch.cuda.max_memory_allocated() / gib,
                "most_reserved": torch.cuda.max_memory_reserved() / gib,
            }
        )
        torch.cuda.reset_peak_memory_stats()

    def metric(self, name: str, _value: float | None, step: int) -> None:
        """Notes what is held after a step or an evaluation."""
        if name in ("train_loss", "eval_loss"):
            self.mark(f"{name} {step}")

    def artifact(self, name: str, _value: object) -> None:
        """The trainer's config is what a run tells first: model, adapter and trainer are made."""
        if name == "trainer_config":
            self.mark("made")

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Nobody reads."""

    def note(self, text: str) -> None:
        """Printed."""
        print(text, flush=True)

    def checkpoint(self, step: int, save: Any) -> None:
        """None is due in a few seconds."""

    def progress(self, done: int, total: int, *, phase: str | None = None) -> None:
        """Nobody watches."""


def one(config: dict[str, Any], folder: Path, device: str) -> dict[str, Any]:
    """Runs one configuration in this process; returns what was measured."""
    from labqueue.kinds import finetune
    from labqueue.llm.memory.device import cap, is_out_of_memory, peak_gib
    from labqueue.llm.models import load

    cap_gib, context_gib = cap(device, config.get("cap_gib"))
    card_gib = None
    if cap_gib is not None:
        if not config.get("sees_whole_card"):
            _pretend_card(cap_gib)
        card_gib = _card_gib()
    if config.get("trace"):
        import torch

        torch.cuda.memory._record_memory_history(max_entries=400_000, stacks="python")
    real = load.load_model
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
        rows = Path(scratch) / "rows.jsonl"
        os.environ["UNSLOTH_COMPILE_LOCATION"] = f"{scratch}/unsloth"  # shared, two processes write it at once
        batch, accumulation = config["batch"], config.get("accumulation", 1)
        write_rows(rows, config["sequence"], STEPS * batch * accumulation + batch)
        rec = Bench(Path(scratch) / "run", device)
        rec.directory.mkdir()

        def loaded(*args: Any, **kwargs: Any) -> Any:
            rec.mark("start")
            found = real(*args, **kwargs)
            rec.mark("loaded")
            return found

        load.load_model = loaded
        found: dict[str, Any] = {"cap_gib": cap_gib, "context_gib": context_gib, "outcome": "ok"}
        if card_gib is not None:
            found |= {"card_gib": card_gib, "allowed_gib": cap_gib}
        try:
            given = params_of(config, folder, rows)
            found["params"] = {key: value for key, value in given.items() if key not in ("model", "data")}
            finetune.run(finetune.Params.parse(given), rec)
            found["peak_gib"] = peak_gib(device)
        except Exception as error:
            found["outcome"] = "out_of_memory" if is_out_of_memory(error) else "error"
            found["error"] = f"{type(error).__name__}: {error}"[-1500:]
            found["card_free_gib"] = _free_gib(device)  # little: others took it, and the cap is not what was met
            if found["outcome"] == "error":
                import traceback

                traceback.print_exc()
        rec.mark("end")
        if rec.marks:
            peak = max(mark["most_reserved"] for mark in rec.marks)
            found["peak_gib"] = peak if found["outcome"] == "ok" else None
            found["marks"] = rec.marks
    if config.get("trace"):
        from benchmarks.memory import trace

        found["trace"] = trace.at_peak()
    return found


def _free_gib(device: str) -> float | None:
    if not device.startswith("cuda"):
        return None
    import torch

    runtime = torch.cuda.cudart()
    return float(runtime.cudaMemGetInfo(torch.device(device).index or 0)[0]) / 2**30


def _pretend_card(cap_gib: float) -> None:
    """Shows this process a card of the cap's size: Unsloth chooses buffers and kernels by what is on the card.

    ``mem_get_info`` tells what the cap leaves; ``get_device_properties`` a total of the cap and a context; the share of
    it that this process may allocate is the cap's, as it would be there.
    """
    import torch

    gib = 2**30
    real = torch.cuda.get_device_properties
    total = int((cap_gib + 1.0) * gib)

    class Card:
        def __init__(self, found: Any) -> None:
            self.found = found

        def __getattr__(self, name: str) -> Any:
            return total if name == "total_memory" else getattr(self.found, name)

    def properties(*args: Any, **named: Any) -> Any:
        return Card(real(*args, **named))

    def mem_get_info(*_: Any, **__: Any) -> tuple[int, int]:
        return max(0, int(cap_gib * gib) - torch.cuda.memory_reserved()), total

    torch.cuda.get_device_properties = properties
    torch.cuda.mem_get_info = torch.cuda.memory.mem_get_info = mem_get_info
    share = cap_gib * gib / total
    torch.cuda.get_per_process_memory_fraction = torch.cuda.memory.get_per_process_memory_fraction = lambda *_: share


def _card_gib() -> float:
    """Memory of the card as this process is shown it."""
    import torch

    return float(torch.cuda.get_device_properties(0).total_memory) / 2**30
