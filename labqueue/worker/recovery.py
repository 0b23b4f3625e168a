"""Putting right what a dead or frozen worker left: its lock, its children, its runs.

Nothing of another workspace is ever ended, though a copied store names its processes, and a GPU is shared with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from labqueue.attempt import retry_policy
from labqueue.domain.errors import DeviceInUse, LabError
from labqueue.domain.state import Ending
from labqueue.settings import Place
from labqueue.store.db import Database
from labqueue.store.runs import attempts, results, workers
from labqueue.store.runs.workers import Running
from labqueue.system import processes
from labqueue.system.clock import boot_id
from labqueue.system.processes import Identity, Lock


def take_over(path: Path, device: str, db: Database) -> Lock:
    """Takes the worker's lock of a device; ends a holder whose lease has lapsed (a frozen worker keeps its lock).

    Raises:
        DeviceInUse: a living worker holds the device.
        LabError: another workspace's frozen one does.
    """
    held = processes.lock(path, wait_s=0.5) or _taken_from_frozen(path, device, db.place)
    try:
        _refuse_second(db, device)
    except BaseException:
        held.release()
        raise
    return held


def _taken_from_frozen(path: Path, device: str, place: Place) -> Lock:
    words = processes.holder(path)
    lease_s = processes.lease_left_s(words)
    identity = processes.identity_in(words)
    where = f"workspace {words.get('root', 'unknown')}, host {words.get('host', 'unknown')}"
    if lease_s > 0 or identity is None:
        raise DeviceInUse(
            f"device {device} is held by the worker with process id {words.get('pid', 'unknown')} "
            f"({where}). One device, one worker: end that one first, or choose another with --device."
        )
    if identity.alive and identity.pid in processes.holders(path):
        if not processes.belongs(identity.pid, place):
            raise LabError(
                f"device {device} is held by the worker with process id {identity.pid} ({where}), which has not "
                f"answered for {attempts.LEASE_S - lease_s:.0f} s. It is not this workspace's to end: wake it with "
                f"`kill -CONT {identity.pid}`, or end it with `kill -KILL {identity.pid}`."
            )
        # Verified by boot, number, start time and open files: this is the frozen worker itself and no stranger.
        processes.kill(identity)
    held = processes.lock(path, wait_s=10.0)
    if held is None:
        raise LabError(
            f"device {device}: its lapsed holder (process {identity.pid}) could not be ended; "
            f"processes with the lock open: {processes.holders(path)}"
        )
    return held


def _refuse_second(db: Database, device: str) -> None:
    """Refuses to work beside a worker whose lock was taken away under it: its run would be ended as an orphan."""
    give_up = time.monotonic() + processes.END_S
    for row in workers.unended(db, device):
        worker = Identity(row.boot_id, row.pid, row.pid_start)
        while (
            alive := worker != processes.myself() and processes.lives(worker, db.place)
        ) and time.monotonic() < give_up:
            time.sleep(0.02)  # one that ends gives its lock back a moment before it is gone
        # Whoever gives workers locks of their own puts two of them on one card on purpose.
        if alive and (device == "cpu" or not os.environ.get("LABQUEUE_LOCKS")):
            raise LabError(
                f"device {device} is used by the worker with process id {worker.pid}, whose lock was removed. It ends "
                f"by itself before its next run; `kill {worker.pid}` ends it now, and its run checkpoints."
            )


def free_device(path: Path, grace_s: float, place: Place | None = None) -> list[int]:
    """Waits for orphans to checkpoint and leave a device, then kills them; returns those killed.

    The caller holds the device's worker lock, and no child of its own has begun an attempt. ``place`` is its
    workspace's, for the first time that it frees the device: afterwards only its own children can have come to it.

    Raises:
        LabError: a process of another workspace has the lock, or one that this user cannot see.
    """
    held = processes.lock(path, wait_s=grace_s)
    killed: list[int] = []
    while held is None:
        for pid in processes.holders(path):
            if place is not None and not path.is_relative_to(place.path.parent) and not processes.belongs(pid, place):
                words = processes.holder(path)
                raise LabError(
                    f"the device is still used by process {pid} of another workspace ({words.get('root', 'unknown')}), "
                    f"whose worker is gone. It is not this workspace's to end: wait for it, or `kill {pid}`."
                )
            killed.append(pid)
            processes.end_group(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        held = processes.lock(path, wait_s=5.0)
        if held is None and not processes.holders(path):
            raise LabError(f"{path} is locked by a process that cannot be seen; it may belong to another user")
    held.release()
    return killed


def reclaim(
    db: Database, device_class: str, grace_s: float, say: Callable[[str], None] = lambda _words: None
) -> list[int]:
    """Takes back every run that is marked running and whose worker is gone; returns their ids.

    The caller holds the device's worker lock and has freed the device, so no process of this workspace that the lock
    tells of executes them. In a copy of a workspace the runs that were computing as it was copied are taken back at
    once, and the processes left alone: both workspaces execute them to their end, each for itself.

    Raises:
        LabError: a run is executed by a process that this user can neither see nor end.
    """
    taken = []
    for row in workers.running(db, device_class):
        run_id = row.claim.run_id
        worker = processes.lives(Identity(row.worker_boot, row.worker_pid, row.worker_start), db.place)
        if worker:
            continue
        elsewhere = row.pid if _end_orphan(row, grace_s, db.place) else row.worker_pid if worker is None else None
        with contextlib.suppress(attempts.Fenced):
            _settle(db, row, elsewhere)
            taken.append(run_id)
            if elsewhere is None:
                say(f"run {run_id} was left by a dead worker; queued again")
            else:
                say(
                    f"run {run_id} was computing when this workspace was copied: process {elsewhere} of the other "
                    f"workspace goes on with it there, and is left alone; here it is queued again "
                    f"(`labqueue cancel {run_id}`, if once is enough)"
                )
    return taken


def _end_orphan(row: Running, grace_s: float, place: Place) -> bool:
    """Waits for the process of an attempt, then kills it; True, and nothing done, where it is another workspace's."""
    if row.pid is None or row.pid_start is None or row.boot_id != boot_id():
        return False
    child = Identity(row.boot_id, row.pid, row.pid_start)
    give_up = time.monotonic() + grace_s
    while (alive := processes.lives(child, place)) and time.monotonic() < give_up:
        time.sleep(0.05)
    if alive:
        if processes.belongs(child.pid, place) is None:
            raise LabError(
                f"run {row.claim.run_id} is executed by process {child.pid}, which cannot be seen: another user's"
            )
        processes.end_group(child.pid, signal.SIGKILL)
        while child.alive:
            time.sleep(0.01)
    return alive is None


def _settle(db: Database, row: Running, elsewhere: int | None) -> None:
    claim = row.claim
    if row.request == "cancel":
        attempts.end(db, claim.ref, Ending.CANCELLED, "cancelled by a person")
        return
    same_boot = row.boot_id == boot_id()
    why = "its worker died" if same_boot else "the machine went down"
    if elsewhere is not None:
        why = f"the workspace was copied while it computed; process {elsewhere} goes on in the other one"
    if attempts.interrupt(db, claim.ref, why, asked=row.request == "pause" or elsewhere is not None):
        words = f"{why}, {attempts.MAX_STALLS} times in a row without a new step or checkpoint"
        retry_policy.conclude(db, claim, Ending.CRASHED, words)
    else:
        results.log_event(db, "reclaimed", f"attempt {claim.attempt}: {why}; queued again", claim.run_id)
