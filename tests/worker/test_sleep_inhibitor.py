"""The machine stays awake while a run computes: seen from outside, by a stand-in for systemd-inhibit."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.commands import call
from tests.conftest import Lab, wait_until

STAND_IN = """#!/bin/sh
echo "start $*" >> {log}
while [ "${{1#--}}" != "$1" ]; do shift; done
"$@"
echo "stop" >> {log}
"""


def with_stand_in(lab: Lab, text: str = STAND_IN) -> dict[str, str]:
    folder = lab.root / "bin"
    folder.mkdir()
    program = folder / "systemd-inhibit"
    program.write_text(text.format(log=lab.root / "inhibit.log"))
    program.chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def log(lab: Lab) -> list[str]:
    path = lab.root / "inhibit.log"
    return path.read_text().splitlines() if path.exists() else []


def submit(lab: Lab, **fields: Any) -> None:
    assert call(lab, "submit", lab.spec(**fields), "--profile", "cpu").code == 0


def until_step(lab: Lab, witness: Path) -> None:
    wait_until(lambda: witness.exists() and witness.read_text())


def test_it_is_held_from_the_first_run_to_the_last_and_let_go_when_idle(lab: Lab) -> None:
    extra = with_stand_in(lab)
    submit(lab, params={"steps": 2}, seeds=[0, 1, 2])
    worker = lab.start("worker", "--device", "cpu", **extra)
    wait_until(lambda: log(lab)[-1:] == ["stop"])
    assert [run["outcome"] for run in call(lab, "report", "drill_test", "--json").json["runs"]] == ["succeeded"] * 3
    start, stop = log(lab)
    assert "--what=sleep:idle" in start
    assert "--mode=block" in start
    assert stop == "stop"
    submit(lab, name="again", params={"steps": 2})
    wait_until(lambda: [line.split()[0] for line in log(lab)] == ["start", "stop"] * 2)
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert len(log(lab)) == 4


def test_it_ends_with_a_worker_that_is_killed(lab: Lab) -> None:
    extra = with_stand_in(lab)
    witness = lab.root / "witness.txt"
    submit(lab, params={"steps": 400, "step_s": 0.05, "witness": str(witness)})
    worker = lab.start("worker", "--device", "cpu", **extra)
    until_step(lab, witness)
    assert [line.split()[0] for line in log(lab)] == ["start"]
    worker.send_signal(signal.SIGKILL)
    worker.communicate(timeout=30)
    wait_until(lambda: log(lab)[1:] == ["stop"])


def test_without_it_or_when_it_refuses_runs_run_and_nobody_complains(lab: Lab) -> None:
    extra = with_stand_in(lab, "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    submit(lab, params={"steps": 2})
    answer = lab.run("worker", "--drain", "--device", "cpu", **extra)
    assert answer.code == 0
    assert "inhibit" not in answer.err
    assert "Access denied" not in answer.err
    submit(lab, name="again", params={"steps": 2})
    bare = lab.root / "bare"
    bare.mkdir()
    answer = lab.run("worker", "--drain", "--device", "cpu", PATH=str(bare))
    assert answer.code == 0
    assert "inhibit" not in answer.err


def sleep(lab: Lab, **extra: str) -> dict[str, Any]:
    (found,) = [f for f in call(lab, "doctor", "--json", **extra).json["findings"] if f["what"] == "sleep"]
    return dict(found)


def test_doctor_says_whether_the_machine_can_be_kept_awake(lab: Lab) -> None:
    assert sleep(lab, **with_stand_in(lab))["state"] == "ok"
    missing = sleep(lab, PATH=str(lab.root / "nowhere"))
    assert missing["state"] == "warn"
    assert "not installed" in missing["cure"]
    (lab.root / "bin" / "systemd-inhibit").write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    refused = sleep(lab, PATH=f"{lab.root / 'bin'}{os.pathsep}{os.environ['PATH']}")
    assert refused["state"] == "warn"
    assert "Access denied" in refused["cure"]


def test_a_worker_outlives_its_terminal(lab: Lab) -> None:
    """In a session with a terminal of its own, which then goes away: SIGHUP, and nowhere to print."""
    run, second = os.openpty()
    witness = lab.root / "witness.txt"
    submit(lab, params={"steps": 60, "step_s": 0.05, "witness": str(witness)})
    command = ["setsid", "--ctty", "--wait", *worker_command(), "--drain", "--device", "cpu"]
    worker = subprocess.Popen(command, env=lab.environment(), cwd=lab.root, stdin=second, stdout=second, stderr=second)
    os.close(second)
    until_step(lab, witness)
    os.close(run)
    assert worker.wait(60) == 0
    assert call(lab, "show", 1, "--json").json["outcome"] == "succeeded"
    assert len(call(lab, "show", 1, "--json").json["attempts"]) == 1


def worker_command() -> list[str]:
    import sys

    return [sys.executable, "-m", "labqueue", "worker"]
