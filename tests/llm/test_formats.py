"""Files of rows as people have them: whatever the format, the same rows; whatever is broken, where it stands."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labqueue.domain.errors import LabError
from labqueue.llm.corpora import windows
from labqueue.llm.data.files import formats, records

ROWS = [{"question": f'wie heißt „{n}“, 007?\nSay, "{n}"', "answer": f"{n:03}"} for n in range(7)]


def lines(values: list[Any]) -> bytes:
    return "\n".join(json.dumps(value, ensure_ascii=False) for value in values).encode()


def table(delimiter: str) -> Callable[[list[Any]], bytes]:
    def write(values: list[Any]) -> bytes:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(values[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(values)
        return text.getvalue().encode()

    return write


def parquet(values: list[Any]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    sink = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(values), sink, row_group_size=2)
    return sink.getvalue()


def arrow(kind: str) -> Callable[[list[Any]], bytes]:
    def write(values: list[Any]) -> bytes:
        import pyarrow as pa

        written, sink = pa.Table.from_pylist(values), io.BytesIO()
        with getattr(pa.ipc, f"new_{kind}")(sink, written.schema) as writer:
            writer.write_table(written, max_chunksize=3)
        return sink.getvalue()

    return write


WRITERS: dict[str, tuple[str, Callable[[list[Any]], bytes], str]] = {
    "lines": ("rows.jsonl", lines, "JSON lines"),
    "mark": ("rows.jsonl", lambda values: b"\xef\xbb\xbf" + lines(values), "JSON lines"),
    "windows": ("rows.jsonl", lambda values: lines(values).replace(b"\n", b"\r\n") + b"\r\n\r\n", "JSON lines"),
    "gzip": ("rows.jsonl.gz", lambda values: gzip.compress(lines(values)), "JSON lines in gzip"),
    "unnamed gzip": ("rows.jsonl", lambda values: gzip.compress(lines(values)), "JSON lines in gzip"),
    "array": ("rows.json", lambda values: json.dumps(values).encode(), "a JSON array"),
    "pretty array": ("rows.json", lambda values: json.dumps(values, indent=2).encode(), "a JSON array"),
    "zipped array": ("rows.json.gz", lambda v: gzip.compress(json.dumps(v, indent=1).encode()), "a JSON array in gzip"),
    "pretty": ("rows.json", lambda v: "\n".join(json.dumps(each, indent=4) for each in v).encode(), "JSON lines"),
    "csv": ("rows.csv", table(","), "CSV"),
    "spreadsheet": ("rows.csv", lambda values: b"\xef\xbb\xbf" + table(";")(values), "CSV"),
    "tsv": ("rows.tsv", table("\t"), "TSV"),
    "zipped csv": ("rows.CSV.gz", lambda values: gzip.compress(table(",")(values)), "CSV in gzip"),
    "parquet": ("rows.parquet", parquet, "Parquet"),
    "unnamed parquet": ("rows", parquet, "Parquet"),
    "arrow": ("rows.arrow", arrow("file"), "Arrow"),
    "arrow stream": ("data-00000-of-00001.arrow", arrow("stream"), "Arrow"),
}


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_gives_the_same_rows_whatever_its_format(tmp_path: Path, form: str) -> None:
    name, write, said = WRITERS[form]
    (tmp_path / name).write_bytes(write(ROWS))
    found = records.read_file(tmp_path / name)
    assert [(row.question, row.answer) for row in found.rows] == [(row["question"], row["answer"]) for row in ROWS]
    assert found.notes == (f"{name} is read as {said}: 7 rows of question and answer",)
    assert [row.key for row in found.rows] == sorted({row.key for row in found.rows})


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1).filter(str.strip)


@settings(max_examples=30)
@given(st.lists(st.fixed_dictionaries({"question": TEXTS, "answer": TEXTS}), min_size=1, max_size=5))
def test_any_text_survives_json_csv_and_parquet(values: list[dict[str, str]]) -> None:
    for name, write in (("a.jsonl", lines), ("a.csv", table(",")), ("a.parquet", parquet)):
        assert [value for _, value in formats.objects(write(values), name).values] == values, name


WORDS = st.text('ab{}[]",\\\n', max_size=4)


@settings(max_examples=30)
@given(
    st.lists(st.dictionaries(WORDS, st.none() | WORDS | st.lists(WORDS, max_size=2), max_size=3), min_size=1),
    st.sampled_from([None, 1]),
)
def test_objects_one_after_the_other_are_numbered_by_the_line_they_begin_on(
    values: list[Any], indent: int | None
) -> None:
    pieces = [json.dumps(value, indent=indent) for value in values]
    begins = [1 + sum(piece.count("\n") + 1 for piece in pieces[:at]) for at in range(len(pieces))]
    opened = formats.objects("\n".join(pieces).encode(), "rows.json")
    assert list(opened.values) == list(zip(begins, values, strict=True))


PRETTY = b'[\n  {"question": "a", "answer": "b"},\n  {"question": "c" "answer": "d"}\n]'


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.jsonl", lines(ROWS).decode().encode("utf-16"), r"a.jsonl:1: is UTF-16 text; save it as UTF-8 \(`iconv"),
        ("a.jsonl", lines(ROWS).decode().encode("utf-16-le"), r"a.jsonl:1: is UTF-16 text"),
        ("a.jsonl", b'{"question": "a", "answer": "b"}\n\n{"question": "\xe9"}', r"a.jsonl:3: is not UTF-8 .* 0xe9"),
        ("a.csv", b"question,answer\n\xff,b", r"a.csv:2: is not UTF-8 text: byte 0xff"),
        ("a.jsonl.gz", gzip.compress(lines(ROWS), mtime=0)[:-20], r"a.jsonl.gz: cannot be unpacked: "),
        ("a.jsonl.gz", gzip.compress(b'{"question": "q"}\n{', mtime=0), r"a.jsonl.gz:2: is not JSON"),
        ("a.json", PRETTY, r"a.json:3: is not JSON: Expecting ',' delimiter at column 20"),
        ("a.json", b'[{"question": "q", "answer": "a"}\n{"question": "p"}]', r"a.json:2: is not JSON: '{' stands"),
        ("a.json", b'[{"question": "q", "answer": "a"}', r"a.json:1: is not JSON: the end of the file stands where a"),
        ("a.json", b'[{"question": "q", "answer": "a"}]\n{}', r"a.json:1: goes on after the end of its JSON array"),
        ("a.json", b'{\n "question": "q",\n "answer": }', r"a.json:1: is not JSON: .* at line 3, column 12"),
        ("a.json", b'{"a": ' + b"[" * 100_000, r"a.json:1: is not JSON that can be read"),
        ("a.txt", b"question,answer\na,b", r"a.txt:1: begins with 'question,answer', which is no JSON; rows are"),
        ("a.jsonl", b"3\n4", r"a.jsonl:1: a row is an object, not int"),
        ("a.zip", b"PK\x03\x04....", "is a ZIP archive"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd....", "is compressed with zstd: unpack it"),
        ("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, .* `git lfs pull`"),
        ("a.parquet", lines(ROWS), r"a.parquet: is named .parquet and is none; rows are JSON lines"),
        ("a.parquet", parquet(ROWS)[:-9], r"a.parquet: cannot be read after row 0: "),
        ("a.arrow", arrow("stream")(ROWS)[:-300], r"a.arrow: cannot be read after row [03]: "),
        ("a.csv", b"question,answer\na,b\nc,d,e\n", r"a.csv:3: the row has 3 cells, the header 2"),
        ("a.csv", b"question,answer,answer\na,b,c\n", r"a.csv:1: has the column 'answer' twice"),
        ("a.jsonl", b'{"question": "q", "answer": "a", "answer": "b"}', r"a.jsonl:1: has the key 'answer' twice"),
        ("a.json", b'[\n{"question": "q", "answer": "a",\n"question": "b"}]', r"a.json:2: has the key 'question'"),
        ("a.jsonl", b'{"messages": [{"role": "user", "role": "assistant"}]}', r"a.jsonl:1: has the key 'role' twice"),
    ],
)  # fmt: skip
def test_a_file_that_is_broken_or_of_another_format_is_refused_with_its_place(
    tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LabError, match=reason):
        records.read_file(tmp_path / name)


@pytest.mark.parametrize("rest", ["{},b\n", '"{}",b\n', '{},"b\nc"\n'])
def test_a_quote_that_is_broken_at_row_10_000_is_refused_with_the_line_it_stands_on(tmp_path: Path, rest: str) -> None:
    good = "".join(f'"q{n}","a\n{n}"\n' for n in range(1, 10_000))  # two lines each
    (tmp_path / "a.csv").write_text("question,answer\n" + good + '"broken,b\n' + "".join(map(rest.format, range(50))))
    with pytest.raises(LabError, match="the row that begins here has a quote that is not closed") as raised:
        records.read_file(tmp_path / "a.csv")
    assert raised.value.line == 1 + 2 * 9_999 + 1


def test_a_cell_longer_than_pythons_limit_is_read_and_the_limit_left_as_it_was(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    (tmp_path / "a.csv").write_text("question,answer\nq," + "a" * (2 * limit))
    assert len(records.read_file(tmp_path / "a.csv").rows[0].answer) == 2 * limit
    assert csv.field_size_limit() == limit


def test_nested_lists_of_a_parquet_are_refused_with_their_row(tmp_path: Path) -> None:
    values = [{"question": ["a", "b"], "answer": "c"}]
    (tmp_path / "a.parquet").write_bytes(parquet(values))
    with pytest.raises(LabError, match=r"a.parquet: row 1: question is a list"):
        records.read_file(tmp_path / "a.parquet")
    talks = [{"messages": [[{"role": "user", "content": "q"}], [{"role": "user", "content": "p"}]]}]
    (tmp_path / "b.parquet").write_bytes(parquet(talks))
    with pytest.raises(LabError, match=r"b.parquet: row 1: a message has a role .* got \[\{'role': 'user'"):
        records.read_file(tmp_path / "b.parquet")


def test_bytes_of_a_parquet_that_are_no_text_are_refused_with_the_rows_before(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet as pq

    broken = pa.array([b"fine", b"\xff"]).cast(pa.binary()).view(pa.binary())
    column = pa.Array.from_buffers(pa.string(), 2, broken.buffers())
    pq.write_table(pa.table({"question": column, "answer": ["a", "b"]}), tmp_path / "a.parquet")
    with pytest.raises(LabError, match=r"a.parquet: cannot be read after row 2: .*utf-8"):
        records.read_file(tmp_path / "a.parquet")


def test_what_is_read_is_what_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(ROWS))
    digest = formats.sha256(path, "data.path")
    assert digest == hashlib.sha256(lines(ROWS)).hexdigest()
    assert len(records.read_file(path, sha256=digest).rows) == len(ROWS)
    path.write_bytes(lines(ROWS[:3]))
    with pytest.raises(LabError, match=r"a.jsonl has changed since it was submitted \(SHA-256 .*: put it back"):
        records.read_file(path, sha256=digest)
    text = tmp_path / "text.txt"
    text.write_bytes(b"\xef\xbb\xbfto be")
    assert windows.find(None, str(text), sha256=formats.sha256(text, "also")).documents == ("to be",)
    with pytest.raises(LabError, match=r"text.txt has changed since it was submitted"):
        windows.find(None, str(text), sha256=digest)


@pytest.mark.parametrize("read", [formats.sha256, formats.contents])
def test_a_file_that_changes_while_it_is_hashed_is_refused(tmp_path: Path, read: Callable[[Path, str], Any]) -> None:
    path = tmp_path / "growing.jsonl"
    with path.open("wb") as file:
        file.truncate(2**26)  # a hole: nothing is written, and hashing it takes a while
    done = threading.Event()

    def write() -> None:
        with path.open("r+b", buffering=0) as file:
            while not done.is_set():
                file.write(b"x")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with pytest.raises(LabError, match=r"growing.jsonl changed while it was read: submit once whoever writes it"):
            read(path, "data.path")
    finally:
        done.set()
        writer.join()
    assert read(path, "data.path")


def test_a_file_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"gone.jsonl: cannot be read: No such file"):
        formats.contents(tmp_path / "gone.jsonl", "data.path")
