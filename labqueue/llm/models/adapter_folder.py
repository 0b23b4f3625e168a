"""Folders with an adapter: written so that they can be opened elsewhere, and read only on the base they belong to.

Beside PEFT's own two files stand the tokenizer with its chat template, a generation config, and ``labqueue.json``:
which base, exactly, and how it was trained. Opens with ``peft.AutoPeftModelForCausalLM.from_pretrained`` wherever the
base can be found by the name in ``adapter_config.json``. No runs; torch only where a model is at hand.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from labqueue.domain.canonical import digest
from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures, catalogue, gguf, pins, snapshot, tensors
from labqueue.llm.models.load import Loaded, bare, load_tokenizer
from labqueue.llm.types import Json

if TYPE_CHECKING:
    from peft import PeftModel


CONFIG, WEIGHTS, ABOUT = "adapter_config.json", "adapter_model.safetensors", "labqueue.json"
FORMAT = 1
"""Of ``labqueue.json``."""

PART = re.compile(r"^base_model\.model\.(?P<layer>.+)\.lora_(?P<part>[AB])\.weight$")


def save(model: PeftModel, folder: Path, loaded: Loaded, template: str = "auto") -> None:
    """Writes an adapter (safetensors and JSON) with all that it needs but its base; ``template`` is what was asked for.

    No path of this machine is in it: the base is named by its hub repository and commit, its alias, or the last part of
    its folder's name.
    """
    model.save_pretrained(str(folder), safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    entry = catalogue.find(loaded.name)
    kind, _, commit = (loaded.pin or "").partition(":")
    named = {"hub": entry.source, "folder": Path(entry.source).name}.get(entry.where, entry.alias)
    config = json.loads((folder / CONFIG).read_text())
    config |= {"base_model_name_or_path": named, "revision": commit if kind == pins.COMMIT else None}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True))
    snapshot.write_companions(bare(model), loaded.tokenizer, folder)
    about = {
        "format": FORMAT,
        "base": {"name": named, "pin": loaded.pin, "weights_sha256": _weights_sha256(entry, loaded.folder)},
        "quantization": loaded.quantization,
        "backend": loaded.backend,
        "template": template,
        "eos_token": loaded.tokenizer.eos_token,
        "open_with": "peft.AutoPeftModelForCausalLM.from_pretrained, where base.name is a repository of the hub or a "
        "folder in the working directory; or set base_model_name_or_path in adapter_config.json",
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True))


def load(loaded: Loaded, folder: Path, *others: Path) -> PeftModel:
    """Returns the model with the adapter of a folder, for reading: nothing of it is trainable.

    Adapters of ``others`` are held beside it, named ``other_1`` and so on; none of them is at work.

    Raises:
        LabError: the folder holds no adapter, or one of another model, whether by its shapes, its tensors' names or the
            base that it says it was trained on.
    """
    from peft import PeftModel, get_peft_model_state_dict

    adapted: PeftModel | None = None
    for number, each in enumerate((folder, *others)):
        found = _held(each)
        _check_base(each, catalogue.find(loaded.name), loaded.folder)
        name = f"other_{number}" if number else "default"
        try:
            if adapted is None:
                adapted = PeftModel.from_pretrained(loaded.model, each, local_files_only=True)
            else:
                adapted.load_adapter(str(each), adapter_name=name, local_files_only=True)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise LabError(
                f"the adapter in {each} does not fit {loaded.name}: {str(error).splitlines()[0]}. Load the model that "
                "it was trained on",
                key="adapter",
            ) from error
        wanted = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
        _compare(found, {key: tuple(value.shape) for key, value in wanted.items()}, each, loaded.name)
    assert adapted is not None
    return adapted.eval()


def check(folder: Path, model: str) -> None:
    """Checks that the adapter of a folder is one of the model's, as far as headers and pins tell.

    Raises:
        LabError: it is not.
    """
    found = _held(folder)
    entry = catalogue.find(model)
    if entry.where == "random":
        return  # made in memory, and looked at when it is
    base = gguf.folder(entry) if entry.where == "package" else catalogue.local(model)
    if not (base / "config.json").is_file():
        return  # a package's model that is yet to be converted
    _check_base(folder, entry, base)
    path = base / "config.json"
    shapes = architectures.expected(architectures.read_config(path, model), path)
    turned = architectures.names(architectures.read_config(path, model)).prefix == "transformer."
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, tensor in found.items():
        if match := PART.match(name):
            layers.setdefault(match["layer"], {})[match["part"]] = tensor.shape
    wanted: architectures.Shapes = {}
    for layer, parts in layers.items():
        shape = shapes.get(f"{layer}.weight")
        if shape is None or len(shape) != 2:
            continue
        rows, columns = shape[::-1] if turned else shape
        rank = parts.get("A", parts.get("B", (0,))[::-1])[0]
        wanted |= {f"base_model.model.{layer}.lora_A.weight": (rank, columns)}
        wanted |= {f"base_model.model.{layer}.lora_B.weight": (rows, rank)}
    lora = {name: tensor for name, tensor in found.items() if re.search(r"\blora_[AB]\b", name)}
    if not lora:
        raise LabError(f"{folder} holds no LoRA: none of its {len(found)} tensors is a lora_A or lora_B", key="adapter")
    _compare(lora, wanted, folder, model)


def with_tokenizer(loaded: Loaded, folder: Path) -> Loaded:
    """The same model with the tokenizer, chat template and end of answers that an adapter was trained with.

    As it is where the adapter came without.

    Raises:
        LabError: the tokenizer cannot be loaded.
    """
    if not (folder / ABOUT).is_file() or not (folder / "tokenizer_config.json").is_file():
        return loaded
    return dataclasses.replace(loaded, tokenizer=load_tokenizer(folder, str(folder)))


def about(folder: Path) -> Json:
    """What ``save`` wrote of an adapter; empty for one that was written elsewhere.

    Raises:
        LabError: it cannot be read.
    """
    path = folder / ABOUT
    if not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise LabError(f"{path} cannot be read: {error}", key="adapter") from error


def _held(folder: Path) -> dict[str, tensors.Tensor]:
    for file in (CONFIG, WEIGHTS):
        if not (folder / file).is_file():
            raise LabError(f"{folder} holds no adapter: it has no {file}", key="adapter")
    return tensors.held(folder, [WEIGHTS], str(folder), "adapter")


def _check_base(folder: Path, entry: catalogue.Model, base: Path) -> None:
    """Raises LabError where an adapter says that it was trained on other weights."""
    said = about(folder).get("base", {})
    if said.get("weights_sha256") not in (None, _weights_sha256(entry, base)):
        raise LabError(
            f"the adapter in {folder} was trained on other weights than those of {entry.alias}: on "
            f"{said.get('name')!r} (SHA-256 {str(said['weights_sha256'])[:12]}…). Load that model, or train an adapter "
            "on this one",
            key="adapter",
        )


def _weights_sha256(entry: catalogue.Model, folder: Path) -> str | None:
    """What a base's weights are, wherever they lie: a package's file, else the digest of all weight files."""
    if entry.where == "package":
        return entry.sha256
    return digest({name: pins.sha256(folder / name) for name in sorted(snapshot.weights(folder))})


def _compare(found: dict[str, tensors.Tensor], wanted: architectures.Shapes, folder: Path, model: str) -> None:
    """Raises LabError where an adapter's tensors are not those that the model has a place for."""
    wrong = sorted(
        f"{name} ({'missing' if name not in found else 'not in the model' if name not in wanted else 'another shape'})"
        for name in found.keys() | wanted.keys()
        if name not in found or name not in wanted or found[name].shape != wanted[name]
    )
    wrong += sorted(f"{name} ({each.type})" for name, each in found.items() if each.type not in tensors.FLOATS)
    if wrong:
        more = f" and {len(wrong) - tensors.NAMED} more" if len(wrong) > tensors.NAMED else ""
        raise LabError(
            f"the adapter in {folder} does not fit {model}: {', '.join(wrong[: tensors.NAMED])}{more}. Load the model "
            "that it was trained on, or copy the adapter's files again",
            key="adapter",
        )
