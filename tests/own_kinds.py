"""Kinds that a user might write, for the processes of one test: each one file, found by its name."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from pathlib import Path

import pytest

from labqueue import kinds


def install(folder: Path, sources: dict[str, str]) -> dict[str, str]:
    """Writes kinds (name: source) into a folder; returns the environment in which a process has them too."""
    (folder / "kinds").mkdir()
    for name, source in sources.items():
        (folder / "kinds" / f"{name}.py").write_text(textwrap.dedent(source).lstrip())
    (folder / "sitecustomize.py").write_text(
        f"import labqueue.kinds\nlabqueue.kinds.__path__.append({str(folder / 'kinds')!r})\n"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


def add(monkeypatch: pytest.MonkeyPatch, folder: Path, sources: dict[str, str]) -> None:
    """Writes kinds (name: source) into a folder and adds it to this process' kinds, until the test ends."""
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source).lstrip())
        monkeypatch.delitem(sys.modules, f"labqueue.kinds.{name}", raising=False)
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(folder)])
    importlib.invalidate_caches()
