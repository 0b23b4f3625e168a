"""Compares a folder's weight files with its ``config.json``: names, shapes and types, read from headers. No torch.

A library fills what it does not find with random numbers and passes over what it does not know, so both are refused
here, before a run and as it loads.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labqueue.domain.errors import LabError
from labqueue.llm.models import architectures
from labqueue.llm.types import Json, JsonMapping

FLOATS = ("F64", "F32", "F16", "BF16")
"""Types, as safetensors names them, in which a weight that is not quantised may stand."""

FOUR_BIT = ("nf4", "fp4")
"""Types of a matrix that bitsandbytes keeps in 4 bit, here one tensor each."""

STATE = re.compile(r"\.quant_state\.bitsandbytes__(nf4|fp4)$")
PARTS = (".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map")
"""What stands beside such a matrix, under its name: its scales and code tables."""

IGNORED = re.compile(r"rotary_emb\.inv_freq$|(^|\.)attn\.(bias|masked_bias)$")
"""Constants that older files still hold and that transformers computes by itself."""

WRAPPERS = ("base_model.model.", "_orig_mod.", "module.")
"""What a name begins with where something that wraps a model was saved in its place."""

NAMED = 3
"""Tensors that a message names of each sort."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its shape, its type, and for a matrix in 4 bit whether its scales are quantised too."""

    shape: tuple[int, ...]
    type: str
    double: bool = False


def check(folder: Path, files: Iterable[str], config: JsonMapping, name: str) -> dict[str, Tensor]:
    """The tensors of the weight files, once they are what the folder's ``config.json`` says, and nothing else.

    Raises:
        LabError: they are not; missing, unexpected and mismatched tensors are named.
    """
    found = held(folder, files, name)
    compare(found, architectures.expected(config, folder / "config.json"), architectures.names(config), name)
    if architectures.names(config).tied:
        _check_tie(folder, files, found, architectures.names(config), name)
    return found


def held(folder: Path, files: Iterable[str], name: str, key: str = "model") -> dict[str, Tensor]:
    """The tensors of safetensors files, by name; of a matrix in 4 bit the shape that it stands for.

    Raises:
        LabError: a file is damaged or cut short, a name stands in two files, or parts of a 4-bit matrix are missing.
    """
    from safetensors import SafetensorError, safe_open

    found: dict[str, Tensor] = {}
    states: dict[str, Json] = {}
    for file in sorted(files):
        try:
            with safe_open(folder / file, framework="numpy") as reader:
                for tensor in reader.keys():  # noqa: SIM118  # it is no mapping
                    if tensor in found:
                        raise LabError(f"{folder / file} holds {tensor}, which another file holds too", key=key)
                    part = reader.get_slice(tensor)
                    found[tensor] = Tensor(tuple(part.get_shape()), part.get_dtype())
                    if STATE.search(tensor):
                        states[tensor] = json.loads(reader.get_tensor(tensor).tobytes())
        except (SafetensorError, OSError, ValueError) as error:
            raise LabError(
                f"weight file {file} of {name!r} cannot be read as safetensors ({error}): copy it again", key=key
            ) from error
    for tensor, state in states.items():
        _fold(found, tensor, state, name, key)
    return found


