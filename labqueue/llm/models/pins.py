"""Pins a model by more than its name: its folder's content by SHA-256, or its snapshot's commit. No torch, no network.

Pinned at submission, so that another content is another run; a run takes what was pinned, or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.llm.models import catalogue, snapshot
from labqueue.system import clock, files
from labqueue.system.files import cache_folder

COMMIT, SHA256 = "commit", "sha256"
"""The two forms: ``commit:HEX`` of a hub model, ``sha256:HEX`` of a folder."""

PATTERNS = (*catalogue.FILES, "*.model", "additional_chat_templates/*.jinja")
"""Files that transformers and PEFT read of a folder, beside the weights that an index names. One too many costs a run
that was not needed, one too few reuses a run of another model."""

REMEMBERED_BYTES = 2**20
"""The hash of a file of this size or more is remembered: 15 GB take 10 s of a core (1.4 GB/s measured) and longer from
a disk, which a sweep of 60 runs would pay 60 times at submission and once again as each run begins."""

SETTLED_S = 3.0
"""A file that changed less than this before it was hashed is hashed again the next time: file systems stamp times in
steps, of 2 s at the coarsest (FAT), and a second change within a step would leave no trace. Assumption."""


def of(name: str) -> str | None:
    """The pin of a model; None where the code itself pins it (packaged and random ones), or it is not on this machine,
    which the caller reports.

    Raises:
        LabError: a file of its folder cannot be read.
    """
    known = catalogue.CATALOGUE.get(name)
    if known is None:
        return of_folder(name)
    if known.where != "hub":
        return None
    try:
        return f"{COMMIT}:{catalogue.local(name).name}"  # the hub's cache names a snapshot's folder by its commit
    except LabError:
        return None


def of_folder(path: str, key: str = "model") -> str | None:
    """The pin of a folder with a model or an adapter; None where there is no folder.

    Raises:
        LabError: a file in it cannot be read, or is being written.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return None
    try:
        return f"{SHA256}:{digest({name: sha256(folder / name) for name in _files(folder)})}"
    except OSError as error:
        raise LabError(f"a file of {path} cannot be read: {error}", key=key) from error


def local(name: str, pin: str | None) -> Path:
    """Where the files of the model lie that was pinned; as ``models.local`` where none was.

    Raises:
        LabError: as ``models.local``, or they are no longer those that were pinned.
    """
    check(name, pin)
    kind, _, commit = (pin or "").partition(":")
    return catalogue.local(name, commit if kind == COMMIT else None)


def check(name: str, pin: str | None) -> None:
    """Checks that the model that was pinned is here, or none was.

    Raises:
        LabError: it is not, or the pin is of the other form.
    """
    if pin is None:
        return
    kind, _, value = pin.partition(":")
    where = catalogue.find(name).where
    if kind != {"hub": COMMIT, "folder": SHA256}.get(where):
        raise LabError(f"{kind}:{value[:12]}… is no pin of {name!r}: leave it out, it is filled in", key="model_pin")
    if where == "hub":
        catalogue.local(name, value)
    else:
        check_folder(name, pin)


def check_folder(path: str, pin: str | None, key: str = "model") -> None:
    """Checks that the folder has the content that was pinned, or is missing, which the caller reports.

    Raises:
        LabError: it has another.
    """
    found = of_folder(path, key) if pin is not None else None
    if found is not None and pin is not None and found != pin:
        was, now = (each.partition(":")[2][:12] for each in (pin, found))
        raise LabError(
            f"{path} has changed since it was submitted (SHA-256 of its files {now}…, was {was}…): put it back, or "
            "submit again",
            key=key,
        )


def sha256(file: Path, key: str = "model") -> str:
    """SHA-256 (hex) of a file's content.

    A large file that was hashed before is believed unchanged while its size, device, inode, time of change and, above
    all, time of status change are what they were: the last no program can set, so that neither a copy with the old
    times nor an edit in place goes by unseen; only a disk written below its file system would, or a clock set back to
    the tick. Any difference means reading it anew.

    Raises:
        LabError: it is being written.
        OSError: it cannot be read.
    """
    before = _stamp(file)
    size, *_, modified_ns, changed_ns = before
    if size < REMEMBERED_BYTES:
        return files.sha256(file)
    note = cache_folder() / "hashes" / f"{hashlib.sha256(bytes(file.resolve())).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(note.read_text())
        if known["stamp"] == before:
            return str(known["sha256"])
    began = clock.now()
    found = files.sha256(file)
    if _stamp(file) != before:
        raise LabError(f"{file} is being written: wait until it is whole", key=key)
    if began - max(modified_ns, changed_ns) / 1e9 > SETTLED_S:
        _remember(note, {"file": str(file.resolve()), "stamp": before, "sha256": found})
    return found


def _stamp(file: Path) -> list[int]:
    found = file.stat()
    return [found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _remember(note: Path, words: dict[str, object]) -> None:
    """A cache that cannot be written only costs time."""
    with contextlib.suppress(OSError):
        files.write_bytes(note, json.dumps(words).encode(), shared=True)


def _files(folder: Path) -> list[str]:
    """Names of the regular files that are read of a folder, links followed, hidden ones left out."""
    found = {path for pattern in PATTERNS for path in folder.glob(pattern)}
    found |= {folder / name for name in snapshot.weights(folder)}
    return sorted(
        path.relative_to(folder).as_posix() for path in found if path.is_file() and not path.name.startswith(".")
    )
