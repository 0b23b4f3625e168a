"""A Python package's file, from the package indexes that this user has set up for pip or uv, else pip's own. No torch.

Indexes are asked by the simple API (PEP 503 and 691); a package is never built, installed or run.
"""

from __future__ import annotations

import configparser
import html
import http.client
import importlib.util
import json
import os
import re
import sys
import tomllib
import urllib.parse
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labqueue.llm.corpora.downloads import Unreachable, Url, opened

JSON = "application/vnd.pypi.simple.v1+json"

_PIPS_FILE = "_internal/models/index.py"
"""Where pip says what its own index is."""

MAX_PAGE = 2**26
"""Bytes of an index's answer that are read."""


@dataclass(frozen=True)
class PackageFile:
    """A file of a package, by its name in an index."""

    project: str
    file: str

    @property
    def about(self) -> str:
        """What it is called there."""
        return f"{self.file} of the package {self.project}"

    def bring(self, to: Path) -> None:
        """Downloads it from the first index that has it."""
        reasons = []
        for index in dict.fromkeys(indexes()):
            try:
                Url(self._address(index)).bring(to)
                return
            except Unreachable as error:
                reasons.append(f"{_without_password(index)} {error}")
        raise Unreachable("; ".join(reasons))

    def _address(self, index: str) -> str:
        page = f"{index.rstrip('/')}/{self.project}/"
        with opened(page, f"{JSON}, text/html;q=0.5") as answer:
            try:
                address = link(answer.read(MAX_PAGE), answer.headers.get_content_type(), self.file)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise Unreachable(f"gave no list of files: {error}") from error
            base = answer.geturl() or page
        if address is None:
            raise Unreachable(f"has no {self.file}")
        return _as(index, urllib.parse.urljoin(base, address))


def link(page: bytes, content_type: str, file: str) -> str | None:
    """The address of a file in an index's page, as it stands there; None where it has none.

    Raises:
        ValueError: the page is not what its type says.
    """
    if content_type == JSON:
        try:
            return next((str(each["url"]) for each in json.loads(page)["files"] if each["filename"] == file), None)
        except (KeyError, TypeError) as error:
            raise ValueError("is no list of files") from error
    for address, name in re.findall(
        r'<a\b[^>]*?\bhref="([^"]*)"[^>]*>\s*([^<]*?)\s*</a>', page.decode("utf-8", "replace")
    ):
        if name == file:
            return html.unescape(address).partition("#")[0]
    return None


def indexes() -> Iterator[str]:
    """Addresses of the indexes that pip and uv would ask, in their order."""
    yield from _first(
        "PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"
    )
    extra: list[str] = []
    for file in _pip_files():
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except (OSError, configparser.Error, UnicodeDecodeError):
            continue  # pip itself would say so
        yield from parser.get("global", "index-url", fallback="").split()
        extra += parser.get("global", "extra-index-url", fallback="").split()
    for file in _uv_files():
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
            continue
        named = [each.get("url") for each in settings.get("index", []) if isinstance(each, dict)]
        found = [settings.get("index-url"), *named, *settings.get("extra-index-url", [])]
        yield from (address for address in found if isinstance(address, str))
    if (own := pips_own()) is not None:
        yield own
    yield from extra


def pips_own() -> str | None:
    """The index that pip asks where none is set, as pip itself says it; None where there is no pip to read.

    Read from pip where it is installed, else from the wheel that CPython carries for new environments.
    """
    texts: list[Path | zipfile.Path] = []
    for name in ("pip", "ensurepip"):  # either may be missing: uv installs no pip, some distributions no ensurepip
        spec = importlib.util.find_spec(name)
        folder = Path(spec.origin).parent if spec is not None and spec.origin is not None else None
        if folder is not None and name == "pip":
            texts.append(folder / _PIPS_FILE)
        elif folder is not None:
            wheels = sorted((folder / "_bundled").glob("pip-*.whl"))
            texts += [zipfile.Path(wheel, f"pip/{_PIPS_FILE}") for wheel in wheels]
    for text in filter(lambda text: text.is_file(), texts):
        if (
            named := re.search(r'^PyPI = PackageIndex\(\s*"([^"]+)"', text.read_text("utf-8"), re.MULTILINE)
        ) is not None:
            return urllib.parse.urljoin(named[1], "simple")
    return None


def _first(*names: str) -> Iterator[str]:
    for name in names:  # uv writes NAME=ADDRESS
        yield from (re.sub(r"^[\w.-]+=(?=\w+:)", "", word) for word in os.environ.get(name, "").split())


def _pip_files() -> list[Path]:
    given = os.environ.get("PIP_CONFIG_FILE")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    files = [config / "pip/pip.conf", Path("~/.pip/pip.conf").expanduser(), Path(sys.prefix, "pip.conf")]
    return [*([Path(given)] if given else []), *files, Path("/etc/pip.conf"), Path("/etc/xdg/pip/pip.conf")]


def _uv_files() -> list[Path]:
    given = os.environ.get("UV_CONFIG_FILE")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return [*([Path(given)] if given else []), config / "uv/uv.toml", Path("/etc/uv/uv.toml")]


def _as(index: str, address: str) -> str:
    """The address with the user and password of the index, where both are on one host."""
    one, other = urllib.parse.urlsplit(index), urllib.parse.urlsplit(address)
    if "@" not in one.netloc or "@" in other.netloc or one.hostname != other.hostname:
        return address
    return other._replace(netloc=f"{one.netloc.rpartition('@')[0]}@{other.netloc}").geturl()


def _without_password(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
