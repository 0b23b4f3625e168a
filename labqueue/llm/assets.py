"""What must be on this machine before the night: models, data files, generated tasks, by one kind of name.

A name is a model (``qwen2.5-7b-instruct``), ``file:PATH`` or ``task:NAME``. Knows no torch and no runs.
"""

from __future__ import annotations

from pathlib import Path

from labqueue.llm import models, tasks


def available(name: str) -> bool:
    """Whether a run could start now, as far as this asset goes.

    Raises:
        LabError: the name is unknown, whatever is done about it.
    """
    kind, _, rest = name.partition(":")
    if kind == "file":
        return Path(rest).expanduser().is_file()
    if kind == "task":
        tasks.check_task(rest)
        return True
    return models.available(name)


def fetch(name: str) -> None:
    """Makes the asset available on this machine.

    Raises:
        LabError: it cannot be; the message says what to do.
    """
    kind, _, rest = name.partition(":")
    if kind == "file":
        tasks.check_file(Path(rest))
    elif kind == "task":
        tasks.check_task(rest)
    else:
        models.fetch(name)
