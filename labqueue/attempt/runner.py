"""The child process: one attempt of one run, from claim to ending. ``python -m labqueue.attempt.runner``.

It holds the device's lock while it lives, so that its death, however it comes, is what frees the device.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from labqueue import kinds
from labqueue.attempt import exit_codes, retry_policy
from labqueue.attempt.recorder import RunRecorder
from labqueue.domain.errors import DiskFull, LabError, Moved
from labqueue.domain.kind import Diverged, Kind, Params, Pruned, Stopped, UserError
from labqueue.domain.spec import references
from labqueue.domain.state import Ending
from labqueue.llm.memory import device as memory
from labqueue.settings import Place, Settings
from labqueue.store.db import Database, open_existing
from labqueue.store.queries import read
from labqueue.store.runs import attempts, inputs, results
from labqueue.system import disk, files, processes, provenance

AHEAD_NICE = 10
"""Of imports made while another run computes; Linux gives each thread its own."""

LOCK_WAIT_S = 30.0
"""How long a child waits for a device whose last holder is being ended."""


def main(argv: list[str] | None = None) -> int:
    """Waits to be told an attempt, runs it, and returns the exit status that tells the worker the rest.

    The assignment is one JSON line on standard input: ``{"run", "attempt", "log"}``; a line ``{"ahead": KIND}`` may
    come before it.
    """
    given = _arguments(argv)
    stop: list[Callable[[str], None]] = []
    state = {"assigned": False, "asked": False}

    def on_sigterm(_number: int, _frame: object) -> None:
        if not state["assigned"]:
            # An assignment may lie in the pipe, unread: 0 would say that it was carried out.
            os._exit(exit_codes.STOPPED)
        state["asked"] = True
        for ask in stop:
            ask("shutdown")

    signal.signal(signal.SIGTERM, on_sigterm)
    # Ctrl-C goes to the worker, which asks; a terminal sends it to the whole foreground group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.die_with_parent(given.parent)
    assignment = _hear(given.device)
    if assignment is None:
        return 0
    state["assigned"] = True
    _print_to(Path(assignment["log"]))
    ref = attempts.Ref(int(assignment["run"]), int(assignment["attempt"]))
    settings = Settings(Path(given.root), given.device, given.memory_gib)
    held = processes.lock(Path(given.lock), LOCK_WAIT_S)
    if held is None:
        return exit_codes.BUSY
    held.describe({"run": ref.run_id, "root": given.root, "worker": given.parent})
    db = open_existing(settings.database)
    if db is None:
        sys.stderr.write(f"{settings.database} is gone: the worker has claimed this run from it\n")
        return exit_codes.STOPPED
    inside = held.place if held.path.is_relative_to(settings.root) else None
    try:
        claim = read.claim(db, ref)
        if state["asked"]:
            return exit_codes.STOPPED
        return _attempt(settings, db, claim, stop, inside)
    except attempts.Fenced as error:
        sys.stderr.write(f"{error}\n")
        return exit_codes.FENCED
    except Moved as error:
        sys.stderr.write(f"{error}\n")
        return exit_codes.STOPPED
    except DiskFull as error:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"{error}\n")
        return exit_codes.DISK_FULL
    finally:
        db.close()


def _hear(device: str) -> dict[str, Any] | None:
    """Waits for the assignment and imports meanwhile what runs of a kind need; None where the worker closes its end."""
    imports: list[threading.Thread] = []
    while line := sys.stdin.readline():
        message: dict[str, Any] = json.loads(line)
        if "ahead" not in message:
            for thread in imports:
                thread.join()
            return message
        imports.append(
            threading.Thread(target=_import_ahead, args=(message["ahead"], device), name="imports", daemon=True)
        )
        imports[-1].start()
    return None


def _import_ahead(kind: str, device: str) -> None:
    # Of this thread alone: the run that computes now has the first claim on the processor.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), AHEAD_NICE)
    # What cannot be imported is told by the run that needs it.
    with contextlib.suppress(Exception):
        for module in kinds.get(kind).imports(device):
            importlib.import_module(module)


def _print_to(log: Path) -> None:
    # Appending, so that cutting the file does not leave a hole for this process to write behind.
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _attempt(
    settings: Settings, db: Database, claim: attempts.Claim, stop: list[Callable[[str], None]], lock: Place | None
) -> int:
    device = settings.device
    _describe(settings, db, claim, device)
    recorder = RunRecorder(settings, db, claim, device, lock)
    stop.append(recorder.ask_to_stop)
    recorder.start()
    fields: dict[str, Any] = {}
    reason: str | None = None
    try:
        kind = kinds.get(claim.kind)
        params = _params(settings, db, kind, claim)
        fields |= _cap(kind, device, claim.limits, settings.memory_gib)
        kind.run(params, recorder)
        ending = Ending.SUCCEEDED
    except Stopped:
        recorder.close()
        return exit_codes.STOPPED
    except (attempts.Fenced, Moved):
        raise
    except Diverged as error:
        ending, reason = Ending.DIVERGED, str(error)
    except Pruned as error:
        ending, reason = Ending.PRUNED, str(error)
    except DiskFull as error:
        ending, reason = Ending.DISK_FULL, str(error)
    except (UserError, LabError) as error:
        sys.stderr.write(f"{error}\n")
        ending, reason = Ending.FAILED, str(error)
    except BaseException as error:
        # SystemExit too: a kind that exits has not succeeded. The log keeps the traceback, the store the sentence.
        with contextlib.suppress(OSError):  # the log's own disk may be what is full
            traceback.print_exc()
        ending, reason = _classify(error, settings.root)
    recorder.close()
    if recorder.refused is not None:
        ending, reason = Ending.FAILED, recorder.refused
    fields["peak_memory_gib"] = max(filter(None, (_peak_gib(device), recorder.peak_gib)), default=None)
    retry_policy.conclude(db, claim, ending, reason, fields)
    if ending is Ending.SUCCEEDED:
        recorder.drop_checkpoints()
    return 0


def _describe(settings: Settings, db: Database, claim: attempts.Claim, device: str) -> None:
    ours = provenance.here()
    me = processes.myself()
    patch = provenance.save_patch(settings)
    if patch.lacks is not None:
        results.log_event(db, "patch", patch.lacks, claim.run_id)
    attempts.attempt_fields(
        db,
        claim.ref,
        pid=me.pid,
        pid_start=me.start,
        boot_id=me.boot_id,
        environment_id=results.environment(db, provenance.environment(device)),
        commit=ours.commit,
        dirty=ours.dirty,
        patch=patch.path,
        sources_hash=ours.sources_hash,
        packages_hash=ours.packages_hash,
    )


def _params(settings: Settings, db: Database, kind: Kind, claim: attempts.Claim) -> Params:
    raw = claim.adjusted["params"] if claim.adjusted else claim.params
    paths = {}
    for each in inputs.taken(db, claim.ref, raw, claim.seed):
        path = settings.root / each.artifact.path
        if not path.exists() or files.sha256(path) != each.artifact.sha256:
            raise LabError(
                f"{each.words}, but {each.artifact.path} is missing or has changed since: run {each.run_id} again",
                key=each.key,
            )
        paths[each.key] = str(path)
    return kind.params.parse(references.resolved(raw, paths, "params"))


def _cap(kind: Kind, device: str, limits: dict[str, Any], memory_gib: float | None) -> dict[str, Any]:
    """Limits this process's memory; returns what is to be recorded of it."""
    if device == "cpu" and limits["memory_gib"] != "auto":
        # Private memory only: files that are mapped, such as weights and libraries, can be dropped and read again.
        limit = int(limits["memory_gib"] * memory.GIB)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    if device == "cpu" or not kind.uses_torch:
        return {}
    wanted = memory_gib if limits["memory_gib"] == "auto" else limits["memory_gib"]
    _, context_gib = memory.cap(device, wanted)
    return {"context_gib": context_gib}


