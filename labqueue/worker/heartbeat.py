"""Tells that a worker lives, whatever its main thread waits for: a claim, a backup, a pause of the whole night.

In threads of their own: a worker that waits for a locked database is alive, and one that is frozen stops all threads.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from labqueue.domain.errors import LabError
from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.runs import attempts, results
from labqueue.system.clock import Deadline
from labqueue.system.processes import Lock

LOCK_S = 4.0
"""Between words in the lock file, which cost nothing; a fifth of attempts.LEASE_S."""

STORE_S = 8.0
"""Between renewals in the results store, each a commit on the disk; one may be late before the lease has lapsed."""


class Heart:
    """Beats in the lock file from its making, in the results store from ``tell``, until ``stop``."""

    def __init__(self, held: Lock, settings: Settings, device: str) -> None:
        self._held = held
        self._words = {"root": str(settings.root), "host": socket.gethostname(), "device": device}
        self._stopped = threading.Event()
        self._describe()
        self._threads: list[threading.Thread] = []
        self._start(threading.Thread(target=self._renew_in_lock_file, name="lease", daemon=True))

    def tell(self, db: Database, worker_id: int) -> None:
        """Renews the worker's lease in the results store from now on; its registration was the first beat."""
        self._start(threading.Thread(target=self._renew_in_store, args=(db, worker_id), name="heart", daemon=True))

    def stop(self) -> None:
        """Ends both; waits a moment for a beat that is under way."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(1.0)

    def _start(self, thread: threading.Thread) -> None:
        self._threads.append(thread)
        thread.start()

    def _renew_in_lock_file(self) -> None:
        while not self._stopped.wait(LOCK_S):
            self._describe()

    def _renew_in_store(self, db: Database, worker_id: int) -> None:
        while not self._stopped.wait(STORE_S):
            # A results store that is locked, full or gone is the main thread's to meet and to tell.
            with contextlib.suppress(LabError):
                results.renew_worker(db, worker_id)

    def _describe(self) -> None:
        self._held.describe({"lease": str(Deadline.after(attempts.LEASE_S)), **self._words})
