"""Keeping the machine from going to sleep while a run computes, through ``systemd-inhibit``.

The lock is held by a process that lives as long as a pipe to it is open. Only the worker has the other end, so however
the worker dies, the machine may sleep again.
"""

from __future__ import annotations

import contextlib
import subprocess

COMMAND = ("systemd-inhibit", "--what=sleep:idle", "--who=labqueue", "--mode=block")

END_S = 2.0
"""How long the process may take to end once its pipe is closed, before it is killed."""


class Wakefulness:
    """Holds the machine awake between ``hold`` and ``release``. Without systemd-inhibit it does nothing."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self, why: str) -> None:
        """Keeps the machine awake from now on; does nothing when it is held already."""
        if self._process is not None and self._process.poll() is None:
            return
        self.release()
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [*COMMAND, f"--why={why}", "cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # Ctrl-C is for the worker, which lets its run checkpoint first.
                start_new_session=True,
            )

    def release(self) -> None:
        """Lets the machine sleep again."""
        if self._process is None:
            return
        assert self._process.stdin is not None, "made with a pipe"
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def problem() -> str | None:
    """Why the machine cannot be kept awake here, or None when it can: takes the lock for a moment."""
    try:
        done = subprocess.run(
            [*COMMAND, "--why=labqueue doctor", "true"], capture_output=True, text=True, timeout=10, check=False
        )
    except FileNotFoundError:
        return "systemd-inhibit is not installed"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"systemd-inhibit does not answer: {error}"
    said = done.stderr.strip().splitlines()
    return None if done.returncode == 0 else f"systemd-inhibit refuses: {said[-1] if said else done.returncode}"
