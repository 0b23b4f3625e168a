"""A person's own text: a file or a folder, read as documents in constant memory. No torch, no network.

Text files are one document each, or several with ``<|endoftext|>`` between them; JSON lines and Parquet have one in
every row, in ``text`` or in their only column.
"""

from __future__ import annotations

import codecs
import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.llm.corpora import pieces
from labqueue.llm.corpora.pieces import Piece
from labqueue.llm.data.files import formats
from labqueue.llm.models import pins

if TYPE_CHECKING:
    import pyarrow

BLOCK = 2**20
"""Bytes read at once."""

TEXTS, LINES, TABLES = (".txt", ".md", ".text"), (".jsonl", ".ndjson"), (".parquet",)
"""Endings by what is in the file; text and JSON lines also with .gz behind it."""

COLUMN = "text"

KNOWN = "text is .txt, .md, .jsonl (rows with text) or .parquet, the first three also as .gz"

Together = Callable[[Iterable[str]], Iterator[str]]
"""Rows as documents."""

LONGEST_LINE = 2**28
"""Bytes of a line of JSON above which it is refused: it would have to be in memory whole. A book has 2**20."""


@dataclass(frozen=True)
class Opened:
    """A corpus that can be read, from its beginning and as often as wanted."""

    name: str
    licence: str
    sha256: str
    """Of its content (hex): of one file its own, so that ``sha256sum`` shows the same."""
    size: int
    """Bytes that reading it once goes through; progress counts them."""
    read: Callable[[Callable[[int], None]], Iterator[Piece]]
    """Its documents in pieces; is told of the bytes that were read since it last was. Raises LabError."""
    unchanged: Callable[[], None] = lambda: None
    """Raises LabError if it is no longer what ``sha256`` is of."""
    cut_exactly: bool = False
    """Whether a single document is divided at the very character of the share, not at a line's end."""

    def documents(self) -> Iterator[str]:
        """Its documents, each whole."""
        held: list[str] = []
        for text, last in self.read(lambda _size: None):
            held.append(text)
            if last:
                yield "".join(held)
                held = []


def open_path(path: str, key: str = "corpus") -> Opened:
    """A file of text, or all in a folder and its folders, in the order of their names; hidden ones are left out.

    Raises:
        LabError: there is none, it is no text by its name, or it is being written to.
    """
    place = Path(path).expanduser()
    return open_files(_files(place, key), place, key)


def open_files(files: Sequence[Path], place: Path, key: str, together: Together | None = None) -> Opened:
    """Certain files, in their order; ``place`` is the one, or the folder that all are in. ``together`` makes documents
    of the texts of a table's rows, where they are parts of some.

    Raises:
        LabError: one cannot be read, or is being written to.
    """
    stamps = {file: _stamp(file, key) for file in files}
    try:
        hashes = {file: pins.sha256(file, key) for file in files}
    except OSError as error:
        raise LabError(f"cannot be read: {error.strerror}", file=str(error.filename), key=key) from error
    names = {file.relative_to(place).as_posix(): value for file, value in hashes.items()} if place.is_dir() else {}
    sha256 = digest(names) if names else hashes[place]

    def unchanged() -> None:
        for file, stamp in stamps.items():
            if _stamp(file, key) != stamp:
                raise _changed(file, key)

    def read(tell: Callable[[int], None]) -> Iterator[Piece]:
        for file in files:
            yield from _read(file, key, tell, together)

    return Opened(place.name, "", sha256, sum(stamp[0] for stamp in stamps.values()), read, unchanged)


def of_texts(name: str, licence: str, sha256: str, texts: Iterable[str], *, cut_exactly: bool = False) -> Opened:
    """Documents that are in memory."""
    documents = tuple(texts)
    size = sum(map(len, documents))

    def read(tell: Callable[[int], None]) -> Iterator[Piece]:
        for document in documents:
            yield from pieces.of_document(document) if document.strip() else ()
            tell(len(document))

    return Opened(name, licence, sha256, size, read, cut_exactly=cut_exactly)


