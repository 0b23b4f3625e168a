"""What a model is beyond its name: which change of a folder makes another pin, and that a run loads what was pinned."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from labqueue.domain.errors import LabError
from labqueue.llm.models import load, pins, tiny
from labqueue.system import files

ALIAS = "qwen2.5-0.5b-instruct"
OLD, NEW = "a" * 40, "b" * 40


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABQUEUE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    tiny.write(made)
    return made


def scale(folder: Path, factor: float) -> None:
    """Changes the weights and nothing else: names, sizes and settings stay."""
    from safetensors.torch import load_file, save_file

    values = load_file(folder / "model.safetensors")
    save_file(
        {name: value * factor for name, value in values.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights of equal size": lambda folder: scale(folder, 2.0),
    "settings": lambda folder: (folder / "generation_config.json").write_text("{}"),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text(
        (folder / "tokenizer.json").read_text().replace("im_end", "im_fin")
    ),
    "a chat template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages }}"),
    "an adapter that transformers would lay over it": lambda folder: (folder / "adapter_config.json").write_text("{}"),
    "a file that is gone": lambda folder: (folder / "tokenizer_config.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_loading_reads_makes_another_pin(folder: Path, change: Callable[[Path], object]) -> None:
    before = pins.of(str(folder))
    change(folder)
    assert pins.of(str(folder)) != before


def test_the_pin_is_the_content_alone(folder: Path, tmp_path: Path) -> None:
    before = pins.of(str(folder))
    (folder / "README.md").write_text("trained in spring")
    (folder / ".gitattributes").write_text("*.safetensors")
    os.utime(folder / "model.safetensors", (0, 0))
    moved = folder.rename(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(moved)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in moved.iterdir()}
    told = {name: files[name] for name in sorted(files) if name not in ("README.md", ".gitattributes")}
    text = json.dumps(told, separators=(",", ":"))
    assert before == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    assert before == pins.of(str(moved)) == pins.of(str(tmp_path / "link"))


def test_weights_in_the_places_that_their_index_names_count(folder: Path) -> None:
    (folder / "parts").mkdir()
    (folder / "model.safetensors").rename(folder / "parts" / "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "parts/one.safetensors"}}))
    before = pins.of(str(folder))
    (folder / "parts" / "one.safetensors").write_bytes(b"another")
    assert pins.of(str(folder)) != before


def test_what_the_code_pins_itself_and_what_is_not_here_have_no_pin(tmp_path: Path) -> None:
    assert [pins.of(name) for name in ("smollm2-135m-instruct", "random-tiny", str(tmp_path / "none"))] == [None] * 3


def large(tmp_path: Path) -> Path:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"a" * pins.REMEMBERED_BYTES)
    return file


def tick(file: Path) -> None:
    """Until the file system's clock shows that the file was touched; its time of change stays what it was."""
    before = file.stat()
    while file.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def note(cache: Path) -> Path:
    (found,) = (cache / "hashes").iterdir()
    return found


def test_a_large_file_is_read_once_and_again_when_it_was_touched(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "SETTLED_S", -1.0)
    file = large(tmp_path)
    first = pins.sha256(file)
    assert first == files.sha256(file)
    known = json.loads(note(cache).read_text())
    note(cache).write_text(json.dumps(known | {"sha256": "what was remembered"}))
    assert pins.sha256(file) == "what was remembered"
    tick(file)
    assert pins.sha256(file) == first


def test_an_edit_in_place_that_puts_size_and_time_back_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "SETTLED_S", -1.0)
    file = large(tmp_path)
    before, first = file.stat(), pins.sha256(file)
    with file.open("r+b") as opened:
        opened.write(b"b")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    tick(file)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert pins.sha256(file) == files.sha256(file) != first


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path, cache: Path) -> None:
    pins.sha256(large(tmp_path))
    assert not (cache / "hashes").exists()


def test_damaged_memory_and_a_cache_that_cannot_be_written_cost_time_only(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "SETTLED_S", -1.0)
    file = large(tmp_path)
    first = pins.sha256(file)
    note(cache).write_text('["half')
    assert pins.sha256(file) == first
    monkeypatch.setenv("LABQUEUE_CACHE", str(file))
    assert pins.sha256(file) == first


def test_a_folder_that_changed_is_not_loaded(folder: Path) -> None:
    pin = pins.of(str(folder))
    load.load_model(str(folder), quantization="none", pin=pin)
    scale(folder, 2.0)
    with pytest.raises(
        LabError, match=r"model has changed since it was submitted \(SHA-256 .*: put it back, or submit"
    ):
        load.load_model(str(folder), quantization="none", pin=pin)


def test_an_index_that_is_none_is_said(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(LabError, match=r"index\.json is no index of weights"):
        pins.of(str(folder))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache with two snapshots of one repository; the main branch stands at the old one."""
    repo = tmp_path / "hub" / "models--unsloth--Qwen2.5-0.5B-Instruct"
    for commit, factor in ((OLD, 1.0), (NEW, 2.0)):
        tiny.write(repo / "snapshots" / commit)
        scale(repo / "snapshots" / commit, factor)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(OLD)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return repo


def head(pin: str | None) -> torch.Tensor:
    model, _ = load.load_model(ALIAS, quantization="none", dtype="float32", pin=pin)
    return torch.clone(model.get_input_embeddings().weight.detach())  # [vocabulary, hidden]


def test_a_hub_model_is_loaded_at_the_commit_that_was_pinned_wherever_its_branch_went(hub: Path) -> None:
    pin = pins.of(ALIAS)
    assert pin == f"commit:{OLD}"
    before = head(pin)
    (hub / "refs" / "main").write_text(NEW)
    assert pins.of(ALIAS) == f"commit:{NEW}"
    assert torch.equal(head(pin), before)
    assert torch.equal(head(None), 2 * before), "the branch is what is loaded without a pin"


def test_a_snapshot_that_is_gone_is_said_with_the_cure(hub: Path) -> None:
    pin = pins.of(ALIAS)
    (hub / "refs" / "main").write_text(NEW)
    (hub / "snapshots" / OLD / "config.json").unlink()
    with pytest.raises(LabError, match=r"was submitted at commit a{12}…, which is not on this machine: submit again"):
        pins.local(ALIAS, pin)


def test_a_pin_of_the_other_form_is_refused(hub: Path, folder: Path) -> None:
    for name, pin in ((str(folder), f"commit:{OLD}"), (ALIAS, f"sha256:{'0' * 64}"), ("random-tiny", f"commit:{OLD}")):
        with pytest.raises(LabError, match=r"is no pin of .*: leave it out, it is filled in"):
            pins.check(name, pin)
