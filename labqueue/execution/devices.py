"""Which devices this machine has, what is free on them, and where their locks are. Does not import torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.execution.process import lock_folder
from labqueue.settings import Settings

GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """One card as its driver reports it. ``index`` is the number torch uses (``cuda:index``)."""

    index: int
    uuid: str
    name: str
    total_gib: float
    free_gib: float
    temperature_c: int | None
    throttled: bool | None
    driver: str


def gpus() -> list[Gpu]:
    """The NVIDIA cards that programs of this user can use; empty without a card or a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        # No library, no driver, no card: all mean the same here, and doctor tells them apart.
        return []
    try:
        count = pynvml.nvmlDeviceGetCount()
        order = range(count) if visible is None else [int(n) for n in visible.split(",") if n.strip().isdecimal()]
        return [_gpu(at, number) for at, number in enumerate(order) if number < count]
    finally:
        pynvml.nvmlShutdown()


def _gpu(index: int, number: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(number)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        temperature = int(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))
    except pynvml.NVMLError:
        temperature = None
    try:
        reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        hot = pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown
        throttled = bool(reasons & hot)
    except pynvml.NVMLError:
        throttled = None
    return Gpu(
        index=index,
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        total_gib=memory.total / GIB,
        free_gib=memory.free / GIB,
        temperature_c=temperature,
        throttled=throttled,
        driver=str(pynvml.nvmlSystemGetDriverVersion()),
    )


def choose(device: str) -> str:
    """Resolves ``auto`` to ``cuda:0`` or ``cpu``, and checks that a named device is there.

    Raises:
        LabError: no such device on this machine.
    """
    if device == "cpu":
        return "cpu"
    cards = gpus()
    if device == "auto":
        return "cuda:0" if cards else "cpu"
    known = ["auto", "cpu", *(f"cuda:{card.index}" for card in cards)]
    wanted = "cuda:0" if device == "cuda" else device
    if wanted not in known:
        raise LabError(f"there is no device {device!r} on this machine: choose {', '.join(known)}")
    return wanted


def default_profile() -> str:
    """``gpu`` when a GPU is there, else ``cpu``."""
    return "gpu" if gpus() else "cpu"


def lock_name(settings: Settings, device: str) -> Path:
    """The lock file of a device without its ending: one per card for the machine, one per workspace for its CPU."""
    if device == "cpu":
        return settings.locks / "cpu"
    index = int(device.partition(":")[2] or 0)
    for card in gpus():
        if card.index == index:
            return lock_folder() / card.uuid
    raise LabError(f"there is no device {device!r} on this machine any more; `labqueue doctor` looks closer")
