"""The peak of a fork is that of a process which read the same libraries itself."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

LIBRARY = """
import json, os, sys
from labqueue.system import resident_memory
import scipy.linalg, numpy
if sys.argv[1] == "forked":
    resident_memory.remember_files()
    if os.fork():
        os.wait()
        os._exit(0)
grown = numpy.ones(3_000_000)
print(json.dumps(resident_memory.peak_bytes()), flush=True)
os._exit(0)
"""


def peak(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", LIBRARY, how], capture_output=True, text=True, timeout=120, check=True)
    return int(json.loads(done.stdout))


def test_the_peak_of_a_fork_counts_the_libraries_it_was_given() -> None:
    assert peak("forked") == pytest.approx(peak("afresh"), rel=0.02)
