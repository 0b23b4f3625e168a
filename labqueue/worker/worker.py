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
from typing import TypeVar

from labqueue.attempt import retry_policy
from labqueue.domain.errors import LabError, Moved, Unavailable
from labqueue.domain.state import Ending
from labqueue.domain.text import printable
from labqueue.settings import Settings
from labqueue.store import backup
from labqueue.store.db import Database, create_or_migrate
from labqueue.store.queries import past_runs, read
from labqueue.store.queries.outlook import Prospect, another_waits, prospect
from labqueue.store.runs import attempts, results, workers
from labqueue.system import clock, disk, processes, wakeups
from labqueue.system.devices import choose, find, locks
from labqueue.worker import child_process as children
from labqueue.worker import notifications, reap, recovery
from labqueue.worker.admission import Admission
from labqueue.worker.child_process import Child
from labqueue.worker.circuit_breaker import Breaker
from labqueue.worker.heartbeat import Heart
from labqueue.worker.proposer import Proposer
from labqueue.worker.sleep_inhibitor import Wakefulness
from labqueue.worker.telemetry import Telemetry
from labqueue.worker.working_hours import Hours

T = TypeVar("T")

RENEW_S = 4.0
"""Between renewals of the running attempt's lease; a fifth of attempts.LEASE_S."""

LOOK_S = 0.5
"""Between looks at what people ask of the running attempt."""

SWEEP_S = 2.0
"""Between looks at the results store without a wake-up: the longest a lost one delays a run."""


@dataclass
class Options:
    """How a worker behaves beside its device."""

    drain: bool = False
    until_finished: int | None = None
    """A run after whose end nothing more is started; with ``drain``, the first of the two."""
    hours: Hours = field(default_factory=Hours)
    """When it may compute."""
    grace_s: float = 30.0
    """How long a child may take to checkpoint once it is asked to stop."""
    say: Callable[[str], None] = field(default=lambda words: say_on_stderr(words))