def _peak_gib(device: str) -> float | None:
    """Peak memory of this process, GiB; None on a GPU that it never used."""
    return None if device != "cpu" and "torch" not in sys.modules else memory.peak_gib(device)


def _said(error: BaseException) -> str:
    """Its message; of a value that was refused, what is wrong with it, which does not stand in the first line."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    each = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}".removeprefix(": ") for one in error.errors())
    return f"{error.title}: {'; '.join(each)}"


def _classify(error: BaseException, root: Path) -> tuple[Ending, str]:
    words = f"{type(error).__name__}: {_said(error)}".strip(": ").splitlines()[0][:500]
    if disk.is_disk_full(error, root):
        return Ending.DISK_FULL, "; ".join(filter(None, (words, disk.elsewhere(error, root))))
    if memory.is_out_of_memory(error):
        return Ending.OUT_OF_MEMORY, words
    return (Ending.CRASHED if memory.is_device_fault(error) else Ending.FAILED), words


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="labqueue.attempt.runner")
    parser.add_argument("--root", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--memory-gib", type=float)
    parser.add_argument("--lock", required=True)
    parser.add_argument("--parent", type=int, required=True)
    return parser.parse_args(argv)


if __name__ == "__main__":
    # Without the interpreter's own teardown: libraries with threads can hang there, and everything is committed.
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
