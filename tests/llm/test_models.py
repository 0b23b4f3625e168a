"""The catalogue: what can be named, what is refused before a download, and what is said without a hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labqueue.domain.errors import LabError
from labqueue.llm.data import chat_templates
from labqueue.llm.models import architectures, catalogue, tiny


@pytest.mark.parametrize("architecture", architectures.ARCHITECTURES.values())
def test_a_folder_of_every_architecture_that_the_lab_trains_is_a_model(tmp_path: Path, architecture: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    assert catalogue.find(str(tmp_path)).where == "folder"


@pytest.mark.parametrize("kind", architectures.ARCHITECTURES)
def test_transformers_loads_each_of_them_as_a_causal_language_model(kind: str) -> None:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    assert AutoModelForCausalLM._model_mapping[CONFIG_MAPPING[kind]].__name__ == architectures.ARCHITECTURES[kind]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (
            '{"architectures": ["BertForMaskedLM"]}',
            "is a BertForMaskedLM, which the lab cannot train; it",
        ),
        (
            '{"architectures": ["MambaForCausalLM"], "auto_map": {}}',
            "is a MambaForCausalLM, which the lab cannot",
        ),
        ('{"model_type": "t5"}', "has model_type 't5' in its config.json, which the lab cannot train"),
        ("[]", "has model_type None"),
        ("{", "cannot be read: Expecting property name"),
    ],
)
def test_a_folder_of_another_architecture_is_refused_with_its_name(tmp_path: Path, config: str, reason: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(LabError, match=reason):
        catalogue.find(str(tmp_path))


def test_a_row_of_the_catalogue_has_its_template_and_whether_it_is_gated() -> None:
    row = catalogue.find("llama-3.1-8b-instruct").row()
    assert row == {
        "name": "llama-3.1-8b-instruct",
        "parameters": 8_030_261_248,
        "licence": "Llama 3.1 Community",
        "template": "llama3",
        "gated": False,
        "here": catalogue.available("llama-3.1-8b-instruct"),
        "source": "unsloth/Meta-Llama-3.1-8B-Instruct",
        "note": "",
    }
    assert {model.template for model in catalogue.CATALOGUE.values()} <= set(chat_templates.TEMPLATES)


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield listening.getsockname()[1]


@pytest.fixture
def closed() -> int:
    """A port at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """A hub on this machine that serves one repository under every name, and remembers what was asked of it."""

    def __init__(self, files: dict[str, bytes], commit: str = COMMIT) -> None:
        self.files, self.commit, self.asked = files, commit, list[str]()
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            do_HEAD = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        headers = {"X-Repo-Commit": self.commit}
        if "/resolve/" in path:
            name = path.partition("/resolve/")[2].partition("/")[2]
            self.asked.append(name)
            body = self.files.get(name, b"")
            headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
        elif "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
                for name, body in self.files.items()
            ]
            body = json.dumps(listed).encode()
        else:
            siblings = [{"rfilename": name, "size": len(body)} for name, body in self.files.items()]
            about = {
                "id": "a/b",
                "sha": self.commit,
                "siblings": siblings,
                "private": False,
                "gated": False,
                "tags": [],
            }
            body = json.dumps(about).encode()
        request.send_response(200)
        for name, value in (headers | {"Content-Length": str(len(body)), "Content-Type": "application/json"}).items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "GET":
            request.wfile.write(body)


def test_an_architecture_that_cannot_be_trained_is_refused_before_its_weights_are_downloaded(tmp_path: Path) -> None:
    config = {"architectures": ["MambaForCausalLM"]}
    hub = Hub({"config.json": json.dumps(config).encode(), "model.safetensors": b"x" * 100, "tokenizer.json": b"{}"})
    said = fetched("qwen2.5-0.5b-instruct", tmp_path, HF_ENDPOINT=hub.endpoint)
    assert "model 'qwen2.5-0.5b-instruct' is a MambaForCausalLM, which the lab cannot train" in said
    assert set(hub.asked) == {"config.json"}


def test_a_model_that_can_be_trained_is_brought_whole_and_is_there_without_the_hub_afterwards(tmp_path: Path) -> None:
    whole = {path.name: path.read_bytes() for path in tiny.folder().iterdir()}
    hub = Hub(whole | {"code.py": b"raise SystemExit"})
    assert fetched("qwen2.5-0.5b-instruct", tmp_path, HF_ENDPOINT=hub.endpoint) == ""
    assert set(hub.asked) == whole.keys()
    assert fetched("qwen2.5-0.5b-instruct", tmp_path, HF_HUB_OFFLINE="1") == ""


