"""The NVIDIA cards that a program of this user can use, and what is free on them. Asks the driver; imports no torch.

A number means little: NVML counts by PCI bus, CUDA the fastest first, and CUDA_VISIBLE_DEVICES renumbers. A card is
known by its UUID, and its number here is the one by which CUDA, and so torch, calls it in this process (``cuda:1``).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    """The cards that CUDA_VISIBLE_DEVICES leaves, in CUDA's order; empty without a card or a driver.

    One that does not answer is left out, and the others keep their numbers.
    """
    with _nvml() as there:
        found = [_look(index, name) for index, name in enumerate(_visible())] if there else []
    return [card for card in found if card is not None]


def card(name: str, index: int = 0) -> Gpu | None:
    """The card with this UUID, to be called ``index``; None when it does not answer."""
    with _nvml() as there:
        return _look(index, name) if there else None


def chosen(visible: str | None, installed: Sequence[str]) -> list[str]:
    """UUIDs that a value of CUDA_VISIBLE_DEVICES leaves of the installed cards, by CUDA's rules.

    None is all. Numbers are places in ``installed``; a UUID may be shortened; the first entry that means no card ends
    the list, and one that is named twice empties it (CUDA programming guide, environment variables; torch.cuda). A
    part of a card (MIG) is taken at its word.
    """
    if visible is None:
        return list(installed)
    found: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        if entry.startswith("MIG-"):
            alike = [entry]
        elif entry.startswith("GPU-"):
            alike = [name for name in installed if name.startswith(entry)]
        else:
            alike = list(installed[int(entry) :][:1]) if entry.isascii() and entry.isdecimal() else []
        if len(alike) != 1:
            break
        if alike[0] in found:
            return []
        found += alike
    return found


@contextlib.contextmanager
def _nvml() -> Iterator[bool]:
    """Whether NVML answers, kept open meanwhile."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        # No library, no driver, no card: all mean the same here, and doctor tells them apart.
        yield False
        return
    try:
        yield True
    finally:
        pynvml.nvmlShutdown()


def _visible() -> list[str]:
    import pynvml

    names, models = [], set()
    for number in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            names.append(str(pynvml.nvmlDeviceGetUUID(handle)))
            models.add(str(pynvml.nvmlDeviceGetName(handle)))
        except pynvml.NVMLError:
            names.append(f"lost-{number}")  # keeps its place
    # Cards of one model are as fast as each other, and then both orders are one. Assumption; the driver need not start.
    if len(models) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        order = _cuda_order()
        if order is not None and set(order) <= set(names):
            return order
    return chosen(os.environ.get("CUDA_VISIBLE_DEVICES"), names)


def _cuda_order() -> list[str] | None:
    """UUIDs in the order in which the CUDA driver numbers this process's cards; None where it does not say.

    Makes no context on any of them (cuda.h: cuInit, cuDeviceGetUuid).
    """
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    count, device, raw = ctypes.c_int(), ctypes.c_int(), (ctypes.c_ubyte * 16)()
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return None
    found = []
    for number in range(count.value):
        if cuda.cuDeviceGet(ctypes.byref(device), number) or cuda.cuDeviceGetUuid_v2(ctypes.byref(raw), device):
            return None
        found.append(f"GPU-{uuid.UUID(bytes=bytes(raw))}")
    return found


def _look(index: int, name: str) -> Gpu | None:
    import pynvml

    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(name)
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        model, driver = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return None
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
        uuid=name,
        name=str(model),
        total_gib=memory.total / GIB,
        free_gib=memory.free / GIB,
        temperature_c=temperature,
        throttled=throttled,
        driver=str(driver),
    )
