"""Saves what the lab's own sources differ by from their commit, so that ``git apply`` brings it back in a clone.

Reading leaves the checkout as it was: git takes no lock there, runs no hook, and writes to an index and an object
folder of its own. So a kill in the middle leaves nothing that blocks the owner's next ``git commit``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from labqueue.settings import Settings
from labqueue.system.files import make_folder, write_bytes

FILE_BYTES = 2_000_000
"""A changed or untracked file above this is no source; the patch leaves it out, and says so. Assumption."""

PATCH_BYTES = 20_000_000
"""All untracked files of one patch together, and the patch itself."""

TIMEOUT_S = 10.0

_QUIET = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.splitIndex=false")

_READ_ONLY = ("--no-optional-locks", *(word for setting in _QUIET for word in ("-c", setting)))
"""No refreshed index is written back, no watching daemon is started, no hook runs (git-config(1))."""

_AS_APPLY_READS = (
    "--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "--unified=3",
    "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/",
)  # fmt: skip
"""Whatever the owner's settings make of a diff for the eye."""


@dataclass(frozen=True)
class Patch:
    """``path`` is relative to the workspace, None where nothing could be kept; ``lacks`` says in words what is not
    in it, None where it is whole."""

    path: str | None
    lacks: str | None = None


def git(
    folder: Path, *words: str, given: bytes | None = None, environment: dict[str, str] | None = None
) -> bytes | None:
    """What a reading git command prints about the checkout around ``folder``; None where it fails or is not there.

    ``given`` is its standard input, ``environment`` goes over that of this process.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *_READ_ONLY, *words],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def save(settings: Settings, folder: Path) -> Patch:
    """Keeps the difference of the sources in ``folder`` to their commit, with untracked files that git does not
    ignore, and without the workspace's own results. To be applied at the top of a clone of that commit."""
    try:
        with tempfile.TemporaryDirectory(prefix="labqueue-patch-") as aside:
            found = _difference(settings, folder, Path(aside))
    except OSError as error:  # no room for temporary files costs the patch, not the run
        return Patch(None, f"the difference of the sources to their commit could not be read: {error}")
    if found is None:
        return Patch(None, "git could not tell the difference of the sources to their commit")
    content, left_out = found
    if len(content) > PATCH_BYTES:
        return Patch(None, f"the sources differ from their commit by {len(content):,} bytes, too much for a patch")
    names = ", ".join(left_out[:5]) + (f" and {len(left_out) - 5} more" if len(left_out) > 5 else "")
    lacks = f"the patch of the sources leaves out, as too large: {names}" if left_out else None
    if not content:
        return Patch(None, lacks)
    path = settings.patches / file_name(content)
    if not path.exists():
        make_folder(path.parent, settings.root)
        write_bytes(path, content)
    return Patch(settings.relative(path), lacks)


def file_name(content: bytes) -> str:
    """What a patch's file is called: by its content, so that runs of one state of the sources share it."""
    return f"{hashlib.sha256(content).hexdigest()[:16]}.patch"


def _difference(settings: Settings, folder: Path, aside: Path) -> tuple[bytes, list[str]] | None:
    """The patch and the files left out of it, by an index in ``aside`` to which the untracked files are added."""
    asked = git(folder, "rev-parse", "--show-toplevel", "--git-path", "index", "--git-path", "objects")
    if asked is None:
        return None
    root, index, objects = (folder / os.fsdecode(line) for line in asked.splitlines())
    if index.exists():  # with the sizes and times in it, unchanged files need not be read
        shutil.copyfile(index, aside / "index")
    environment = {
        "GIT_INDEX_FILE": str(aside / "index"),
        "GIT_OBJECT_DIRECTORY": str(aside / "objects"),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects.resolve()),
    }
    (aside / "objects").mkdir()
    # Of the real index `git diff` would write back what it refreshed, optional or not.
    listing = ("--no-renames", "--no-relative", "-z", "HEAD", "--", ".")
    changed = git(folder, "diff", "--name-status", *listing, environment=environment)
    new_files = ("--full-name", "--others", "--exclude-standard", "-z", "--", ".")
    untracked = git(folder, "ls-files", *new_files, environment=environment)
    if changed is None or untracked is None:
        return None
    words = changed.split(b"\0")
    states = dict(zip(words[1::2], words[::2], strict=False))
    new = [name for name, state in states.items() if state == b"A"] + untracked.split(b"\0")
    large = [name for name in _names(states, root, settings) if _bytes(root / name) > FILE_BYTES]
    wanted, total = [], 0
    for name in _names(new, root, settings):
        size = _bytes(root / name)
        if name not in large and size <= FILE_BYTES and total + size <= PATCH_BYTES:
            wanted.append(os.fsencode(name))
            total += size
        elif name not in large:
            large.append(name)
    # An index in the middle of a merge has no one version of a file; that of the commit has.
    if git(root, "read-tree", "--reset", "HEAD", environment=environment) is None:
        return None
    # A file of the commit needs no adding: that would take its content out of the index.
    add = ("add", "--intent-to-add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul")
    if wanted and git(root, "--literal-pathspecs", *add, given=b"\0".join(wanted), environment=environment) is None:
        return None
    below = folder.resolve().relative_to(root.resolve())
    inside = f":(top,literal){below.as_posix() if below.parts else ''}"
    outside = [f":(top,exclude,literal){name}" for name in large]
    content = git(root, "diff", *_AS_APPLY_READS, "HEAD", "--", inside, *outside, environment=environment)
    return None if content is None else (content, large)


def _names(listed: Iterable[bytes], root: Path, settings: Settings) -> list[str]:
    """The files among what git lists; not another checkout, and not what this workspace keeps."""
    own = (str(settings.outputs), str(settings.database))
    names = [os.fsdecode(name) for name in listed if name and not name.endswith(b"/")]
    return [name for name in names if not str(root / name).startswith(own)]


def _bytes(path: Path) -> int:
    return path.lstat().st_size if os.path.lexists(path) else 0
