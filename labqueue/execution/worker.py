"""The worker: claims runs of one device, one at a time, and sees each through in a child process of its own.

It computes nothing itself and imports no model library, so it is small, starts at once, and lives for weeks.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from labqueue.clock import Deadline
from labqueue.domain.state import Ending
from labqueue.execution import child as children
from labqueue.execution import policy, process, queue, recovery
from labqueue.execution.child import Child
from labqueue.execution.devices import choose, lock_name
from labqueue.execution.runner import EXIT_BUSY, EXIT_STOPPED
from labqueue.settings import Settings
from labqueue.store import claims, read, write
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.drain import Prospect, prospect

RENEW_S = 4.0
"""Between renewals of leases; a fifth of claims.LEASE_S."""

LOOK_S = 0.5
"""Between looks at what people ask of the running attempt."""

SWEEP_S = 2.0
"""Between looks at the ledger without a wake-up: the longest a lost one delays a run."""


@dataclass
class Options:
    """How a worker behaves beside its device."""

    drain: bool = False
    grace_s: float = 30.0
    """How long a child may take to checkpoint once it is asked to stop."""
    say: Callable[[str], None] = field(default=lambda words: print(words, file=sys.stderr, flush=True))  # noqa: T201


class Worker:
    """One device, one worker. ``work`` returns the exit status."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self.device = choose(settings.device)
        self.device_class = self.device.partition(":")[0]
        self.settings = settings
        self.options = options
        self.db: Database = create_or_migrate(settings.database)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._unsettled = 0
        base = lock_name(settings, self.device)
        self._worker_lock = base.with_name(f"{base.name}.worker")
        self._compute_lock = base.with_name(f"{base.name}.compute")
        self._worker_id = 0
        self._standby: children.Standby | None = None

    def work(self) -> int:
        """Works until told to stop, or with ``drain`` until nothing can become eligible without a person.

        Returns 0, or with ``drain`` 1 when a run ended otherwise than succeeded or pruned, or still waits.

        Raises:
            LabError: another worker holds the device.
        """
        held = recovery.take_over(self._worker_lock, self.device)
        self._describe(held)
        heart = threading.Thread(target=self._beat, args=(held,), name="lease", daemon=True)
        heart.start()
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        me = process.myself()
        self._worker_id = write.register_worker(
            self.db, device=self.device, host=socket.gethostname(), pid=me.pid, pid_start=me.start
        )
        stop_listening = queue.listen(self.settings.wakeups, self.device_class, self._wake)
        try:
            self._recover()
            self._standby = children.prepare(self.settings, self.device, self._compute_lock)
            self.options.say(f"worker ready on {self.device} in {self.settings.root}")
            return self._loop()
        finally:
            stop_listening()
            if self._standby is not None:
                self._standby.discard()
            write.renew_worker(self.db, self._worker_id, ended=True)
            self._stopping = True
            for number, handler in previous.items():
                signal.signal(number, handler)
            held.release()
            self.db.close()

    def _loop(self) -> int:
        while not self._stopping:
            claim = claims.claim(self.db, device=self.device_class, worker_id=self._worker_id)
            if claim is not None:
                self._execute(claim)
                continue
            if self.options.drain:
                outlook = prospect(self.db, self.device_class)
                if outlook is not Prospect.LATER:
                    return 1 if self._unsettled or outlook is Prospect.STUCK else 0
            self._sleep(SWEEP_S)
        return 0

    def _execute(self, claim: claims.Claim) -> None:
        log = self.settings.run(claim.experiment, claim.run_id) / f"attempt-{claim.token}.log"
        self.options.say(f"run {claim.run_id} ({claim.experiment}, seed {claim.seed}) starts: attempt {claim.token}")
        kills = children.oom_kills()
        running = children.start(self._waiting_child(), claim.run_id, claim.token, log)
        # The next run's process starts now, while this one computes.
        self._standby = children.prepare(self.settings, self.device, self._compute_lock)
        status = self._watch(claim, running)
        with contextlib.suppress(claims.Fenced):
            self._settle(claim, running, status, kills)
        ended = read.run(self.db, claim.run_id)
        if ended.state == "finished" and ended.outcome not in ("succeeded", "pruned"):
            self._unsettled += 1
        word = ended.outcome or f"{ended.attempts[-1].outcome}, queued again"
        self.options.say(f"run {claim.run_id} {word}" + (f": {ended.reason}" if ended.reason else ""))

    def _waiting_child(self) -> children.Standby:
        if self._standby is not None and not self._standby.usable:
            self._standby.discard()
            self._standby = None
        return self._standby or children.prepare(self.settings, self.device, self._compute_lock)

    def _watch(self, claim: claims.Claim, running: Child) -> int:
        wall_minutes = claim.limits["wall_minutes"]
        renewed = looked = time.monotonic()
        while True:
            if self._stopping:
                running.end("shutdown", self.options.grace_s)
            if wall_minutes is not None and running.age_s > wall_minutes * 60:
                running.end("timeout", self.options.grace_s)
            running.enforce()
            status = running.wait(self._wake_read, LOOK_S if running.kill_at_s is None else 0.05)
            if status is not None:
                return status
            self._drink()
            now = time.monotonic()
            try:
                if now - renewed > RENEW_S:
                    renewed = now
                    claims.renew(self.db, claim.run_id, claim.token)
                    write.renew_worker(self.db, self._worker_id)
                if now - looked > LOOK_S and running.ending is None:
                    looked = now
                    asked = read.request(self.db, claim.run_id, claim.token)
                    if asked is not None:
                        running.end(asked, self.options.grace_s)
            except claims.Fenced:
                # Either it has just ended by itself, or the run was taken away: then it must not go on.
                running.end("shutdown", self.options.grace_s)

    def _settle(self, claim: claims.Claim, running: Child, status: int, kills_before: int | None) -> None:
        """Tells the ledger what the child could not; raises Fenced when the child has told it."""
        run_id, token = claim.run_id, claim.token
        why = running.ending or read.request(self.db, run_id, token)
        subject = policy.Subject(
            run_id, token, claim.kind, claim.params, claim.limits, claim.adjusted, claim.attempts_used
        )
        if status == EXIT_STOPPED or running.killed or (why is not None and status != 0):
            forced = f"; it did not stop within {self.options.grace_s:.0f} s and was killed" if running.killed else ""
            if why == "cancel":
                policy.conclude(self.db, subject, Ending.CANCELLED, f"cancelled by a person{forced}")
            elif why == "timeout":
                words = f"ran longer than limits.wall_minutes = {claim.limits['wall_minutes']:g}{forced}"
                policy.conclude(self.db, subject, Ending.TIMED_OUT, words)
            else:
                words = {"pause": "paused by a person", "shutdown": "the worker was stopped"}.get(why or "", "SIGTERM")
                self._interrupt(subject, words + forced, asked=why is not None)
        elif status == EXIT_BUSY:
            self._interrupt(subject, f"device {self.device} was not free", asked=False)
        elif status == 0:
            policy.conclude(self.db, subject, Ending.FAILED, "the process exited 0 without a result")
        elif status == -signal.SIGKILL and kills_before is not None and (children.oom_kills() or 0) > kills_before:
            words = "killed by the kernel: the machine ran out of memory"
            policy.conclude(self.db, subject, Ending.OUT_OF_MEMORY, words)
        else:
            how = f"exit status {status}" if status > 0 else f"signal {signal.Signals(-status).name}"
            said = children.last_words(running.log)
            policy.conclude(
                self.db, subject, Ending.CRASHED, f"died of {how}" + (f"; last words: {said}" if said else "")
            )

    def _interrupt(self, subject: policy.Subject, words: str, *, asked: bool) -> None:
        if claims.interrupt(self.db, subject.run_id, subject.token, words, asked=asked):
            again = f"{words}, {claims.MAX_STALLS} times in a row without a new step or checkpoint"
            policy.conclude(self.db, subject, Ending.CRASHED, again)

    def _recover(self) -> None:
        recovery.free_device(self._compute_lock, self.options.grace_s)
        for run_id in recovery.reclaim(self.db, self.device_class, self.device, self.options.grace_s):
            self.options.say(f"run {run_id} was left by a dead worker; queued again")

    def _describe(self, held: process.Lock) -> None:
        held.describe(
            {
                "lease": str(Deadline.after(claims.LEASE_S)),
                "root": str(self.settings.root),
                "host": socket.gethostname(),
                "device": self.device,
            }
        )

    def _beat(self, held: process.Lock) -> None:
        # A thread of its own: a worker that waits for a locked database is alive; one that is frozen stops all threads.
        while not self._stopping:
            self._describe(held)
            time.sleep(RENEW_S)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _sleep(self, seconds: float) -> None:
        import select

        select.select([self._wake_read], [], [], seconds)
        self._drink()

    def _drink(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
