"""The whole state of a training run in a folder, and back: resumed equals uninterrupted, bit for bit on a CPU.

Written are the trainable weights (safetensors), optimizer, schedule and every random generator (tensors and plain
values, read back with ``weights_only=True``) and the trainer's counters (JSON). No pickle that anyone could feed.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import WorkFailed
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import torch

    from labqueue.llm.training.recipe import Trainer

WEIGHTS, STATE, COUNTERS, ABOUT = "trainable.safetensors", "state.pt", "trainer_state.json", "about.json"


def save(folder: Path, trainer: Trainer, about: Json) -> None:
    """Writes everything that a later process needs; ``about`` is the caller's own JSON."""
    import torch
    from safetensors.torch import save_file

    weights = {name: value.detach().cpu().contiguous() for name, value in trainable(trainer.model).items()}
    save_file(weights, folder / WEIGHTS)
    state = {
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.lr_scheduler.state_dict(),
        "random": random_state(),
    }
    torch.save(state, folder / STATE)
    trainer.state.save_to_json(str(folder / COUNTERS))
    (folder / ABOUT).write_text(json.dumps(about))


def about(folder: Path) -> Json:
    """The caller's own JSON of a checkpoint."""
    return dict(json.loads((folder / ABOUT).read_text()))


def load_weights(folder: Path, model: torch.nn.Module) -> None:
    """Puts the trainable weights back, in place and in their own dtype.

    Raises:
        WorkFailed: the checkpoint belongs to other weights than the model has.
    """
    import torch
    from safetensors.torch import load_file

    stored = load_file(folder / WEIGHTS)
    mine = trainable(model)
    wrong = sorted(
        name
        for name in stored.keys() | mine.keys()
        if name not in stored
        or name not in mine
        or (stored[name].shape, stored[name].dtype) != (mine[name].shape, mine[name].dtype)
    )
    if wrong:
        raise WorkFailed(
            f"the checkpoint {folder.name} does not fit this model: {len(wrong)} trainable tensors differ, "
            f"{wrong[0]} first. Run the experiment again without it (retry --force)"
        )
    with torch.no_grad():
        for name, value in mine.items():
            value.copy_(stored[name])


def load_optimizer(folder: Path, trainer: Trainer) -> None:
    """Puts optimizer and schedule back."""
    state = _state(folder)
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.load_state_dict(state["schedule"])


def load_random(folder: Path) -> None:
    """Puts every random generator back."""
    set_random_state(_state(folder)["random"])


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def random_state() -> Json:
    """The state of Python's, numpy's and torch's generators, the CUDA ones included, as plain values and tensors."""
    import numpy
    import torch

    kind, keys, position, has_gauss, gauss = numpy.random.get_state()
    version, words, spare = random.getstate()
    return {
        "python": [version, list(words), spare],
        "numpy": [kind, [int(key) for key in keys], int(position), int(has_gauss), float(gauss)],
        "torch": torch.random.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Json) -> None:
    """The inverse of ``random_state``."""
    import numpy
    import torch

    version, words, spare = state["python"]
    random.setstate((version, tuple(words), spare))
    kind, keys, position, has_gauss, gauss = state["numpy"]
    numpy.random.set_state((kind, numpy.array(keys, dtype=numpy.uint32), position, has_gauss, gauss))
    torch.random.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def _state(folder: Path) -> Json:
    import torch

    return dict(torch.load(folder / STATE, map_location="cpu", weights_only=True))
