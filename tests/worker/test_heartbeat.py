"""A worker is seen to live whatever it waits for, and one that is frozen is told from one that is gone."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labqueue.system import processes
from labqueue.system.clock import Deadline
from tests.commands import call
from tests.conftest import Lab, wait_until

QUICK = """
import sys
from labqueue.cli.main import main
from labqueue.worker import heartbeat
heartbeat.STORE_S = heartbeat.LOCK_S = 0.1
main(["worker", "--device", "cpu"])
"""


@pytest.fixture
def worker(lab: Lab) -> Iterator[subprocess.Popen[str]]:
    """A worker of a paused queue, whose heart beats ten times a second."""
    call(lab, "submit", lab.spec("drill"), "--profile", "cpu")
    call(lab, "pause", "queue")
    started = subprocess.Popen(
        [sys.executable, "-c", QUICK], env=lab.environment(), cwd=lab.root, stderr=subprocess.PIPE, text=True
    )
    assert started.stderr is not None
    assert "worker ready" in started.stderr.readline()
    yield started
    started.kill()
    started.communicate()


def stored_lease(lab: Lab) -> str:
    connection = sqlite3.connect(lab.settings.database)
    (lease,) = connection.execute("SELECT lease FROM workers ORDER BY id DESC").fetchone()
    connection.close()
    return str(lease)


def lock_lease(lab: Lab) -> str:
    return str(processes.holder(lab.settings.outputs / "locks" / "cpu.worker").get("lease"))


def lapse(lab: Lab, frozen: subprocess.Popen[str] | None = None) -> None:
    """As it is half a minute after the last beat, and after a worker was stopped that was not just writing."""
    connection = sqlite3.connect(lab.settings.database, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    if frozen is not None:
        frozen.send_signal(signal.SIGSTOP)
    connection.execute("UPDATE workers SET lease = ?", (str(Deadline.after(-10.0)),))
    connection.execute("COMMIT")
    connection.close()


def test_a_worker_with_nothing_to_start_renews_both_leases(lab: Lab, worker: subprocess.Popen[str]) -> None:
    lapse(lab)
    wait_until(lambda: not Deadline.parse(stored_lease(lab)).passed)
    first = lock_lease(lab)
    wait_until(lambda: lock_lease(lab) != first)
    (listed,) = call(lab, "status", "--json").json["workers"]
    assert (listed["pid"], listed["alive"], listed["frozen"]) == (worker.pid, True, False)


def test_a_locked_results_store_does_not_stop_the_lease_in_the_lock(lab: Lab, worker: subprocess.Popen[str]) -> None:
    connection = sqlite3.connect(lab.settings.database, isolation_level=None, timeout=30)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for _ in range(3):
            before = lock_lease(lab)
            wait_until(lambda before=before: lock_lease(lab) != before)
    finally:
        connection.execute("ROLLBACK")
        connection.close()
    assert worker.poll() is None


def test_status_tells_a_frozen_worker_from_none(lab: Lab, worker: subprocess.Popen[str]) -> None:
    lapse(lab, worker)
    said = call(lab, "status").out
    assert f"(process {worker.pid} on" in said
    assert f"kill -CONT {worker.pid}" in said
    assert "no worker is running" not in said
    (listed,) = call(lab, "status", "--json").json["workers"]
    assert (listed["alive"], listed["frozen"]) == (False, True)
    worker.kill()
    worker.wait()
    assert "no worker is running: start one" in call(lab, "status").out
