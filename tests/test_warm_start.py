"""What ``tests.warm_start`` starts is a process as real as one that starts an interpreter."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil

from labqueue.system import processes
from tests import warm_start
from tests.conftest import Lab, wait_until


def test_a_worker_and_its_attempt_are_child_and_grandchild_with_a_session_and_files_of_their_own(lab: Lab) -> None:
    assert lab.run("submit", lab.spec(params={"steps": 9999, "step_s": 0.02}), "--profile", "cpu").code == 0
    worker = lab.start("worker", "--device", "cpu")
    try:
        wait_until(lambda: list(lab.settings.outputs.glob("*/1/attempt-1.log")))
        holder = wait_until(lambda: processes.holder(lab.settings.outputs / "locks" / "cpu.compute"))
        attempt = psutil.Process(int(holder["pid"]))
        assert psutil.Process(worker.pid).ppid() == os.getpid()
        assert attempt.ppid() == worker.pid
        assert os.getsid(attempt.pid) == attempt.pid != os.getsid(worker.pid)
        assert attempt.cwd() == str(lab.root.resolve())
        printed = Path(f"/proc/{attempt.pid}/fd/1").resolve()
        assert printed.name == "attempt-1.log"
    finally:
        worker.kill()
    out, _ = worker.communicate(timeout=30)
    assert (worker.returncode, out) == (-signal.SIGKILL, ""), "whoever waits for it hears of its death"


def test_a_command_ends_with_its_own_status_and_prints_where_it_was_told(lab: Lab) -> None:
    assert lab.run("--version").out.startswith("labqueue, version ")
    refused = lab.run("statuss")
    assert refused.code == 2
    assert "did you mean 'status'?" in refused.err


def test_a_variable_that_is_read_as_an_interpreter_starts_means_one_of_its_own(lab: Lab) -> None:
    assert warm_start.passes_on(lab.environment())
    assert not warm_start.passes_on(lab.environment(HF_HOME="/nowhere"))
    assert not warm_start.passes_on({**lab.environment(), "PYTHONHASHSEED": "3"})
    started = warm_start.popen(warm_start.LAB)([sys.executable, "-c", "print(1)"], stdout=-1, text=True)
    assert started.communicate()[0] == "1\n", "what is not the lab's is started as ever"
