"""Names of experiments: what they look like, and the words that already mean something else. Knows no folder."""

from __future__ import annotations

import re
from collections.abc import Collection

QUEUE = "queue"
"""The word that names the whole queue where a run id or an experiment could stand."""

REHEARSAL = "_preflight"
"""What ends the name of the experiment that rehearses another one."""


def refusal(name: str, folders: Collection[str]) -> str | None:
    """Why no experiment can be called so, with the cure; None where one can. ``folders`` are the lab's own, beside
    which an experiment's folder would stand."""
    if not re.fullmatch(r"[a-z0-9_]{1,64}", name):
        return f"experiment name {name!r}: use a-z, 0-9 and _, at most 64 of them"
    if name.isdecimal():
        why = f"is a number, which names a run: choose one with a letter in it, for example 'e{name}'"
    elif name == QUEUE:
        why = f"names the whole queue in commands: choose another, for example '{name}_1'"
    elif name in folders:
        why = f"is a folder of the lab's own in outputs: choose another, for example '{name}_1'"
    elif name.endswith(REHEARSAL):
        why = f"is that of a rehearsal: choose one that does not end in {REHEARSAL!r}"
    else:
        return None
    return f"experiment name {name!r} {why}"
