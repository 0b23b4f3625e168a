"""Measures this computer for a run: the type of number that its processor multiplies fast, its cores, its memory.

Knows no runs and no GPU. The choice of a type is measured in a process of its own, products of milliseconds for a good
second, and kept in the cache folder for as long as the processor and torch are the same. What was measured beside other
work is measured again by later commands, and the best of all is kept.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from labqueue.domain.errors import LabError, nearest
from labqueue.system.files import cache_folder, write_bytes

DTYPES = ("float32", "bfloat16")

OVERRIDE = "LABQUEUE_CPU_DTYPE"
"""Environment variable that decides instead of the measurement."""

ISA_SWITCHES = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")
"""Environment variables by which torch's libraries leave instructions unused: with another, another speed."""

FASTER = 1.2
"""How many times as fast bfloat16 must be to be chosen: below that, its rounding buys nothing. Assumption."""

SHAPE = (128, 576, 1536)
"""Rows, inputs and outputs of the measured product: a micro-batch through SmolLM2-135M's up projection."""

BURST_S = 0.03
"""Processor time for each type at a time, and three products at least."""

MEASURED_S = 1.2
"""How long bursts are repeated: beside other work some of them have the core and its clock for themselves."""

QUIET = 0.1
"""Share of all processors that others may use while it is measured; above, it is measured again another time."""

TRIES = 4
"""Measurements beside other work before they are believed: each takes a command some seconds."""

CPUINFO, STAT = Path("/proc/cpuinfo"), Path("/proc/stat")
CGROUPS, MY_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


@dataclass(frozen=True)
class Speeds:
    """Of one core, GFLOP/s, in the best of several products."""

    bfloat16: float
    float32: float

    @property
    def faster(self) -> str:
        """The type to compute in."""
        return "bfloat16" if self.bfloat16 >= FASTER * self.float32 else "float32"

    def best(self, other: Speeds) -> Speeds:
        """The higher speed of each type; these where those of both would choose another type than these do."""
        both = Speeds(max(self.bfloat16, other.bfloat16), max(self.float32, other.float32))
        return both if both.faster == self.faster else self

    def of(self, dtype: str) -> float:
        """GFLOP/s of one core in a type; float32's where the type was not measured."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


def cpu_dtype() -> str:
    """The type in which this processor computes: the override's, else the faster one.

    Raises:
        LabError: the override is no type, or torch cannot be used on this processor.
    """
    given = os.environ.get(OVERRIDE)
    if given:
        if given not in DTYPES:
            raise LabError(f"environment variable {OVERRIDE} is {given!r}: {nearest(given, DTYPES)}")
        return given
    return speeds().faster


def speeds() -> Speeds:
    """What was measured here, or is now: a new torch or processor is measured again, and what was measured beside other
    work, up to ``TRIES`` times. A computer can be slower than it is, never faster, so the best of each type counts.

    Raises:
        LabError: the processor lacks what torch needs, or torch did not work.
    """
    return _speeds(str(_kept()))


@dataclass(frozen=True)
class _Measured:
    """What is kept of all measurements."""

    speeds: Speeds
    tries: int
    quiet: bool
    """Whether the last of them had the computer to itself."""

    @property
    def final(self) -> bool:
        return self.quiet or self.tries >= TRIES

    @staticmethod
    def read(path: Path) -> _Measured | None:
        """None where nothing was kept, or what was is damaged or of another version."""
        try:
            kept = json.loads(path.read_text())
            speeds = Speeds(float(kept["bfloat16"]), float(kept["float32"]))
            return _Measured(speeds, int(kept["tries"]), bool(kept["quiet"]))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        words = json.dumps({**asdict(self.speeds), "tries": self.tries, "quiet": self.quiet})
        with contextlib.suppress(OSError):  # where nothing can be kept, every process measures
            write_bytes(path, words.encode(), shared=True)


@functools.cache
def _speeds(kept: str) -> Speeds:
    before = _Measured.read(Path(kept))
    if before is not None and before.final:
        return before.speeds
    speeds, quiet = _in_a_process()
    if before is not None:
        speeds = before.speeds.best(speeds)
    _Measured(speeds, 1 + (before.tries if before is not None else 0), quiet).write(Path(kept))
    return speeds


def _kept() -> Path:
    name, flags = _processor()
    about = [name, *sorted(flags), importlib.metadata.version("torch")]
    about += [f"{switch}={os.environ.get(switch, '')}" for switch in ISA_SWITCHES]
    return cache_folder() / f"cpu-{hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]}.json"


def _in_a_process() -> tuple[Speeds, bool]:
    """(speeds, whether the computer was quiet), measured in a process of its own: a submission stays without torch, and
    whatever torch dies of is told."""
    check_processor()
    command = [sys.executable, "-m", "labqueue.llm.processor"]
    here = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).resolve().parents[2])]))
    env = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise LabError(f"torch cannot multiply on this processor ({_processor()[0]}): {why}")
    found = json.loads(done.stdout)
    return Speeds(found["bfloat16"], found["float32"]), bool(found["quiet"])


def measure() -> tuple[Speeds, bool]:
    """Times the product in both types on one core, and says whether the computer was quiet.

    By processor time, the best of many: what else the computer does takes caches, clock and half of a shared core.
    """
    import torch

    torch.set_num_threads(1)
    rows, inputs, outputs = SHAPE

    def gflops(dtype: torch.dtype) -> float:
        states = torch.ones(rows, inputs, dtype=dtype)
        weight = torch.ones(outputs, inputs, dtype=dtype)
        torch.nn.functional.linear(states, weight)  # the first builds the kernel
        took: list[float] = []
        while len(took) < 3 or sum(took) < BURST_S:
            began = time.thread_time()
            torch.nn.functional.linear(states, weight)
            took.append(time.thread_time() - began)
        return 2 * rows * inputs * outputs / min(took) / 1e9

    best = Speeds(gflops(torch.bfloat16), gflops(torch.float32))
    others, until = _Others(), time.monotonic() + MEASURED_S
    while time.monotonic() < until:
        again = Speeds(gflops(torch.bfloat16), gflops(torch.float32))
        best = Speeds(max(best.bfloat16, again.bfloat16), max(best.float32, again.float32))
    return Speeds(round(best.bfloat16, 1), round(best.float32, 1)), others.share() <= QUIET


class _Others:
    """How much of all processors other processes, and other machines on the same host, use from now on."""

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """From 0 to 1 since the beginning; 0 where the system does not say."""
        idle, everything, mine = (now - then for now, then in zip(self._now(), self._before, strict=True))
        return max(0.0, everything - idle - mine) / everything if everything > 0 else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Seconds (idle, in all) of all processors, and of this process (proc(5))."""
        try:
            words = STAT.read_text().partition("\n")[0].split()[1:9]  # guests, behind them, are in the user's
            ticks = [int(word) / os.sysconf("SC_CLK_TCK") for word in words]
            return ticks[3] + ticks[4], sum(ticks), time.process_time()
        except (OSError, ValueError, IndexError):
            return 0.0, 0.0, 0.0