def _fold(found: dict[str, Tensor], state_name: str, state: Json, name: str, key: str) -> None:
    """Makes one tensor of a matrix in 4 bit and what stands beside it."""
    owner = STATE.sub("", state_name)
    packed, shape = found.get(owner), tuple(state.get("shape", ()))
    if packed is None or f"{owner}.absmax" not in found or math.prod(packed.shape) != -(-math.prod(shape) // 2):
        raise LabError(
            f"{owner} of {name!r} is not a whole matrix in 4 bit: its values or its scales are missing. "
            "Copy its files again",
            key=key,
        )
    double = f"{owner}.nested_absmax" in found
    for part in (state_name, *(owner + part for part in PARTS)):
        found.pop(part, None)
    found[owner] = Tensor(shape, str(state.get("quant_type")), double)


def compare(found: Mapping[str, Tensor], wanted: architectures.Shapes, known: architectures.Names, name: str) -> None:
    """Checks that a file's tensors are the model's, each in its shape and in a type that can be believed.

    Raises:
        LabError: they are not.
    """
    by_name = {_full(tensor, wanted, known): tensor for tensor in found}
    missing = [tensor for tensor in wanted if tensor not in by_name]
    if known.tied and len({architectures.HEAD, known.embedding} & by_name.keys()) == 1:
        missing = [tensor for tensor in missing if tensor not in (architectures.HEAD, known.embedding)]
    strange = sorted(own for tensor, own in by_name.items() if tensor not in wanted and not IGNORED.search(own))
    wrong = [
        f"{tensor} is {_words(found[own])}, not {_shape(wanted[tensor])}"
        for tensor, own in sorted(by_name.items())
        if tensor in wanted and not _fits(found[own], wanted[tensor], tensor)
    ]
    if not (missing or strange or wrong):
        return
    said = [f"{len(missing)} are missing ({_some(missing)})"] if missing else []
    said += [f"{len(strange)} are not the model's ({_some(strange)})"] if strange else []
    said += [f"{len(wrong)} are of another shape or type ({_some(wrong)})"] if wrong else []
    raise LabError(
        f"the weights of model {name!r} are not those of its config.json: of {len(wanted)} tensors "
        f"{'; '.join(said)}. {_cure(strange)}",
        key="model",
    )


def check_info(info: Json, name: str) -> None:
    """Checks that transformers found every weight of a model and nothing else, by its own account.

    Raises:
        LabError: it did not.
    """
    wrong = [f"{what.replace('_', ' ')}: {', '.join(sorted(map(str, found)))}" for what, found in info.items() if found]
    if wrong:
        raise LabError(
            f"the weights of model {name!r} are not those of its config.json: {'; '.join(wrong)}", key="model"
        )


def _full(tensor: str, wanted: architectures.Shapes, known: architectures.Names) -> str:
    whole = known.prefix + tensor
    return whole if tensor not in wanted and whole in wanted else tensor


def _fits(found: Tensor, shape: tuple[int, ...], name: str) -> bool:
    if found.type in FOUR_BIT:
        # Only linear layers of a block are read in 4 bit. GPT-2's are kept the other way round then.
        turned = shape[::-1] if name.startswith("transformer.") else shape
        return len(shape) == 2 and re.search(r"\.\d+\.", name) is not None and found.shape == turned
    return found.type in FLOATS and found.shape == shape


def _words(tensor: Tensor) -> str:
    return f"{_shape(tensor.shape)} {tensor.type}"


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _cure(strange: list[str]) -> str:
    if any(".lora_" in name or ".base_layer." in name for name in strange):
        return "They hold an adapter: fold it in (merge_and_unload in PEFT, merge: true here) and save the model again"
    for wrapper in WRAPPERS:
        if strange and all(name.startswith(wrapper) for name in strange):
            return f"Their names begin with {wrapper!r}: save the model inside, not what wraps it"
    return "Copy the folder's files again, all from one place, or put its config.json right"


def _check_tie(
    folder: Path, files: Iterable[str], found: Mapping[str, Tensor], known: architectures.Names, name: str
) -> None:
    """A head of its own beside a config that says it has none: some programs would use it, some would not.

    Raises:
        LabError: embedding and head differ.
    """
    both = [
        tensor for tensor in found if tensor.endswith((architectures.HEAD, known.embedding.removeprefix(known.prefix)))
    ]
    if len(both) == 2 and len({_content(folder, files, tensor) for tensor in both}) == 2:
        raise LabError(
            f"config.json of model {name!r} says that the head is the embedding (tie_word_embeddings), but the weights "
            f"hold {' and '.join(sorted(both))}, which differ: put tie_word_embeddings: false there, or take the head "
            "out",
            key="model",
        )


def _content(folder: Path, files: Iterable[str], tensor: str) -> str:
    """SHA-256 (hex) of a tensor's bytes; safetensors gives no bytes of bfloat16 without torch."""
    for file in sorted(files):
        with (folder / file).open("rb") as reader:
            size = int.from_bytes(reader.read(8), "little")
            header = json.loads(reader.read(size))
            if tensor in header:
                begin, end = header[tensor]["data_offsets"]
                reader.seek(8 + size + begin)
                digest = hashlib.sha256(header[tensor]["dtype"].encode())
                while begin < end:
                    part = reader.read(min(2**22, end - begin))
                    digest.update(part)
                    begin += len(part)
                return digest.hexdigest()
    return ""
