"""Runs command lines in forked children of one process that has the lab imported.

Each command is a real process with its own exit status, file descriptors and folder; only the start of the interpreter
is shared, so that hundreds of wrong requests can be tried. ``python -m tests.fork_server`` reads one JSON request a
line (``words``, ``cwd``, ``env``, ``out``, ``err``) and answers with its exit status and its processor time in seconds.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import threading
import traceback

import labqueue.cli
from labqueue.cli.main import main

LIMIT_S = 300
"""A command that hangs is ended, and seen as such."""

USED_LATER = (
    "labqueue.report.document.report", "labqueue.store.queries.experiment", "labqueue.submission.plan",
    "labqueue.submission.submit", "labqueue.system.wakeups", "labqueue.worker.worker",
    "matplotlib.backends.backend_svg", "matplotlib.figure", "optuna.samplers._tpe.sampler",
)  # fmt: skip
"""What commands import once they need it."""


def serve() -> None:
    commands = [f"labqueue.cli.{module.name}" for module in pkgutil.iter_modules(labqueue.cli.__path__)]
    for name in (*commands, *USED_LATER):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a fork that looked through all this would copy it
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_command(request))
        _, status, used = os.wait4(pid, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime}\n")
        sys.stdout.flush()


def _command(request: dict) -> int:
    signal.alarm(LIMIT_S)
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        (2, request["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    ):
        os.dup2(os.open(path, flags, 0o644), number)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    code = 1
    try:
        main(request["words"])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()  # as an interpreter does before it ends
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve()