def _files(place: Path, key: str) -> list[Path]:
    if place.is_file():
        if _form(place) is None:
            raise LabError(f"is no text by its name; {KNOWN}", file=str(place), key=key)
        return [place]
    if not place.is_dir():
        raise LabError(
            f"corpus {str(place)!r} does not exist (relative paths start at {str(Path.cwd())!r}); name a file or a "
            "folder of text, or a corpus of `labqueue corpora`",
            key=key,
        )
    inside = [(file.relative_to(place), file) for file in place.rglob("*") if file.is_file() and _form(file)]
    found = sorted(file for name, file in inside if not any(part.startswith(".") for part in name.parts))
    if not found:
        raise LabError(f"folder {str(place)!r} has no text in it; {KNOWN}", key=key)
    return found


def _form(file: Path) -> str | None:
    name = file.name.lower()
    if name.endswith(TABLES):
        return "table"
    name = name.removesuffix(".gz")
    return "text" if name.endswith(TEXTS) else "lines" if name.endswith(LINES) else None


def _stamp(file: Path, key: str) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError as error:
        raise LabError(f"cannot be read: {error.strerror}", file=str(file), key=key) from error
    return found.st_size, found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _changed(file: Path, key: str) -> LabError:
    return LabError(f"{file} changed while it was read: begin once whoever writes it is done", key=key)


def _read(file: Path, key: str, tell: Callable[[int], None], together: Together | None) -> Iterator[Piece]:
    form = _form(file)
    try:
        if form == "table":
            rows: Iterable[tuple[int, object]] = _table(file, key, tell)
            if together is not None:
                rows = enumerate(together(str(text or "") for _, text in rows), 1)
            yield from _rows(rows, file, "row", key)
            return
        with contextlib.ExitStack() as stack:
            raw = stack.enter_context(file.open("rb"))
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            stream = cast("IO[bytes]", stack.enter_context(gzip.open(raw)) if zipped else raw)
            told = _Told(raw, file, key, tell)
            if form == "text":
                yield from pieces.of_blocks(_decoded(stream, file, key, told))
            else:
                yield from _rows(_lines(stream, file, key, told), file, "line", key)
    except (OSError, EOFError, zlib.error) as error:
        raise LabError(f"cannot be read: {error}", file=str(file), key=key) from error


class _Told:
    """Tells of the bytes by which a file's position has moved, compressed ones where it is compressed."""

    def __init__(self, raw: IO[bytes], file: Path, key: str, tell: Callable[[int], None]) -> None:
        self._raw, self._file, self._key, self._tell, self._at = raw, file, key, tell, 0
        self._size = os.fstat(raw.fileno()).st_size

    def __call__(self) -> None:
        at = os.lseek(self._raw.fileno(), 0, os.SEEK_CUR)
        if at > self._size:  # its end would move on as fast as it is read
            raise _changed(self._file, self._key)
        self._tell(at - self._at)
        self._at = at


