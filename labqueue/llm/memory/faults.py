"""Errors of the device rather than of the experiment: worth another try in a fresh process. Knows no runs."""

from __future__ import annotations

import re

_FAULT = re.compile(
    r"unspecified launch failure|uncorrectable (NVLink|ECC)|hardware (stack|error)|GPU is lost|"
    r"no CUDA-capable device|No CUDA GPUs are available|CUDA driver|"
    r"device(s)? (is|are) busy or unavailable|driver shutting down|"
    r"system (not yet initialized|driver mismatch)|CUDA error: (unknown error|initialization error|launch timed out)|"
    r"the launch timed out",
    re.IGNORECASE,
)
"""Messages of the CUDA runtime (cudaGetErrorString) that a sound program can meet on a card that misbehaves.

Not among them: an illegal memory access and a device-side assert, which a program causes and will cause again.
"""


def is_device_fault(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is the device's or its driver's fault."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, RuntimeError) and _FAULT.search(str(link)):
            return True
        link = link.__cause__ or link.__context__
    return False
