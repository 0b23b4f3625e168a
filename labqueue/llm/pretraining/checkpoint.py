"""The whole state of a pretraining run in a folder, and back: weights, optimizer states, and the caller's own JSON.

Batches and dropout are functions of (seed, step), so there is no random state to keep. On a CPU a resumed run equals an
uninterrupted one bit for bit, given the same number of threads, versions and way of computing; ``differences`` says
where these are others.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from labqueue.domain.errors import WorkFailed
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from labqueue.llm.pretraining.train_step import TrainStep

WEIGHTS, OPTIMIZERS, ABOUT = "weights.safetensors", "optimizers.pt", "about.json"


def save(folder: Path, taken: TrainStep, about: Json) -> None:
    """Writes a run's state into an empty folder; ``about`` is the caller's own JSON."""
    from safetensors.torch import save_file

    weights = {name: weight.detach().cpu().contiguous() for name, weight in taken.model.named_parameters()}
    save_file(weights, folder / WEIGHTS)
    torch.save(taken.optimizers.state(), folder / OPTIMIZERS)
    (folder / ABOUT).write_text(json.dumps({"computed": circumstances(taken), "caller": about}))


def restore(folder: Path, taken: TrainStep) -> Json:
    """Puts a run's state back, in place and before ``TrainStep.prepare``; returns the caller's JSON.

    Raises:
        WorkFailed: the checkpoint belongs to another model.
    """
    from safetensors.torch import load_file

    stored = load_file(folder / WEIGHTS)
    mine = dict(taken.model.named_parameters())
    wrong = sorted(
        name
        for name in stored.keys() | mine.keys()
        if name not in stored or name not in mine or stored[name].shape != mine[name].shape
    )
    if wrong:
        raise WorkFailed(
            f"the checkpoint {folder.name} does not fit this model: {len(wrong)} tensors differ, {wrong[0]} first. Run "
            "the experiment again without it (retry --force)"
        )
    with torch.no_grad():
        for name, weight in mine.items():
            weight.copy_(stored[name])
    taken.optimizers.restore(torch.load(folder / OPTIMIZERS, map_location=taken.device, weights_only=True))
    about = json.loads((folder / ABOUT).read_text())
    return dict(about["caller"])


def circumstances(taken: TrainStep) -> Json:
    """What the last bits of a step depend on beside its numbers."""
    cuda = taken.device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name(taken.device) if cuda else platform.machine(),
        "threads": None if cuda else torch.get_num_threads(),
        "mode": taken.way.mode,
        "dtype": taken.way.dtype,
        "attention": taken.way.attention if cuda else None,
        "recompute": taken.way.recompute,
        "micro_batch": taken.recipe.batch,
        "torch": metadata.version("torch"),
        "numpy": metadata.version("numpy"),
    }


def differences(folder: Path, taken: TrainStep) -> list[str]:
    """In words, what is not as it was when the checkpoint was written: ``threads was 2, is 4``; empty where all is."""
    before = json.loads((folder / ABOUT).read_text())["computed"]
    now = circumstances(taken)
    return [f"{name} was {before.get(name)}, is {value}" for name, value in now.items() if before.get(name) != value]