def _decoded(stream: IO[bytes], file: Path, key: str, told: Callable[[], None]) -> Iterator[str]:
    """The text of a file in blocks.

    Raises:
        LabError: it is binary, or not UTF-8; the line and the byte are named.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    line, at, first = 1, 0, True
    while True:
        block = stream.read(BLOCK)
        if first:
            _refuse_other_forms(block, file, key)
        pending = decoder.getstate()[0]
        _refuse_binary(block, file, key, line, at)
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            where = at - len(pending) + error.start
            line += (pending + block).count(b"\n", 0, error.start)
            byte = f"byte 0x{error.object[error.start]:02x} at offset {where:,}"
            cure = "save it as UTF-8 (`iconv -f LATIN1 -t UTF-8 OLD > NEW`, if it is Latin-1)"
            raise LabError(f"is not UTF-8 text: {byte}; {cure}", file=str(file), line=line, key=key) from error
        yield text.removeprefix("\ufeff") if first else text
        told()
        if not block:
            return
        first = False
        line, at = line + block.count(b"\n"), at + len(block)


def _refuse_other_forms(block: bytes, file: Path, key: str) -> None:
    if block[:2] in (b"\xff\xfe", b"\xfe\xff"):
        cure = "save it as UTF-8 (`iconv -f UTF-16 -t UTF-8 OLD > NEW`)"
        raise LabError(f"is UTF-16 text; {cure}", file=str(file), line=1, key=key)
    for beginning, words in formats.NOT_ROWS:
        if block.startswith(beginning):
            raise LabError(words.replace("save its table as CSV, or ", ""), file=str(file), key=key)


def _refuse_binary(block: bytes, file: Path, key: str, line: int, at: int) -> None:
    """Zero bytes are UTF-8 and no text."""
    if (zero := block.find(b"\0")) >= 0:
        raise LabError(
            f"is binary, no text: a zero byte stands at offset {at + zero:,}; name the text itself",
            file=str(file),
            line=line + block.count(b"\n", 0, zero),
            key=key,
        )


def _lines(stream: IO[bytes], file: Path, key: str, told: Callable[[], None]) -> Iterator[tuple[int, object]]:
    """The values of JSON lines with the numbers of their lines, from 1."""
    number, read = 0, 0
    while line := stream.readline(LONGEST_LINE):
        number += 1
        read += len(line)
        if len(line) == LONGEST_LINE:
            raise LabError(f"a line has more than {LONGEST_LINE:,} bytes", file=str(file), line=number, key=key)
        if read >= BLOCK:
            told()
            read = 0
        if not line.strip():
            continue
        try:
            yield number, json.loads(line.removeprefix(codecs.BOM_UTF8))
        except UnicodeDecodeError as error:
            byte = f"byte 0x{error.object[error.start]:02x} at column {error.start + 1}"
            raise LabError(f"is not UTF-8 text: {byte}", file=str(file), line=number, key=key) from error
        except ValueError as error:
            reason = getattr(error, "msg", str(error))
            raise LabError(f"is no JSON: {reason}; {KNOWN}", file=str(file), line=number, key=key) from error
    told()


def _table(file: Path, key: str, tell: Callable[[int], None]) -> Iterator[tuple[int, object]]:
    """The rows of a Parquet file with their numbers, from 1, as far as they have text."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file, pre_buffer=False) as table:
            schema: pyarrow.Schema = table.schema_arrow
            names = [field.name for field in schema if _is_text(field.type)]
            column = COLUMN if COLUMN in names else names[0] if len(names) == 1 else None
            if column is None:
                raise LabError(_no_text(names or schema.names), file=str(file), key=key)
            number, told, size = 0, 0, file.stat().st_size
            for batch in table.iter_batches(formats.BATCH_ROWS, columns=[column]):
                for value in batch.column(0).to_pylist():
                    number += 1
                    yield number, value
                done = size * number // max(1, table.metadata.num_rows)
                tell(done - told)
                told = done
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise LabError(f"cannot be read as Parquet: {reason}", file=str(file), key=key) from error


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _rows(values: Iterable[tuple[int, object]], file: Path, place: str, key: str) -> Iterator[Piece]:
    """The documents of rows: a text, or an object with one. Rows without text, null or empty, are left out."""
    for number, value in values:
        text: object = value
        if isinstance(value, dict):
            if COLUMN not in value and len(value) != 1:
                raise LabError(f"{place} {number} {_no_text(list(value))}", file=str(file), key=key)
            text = value[COLUMN] if COLUMN in value else next(iter(value.values()))
        if text is None:
            continue
        if not isinstance(text, str):
            raise LabError(f"{place} {number} has a text that is a {type(text).__name__}", file=str(file), key=key)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            half = f"half a surrogate pair (\\u{ord(text[error.start]):04x}), which is no character"
            raise LabError(f"{place} {number} has {half}", file=str(file), key=key) from error
        if text.strip():
            yield from pieces.of_document(text)


def _no_text(names: list[str]) -> str:
    listed = ", ".join(map(repr, names[:8])) or "nothing"
    return f"has no {COLUMN!r} (columns: {listed}): name the column of the documents {COLUMN!r}"
