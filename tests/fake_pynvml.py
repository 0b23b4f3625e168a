"""NVML's functions over a JSON file of made-up cards: what a machine with several of them would answer.

``tests.driver`` puts this where ``import pynvml`` finds it. The file ($FAKE_CARDS) is read at each call, so that a card
can be lost or filled meanwhile; a card is ``uuid``, ``name``, ``total_gib``, ``free_gib``, ``temperature_c``, ``lost``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_TEMPERATURE_GPU = 0
NVML_CLOCK_SM = 1
nvmlClocksThrottleReasonSwThermalSlowdown = 0x20  # nvml.h's names
nvmlClocksThrottleReasonHwThermalSlowdown = 0x40


class NVMLError(Exception):
    """What a card that does not answer raises."""


def _cards() -> list[dict[str, Any]]:
    return json.loads(Path(os.environ["FAKE_CARDS"]).read_text())


def nvmlInit() -> None:
    _cards()


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return "580.0"


def nvmlDeviceGetCount() -> int:
    return len(_cards())


def nvmlDeviceGetHandleByIndex(number: int) -> str:
    return _answering(_cards()[number])["uuid"]


def nvmlDeviceGetHandleByUUID(uuid: str) -> str:
    return _of(uuid)["uuid"]


def nvmlDeviceGetUUID(handle: str) -> str:
    return handle


def nvmlDeviceGetName(handle: str) -> str:
    return _of(handle)["name"]


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:
    card = _of(handle)
    return SimpleNamespace(total=card["total_gib"] * 2**30, free=card["free_gib"] * 2**30)


def nvmlDeviceGetTemperature(handle: str, _sensor: int) -> int:
    return _of(handle)["temperature_c"]


def nvmlDeviceGetPowerUsage(_handle: str) -> int:
    raise NVMLError


def nvmlDeviceGetClockInfo(_handle: str, _clock: int) -> int:
    raise NVMLError


def nvmlDeviceGetCurrentClocksThrottleReasons(_handle: str) -> int:
    raise NVMLError


def _of(uuid: str) -> dict[str, Any]:
    for card in _cards():
        if card["uuid"] == uuid:
            return _answering(card)
    raise NVMLError(uuid)


def _answering(card: dict[str, Any]) -> dict[str, Any]:
    if card["lost"]:
        raise NVMLError("GPU is lost")
    return card
