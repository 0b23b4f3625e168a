"""In which form a folder keeps its weights: plain, or quantised already. What the lab trains on as it is, and what it
cannot. Knows no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from labqueue.domain.errors import LabError
from labqueue.llm.models import tensors
from labqueue.llm.types import JsonMapping

SECTIONS = ("quantization_config", "compression_config")
"""Where a ``config.json`` says how its weights are quantised."""

CURE = "Give the folder of its 16-bit weights: quantization: 4bit makes NF4 of them"


@dataclass(frozen=True)
class Stored:
    """A folder whose linear layers are kept in NF4 (Dettmers et al. 2023, arXiv:2305.14314, section 3)."""

    double: bool
    """Whether the scales are quantised too, in all of them."""
    quantised: int
    """Matrices in 4 bit."""
    plain: int
    """Linear layers of the blocks that are not."""
    plain_elements: int
    """Elements of those."""

    @property
    def label(self) -> str:
        """For reports."""
        words = "NF4" if self.double else "NF4 without double quantisation"
        some = f" ({self.plain} of {self.plain + self.quantised} linear layers in 16 bit)" if self.plain else ""
        return f"{words} as stored{some}"


def by_config(config: JsonMapping, name: str) -> Stored | None:
    """The form that a ``config.json`` tells, as if all linear layers were in it; None where weights are plain.

    Raises:
        LabError: they are quantised in a form that the lab cannot train on.
    """
    given = next((config[key] for key in SECTIONS if config.get(key)), None)
    if given is None:
        return None
    given = given if isinstance(given, dict) else {}
    method = str(given.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in given else "an unknown form"))
    if method == "bitsandbytes":
        if given.get("load_in_4bit") and given.get("bnb_4bit_quant_type") == "nf4":
            return Stored(bool(given.get("bnb_4bit_use_double_quant")), 0, 0, 0)
        method = "bitsandbytes fp4" if given.get("load_in_4bit") else "bitsandbytes in 8 bit"
    raise LabError(
        f"model {name!r} is already quantised ({method}), which the lab does not train on; of quantised folders it "
        f"takes bitsandbytes' NF4. {CURE}",
        key="model",
    )


def of(config: JsonMapping, found: Mapping[str, tensors.Tensor], name: str) -> Stored | None:
    """The form of weights by their config and by themselves (``tensors.held``); None where they are plain.

    Raises:
        LabError: as ``by_config``, or config and weights do not agree.
    """
    said = by_config(config, name) is not None
    matrices = {
        key: tensor
        for key, tensor in found.items()
        if len(tensor.shape) == 2 and re.search(r"(^|\.)\d+\.", key)  # a block's own
    }
    quantised = [tensor for tensor in matrices.values() if tensor.type in tensors.FOUR_BIT]
    plain = [tensor for tensor in matrices.values() if tensor.type not in tensors.FOUR_BIT]
    if said != bool(quantised) or any(tensor.type != "nf4" for tensor in quantised):
        types = ", ".join(sorted({tensor.type for tensor in matrices.values()}))
        raise LabError(
            f"config.json of model {name!r} says that its weights are {'NF4' if said else 'not quantised'}, but they "
            f"are {types}: put it right, or copy the folder's files again, all from one place",
            key="model",
        )
    if not said:
        return None
    elements = sum(math.prod(tensor.shape) for tensor in plain)
    return Stored(all(tensor.double for tensor in quantised), len(quantised), len(plain), elements)


def check_use(
    found: Stored | None, name: str, *, quantization: str, backend: Literal["hf", "unsloth"] | None = None
) -> None:
    """Checks that a model in this form can be loaded as it is asked for.

    Raises:
        LabError: weights in 4 bit that are asked for in 16, or a form that the backend would read wrongly.
    """
    if found is None:
        return
    if quantization != "4bit":
        raise LabError(
            f"model {name!r} is already quantised in NF4, so it cannot be loaded with quantization {quantization}: set "
            "quantization: 4bit, or give the folder of its 16-bit weights (method full needs those)",
            key="quantization",
        )
    if backend == "unsloth" and not found.double:
        # Its kernels take quantised scales for granted (unsloth/kernels/utils.py, fast_dequantize).
        raise LabError(
            f"model {name!r} is in NF4 without double quantisation, which backend unsloth does not read: set "
            "backend: hf",
            key="backend",
        )
