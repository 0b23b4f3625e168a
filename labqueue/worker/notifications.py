"""Telling a person who is elsewhere: the queue is empty, a run failed for good, the worker was restarted or paused.

Messages go out through Apprise, one process each, started by a thread of its own: a server that hangs, a library that
crashes or leaks, none of it reaches the worker. A message is sent at most once. Where they go (``Settings.notify``) may
hold passwords, so it is handed over on standard input, and words about a failure name only the kind of target.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from labqueue.domain.errors import LabError
from labqueue.domain.views import RunView
from labqueue.settings import Settings
from labqueue.store.db import Database
from labqueue.store.queries import read
from labqueue.store.queries.outlook import Prospect, prospect
from labqueue.store.runs import results
from labqueue.store.runs.workers import Dead
from labqueue.system.clock import iso

SEND_S = 30.0
"""How long one message may take to all targets together. Assumption; Apprise itself gives up on a socket after 4 s."""

CLOSE_S = 10.0
"""How long a worker that ends waits for messages on their way. Less than a service manager's patience."""

FOR_GOOD = frozenset({"failed", "crashed", "out_of_memory", "diverged", "timed_out"})
"""Outcomes that a person wants to hear of: not those that a person or a search decided."""


@dataclass(frozen=True)
class Message:
    """One message. ``kind`` is Apprise's: ``info``, ``success``, ``warning`` or ``failure``."""

    kind: str
    title: str
    body: str


class Notices:
    """What a worker tells. Every method returns at once and raises nothing; ``close`` waits up to CLOSE_S."""

    def __init__(self, settings: Settings, db: Database, device: str, say: Callable[[str], None]) -> None:
        self._settings, self._db, self._device, self._say = settings, db, device, say
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ended: Counter[str] = Counter()
        try:
            _ = settings.notify
        except LabError as error:
            # The night's runs matter more than its messages.
            say(f"nobody will be notified: {error}")

    def restarted(self, dead: Dead) -> None:
        """The worker before this one ended without saying so."""
        cause = "the machine went down" if dead.rebooted else f"the worker before (process {dead.pid}) died"
        words = f"restarted after a crash: {cause}; last seen {iso(dead.seen_at)}"
        self._say(words)
        with contextlib.suppress(LabError):
            results.log_event(self._db, "restarted", f"worker on {self._device} {words}")
        self._post("warning", "worker restarted after a crash", f"{cause}; last seen {iso(dead.seen_at)}.")

    def paused(self, reason: str) -> None:
        """The worker itself has paused the queue."""
        self._post("warning", "queue paused", f"{reason}\nThen: labqueue resume queue")

    def ended(self, run: RunView) -> None:
        """An attempt of a run is over; tells of it when the run failed for good."""
        if run.state != "finished" or run.outcome is None:
            return
        self._ended[run.outcome] += 1
        if run.outcome in FOR_GOOD:
            title = f"run {run.id} of {run.experiment}: {run.outcome}"
            self._post("failure", title, f"{run.reason or 'no reason is known'}\nLook: labqueue logs {run.id}")

    def idle(self) -> None:
        """There is nothing to start now. Tells once when that is so for good, after runs have ended."""
        if not self._ended:
            return
        try:
            outlook = prospect(self._db, self._device.partition(":")[0])
            held = outlook is Prospect.STUCK and read.control(self._db, "pause")
        except LabError:
            return
        if outlook is Prospect.LATER or held:
            return
        counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(self._ended.items()))
        well = not self._ended.keys() & FOR_GOOD
        self._ended.clear()
        title = "queue empty" if outlook is Prospect.EMPTY else "what still waits needs a person"
        cure = "" if outlook is Prospect.EMPTY else "\nLook: labqueue queue"
        self._post("success" if well else "info", title, f"Ended since the last such message: {counts}.{cure}")

    def close(self) -> None:
        """Waits, at most CLOSE_S seconds, until every message has been sent."""
        if self._thread is not None:
            self._outbox.put(None)
            self._thread.join(CLOSE_S)
            self._thread = None

    def _post(self, kind: str, title: str, body: str) -> None:
        where = f"{socket.gethostname()}, {self._device}, {self._settings.root}"
        self._outbox.put(Message(kind, f"labqueue: {title}", f"{body}\n({where})"))
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="notify", daemon=True)
            self._thread.start()

    def _deliver(self) -> None:
        while (message := self._outbox.get()) is not None:
            try:
                problem = send(self._settings.notify, message)
            except LabError as error:
                problem = str(error)
            if problem is not None:
                words = f"could not notify ({message.title}): {problem}"
                self._say(words)
                with contextlib.suppress(LabError):
                    results.log_event(self._db, "not_notified", words)


def send(urls: Sequence[str], message: Message) -> str | None:
    """Sends to every target, in a process of its own, within SEND_S seconds; returns what went wrong, or None.

    With no target there is nothing to do and nothing went wrong.
    """
    if not urls:
        return None
    request = json.dumps({"urls": list(urls), **asdict(message)})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "labqueue.worker.notifications"],
            input=request,
            stdout=subprocess.PIPE,
            # What Apprise prints may show a target with its password.
            stderr=subprocess.DEVNULL,
            text=True,
            timeout=SEND_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {SEND_S:.0f} s"
    except OSError as error:
        return f"no process for it: {error.strerror}"
    try:
        problem = json.loads(done.stdout)
    except ValueError:
        return f"its process ended with status {done.returncode}"
    return None if problem is None else str(problem)


def invalid(urls: Sequence[str]) -> list[str]:
    """The targets that Apprise cannot read, in words without their secrets. Imports Apprise: some 0.3 s."""
    import apprise

    return [_name(at, url) for at, url in enumerate(urls) if apprise.Apprise.instantiate(url) is None]


def _name(at: int, url: str) -> str:
    scheme, found, _ = url.partition("://")
    return f"target {at + 1} ({scheme if found and scheme.isalnum() else 'no URL'})"


def _send_here(urls: Sequence[str], message: Message) -> str | None:
    """Sends from this process; returns what went wrong in words without secrets, or None."""
    import logging

    import apprise

    logging.disable(logging.CRITICAL)
    problems = []
    for at, url in enumerate(urls):
        target = apprise.Apprise.instantiate(url)
        if target is None:
            problems.append(f"{_name(at, url)} is not an address that Apprise knows")
        elif not target.notify(body=message.body, title=message.title, notify_type=message.kind):
            problems.append(f"{_name(at, url)} did not take it")
    return "; ".join(problems) or None


def main() -> int:
    """Sends the one message on standard input, a JSON object; prints what went wrong as JSON."""
    # Whoever started this may be gone; nobody else would end it.
    threading.Thread(target=_end_late, daemon=True).start()
    request = json.load(sys.stdin)
    urls = request.pop("urls")
    sys.stdout.write(json.dumps(_send_here(urls, Message(**request))))
    return 0


def _end_late() -> None:
    import os

    time.sleep(SEND_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
