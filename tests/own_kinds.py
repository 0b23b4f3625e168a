"""Kinds that a user might write, for the processes of one test: each one file, found by its name."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path


def install(folder: Path, kinds: dict[str, str]) -> dict[str, str]:
    """Writes kinds (name: source) into a folder; returns the environment in which a process has them too."""
    (folder / "kinds").mkdir()
    for name, source in kinds.items():
        (folder / "kinds" / f"{name}.py").write_text(textwrap.dedent(source).lstrip())
    (folder / "sitecustomize.py").write_text(
        f"import labqueue.kinds\nlabqueue.kinds.__path__.append({str(folder / 'kinds')!r})\n"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}
