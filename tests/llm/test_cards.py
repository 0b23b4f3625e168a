"""Cards by their UUIDs: on a machine with several, whatever numbers NVML, CUDA and a person give them."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from labqueue.kinds.finetune import memory
from labqueue.llm.memory.device import _used_gib, is_device_fault
from labqueue.system import cards
from labqueue.system.cards import chosen
from tests import driver

A, B, C = "GPU-aa000000-0000-0000-0000-000000000001", "GPU-ab000000-0000-0000-0000-000000000002", "GPU-c3"


@pytest.mark.parametrize(
    ("visible", "left"),
    [
        (None, [A, B, C]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [B]),
        ("2, 0", [C, A]),
        ("0,7,1", [A]),
        ("1,-1,0", [B]),
        ("1,1", []),
        (B, [B]),
        ("GPU-ab,GPU-c", [B, C]),
        ("GPU-a", []),
        ("GPU-ff", []),
        ("MIG-5c", ["MIG-5c"]),
    ],
)
def test_a_person_chooses_cards_by_cudas_rules(visible: str | None, left: list[str]) -> None:
    assert chosen(visible, [A, B, C]) == left


@pytest.mark.gpu
def test_the_drivers_own_numbers_are_ours() -> None:
    import torch

    found = [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in range(torch.cuda.device_count())]
    assert [card.uuid for card in cards.gpus()] == found
    assert cards._cuda_order() == found


def test_numbers_are_those_of_the_cards_that_are_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine = (driver.card(A), driver.card(B), driver.card(C))
    driver.here(monkeypatch, tmp_path, *machine, visible=f"{C},{A}")
    assert [(card.index, card.uuid) for card in cards.gpus()] == [(0, C), (1, A)]
    driver.here(monkeypatch, tmp_path, *machine, visible="")
    assert cards.gpus() == []


def test_a_card_that_is_lost_changes_no_other_ones_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    driver.here(monkeypatch, tmp_path, driver.card(A, lost=True), driver.card(B))
    assert [(card.index, card.uuid) for card in cards.gpus()] == [(1, B)]
    assert cards.card(A) is None
    found = cards.card(B, 1)
    assert found is not None
    assert (found.uuid, found.index) == (B, 1)


class Cuda:
    """The CUDA driver's own count: these cards, the fastest first, less what CUDA_VISIBLE_DEVICES hides."""

    def __init__(self, *order: str) -> None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self.order = chosen(visible, order)

    def cuInit(self, _flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, count: SimpleNamespace) -> int:
        count._obj.value = len(self.order)
        return 0

    def cuDeviceGet(self, device: SimpleNamespace, number: int) -> int:
        device._obj.value = number
        return 0

    def cuDeviceGetUuid_v2(self, raw: SimpleNamespace, device: SimpleNamespace) -> int:
        raw._obj[:] = list(uuid.UUID(self.order[device.value].removeprefix("GPU-")).bytes)
        return 0


def test_unlike_cards_are_numbered_as_cuda_does_it_unless_by_their_bus(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The slower card sits on the first bus: NVML's first is CUDA's second."""
    machine = (driver.card(A, name="slow"), driver.card(B, name="fast"))
    monkeypatch.setattr(cards.ctypes, "CDLL", lambda _name: Cuda(B, A))
    driver.here(monkeypatch, tmp_path, *machine)
    assert [card.uuid for card in cards.gpus()] == [B, A]
    driver.here(monkeypatch, tmp_path, *machine, visible="1")
    assert [(card.index, card.uuid) for card in cards.gpus()] == [(0, A)]
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert [(card.index, card.uuid) for card in cards.gpus()] == [(0, B)]


def test_memory_is_measured_on_the_card_that_a_process_sees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small, large = driver.card(A, total_gib=8.0, free_gib=1.0), driver.card(B, total_gib=24.0, free_gib=22.0)
    found = {}
    for visible in (None, A, B):
        driver.here(monkeypatch, tmp_path, small, large, visible=visible)
        memory._card_gib.cache_clear()
        found[visible] = (_used_gib(0), memory._card_gib())
    memory._card_gib.cache_clear()
    assert found == {None: (7.0, 24.0), A: (7.0, 8.0), B: (2.0, 24.0)}
    driver.here(monkeypatch, tmp_path, small, large, visible="")
    assert _used_gib(0) is None, "not measured is not 0"


def test_a_card_that_has_gone_is_no_fault_of_the_experiment() -> None:
    """What torch says in a process whose one card no longer answers."""
    assert is_device_fault(RuntimeError("No CUDA GPUs are available"))
