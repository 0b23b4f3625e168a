"""The peak of resident memory, in a fork as in a process that was started afresh. Linux's ``/proc`` alone."""

from __future__ import annotations

import re
from mmap import PAGESIZE
from pathlib import Path

_held_before_forks: list[tuple[int, bytes]] = []

_HELD = bytes(flags & 0xA0 == 0xA0 for flags in range(256))


def remember_files() -> None:
    """Notes which pages of files (libraries) this process holds: forks of it have them, and yet do not show them.

    A fork's resident set leaves out what is a file's until the fork itself reads it, so that the peak of the same run
    would be lower by a quarter of a GiB in a fork; ``peak_bytes`` makes up for it.
    """
    _held_before_forks[:] = _files_held(_mapped_files())


def peak_bytes() -> int | None:
    """The peak resident set of this process, in a fork with the libraries that it was given; None: not said here."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
        now = _files_held([(start, len(held)) for start, held in _held_before_forks])
    except OSError:
        return None
    if found is None:
        return None
    given = zip((held for _, held in _held_before_forks), (held for _, held in now), strict=True)
    unread = sum((int.from_bytes(before) & ~int.from_bytes(held)).bit_count() for before, held in given)
    return int(found.group(1)) * 1024 + unread * PAGESIZE


def _mapped_files() -> list[tuple[int, int]]:
    """Address and number of pages of what is mapped from a file."""
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, _, _, inode = line.split()[:5]
        if inode != "0":
            start, end = (int(number, 16) for number in place.split("-"))
            found.append((start, (end - start) // PAGESIZE))
    return found


def _files_held(places: list[tuple[int, int]]) -> list[tuple[int, bytes]]:
    """For each page of some mappings a byte, 1 where it is in memory and a file's.

    Bits 63 and 61 of ``/proc/PID/pagemap`` say so (admin-guide/mm/pagemap.rst of Linux).
    """
    found = []
    with open("/proc/self/pagemap", "rb", buffering=0) as pages:
        for start, count in places:
            pages.seek(start // PAGESIZE * 8)
            # The last of eight bytes has the bits.
            found.append((start, pages.read(count * 8)[7::8].translate(_HELD)))
    return found
