"""A machine with made-up cards: for real processes by their environment, for a test by its own modules."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).with_name("fake_pynvml.py")


def card(uuid: str, **fields: Any) -> dict[str, Any]:
    """A card of 16 GiB of which nothing is taken, or what ``fields`` say of it."""
    default = {"name": "a card", "total_gib": 16.0, "free_gib": 16.0, "temperature_c": 50, "lost": False}
    return {"uuid": uuid, **default, **fields}


def machine(folder: Path, *cards: dict[str, Any]) -> dict[str, str]:
    """Variables with which a process finds these cards and no others; calling it again changes them."""
    folder.mkdir(exist_ok=True)
    shutil.copy(SOURCE, folder / "pynvml.py")
    (folder / "cards.json").write_text(json.dumps(cards))
    return {"PYTHONPATH": str(folder), "FAKE_CARDS": str(folder / "cards.json")}


def here(monkeypatch: pytest.MonkeyPatch, folder: Path, *cards: dict[str, Any], visible: str | None = None) -> None:
    """This process finds these cards, with CUDA_VISIBLE_DEVICES as given."""
    for name, value in machine(folder, *cards).items():
        if name != "PYTHONPATH":
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    spec = importlib.util.spec_from_file_location("pynvml", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pynvml", module)
