"""Chooses the device that a worker computes on, and knows its card and its locks. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.settings import Settings
from labqueue.system.cards import gpus
from labqueue.system.lock_files import lock_folder

INSIDE = "cuda:0"
"""What every run's process calls its card, whatever the worker calls it: it sees no other."""


@dataclass(frozen=True)
class Device:
    """What a worker computes on. Two workers may call different cards alike, under different CUDA_VISIBLE_DEVICES."""

    name: str
    """As its person calls it: ``cpu``, ``cuda:1``."""
    card: str | None = None
    """The UUID of the card behind the name; None for a CPU."""

    def __str__(self) -> str:
        """As the results store names it, and no other: ``cuda:1 GPU-…``."""
        return self.name if self.card is None else f"{self.name} {self.card}"


def choose(device: str) -> str:
    """Resolves ``auto`` to ``cuda:0`` or ``cpu``, and checks that a named device is there.

    Raises:
        LabError: no such device on this machine.
    """
    if device == "cpu":
        return "cpu"
    cards = gpus()
    if device == "auto":
        return f"cuda:{cards[0].index}" if cards else "cpu"
    known = ["auto", "cpu", *(f"cuda:{card.index}" for card in cards)]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in known:
        raise LabError(f"there is no device {device!r} on this machine: choose {', '.join(known)}")
    return wanted


def default_profile() -> str:
    """``gpu`` when a GPU is there, else ``cpu``."""
    return "gpu" if gpus() else "cpu"


def find(name: str) -> Device:
    """The device that is called ``cpu`` or ``cuda:N`` now. Ask once: the loss of another card can renumber this one.

    Raises:
        LabError: there is no such card any more.
    """
    if name == "cpu":
        return Device(name)
    for card in gpus():
        if name == f"cuda:{card.index}":
            return Device(name, card.uuid)
    raise LabError(f"there is no device {name!r} on this machine any more; `labqueue doctor` looks closer")


def locks(settings: Settings, card: str | None) -> tuple[Path, Path]:
    """The files of a device's two locks, its worker's and the one to compute: a card's (by its UUID) are for the whole
    machine, the CPU's (None) for the workspace.

    Raises:
        LabError: as ``lockfiles.lock_folder``.
    """
    folder, name = (settings.locks, "cpu") if card is None else (lock_folder(), card)
    return folder / f"{name}.worker", folder / f"{name}.compute"
