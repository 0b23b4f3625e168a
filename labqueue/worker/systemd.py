"""The worker as a systemd user service: writes the unit file, and calls nothing of systemd's.

What a unit file means: systemd.unit(5), systemd.service(5), systemd.syntax(7).
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.system.files import write_bytes

MARK = "# Written by labqueue worker --install; changes by hand are not overwritten. sha256 "
"""How a later call knows its own file, and one that somebody has changed since."""

CARRIED = ("CUDA_DEVICE_ORDER", "CUDA_VISIBLE_DEVICES", "HF_HOME", "LABQUEUE_CACHE", "LABQUEUE_LOCKS")
"""Variables of the installing shell that decide what the worker does. LABQUEUE_NOTIFY is not among them: it may hold
passwords, and a unit file is for everyone to read."""

SPARE_S = 30
"""What the service manager allows beyond the grace of a run, for the store's last words and messages on their way."""


@dataclass(frozen=True)
class Unit:
    """A unit file to write."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        """What systemctl calls it."""
        return self.path.name


def unit(root: Path, words: Sequence[str], *, device: str, grace_s: float, environment: Mapping[str, str]) -> Unit:
    """The service of a workspace: ``python -m labqueue worker --root ROOT WORDS…``, kept up whatever ends it.

    One per workspace and ``device``. ``grace_s`` is how long a run may take to checkpoint when it is asked to stop.

    Raises:
        LabError: a path holds a control character, which a unit file cannot say.
    """
    given = environment.get("XDG_CONFIG_HOME", "")
    # The base directory specification: a relative one is to be ignored.
    folder = Path(given) if given.startswith("/") else Path(environment.get("HOME") or Path.home()) / ".config"
    slug = re.sub(r"[^A-Za-z0-9]+", "-", root.name).strip("-").lower() or "root"
    digest = hashlib.sha256(str(root).encode()).hexdigest()[:8]
    suffix = "" if device == "auto" else f"-{device.replace(':', '')}"
    # Not resolved: the interpreter of a virtual environment is a link, and knows its packages by where it was called.
    command = [os.path.abspath(sys.executable), "-m", "labqueue", "worker", "--root", str(root), *words]
    carried = [_quoted(f"{name}={environment[name]}", dollar=False) for name in CARRIED if name in environment]
    lines = [
        "[Unit]",
        f"Description=labqueue worker in {_plain(str(root))}",
        "# A machine that is out of order for a night is tried again in the morning all the same.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        f"WorkingDirectory={_plain(str(root))}",
        *(f"Environment={pair}" for pair in carried),
        f"ExecStart={' '.join(_quoted(word) for word in command)}",
        "Restart=always",
        "RestartSec=5",
        "# The worker is told first and asks its run to checkpoint; what is left at the end is killed.",
        "KillMode=mixed",
        f"TimeoutStopSec={grace_s + SPARE_S:.0f}",
        "# A run that the kernel ends for want of memory is an outcome, and no reason to end its worker.",
        "OOMPolicy=continue",
        "Nice=5",
        "",
        "[Install]",
        "WantedBy=default.target",
        "",
    ]
    body = "\n".join(lines)
    text = f"{MARK}{hashlib.sha256(body.encode()).hexdigest()}\n{body}"
    return Unit(folder / "systemd" / "user" / f"labqueue-{slug}-{digest}{suffix}.service", text)


def install(wanted: Unit) -> bool:
    """Writes the unit file; returns False when it stood there already just so.

    Raises:
        LabError: another's file stands there, or one that was changed by hand since; or it cannot be written.
    """
    path = wanted.path
    if path.is_symlink():
        raise LabError(f"{path} is a link (to {os.readlink(path)}), which this command did not make; remove it first")
    try:
        if path.exists():
            old = path.read_text(encoding="utf-8", errors="replace")
            if old == wanted.text:
                return False
            first, _, body = old.partition("\n")
            if first.removeprefix(MARK) != hashlib.sha256(body.encode()).hexdigest():
                raise LabError(
                    f"{path} was not written by this command, or was changed by hand since: move it away, or keep "
                    f"changes in a drop-in (systemctl --user edit {path.name})"
                )
        write_bytes(path, wanted.text.encode())
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror}") from error
    return True


def _plain(value: str) -> str:
    """A setting that is the rest of its line: specifiers begin with ``%``."""
    _check(value)
    return value.replace("%", "%%")


def _quoted(word: str, *, dollar: bool = True) -> str:
    """One word of a setting that is a list of words; in a command line ``$`` begins a variable too."""
    _check(word)
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    if dollar:
        escaped = escaped.replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_./:=@%+,-]+", escaped) else f'"{escaped}"'


def _check(value: str) -> None:
    # A path ends its line with a backslash or a space only to be misread: the first continues the line.
    if not value.isprintable() or value != value.strip() or value.endswith("\\"):
        raise LabError(f"{value!r} cannot stand in a systemd unit file; choose a path without such characters")
