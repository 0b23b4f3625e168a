"""The lab's fire drill: counts steps and fails on demand, to check an installation without a model.

``value`` at step s is exp(-s / steps) plus a little noise drawn from the seed, so that reports have something to show.
It writes samples, tells a phase of its own, and keeps what it has now on demand, as kinds that train models do.
The ``witness`` file is what crash tests judge by: the lab itself never reads it.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from labqueue.domain import kind
from labqueue.domain.artifacts import Files
from labqueue.domain.declarations import Metric
from labqueue.domain.kind import Recorder, Stopped

USES_TORCH = False
"""The runner then makes no CUDA context to measure and cap: a drill on a GPU starts as quickly as one on a CPU."""


KEEPS_ON_DEMAND = True

METRICS = {"value": Metric(better="lower", role="held_out", about="falls with the steps, and a little with the seed")}


class Params(kind.Params):
    """What the drill does, and what it does wrong."""

    RENAMED: ClassVar = {"ledger": "witness"}

    steps: int = Field(default=10, ge=1)
    """Steps to count."""
    step_s: float = Field(default=0.01, ge=0)
    """Seconds a step takes."""
    checkpoint_every: int = Field(default=5, ge=1)
    """Steps between checkpoints."""
    sample_every: int | None = Field(default=None, ge=1)
    """Steps between samples: the value so far, in words, after two prompts; null for none."""
    prepare: int = Field(default=0, ge=0)
    """What each attempt counts before its steps, as a phase of its own; as slow as they are."""
    fault: Literal[
        "none", "raise", "hang", "exit", "allocate", "nan", "ignore_sigterm",
        "quit", "abort", "segfault", "fork", "flood", "binary",
    ] = "none"  # fmt: skip
    """What goes wrong: an exception (``raise``), no more progress (``hang``), death without a word (``exit``), memory
    without end (``allocate``), a value that is not a number (``nan``), deafness to SIGTERM and to requests to stop
    (``ignore_sigterm``), exit status 0 without a result (``quit``), death by SIGABRT or SIGSEGV (``abort``,
    ``segfault``), a process that is left behind and keeps the device (``fork``), a log that grows without end
    (``flood``), or bytes that are no text in the log, and then death (``binary``)."""
    fault_at: int = Field(default=1, ge=0)
    """The step at which it goes wrong; beyond ``steps`` it never does."""
    allocate_mib: int = Field(default=1_000_000, ge=1)
    """How much ``allocate`` takes."""
    distance: float = 0.0
    """How far from the best setting this run is: its square is added to ``value``, so that a search finds something."""
    witness: str | None = None
    """A file outside the lab's tables; every step appends one synced line ``run attempt step unix_time``."""


def run(params: Params, rec: Recorder) -> None:
    """Counts; goes on where the last checkpoint stood."""
    start, state = 0, random.Random(rec.seed).getstate()
    if rec.resume_from is not None:
        saved = json.loads((rec.resume_from.path / "state.json").read_text())
        start, (version, words, gauss) = saved["step"], saved["random"]
        state = (version, tuple(words), gauss)
    source = random.Random()
    source.setstate(state)
    deaf = params.fault == "ignore_sigterm"
    for counted in range(1, params.prepare + 1):
        time.sleep(params.step_s)
        rec.progress(counted, params.prepare, phase="preparing")
        if rec.should_stop is not None:
            raise Stopped
    for step in range(start + 1, params.steps + 1):
        if params.fault_at == step:
            _fault(params, rec, step)
        time.sleep(params.step_s)
        if params.witness is not None:
            _append(Path(params.witness), f"{rec.run_id} {rec.attempt} {step} {time.time():.6f}\n")
        noise = 0.01 * source.gauss(0.0, 1.0)
        value = math.exp(-step / params.steps) + params.distance**2 + noise
        rec.metric("value", value, step)
        if params.sample_every is not None and step % params.sample_every == 0:
            rec.sample(step, "The value is", f" {value:.6f}.")
            rec.sample(step, "Steps to go:", f" {params.steps - step}\nand then it is done")
        if rec.keep_wanted:
            _keep(rec, step, source)
        rec.progress(step, params.steps)
        stopping = rec.should_stop is not None and not (deaf and step >= params.fault_at)
        if stopping or (step % params.checkpoint_every == 0 and step < params.steps):
            _checkpoint(rec, step, source)
        if stopping:
            raise Stopped


def memory_advice(params: Params) -> str:
    """What is left to a person."""
    return f"allocate_mib below {params.allocate_mib}"


def preflight(params: Params) -> Params:
    """Two steps, with the fault if it comes that early, and nothing for the witness."""
    steps = min(params.steps, 2)
    return params.model_copy(update={"steps": steps, "step_s": 0.0, "checkpoint_every": 1, "witness": None})


def _checkpoint(rec: Recorder, step: int, source: random.Random) -> None:
    rec.checkpoint(step, lambda folder: _save(folder, step, source))


def _keep(rec: Recorder, step: int, source: random.Random) -> None:
    """What a drill has in the place of a model: its state."""
    folder = rec.directory / "kept"
    folder.mkdir(exist_ok=True)
    _save(folder, step, source)
    rec.artifact(f"step_{step:06d}", Files(type="model", path=folder))


def _save(folder: Path, step: int, source: random.Random) -> None:
    (folder / "state.json").write_text(json.dumps({"step": step, "random": source.getstate()}))


def _append(path: Path, line: str) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, line.encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def _fault(params: Params, rec: Recorder, step: int) -> None:
    if params.fault == "raise":
        raise RuntimeError(f"the drill raises at step {step}, as asked")
    if params.fault == "exit":
        os._exit(3)
    if params.fault == "nan":
        rec.metric("value", math.nan, step)
    if params.fault == "allocate":
        taken = [bytearray(1024 * 1024) for _ in range(params.allocate_mib)]
        rec.note(f"took {len(taken)} MiB at step {step}")
    if params.fault == "ignore_sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if params.fault == "quit":
        os._exit(0)
    if params.fault in ("abort", "segfault"):
        os.kill(os.getpid(), signal.SIGABRT if params.fault == "abort" else signal.SIGSEGV)
    if params.fault == "fork":
        _leave_behind()
    if params.fault == "flood":
        _flood(rec)
    if params.fault == "binary":
        os.write(1, bytes(range(256)) * 16 + b"\x1b[2J\xff\xfe the end\n")
        os._exit(3)
    if params.fault == "hang":
        while rec.should_stop is None:
            time.sleep(0.05)
        raise Stopped


def _leave_behind() -> None:
    """Starts a daemon: a session of its own, nobody's child, no environment, every open file kept, the lock too."""
    # Python closes the lock in its own forks; C code need not.
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(f"/proc/self/fd/{name}") and int(name) > 2:
            os.set_inheritable(int(name), True)
    code = (
        "import os, time; os.setsid(); os.fork() and os._exit(0);"
        "print('left behind: process', os.getpid(), flush=True); time.sleep(3600)"
    )
    subprocess.Popen([sys.executable, "-S", "-c", code], close_fds=False, env={}).wait()


def _flood(rec: Recorder) -> None:
    block = b"the drill floods its log, as asked\n" * 30_000
    while rec.should_stop is None:
        os.write(1, block)
    raise Stopped
