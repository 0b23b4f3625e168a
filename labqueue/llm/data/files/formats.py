"""Files of rows: their bytes, and the objects in them with where each stands. No torch, no network, no cache.

Read are JSON lines, JSON arrays, JSON objects one after the other, CSV, TSV, Parquet and Arrow, each also as gzip. What
a file is, its first bytes say, and of tables without any its name. CSV goes through Python's own reader, which can say
where a broken row begins and takes ``007`` for text; Parquet and Arrow through pyarrow, from memory.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.llm.data.files import json_rows
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import pyarrow

NOT_ROWS = (
    (b"PK\x03\x04", "is a ZIP archive (an Excel sheet is one, too): save its table as CSV, or unpack it"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it, or compress it with gzip"),
    (b"BZh", "is compressed with bzip2: unpack it, or compress it with gzip"),
    (b"\xfd7zXZ", "is compressed with xz: unpack it, or compress it with gzip"),
    (b"version https://git-lfs", "is a pointer of Git LFS, not the file itself: run `git lfs pull`"),
    (b"SQLite format 3", "is a database: write its table as CSV or JSON lines"),
)
"""First bytes of what people have instead of rows, and what to say to it."""

KNOWN = "JSON lines, a JSON array, CSV, TSV, Parquet or Arrow, also as .gz"

BATCH_ROWS = 1024
"""Rows of Parquet or Arrow that are Python objects at once, before they are read on."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True)
class Opened:
    """The objects of a file as ``(number, object)``; ``place`` says what the numbers count, from 1."""

    form: str
    place: str
    values: Iterator[tuple[int, object]]


def contents(path: Path, key: str, sha256: str | None = None) -> bytes:
    """The bytes of a file; where ``sha256`` (hex) is given they have it.

    Raises:
        LabError: it cannot be read, changes while it is read, or has become another.
    """
    with _still(path, key) as file:
        data = file.read()
    if sha256 is not None and (found := hashlib.sha256(data).hexdigest()) != sha256:
        raise LabError(
            f"{path} has changed since it was submitted (SHA-256 {found[:12]}…, was {sha256[:12]}…): put it back, or "
            "submit again",
            key=key,
        )
    return data


def sha256(path: Path, key: str) -> str:
    """SHA-256 (hex) of a file.

    Raises:
        LabError: it cannot be read, or changes while it is read.
    """
    with _still(path, key) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _still(path: Path, key: str) -> Iterator[io.BufferedReader]:
    """A file opened for reading; refused once it turns out to have been written to meanwhile."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise LabError(f"cannot be read: {error.strerror}", file=str(path), key=key) from error
    with file:
        before = _state(file)
        yield file
        if _state(file) != before:
            raise LabError(f"{path} changed while it was read: submit once whoever writes it is done", key=key)


def _state(file: io.BufferedReader) -> tuple[int, int, int]:
    found = os.fstat(file.fileno())
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def text(data: bytes, file: str, key: str | None = None) -> str:
    """UTF-8 text, without a byte-order mark.

    Raises:
        LabError: another encoding, with the line where that shows.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data[:4]:
        raise LabError(
            "is UTF-16 text; save it as UTF-8 (`iconv -f UTF-16 -t UTF-8 OLD > NEW`)", file=file, line=1, key=key
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte 0x{data[error.start]:02x}"
        raise LabError(
            f"is not UTF-8 text: {byte} stands there; save it as UTF-8", file=file, line=line, key=key
        ) from (error)


def objects(data: bytes, file: str, key: str | None = None) -> Opened:
    """The objects in a file's bytes; ``file`` is its path, whose ending says what a table of text is.

    Raises:
        LabError: a format that is not read. Of what stands in it, once the iterator comes there: what is no JSON or
            CSV, a key that stands twice in an object, a row with other than the header's cells.
    """
    name, form = file.lower(), ""
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise LabError(f"cannot be unpacked: {error}", file=file, key=key) from error
        name, form = name.removesuffix(".gz"), " in gzip"
    for beginning, words in NOT_ROWS:
        if data.startswith(beginning):
            raise LabError(words, file=file, key=key)
    ending = os.path.splitext(name)[1]
    if data.startswith(b"PAR1"):
        return Opened("Parquet" + form, "row", _columnar(_parquet, data, file))
    if data.startswith(b"ARROW1") or ending in (".arrow", ".feather"):
        return Opened("Arrow" + form, "row", _columnar(_arrow, data, file))
    if ending == ".parquet":
        raise LabError("is named .parquet and is none; rows are " + KNOWN, file=file, key=key)
    if ending in DELIMITERS:
        words = text(data, file, key)
        return Opened(ending[1:].upper() + form, "line", _table(words, DELIMITERS[ending], file))
    words = text(data, file, key)
    try:
        kind, place, values = json_rows.values(words, file)
    except LabError as error:
        said = f"{error.message}; rows are {KNOWN}, a table of text is named .csv or .tsv"
        raise LabError(said, file=file, line=error.line, key=key) from error
    return Opened(kind + form, place, values)


def cells(row: Json) -> Json:
    """A row of Arrow without nulls inside of its cells: there every object has the keys of all others of its column."""
    return {name: without_nulls(value) for name, value in row.items()}


def without_nulls(value: object) -> object:
    """The same without keys whose value is null, at any depth."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def _table(words: str, delimiter: str, file: str) -> Iterator[tuple[int, object]]:
    before = csv.field_size_limit(sys.maxsize)  # a cell of 128 KiB, Python's limit, is a long answer
    try:
        head = words[: words.find("\n") if "\n" in words else len(words)]
        if delimiter == "," and ";" in head and "," not in head:
            delimiter = ";"  # what spreadsheets write where the comma is the decimal sign
        reader = csv.reader(io.StringIO(words, newline=""), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                reason = f"the row that begins here has a quote that is not closed, or goes on after one ({error})"
                raise LabError(reason, file=file, line=line) from error
            if header is None:
                header = row
                if twice := sorted({name for name in row if row.count(name) > 1}):
                    raise LabError(f"has the column {twice[0]!r} twice; one would be lost", file=file, line=line)
            elif row and len(row) != len(header):
                raise LabError(f"the row has {len(row)} cells, the header {len(header)}", file=file, line=line)
            elif row:
                yield line, dict(zip(header, row, strict=True))
    finally:
        csv.field_size_limit(before)


def _parquet(data: bytes) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow
    from pyarrow import parquet

    yield from parquet.ParquetFile(pyarrow.BufferReader(data)).iter_batches(BATCH_ROWS)


def _arrow(data: bytes) -> Iterator[pyarrow.RecordBatch]:
    from pyarrow import ipc

    if data.startswith(b"ARROW1"):
        file = ipc.open_file(data)
        yield from (file.get_batch(number) for number in range(file.num_record_batches))
    else:
        yield from ipc.open_stream(data)  # as `datasets` writes it


def _columnar(
    batches: Callable[[bytes], Iterator[pyarrow.RecordBatch]], data: bytes, file: str
) -> Iterator[tuple[int, object]]:
    import pyarrow

    number = 0
    try:
        for batch in batches(data):
            names = batch.schema.names
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise LabError(f"has the column {twice[0]!r} twice; one would be lost", file=file)
            for at in range(batch.num_rows):
                number += 1
                (value,) = batch.slice(at, 1).to_pylist()
                yield number, cells(value)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LabError(f"cannot be read after row {number}: {reason}", file=file) from error
