"""Paths of the lab, all derived from the workspace root. Knows nothing of their content."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labqueue.domain.errors import LabError, Moved, nearest
from labqueue.domain.spec import names

FILE = "labqueue.toml"
"""The workspace's own settings, for what should not stand on every command line."""


@dataclass(frozen=True)
class Place:
    """A path, and the file that stood there: its device and inode, which it keeps when it is moved and no copy shares.

    They are another file's only once this one is gone from the disk, so whoever relies on a place keeps the file open.
    """

    path: Path
    device: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> Place:
        """Where a file is now."""
        status = path.stat()
        return cls(path, status.st_dev, status.st_ino)

    def is_that_of(self, status: os.stat_result) -> bool:
        """Whether this is the place of a file of which ``status`` is known."""
        return (self.device, self.inode) == (status.st_dev, status.st_ino)

    @property
    def changed(self) -> str | None:
        """What has become of the path since, in words; None while the file stands there."""
        try:
            same = self.is_that_of(self.path.stat())
        except (FileNotFoundError, NotADirectoryError):
            return f"{self.path} is gone"
        except OSError:
            return None  # a disk that does not answer for now
        return None if same else f"{self.path} is another file now"

    def check(self) -> None:
        """Looks whether the file still stands there.

        Raises:
            Moved: it does not.
        """
        words = self.changed
        if words is not None:
            raise Moved(
                f"{words}: it was moved, removed or replaced while this process (process id {os.getpid()}) worked with "
                "it. Go on where the workspace is now; --root names it."
            )

    def __str__(self) -> str:
        return f"{self.device}:{self.inode}"


@dataclass(frozen=True)
class Settings:
    """The workspace and what a worker in it may use.

    ``device`` is ``auto``, ``cpu`` or ``cuda:N``; ``memory_gib`` is device memory for one run (None: what is free).
    """

    root: Path
    device: str = "auto"
    memory_gib: float | None = None

    @property
    def database(self) -> Path:
        """The truth about experiments, runs and results."""
        return self.root / "results.db"

    @property
    def outputs(self) -> Path:
        """Everything that runs and reports write."""
        return self.root / "outputs"

    @property
    def wakeups(self) -> Path:
        """The queue's file of wake-ups: disposable, never believed."""
        return self.outputs / "wakeups.db"

    @property
    def notify(self) -> tuple[str, ...]:
        """Where messages go, as Apprise's URLs: ``LABQUEUE_NOTIFY`` (separated by spaces), else labqueue.toml's.

        Read anew each time, so that a worker that has been up for weeks obeys a change. An empty variable is "nowhere".
        The URLs may hold passwords: never print them.

        Raises:
            LabError: labqueue.toml is not TOML, or holds something else than ``notify`` with one or more URLs.
        """
        given = os.environ.get("LABQUEUE_NOTIFY")
        if given is not None:
            return tuple(given.split())
        urls = _workspace_file(self.root / FILE).get("notify", [])
        return (urls,) if isinstance(urls, str) else tuple(urls)

    @property
    def backups(self) -> Path:
        """Copies of the database."""
        return self.outputs / "backups"

    @property
    def locks(self) -> Path:
        """Locks of what belongs to this workspace alone."""
        return self.outputs / "locks"

    @property
    def patches(self) -> Path:
        """What changed sources differed from their commit by, when they ran."""
        return self.outputs / "patches"

    def experiment(self, name: str) -> Path:
        """The folder of one experiment."""
        return self.outputs / name

    def run(self, experiment: str, run_id: int) -> Path:
        """The folder of one run."""
        return self.outputs / experiment / str(run_id)

    def relative(self, path: Path) -> str:
        """A path as the results store and all output show it: relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()


def own_folders() -> frozenset[str]:
    """Names in ``outputs`` that no experiment can have: every place that ``Settings`` puts there."""
    here = Settings(Path())
    properties = (name for name, each in vars(Settings).items() if isinstance(each, property) and name != "notify")
    places = (getattr(here, name) for name in properties)
    return frozenset(place.name for place in places if isinstance(place, Path) and place.parent == here.outputs)


def check_name(name: str) -> str:
    """The name itself, where an experiment can be called so.

    Raises:
        LabError: it is not made of the letters that names have, or means something else already.
    """
    words = names.refusal(name, own_folders())
    if words is not None:
        raise LabError(words)
    return name


def find_root(given: str | None) -> Path:
    """The workspace: what was given, else ``LABQUEUE_ROOT``, else the current folder."""
    return Path(given or os.environ.get("LABQUEUE_ROOT") or ".").resolve()


def _workspace_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"cannot be read: {error}", file=str(path)) from error
    # Only those who have such a file pay for its reader.
    import tomllib  # noqa: PLC0415

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        line = int(place[1]) if place else None
        raise LabError(f"is not TOML: {error}", file=str(path), line=line) from error
    for key in found:
        if key != "notify":
            raise LabError(f"there is no setting {key!r}: {nearest(key, ['notify'])}", file=str(path), key=key)
    urls = found.get("notify", [])
    if not isinstance(urls, str | list) or not all(isinstance(url, str) and url for url in urls):
        words = 'notify must be a list of Apprise URLs, for example notify = ["ntfy://my-topic"]'
        raise LabError(words, file=str(path), key="notify")
    return found
