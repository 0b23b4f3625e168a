"""The starter: imports once what runs of a kind need, then forks a process for each attempt.

``python -m labqueue.attempt.starter``, one of a worker. It computes nothing before it forks, and every fork becomes a
child of the worker, so that waiting, signals and the end of the worker are those of a process that was started afresh.

Messages are JSON in packets: it says ``{"ready": KIND}`` after its imports; each ``{"mark": MARK}`` with the reading
end of a pipe becomes an attempt that hears from that pipe, and two answers: ``{"pid": N}`` and the attempt's own
``{"began": N}``. Whatever is unusual ends it, and the worker starts its attempts afresh.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from labqueue import kinds
from labqueue.attempt import runner
from labqueue.system import processes, resident_memory

ADOPTED_S = 5.0
"""How long a fork waits to become the worker's child: the time that its parent needs to end."""


def main(argv: list[str] | None = None) -> int:
    """Imports for a kind, then forks until the worker closes its end."""
    parser = argparse.ArgumentParser(prog="labqueue.attempt.starter")
    parser.add_argument("--socket", type=int, required=True)
    parser.add_argument("--kind", required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device", required=True)
    given, rest = parser.parse_known_args(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.die_with_parent(given.parent)
    worker = socket.socket(fileno=given.socket)
    imports = threading.Thread(target=_import, args=(given.kind, given.device), name="imports")
    imports.start()
    imports.join()
    resident_memory.remember_files()
    gc.collect()
    gc.freeze()  # a collection in a fork would else copy all of it
    worker.send(json.dumps({"ready": given.kind}).encode())
    words = [*rest, "--parent", str(given.parent), "--device", given.device]
    while True:
        packet, handles, _, _ = socket.recv_fds(worker, 65536, 1)
        if not packet:
            return 0
        mark = json.loads(packet)["mark"]
        between = os.fork()
        if between == 0:
            _begin(worker, mark, handles[0], given.parent, words)
        os.close(handles[0])
        os.waitpid(between, 0)


def _import(kind: str, device: str) -> None:
    # Of this thread alone: the run that computes now has the first claim on the processor.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), runner.AHEAD_NICE)
    # What cannot be imported is told by the run that needs it.
    with contextlib.suppress(Exception):
        for module in kinds.get(kind).imports(device):
            importlib.import_module(module)


def _begin(worker: socket.socket, mark: str, hears: int, parent: int, words: Sequence[str]) -> None:
    """Forks once more and ends, so that the attempt becomes the worker's child. Does not return."""
    status = 1
    try:
        pid = os.fork()
        if pid:
            worker.send(json.dumps({"pid": pid}).encode())
            status = 0
        else:
            status = _attempt(worker, mark, hears, parent, words)
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()  # in the attempt's log, as by an interpreter
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _attempt(worker: socket.socket, mark: str, hears: int, parent: int, words: Sequence[str]) -> int:
    os.setsid()
    give_up = time.monotonic() + ADOPTED_S
    while os.getppid() != parent:
        if time.monotonic() > give_up:
            return 1
        time.sleep(0.001)
    processes.die_with_parent(parent)
    processes.carry_mark(mark)
    os.dup2(hears, 0)
    os.close(hears)
    sys.stdin = os.fdopen(0)
    sys.argv = ["labqueue.attempt.runner", *words]
    worker.send(json.dumps({"began": os.getpid()}).encode())
    worker.close()
    return runner.main(list(words))


if __name__ == "__main__":
    status = main()
    os._exit(status)