def test_a_dataset_is_fetched_once_and_read_without_the_hub_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labqueue.llm.data import hub_datasets
    from labqueue.llm.data.files.records import Columns

    rows = [{"instruction": f"do {n}", "output": f"done {n}"} for n in range(5)]
    lines = "\n".join(map(json.dumps, rows)).encode()
    hub = Hub({"README.md": b"---\nlicense: mit\n---\n", "train.jsonl": lines, "load.py": b"raise SystemExit"})
    assert fetched("hub:yahma/alpaca-cleaned@main", tmp_path, HF_ENDPOINT=hub.endpoint) == ""
    assert set(hub.asked) == {"README.md", "train.jsonl"}
    assert fetched("hub:yahma/alpaca-cleaned@main", tmp_path, HF_ENDPOINT=hub.endpoint) == ""
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    assert hub_datasets.available("yahma/alpaca-cleaned", "main", None)
    asked = {"revision": "main", "subset": None, "split": "train", "columns": Columns(("instruction",), "output")}
    found = hub_datasets.read("yahma/alpaca-cleaned", **asked)
    assert [row.answer for row in found.rows] == [row["output"] for row in rows]
    assert found.name == f"yahma/alpaca-cleaned@{COMMIT[:12]}, split train"
    next((tmp_path / "hf").rglob("train.jsonl")).unlink()
    assert not hub_datasets.available("yahma/alpaca-cleaned", "main", None)


def test_a_dataset_that_is_only_a_script_is_refused_with_the_branch_that_is_not(tmp_path: Path) -> None:
    hub = Hub({"README.md": b"", "load.py": b"raise SystemExit"})
    said = fetched("hub:yahma/alpaca-cleaned@main", tmp_path, HF_ENDPOINT=hub.endpoint)
    assert "has no Parquet, JSON or CSV files; it is a script, try data.revision: refs/convert/parquet" in said


FETCH = """
import sys
from labqueue.domain.errors import LabError
from labqueue.llm import assets
from labqueue.llm.models import hub
hub.TIMEOUT_S = 1.0
try:
    assets.available(sys.argv[1]) or assets.fetch(sys.argv[1])
except LabError as error:
    print(error.key, error)
"""


def fetched(asset: str, tmp_path: Path, **environment: str) -> str:
    """What is said when an asset is fetched in a fresh process: the hub's client reads its settings at import."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    told = clean | {"HF_HOME": str(tmp_path / "hf"), "LABQUEUE_CACHE": str(tmp_path / "cache")} | environment
    done = subprocess.run([sys.executable, "-c", FETCH, asset], env=told, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


HUB_ASSETS = [
    ("qwen2.5-0.5b-instruct", "model", "unsloth/Qwen2.5-0.5B-Instruct", "one that needs no hub: smollm2-135m-instruct"),
    ("hub:yahma/alpaca-cleaned@main", "data.hub", "yahma/alpaca-cleaned", "which needs no hub (data.task: chain_sum)"),
]


@pytest.mark.parametrize(("asset", "key", "repo", "cure"), HUB_ASSETS)
def test_an_unreachable_hub_is_named_with_what_to_do(
    tmp_path: Path, closed: int, asset: str, key: str, repo: str, cure: str
) -> None:
    said = fetched(asset, tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{closed}")
    assert said.startswith(f"{key} ")
    assert f"{repo!r}" in said
    assert f"is not on this machine and http://127.0.0.1:{closed} cannot be reached" in said
    assert "Connect once and submit again" in said
    assert cure in said


@pytest.mark.parametrize("asset", [asset for asset, *_ in HUB_ASSETS])
def test_a_hub_that_never_answers_is_given_up_after_seconds(tmp_path: Path, silent: int, asset: str) -> None:
    start = time.monotonic()
    said = fetched(asset, tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{silent}")
    assert "cannot be reached" in said
    assert time.monotonic() - start < 30


def test_offline_mode_is_said_as_such(tmp_path: Path) -> None:
    assert "is not on this machine and HF_HUB_OFFLINE is set" in fetched(HUB_ASSETS[0][0], tmp_path, HF_HUB_OFFLINE="1")


def test_a_model_that_was_never_fetched_is_said_offline_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "_snapshot", lambda model, commit: None)
    with pytest.raises(LabError, match="is not on this machine: submit an experiment that names it while connected"):
        catalogue.local("qwen2.5-14b-instruct")
