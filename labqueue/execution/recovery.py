"""Putting right what a dead or frozen worker left: its lock, its children, its runs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

from labqueue.clock import boot_id
from labqueue.domain.errors import LabError
from labqueue.domain.state import Ending
from labqueue.execution import policy, process
from labqueue.execution.process import Identity, Lock
from labqueue.store import claims, write
from labqueue.store.db import Database


def take_over(path: Path, device: str) -> Lock:
    """Takes the worker's lock of a device; ends a holder whose lease has lapsed (a frozen worker keeps its lock).

    Raises:
        LabError: a living worker holds the device; the message says which.
    """
    held = process.lock(path, wait_s=0.5)
    if held is not None:
        return held
    words = process.holder(path)
    lease_s = process.lease_left_s(words)
    identity = process.identity_in(words)
    if lease_s > 0 or identity is None:
        raise LabError(
            f"device {device} is held by the worker with process id {words.get('pid', 'unknown')} "
            f"(workspace {words.get('root', 'unknown')}, host {words.get('host', 'unknown')}). One device, one worker: "
            "end that one first, or choose another with --device."
        )
    if identity.alive:
        # Verified by boot, number and start time: this is the frozen worker itself and no stranger.
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGKILL)
    held = process.lock(path, wait_s=10.0)
    if held is None:
        raise LabError(
            f"device {device}: its lapsed holder (process {identity.pid}) could not be ended; "
            f"processes with the lock open: {process.holders(path)}"
        )
    return held


def free_device(path: Path, grace_s: float) -> list[int]:
    """Waits for orphans to checkpoint and leave a device, then kills them; returns those killed.

    The caller holds the device's worker lock, and no child of its own has begun an attempt.

    Raises:
        LabError: a process that this user cannot see has the lock.
    """
    held = process.lock(path, wait_s=grace_s)
    killed: list[int] = []
    while held is None:
        for pid in process.holders(path):
            killed.append(pid)
            process.end_group(pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        held = process.lock(path, wait_s=5.0)
        if held is None and not process.holders(path):
            raise LabError(f"{path} is locked by a process that cannot be seen; it may belong to another user")
    held.release()
    return killed


def reclaim(db: Database, device_class: str, device: str, grace_s: float) -> list[int]:
    """Takes back every run that is marked running and whose worker is gone; returns their ids.

    The caller holds the device's worker lock and has freed the device, so nobody of this device executes them.
    """
    taken = []
    for row in claims.running(db, device_class):
        if row.worker_device != device and Identity(row.worker_boot, row.worker_pid, row.worker_start).alive:
            continue
        _end_orphan(row, grace_s)
        with contextlib.suppress(claims.Fenced):
            _settle(db, row)
            taken.append(row.run_id)
    return taken


def _end_orphan(row: Any, grace_s: float) -> None:
    if row.pid is None or row.boot_id != boot_id():
        return
    child = Identity(row.boot_id, row.pid, row.pid_start)
    give_up = time.monotonic() + grace_s
    while child.alive and time.monotonic() < give_up:
        time.sleep(0.05)
    if child.alive:
        process.end_group(child.pid, signal.SIGKILL)
        while child.alive:
            time.sleep(0.01)


def _settle(db: Database, row: Any) -> None:
    subject = policy.Subject(
        row.run_id, row.number, row.kind, row.params, row.limits, row.run_adjusted, row.attempts_used
    )
    if row.request == "cancel":
        claims.end(db, row.run_id, row.number, Ending.CANCELLED, "cancelled by a person")
        return
    same_boot = row.boot_id == boot_id()
    why = "its worker died" if same_boot else "the machine went down"
    if claims.interrupt(db, row.run_id, row.number, why, asked=row.request == "pause"):
        words = f"{why}, {claims.MAX_STALLS} times in a row without a new step or checkpoint"
        policy.conclude(db, subject, Ending.CRASHED, words)
    else:
        write.log_event(db, "reclaimed", f"attempt {row.number}: {why}; queued again", row.run_id)
