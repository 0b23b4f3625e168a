"""The worker keeps a copy of the results store from before the night's work."""

from __future__ import annotations

import sqlite3

from tests.commands import call
from tests.conftest import Lab, wait_until


def test_a_worker_backs_up_what_was_there_when_it_started(lab: Lab) -> None:
    def drained(seed: int) -> None:
        spec = lab.spec("drill", params={"steps": 2, "step_s": 0}, seeds=[seed])
        assert call(lab, "submit", spec, "--profile", "cpu").code == 0
        assert call(lab, "worker", "--drain", "--device", "cpu").code == 0

    backups = lab.settings.outputs / "backups"
    drained(0)
    assert not backups.exists(), "nothing had been attempted when it started"
    worker = lab.start("worker", "--device", "cpu")
    try:
        wait_until(lambda: list(backups.glob("results-daily-*.db")))
    finally:
        worker.terminate()
        worker.communicate(timeout=30)
    drained(1)
    (copy,) = backups.iterdir()
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT outcome FROM runs").fetchall() == [("succeeded",)]
    connection.close()
