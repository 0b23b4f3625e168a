"""Starts the lab's processes from one that has imported it already, for tests of what they do once they have started.

What is started is a real process: a child of whoever asked, with its own number, session, files, folder and
environment, which it may be killed by or wait for like any other. Only the interpreter's start and the imports are
shared. A process that itself starts the lab's processes, such as a worker its attempts, gets a sibling of its own to
start them from, made before it opens anything. Not for tests of start-up, of environment that an interpreter reads as
it starts, or of what stands in ``/proc/PID/environ`` and ``cmdline``.

``python -m tests.warm_start FD [MODULE...]`` imports the modules and serves requests on a socket.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import importlib
import json
import marshal
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

LAB = (
    "labqueue.attempt.runner", "labqueue.report.document.report", "labqueue.submission.submit",
    "labqueue.system.wakeups", "labqueue.worker.proposer", "labqueue.worker.worker",
    "optuna", "optuna.samplers._tpe.sampler", "matplotlib.figure", "matplotlib.backends.backend_svg",
    *(f"labqueue.cli.{path.stem}" for path in sorted((ROOT / "labqueue" / "cli").glob("[a-z]*.py"))),
)  # fmt: skip
"""What commands, searches and attempts import, but no model's libraries."""

MODELS = (*LAB, "labqueue.llm.warm", "labqueue.kinds.finetune.run")
"""And what training imports: a server takes 13 s and 1 GiB, a process without one 13 s each."""

PASSED_ON = ("LABQUEUE_", "PYTHONPATH", "PYTEST_", "COLUMNS")
"""Variables that may differ from those of the server; any other is for an interpreter of its own."""

SET_BY_LOADING = (
    "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "GOMP_SPINCOUNT", "OMP_NUM_THREADS", "KMP_",
    "TORCHINDUCTOR_CACHE_DIR",
)  # fmt: skip
"""And those that a process has set once it has loaded a model, the tests' and the server's alike."""

CLONE_PARENT = 0x8000
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
"""The number of clone(2); None where we do not know it, and every process starts an interpreter."""

LARGEST = 2**17
"""Bytes of a request."""


class Warm(subprocess.Popen[Any]):
    """A ``Popen`` of ``python -m labqueue...`` that a server starts; of anything else an ordinary one."""

    server: socket.socket | None = None

    def _execute_child(self, args: Any, *rest: Any) -> None:
        # In the order of Python 3.11 to 3.13, which is private.
        executable, preexec, _, pass_fds, cwd, env, *_ = rest
        pipes, new_session = rest[9:15], rest[20]
        ours = isinstance(args, list) and args[:2] == [sys.executable, "-m"] and str(args[2]).startswith("labqueue")
        server = self.server
        if server is None or not ours or pass_fds or executable not in (None, sys.executable):
            super()._execute_child(args, *rest)  # type: ignore[misc]  # not in the stubs
            return
        stdin, _, _, stdout, _, stderr = pipes
        request = {
            "module": args[2],
            "words": [os.fspath(word) for word in args[3:]],
            "cwd": os.fspath(cwd or Path.cwd()),
            "env": dict(env if env is not None else os.environ),
            "new_session": bool(new_session),
            "preexec": _sent(preexec) if preexec else None,
        }
        given = [number if number != -1 else own for own, number in enumerate((stdin, stdout, stderr))]
        socket.send_fds(server, [json.dumps(request).encode()], given)
        self.pid = int(server.recv(64))
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # not in the stubs


def _sent(function: Any) -> tuple[str, str, list[Any]]:
    """A function of the lab's that is to be called in another process: code, module, and what it takes from outside."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return marshal.dumps(function.__code__).hex(), function.__module__, cells


def _received(code: str, module: str, cells: list[Any]) -> Callable[[], object]:
    names = vars(importlib.import_module(module))
    return types.FunctionType(
        marshal.loads(bytes.fromhex(code)), names, closure=tuple(types.CellType(cell) for cell in cells)
    )


def passes_on(env: dict[str, str]) -> bool:
    """Whether what differs in this environment from a server's is read only after the start."""
    changed = {name for name in env.keys() | STARTED.keys() if env.get(name) != STARTED.get(name)}
    return all(name.startswith(PASSED_ON + SET_BY_LOADING) for name in changed)


STARTED = dict(os.environ)


@functools.cache
def popen(modules: tuple[str, ...]) -> type[subprocess.Popen[Any]]:
    """A ``Popen`` whose processes have imported these modules; the ordinary one where clone(2) is not known."""
    if CLONE is None:
        return subprocess.Popen
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm_start", str(theirs.fileno()), *modules],
        pass_fds=[theirs.fileno()], cwd=ROOT, env=STARTED, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()

    def end() -> None:
        ours.close()
        server.wait(10)

    atexit.register(end)
    return type("Started", (Warm,), {"server": ours})


def serve(link: socket.socket) -> None:
    """Starts what is asked for until the other end closes; returns only in the process that was started."""
    while True:
        content, files, _, _ = socket.recv_fds(link, LARGEST, 3)
        if not content:
            os._exit(0)
        pid = _sibling()
        if pid == 0:
            link.close()
            _become(json.loads(content), files)
        for number in files:
            os.close(number)
        link.send(str(pid).encode())


def _sibling() -> int:
    """As ``os.fork``, but the new process is our parent's child. Only for a process of one thread."""
    python = ctypes.PyDLL(None)
    python.PyOS_BeforeFork()
    pid = python.syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
    (python.PyOS_AfterFork_Child if pid == 0 else python.PyOS_AfterFork_Parent)()
    return int(pid)


def _become(request: dict[str, Any], files: list[int]) -> None:
    for number, given in enumerate(files):
        os.dup2(given, number)
    os.closerange(3, 4096)
    if request["new_session"]:
        os.setsid()
    os.chdir(request["cwd"])
    if request["preexec"]:
        _received(*request["preexec"])()
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    _print_to_our_files()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    words = request["words"]
    if request["module"] != "labqueue.attempt.runner" and {"worker", "loop", "--run"} & set(words):
        _have_a_server()
    code: int | None = 1
    try:
        _find_what_the_environment_names()
        sys.argv = [request["module"], *words]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
        if isinstance(left.code, str):
            sys.stderr.write(f"{left.code}\n")
    except KeyboardInterrupt:
        code = None
    except BaseException:
        traceback.print_exc()
    # As an interpreter ends.
    threading._shutdown()  # type: ignore[attr-defined]  # not in the stubs
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = 120
    if code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code or 0)


def _print_to_our_files() -> None:
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)
    through = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", closefd=False)
    sys.stdout.reconfigure(write_through=through)
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
    sys.stderr.reconfigure(line_buffering=True)


def _have_a_server() -> None:
    """Makes the process from which this one will start the lab's, before it has opened anything itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 counts the thread of an imported allocator
        pid = os.fork()
    if pid == 0:
        os.setsid()
        ours.close()
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        serve(theirs)
    theirs.close()
    subprocess.Popen = type("Started", (Warm,), {"server": ours})  # type: ignore[misc]  # in this process


def _find_what_the_environment_names() -> None:
    """Does what an interpreter does with PYTHONPATH as it starts."""
    folders = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    sys.path[:0] = [folder for folder in folders if folder not in sys.path]
    for folder in folders:
        if (Path(folder) / "sitecustomize.py").is_file():
            runpy.run_path(str(Path(folder) / "sitecustomize.py"))
            break


def main() -> None:
    """Imports, and serves."""
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
