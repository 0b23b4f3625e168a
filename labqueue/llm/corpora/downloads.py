"""Where files are downloaded from: an address, or what this machine's apt or npm knows. Standard library alone.

Proxies and certificates are those of the user's environment.
"""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TIMEOUT_S = 20.0
"""A server that does not answer within this is unreachable. Assumption."""


PROGRAM_S = 300.0
"""Likewise for apt-get and npm, which download within it. Assumption."""


class Unreachable(Exception):
    """A source did not give its file; the next one is tried."""


class Download(Protocol):
    """A file somewhere else."""

    @property
    def about(self) -> str:
        """Where it is, for a person."""

    def bring(self, to: Path) -> None:
        """Writes it to a file here.

        Raises:
            Unreachable: it cannot be had.
        """


@dataclass(frozen=True)
class Url:
    """A file at an address."""

    address: str

    @property
    def about(self) -> str:
        """Its address."""
        return self.address

    def bring(self, to: Path) -> None:
        """Downloads it."""
        with opened(self.address) as answer, to.open("wb") as file:
            try:
                shutil.copyfileobj(answer, file)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(f"the download broke off: {error}") from error


@dataclass(frozen=True)
class AptPackage:
    """A Debian package's file, from wherever this machine's apt has its packages; it is not installed."""

    package: str
    version: str

    @property
    def about(self) -> str:
        """The package's name, as apt takes it."""
        return f"apt-get download {self.package}={self.version}"

    def bring(self, to: Path) -> None:
        """Downloads it with apt-get."""
        if shutil.which("apt-get") is None:
            raise Unreachable("there is no apt-get on this machine")
        with tempfile.TemporaryDirectory(prefix="labqueue-apt-") as folder:
            command = ["apt-get", "download", "-qq", f"{self.package}={self.version}"]
            shutil.copyfile(_made(command, Path(folder), "*.deb", "E:"), to)


@dataclass(frozen=True)
class NpmPackage:
    """A package's file of the registry that this machine's npm is set up for; nothing of it is installed or run."""

    package: str
    version: str

    @property
    def about(self) -> str:
        """The package's name, as npm takes it."""
        return f"npm pack {self.package}@{self.version}"

    def bring(self, to: Path) -> None:
        """Downloads it with npm."""
        if shutil.which("npm") is None:
            raise Unreachable("there is no npm on this machine")
        with tempfile.TemporaryDirectory(prefix="labqueue-npm-") as folder:
            command = ["npm", "pack", "--ignore-scripts", "--loglevel=error", f"{self.package}@{self.version}"]
            file = _made(command, Path(folder), "*.tgz", "npm ERR!", "npm error")
            shutil.copyfile(file, to)


def _made(command: list[str], folder: Path, pattern: str, *complaints: str) -> Path:
    """The one file that a command leaves in an empty folder.

    Raises:
        Unreachable: it leaves none; says its first complaint.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unreachable(f"did not end: {error}") from error
    found = list(folder.glob(pattern))
    if done.returncode != 0 or len(found) != 1:
        said = [line for line in done.stderr.splitlines() if line.startswith(complaints)]
        raise Unreachable(said[0] if said else f"ends with status {done.returncode}")
    return found[0]


def opened(address: str, accept: str = "*/*") -> http.client.HTTPResponse:
    """The answer to a request for an address, to be closed by the caller.

    Raises:
        Unreachable: there is none, or it is an error.
    """
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    if user:
        address = parts._replace(netloc=host).geturl()
    try:
        request = urllib.request.Request(address, headers={"User-Agent": "labqueue", "Accept": accept})  # noqa: S310  # as below
        if user:  # unredirected: it is for this host alone
            words = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {words}")
        answer: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310  # addresses are the catalogue's
            request, timeout=TIMEOUT_S, context=_certificates()
        )
    except urllib.error.HTTPError as error:
        raise Unreachable(f"answers {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"cannot be reached: {getattr(error, 'reason', None) or error}") from error
    return answer


def _certificates() -> ssl.SSLContext:
    """Those of the system, or what the user has named for pip."""
    named = os.environ.get("PIP_CERT") or os.environ.get("REQUESTS_CA_BUNDLE")
    return ssl.create_default_context(cafile=named if named and Path(named).is_file() else None)