def check_processor() -> None:
    """Checks that torch's and bitsandbytes' kernels can run.

    Raises:
        LabError: an x86 processor without AVX2.
    """
    name, flags = _processor()
    if platform.machine().lower() in ("x86_64", "amd64") and flags and "avx2" not in flags:
        raise LabError(
            f"this processor ({name}) has no AVX2, and without it a run would die of an illegal instruction: use a "
            "computer with Intel's Haswell (2013), AMD's Excavator (2015) or newer"
        )


@functools.cache
def _processor() -> tuple[str, frozenset[str]]:
    """Its name and the instructions that it has; empty where the system does not say."""
    try:
        lines = CPUINFO.read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor(), frozenset()
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = about.get("flags") or about.get("Features") or ""
    return about.get("model name", platform.processor()), frozenset(flags.split())


def cores() -> int:
    """Cores that this process may really use: those it may be placed on, and at most its control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # One thread more than the quota pays for makes all of them wait, while the group is throttled.
    return max(1, min([allowed, *(int(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """Processors that each control group around this process may use; ``cpu.max`` or, of version 1, ``cfs_quota``."""
    for folder in _cgroups("cpu"):
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
            if quota != "max" and int(quota) > 0:
                yield int(quota) / int(period)
        except (OSError, ValueError):
            continue


def memory_gib() -> float:
    """Memory that this process may use, GiB: the computer's, and at most its control group's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # not there, or "max"
                continue
    return min(found) / 2**30


def _cgroups(controller: str) -> Iterator[Path]:
    """Folders of the control groups around this process, the innermost first (cgroups(7))."""
    try:
        lines = MY_CGROUP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        root = CGROUPS / names if names else CGROUPS
        folder = root / path.strip("/")
        yield from (each for each in (folder, *folder.parents) if each == root or root in each.parents)


def prepare_threads() -> None:
    """Has torch use ``cores`` threads; call before it is imported. What a person set stays."""
    # OpenMP threads spin while they wait for each other, and on a core that another job shares the spinning is what
    # runs. A step of the small model on 2 cores, idle / beside one busy process: libgomp's default 0.87 s / 9 s,
    # 3000 spins 0.92 s / 2.9 s, none (OMP_WAIT_POLICY=PASSIVE) 1.8 s / 1.6 s. Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


if __name__ == "__main__":
    _found, _quiet = measure()
    sys.stdout.write(json.dumps({**asdict(_found), "quiet": _quiet}))
