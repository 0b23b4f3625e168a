"""Describes what exactly ran: code, packages, machine. A number on a page traces to these."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labqueue.settings import Settings
from labqueue.system import patches
from labqueue.system.cards import gpus
from labqueue.system.patches import Patch

PACKAGES = (
    "accelerate", "bitsandbytes", "datasets", "gguf", "numpy", "peft", "reasoning-gym", "safetensors",
    "scikit-learn", "scipy", "tokenizers", "torch", "transformers", "triton", "trl", "unsloth", "unsloth_zoo",
)  # fmt: skip
"""Distributions whose version can change a result: they decide with the sources whether a run may be reused."""

SOURCES = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Provenance:
    """Code and packages of this process. ``commit`` and ``dirty`` are None outside a git checkout."""

    commit: str | None
    dirty: bool | None
    sources_hash: str
    packages_hash: str


@functools.cache
def here() -> Provenance:
    """The provenance of this process, read once: what was imported does not change when files do."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=normal", "--", ".") if commit else None
    return Provenance(commit, None if status is None else bool(status), _sources_hash(), _packages_hash())


def importable() -> str:
    """``PYTHONPATH`` by which a process in another folder finds this very lab, installed or not."""
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(SOURCES.parent)]))


def save_patch(settings: Settings) -> Patch:
    """Keeps the difference of a dirty tree to its commit; nothing where there is none."""
    return patches.save(settings, SOURCES.parent) if here().dirty else Patch(None)


def environment(device: str) -> dict[str, Any]:
    """Python, packages and hardware, as stored once per distinct environment."""
    card = next((gpu for gpu in gpus() if device == f"cuda:{gpu.index}"), None)
    return {
        "python": platform.python_version(),
        "os": platform.platform(),
        "host": socket.gethostname(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "packages": dict(_versions()),
        "gpu": None if card is None else {"name": card.name, "uuid": card.uuid, "memory_gib": round(card.total_gib, 2)},
        "driver": None if card is None else card.driver,
    }


@functools.cache
def _versions() -> tuple[tuple[str, str], ...]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def _packages_hash() -> str:
    text = "".join(f"{name}=={version}\n" for name, version in (("python", platform.python_version()), *_versions()))
    return hashlib.sha256(text.encode()).hexdigest()


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        digest.update(path.relative_to(SOURCES).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _git(*words: str) -> str | None:
    found = patches.git(SOURCES.parent, *words)
    return None if found is None else found.decode(errors="replace").strip("\n")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return sys.platform
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), sys.platform)
