"""Packaged GGUF weights as a folder that transformers reads fast: converted once, checked ever after. No runs.

Reading the GGUF file takes some 12 s in every process, the converted folder under 1 s. The cache is written aside,
synced and renamed, so that a half-written one is never seen; a damaged one is found by its hashes and made again; two
processes that convert at once both end with the same folder.
"""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

from labqueue.llm.models import catalogue, tensors
from labqueue.llm.types import Json
from labqueue.system import files
from labqueue.system.files import cache_folder

if TYPE_CHECKING:
    from labqueue.llm.types import CausalModel

MANIFEST = "labqueue.json"
FORMAT = 1
"""Raised whenever what is written changes: older folders are then made again."""

EOS, PAD = "<|im_end|>", "<|endoftext|>"
"""The GGUF tokenizer reports <|im_start|> as eos and no pad; the file's own eos is id 2, <|im_end|>."""


def converted(model: catalogue.Model) -> Path:
    """The folder with the model's weights as float32 safetensors, its config and its tokenizer.

    Raises:
        LabError: the packaged file is missing or is not the pinned one.
    """
    target = folder(model)
    if _believed(target):
        return target
    source = catalogue.checked_package_file(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _convert(source, aside)
        _seal(aside, model)
        _swap_in(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def folder(model: catalogue.Model) -> Path:
    """Where the converted model is, or will be."""
    return cache_folder() / f"{model.alias}-{(model.sha256 or '')[:16]}-v{FORMAT}"


def _believed(folder: Path) -> bool:
    """Whether the folder is complete and its files are those that were written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return bool(manifest["files"]) and all(
            files.sha256(folder / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kwargs = {"gguf_file": source.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(source.parent, **kwargs)
    tokenizer.eos_token, tokenizer.pad_token = EOS, PAD
    found = AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, output_loading_info=True, **kwargs)
    loaded, info = cast("tuple[CausalModel, Json]", found)
    tensors.check_info(info, source.name)
    # save_pretrained refuses a model that says it came from gguf.
    config = copy.deepcopy(loaded.config)
    del config.quantization_config
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _seal(folder: Path, model: catalogue.Model) -> None:
    """Syncs every file and writes the hashes last."""
    hashes = {path.name: files.sha256(path) for path in sorted(folder.iterdir())}
    manifest = {"source": model.source, "source_sha256": model.sha256, "weights": "dequantised Q4_1", "files": hashes}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    files.sync_tree(folder)


def _swap_in(aside: Path, target: Path) -> None:
    """Renames into place. A damaged folder is moved out first; whoever comes second leaves the first one's."""
    for _ in range(2):
        try:
            aside.rename(target)
            return
        except OSError:
            if _believed(target):
                return
            grave = Path(tempfile.mkdtemp(prefix=f".{target.name}.damaged.", dir=target.parent))
            with contextlib.suppress(OSError):  # the other process moved it
                target.rename(grave / "was")
            shutil.rmtree(grave, ignore_errors=True)
    aside.rename(target)