def say_on_stderr(words: str) -> None:
    """Prints a line; once the terminal is gone, nowhere: a worker outlives the window it was started in."""
    try:
        sys.stderr.write(f"{printable(words)}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 2)


class Worker:
    """One device, one worker. ``work`` returns the exit status."""

    def __init__(self, settings: Settings, options: Options) -> None:
        self.device = choose(settings.device)
        self._hardware = find(self.device)
        self.device_class = self.device.partition(":")[0]
        self.settings = settings
        self.options = options
        self.db: Database = create_or_migrate(settings.database)
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._stopping = False
        self._unsettled = 0
        self._worker_lock, self._compute_lock = locks(settings, self._hardware.card)
        self._places = [self.db.place]
        self._mark = ""
        self._worker_id = 0
        self._standby: children.Standby | None = None
        self._starter: children.Starter | None = None
        self._notices = notifications.Notices(settings, self.db, self.device, options.say)
        self._telemetry = Telemetry(self._hardware.card)
        self._wakefulness = Wakefulness()
        self._typical: dict[tuple[int, str], float] = {}
        self._admission = Admission(self._hardware, options.hours, lambda run: past_runs.expected_s(run, self._typical))
        self._breaker = Breaker(settings, self.db, self._hardware, options.say, self._notices.paused)
        self._proposer = Proposer(settings, self.db, self.device_class, options.say)

    def work(self) -> int:
        """Works until told to stop, or with ``drain`` until nothing can become eligible without a person.

        Returns 0, or with ``drain`` 1 when a run ended otherwise than succeeded or pruned, or still waits.

        Raises:
            LabError: another worker holds the device.
            Moved: the results store or the device's lock is no longer where it was; a run was told to checkpoint.
        """
        held = recovery.take_over(self._worker_lock, str(self._hardware), self.db)
        self._places.append(held.place)
        heart = Heart(held, self.settings, self.device)
        previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        me = processes.myself()
        self._worker_id = results.register_worker(
            self.db, device=str(self._hardware), host=socket.gethostname(), pid=me.pid, pid_start=me.start
        )
        heart.tell(self.db, self._worker_id)
        dead = workers.close_dead_workers(self.db, self._worker_id)
        # One that lives is of the workspace that this one was copied from.
        if dead is not None and processes.lives(processes.Identity(*dead.identity), self.db.place) is False:
            self._notices.restarted(dead)
        stop_listening = wakeups.listen(self.settings.wakeups, self.device_class, self._wake)
        try:
            self._recover()
            self._standby = self._prepare_next()
            keeping = (self.settings.database, self.options.say)
            threading.Thread(target=backup.keep, args=keeping, name="backup", daemon=True).start()
            self.options.say(f"worker ready on {self.device} in {self.settings.root}")
            return self._loop()
        finally:
            stop_listening()
            self._wakefulness.release()
            if self._standby is not None:
                self._standby.discard()
            self._discard_starter()
            heart.stop()
            with contextlib.suppress(LabError):  # it ends all the same where the results store cannot be told
                results.renew_worker(self.db, self._worker_id, ended=True)
            self._stopping = True
            for number, handler in previous.items():
                signal.signal(number, handler)
            held.release()
            self._notices.close()
            self.db.close()

    def _loop(self) -> int:
        while not self._stopping and not self.options.hours.over(clock.local()):
            if self._has_finished:
                return 1 if self._unsettled else 0
            if self._starter is not None and not self._starter.wait_ready(self._wake_read):
                self._drain_wakeups()  # before a claim, whose lease this wait could outlast
            claim = self._retry_while_unavailable(self._claim)
            if claim is not None:
                self._execute(claim)
                self._retry_while_unavailable(self._breaker.after)
                continue
            self._discard_starter()  # its memory is for a queue of runs
            self._wakefulness.release()
            self._notices.idle()
            if self.options.drain:
                outlook = self._retry_while_unavailable(lambda: prospect(self.db, self.device_class))
                if outlook not in (Prospect.LATER, None):
                    return 1 if self._unsettled or outlook is Prospect.STUCK else 0
            self._sleep(SWEEP_S)
        return 0

    @property
    def _has_finished(self) -> bool:
        run = self.options.until_finished
        if run is None:
            return False
        view = self._retry_while_unavailable(lambda: read.run(self.db, run))
        return view is not None and view.state == "finished"

    def _stay(self) -> None:
        for place in self._places:
            place.check()

    def _claim(self) -> attempts.Claim | None:
        self._stay()
        self._breaker.before()
        self._proposer.look()
        self._admission.look()
        if not self.options.hours.always:
            self._typical = past_runs.typical_wall_s(self.db)
        return attempts.claim(self.db, device=self.device_class, worker_id=self._worker_id, admit=self._admission)

    def _retry_while_unavailable(self, act: Callable[[], T]) -> T | None:
        """Tries until the workspace can be written (it may be locked, full or read-only); None when told to stop."""
        said = ""
        while True:
            try:
                return act()
            except Unavailable as error:
                if str(error) != said:
                    self.options.say(f"waiting for the workspace: {error}")
                said = str(error)
            self._stay()
            if self._stopping:
                return None
            self._sleep(SWEEP_S)

    def _execute(self, claim: attempts.Claim) -> None:
        log = self.settings.run(claim.experiment, claim.run_id) / f"attempt-{claim.attempt}.log"
        self.options.say(f"run {claim.run_id} ({claim.experiment}, seed {claim.seed}) starts: attempt {claim.attempt}")
        kills = children.oom_kills()
        self._wakefulness.hold(f"run {claim.run_id} of {claim.experiment} computes")
        self._telemetry.start()
        try:
            running = children.start(self._waiting_child(claim.kind), claim.ref, log)
        except OSError as error:  # no room for the log, or none for another process
            full = disk.is_disk_full(error, self.settings.root)
            ending, words = Ending.DISK_FULL if full else Ending.CRASHED, str(error)
            self._retry_while_unavailable(lambda: retry_policy.conclude(self.db, claim, ending, words))
            return
        # The next run's process starts now, while this one computes.
        self._get_ready_for_another(claim.kind)
        status = self._watch(claim, running)
        if running.ending is None and any(place.changed for place in self._places):
            running.ending = "moved"
        self._retry_while_unavailable(lambda: self._settle(claim, running, status, kills))
        self._stay()
        self._record_telemetry(claim)
        # What it left behind with the lock in its hands (a daemon that C code forked, say) must not stop the next run.
        recovery.free_device(self._compute_lock, 0.0)
        ended = self._retry_while_unavailable(lambda: read.run(self.db, claim.run_id))
        if ended is None:
            return
        if ended.state == "finished" and ended.outcome not in ("succeeded", "pruned"):
            self._unsettled += 1
        self._notices.ended(ended)
        word = ended.outcome or f"{ended.attempts[-1].outcome}, queued again"
        self.options.say(f"run {claim.run_id} {word}" + (f": {ended.reason}" if ended.reason else ""))

    def _settle(self, claim: attempts.Claim, running: Child, status: int, kills: int | None) -> None:
        with contextlib.suppress(attempts.Fenced):
            reap.settle(
                self.db, claim, running, status,
                oom_kills_before=kills, device=self.device, grace_s=self.options.grace_s,
            )  # fmt: skip

    def _record_telemetry(self, claim: attempts.Claim) -> None:
        measured = self._telemetry.stop()
        if measured is not None:
            # Nice to know, and no more: a locked database must not cost the run its ending.
            with contextlib.suppress(LabError):
                workers.record_telemetry(self.db, claim.ref, measured)

    def _waiting_child(self, kind: str) -> children.Standby:
        if self._starter is not None and not self._starter.usable:
            self._discard_starter()
        if self._starter is not None and self._starter.kind == kind:
            forked = self._starter.fork()
            if forked is not None:
                return forked
        if self._standby is not None and not self._standby.usable:
            self._standby.discard()
            self._standby = None
        standby, self._standby = self._standby or self._prepare(), None
        return standby

    def _get_ready_for_another(self, kind: str) -> None:
        """Has a child, or a starter of many, waiting for the next run, with what it likely imports: as this one."""
        if self._starter is not None:
            return
        if self._standby is None:
            self._standby = self._prepare_next()
        if self._standby is None or not self._retry_while_unavailable(
            lambda: another_waits(self.db, self.device_class)
        ):
            return
        if self._hardware.card is None and children.worth_a_starter(kind):
            self._starter = children.Starter(self.settings, self._compute_lock, self._mark, kind)
        else:
            self._standby.warm(kind)

    def _discard_starter(self) -> None:
        if self._starter is not None:
            self._starter.discard()
            self._starter = None

    def _prepare_next(self) -> children.Standby | None:
        """Starts the process of a run to come; none where a draining worker sees that no other will."""
        if (
            self.options.drain
            and self._retry_while_unavailable(lambda: prospect(self.db, self.device_class)) is not Prospect.LATER
        ):
            return None
        return self._prepare()

    def _prepare(self) -> children.Standby:
        return children.prepare(self.settings, self._hardware.card, self._compute_lock, self._mark)

    def _watch(self, claim: attempts.Claim, running: Child) -> int:
        wall_minutes = claim.limits["wall_minutes"]
        renewed = looked = time.monotonic()
        while True:
            if self._stopping:
                running.end("shutdown", self.options.grace_s)
            if wall_minutes is not None and running.age_s > wall_minutes * 60:
                running.end("timeout", self.options.grace_s)
            if not self.options.hours.always and self.options.hours.left_s(clock.local()) == 0:
                running.end("hours", self.options.grace_s)
            running.enforce()
            status = running.wait(self._wake_read, LOOK_S if running.kill_at_s is None else 0.05)
            if status is not None:
                return status
            self._drain_wakeups()
            now = time.monotonic()
            try:
                if now - renewed > RENEW_S:
                    renewed = now
                    self._stay()
                    attempts.renew(self.db, claim.ref)
                if now - looked > LOOK_S and running.ending is None:
                    looked = now
                    asked = read.asked(self.db, claim.ref).stop
                    if asked is not None:
                        running.end(asked, self.options.grace_s)
            except Unavailable as error:
                # The run computes on: its lease only matters once this worker is dead.
                self.options.say(f"the results store cannot be reached now: {error}")
            except Moved:
                running.end("moved", self.options.grace_s)
            except attempts.Fenced:
                # Either it has just ended by itself, or the run was taken away: then it must not go on.
                running.end("shutdown", self.options.grace_s)

    def _recover(self) -> None:
        recovery.free_device(self._compute_lock, self.options.grace_s, self.db.place)
        self._mark = processes.mark_of(self.db.place, self._compute_lock)
        processes.end_marked(self._mark)
        recovery.reclaim(self.db, self.device_class, self.options.grace_s, self.options.say)

    def _on_signal(self, _number: int, _frame: object) -> None:
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _sleep(self, seconds: float) -> None:
        import select

        select.select([self._wake_read], [], [], seconds)
        self._drain_wakeups()

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
