"""Wake-ups through Huey. A wake-up means "look at the results store"; it carries nothing and may be lost or doubled.

Huey deletes a message when it hands it out, so a killed worker would lose a task that lived here. Runs live in the
results store; a lost wake-up is replaced by the worker's own periodic look.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huey import SqliteHuey
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

POLL_S = 0.1
"""Between looks at the file while idle: pick-up within 0.1 s for under 1 % of a core (measured in benchmarks)."""


class _JsonSerializer(Serializer):  # type: ignore[misc]  # huey ships no types
    """Nothing in this file may be able to run code when it is read."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        fields = json.loads(data)
        return Message(*fields) if isinstance(fields, list) else fields


class _Consumer(Consumer):  # type: ignore[misc]  # huey ships no types
    """Huey's consumer in this process's threads, without its signal handlers: they would orphan a running child."""

    def _set_signal_handlers(self) -> None:
        pass


_known: dict[tuple[str, str], SqliteHuey] = {}
_listeners: dict[tuple[str, str], Callable[[], None]] = {}


def _huey(path: Path, device: str) -> SqliteHuey:
    key = (str(path), device)
    if key not in _known:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Disposable, so it is never synced: a power cut costs wake-ups, which the periodic look replaces.
        huey = SqliteHuey(
            f"labqueue-{device}", filename=str(path), serializer=_JsonSerializer(), fsync=False, results=False
        )
        huey.task(name="wake")(lambda: _listeners[key]())
        _known[key] = huey
    return _known[key]


def wake(path: Path, device: str) -> None:
    """Wakes the worker of a device class (``cpu`` or ``cuda``), if there is one. Never fails a submission."""
    with contextlib.suppress(sqlite3.Error, OSError):
        huey = _huey(path, device)
        (task,) = huey._registry._registry.values()
        huey.enqueue(task())


def listen(path: Path, device: str, woken: Callable[[], None]) -> Callable[[], None]:
    """Calls ``woken`` from a thread at each wake-up; returns what stops it."""
    key = (str(path), device)
    _listeners[key] = woken
    try:
        huey = _huey(path, device)
        huey.storage.flush_queue()
    except sqlite3.DatabaseError:
        # A broken file of wake-ups holds nothing worth keeping.
        _known.pop(key, None)
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        huey = _huey(path, device)
    logging.getLogger("huey").setLevel(logging.ERROR)
    consumer = _Consumer(
        huey, workers=1, periodic=False, initial_delay=POLL_S, backoff=1.0, max_delay=POLL_S, scheduler_interval=60
    )
    consumer.start()

    def stop() -> None:
        consumer.stop(graceful=True)
        huey.storage.close()

    return stop
