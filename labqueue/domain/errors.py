"""The errors that a user can fix. Knows nothing of how they are shown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """A request that is wrong. Shown as one paragraph, exit status 2, never with a traceback.

    The message names the value, where it came from and the cure; ``file``, ``line`` (1-based) and ``key``
    (dotted) say where in the user's file it stands.
    """

    exit_status = 2

    def __init__(
        self, message: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.file = file
        self.line = line
        self.key = key

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}"
        return f"{place}: {self.message}" if place else self.message


class Conflict(ValueError):
    """A value that other values of the same mapping rule out, for a validator to raise: ``key`` (dotted, inside the
    mapping) is the one to change, and the message names its value and the cure."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


class WorkFailed(LabError):
    """Work that had begun could not go on (a corrupt database met halfway, say). Exit status 1."""

    exit_status = 1


class Moved(LabError):
    """A file that a living process relies on was moved, removed or replaced under it. Exit status 3."""

    exit_status = 3


class DeviceInUse(LabError):
    """Another worker computes on the device: it can be waited for. Exit status 4, so that whoever started one can."""

    exit_status = 4


class Unavailable(LabError):
    """The workspace cannot be written for now (locked, full, read-only): whoever can wait tries again."""


class Locked(WorkFailed, Unavailable):
    """Another process has held the database's lock for too long."""


class DiskFull(Unavailable):
    """The disk of the workspace has no room."""


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns ``did you mean 'x'? known: …`` for an unknown word; the list alone where nothing is near."""
    choices = sorted(str(choice) for choice in known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    listed = ", ".join(choices) if choices else "none"
    return f"did you mean {close[0]!r}? known: {listed}" if close else f"known: {listed}"
