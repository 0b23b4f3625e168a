"""Exit statuses by which a process tells the worker what it could not write into the results store.

Above what shells and Python use, and each with one meaning. What the command line itself ends with stands beside the
errors (``domain.errors``).
"""

from __future__ import annotations

STOPPED = 75
"""The run was asked to stop and has checkpointed; the worker knows why."""
FENCED = 76
"""The run was taken away: another attempt owns it."""
BUSY = 77
"""The device was not free; nothing was begun."""
DISK_FULL = 78
"""The disk was full, and so the results store could not be told."""
LATER = 79
"""The workspace cannot be written for now: a proposal is tried again."""
