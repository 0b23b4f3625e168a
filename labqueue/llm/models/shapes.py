"""The shape of a model: how many parameters lie where, from figures alone. Needs no weights, no torch and no network.

Figures of the catalogue are those of the models' public ``config.json``; a folder's are read from its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.models import architectures, catalogue

ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
LINEAR = (*ATTENTION, *MLP)
"""The linear layers of a block, in the order in which they run."""

COUNTED = ("llama", "mistral", "qwen2")
"""``model_type`` of the decoders known here: RMSNorm, rotary attention with grouped keys, gated MLP."""


class UnknownShape(LabError):
    """A model whose memory cannot be counted: its architecture is none of ``COUNTED``."""


@dataclass(frozen=True)
class Shape:
    """A Llama-style decoder, in counts. ``tied`` means that the head is the embedding's matrix."""

    architecture: Literal["llama", "mistral", "qwen2"]
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    qkv_bias: bool
    max_position: int
    """Tokens of a sequence at most."""

    @property
    def query(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all key heads together; values are as wide."""
        return self.kv_heads * self.head_dim

    def matrix(self, name: str) -> tuple[int, int]:
        """(rows out, columns in) of one linear layer of a block.

        Raises:
            LabError: a block has no linear layer of that name.
        """
        sizes = {
            "q_proj": (self.query, self.hidden),
            "k_proj": (self.key, self.hidden),
            "v_proj": (self.key, self.hidden),
            "o_proj": (self.hidden, self.query),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }
        if name not in sizes:
            raise LabError(f"no linear layer {name!r} in a block: {nearest(name, sizes)}", key="lora.targets")
        return sizes[name]

    @property
    def embedding_parameters(self) -> int:
        """Of the token embedding."""
        return self.vocabulary * self.hidden

    @property
    def head_parameters(self) -> int:
        """Of the output head, over and above the embedding: 0 where they are tied."""
        return 0 if self.tied else self.vocabulary * self.hidden

    @property
    def linear_parameters(self) -> int:
        """Of all linear layers of all blocks, without biases: what is quantised."""
        return self.layers * sum(rows * columns for rows, columns in map(self.matrix, LINEAR))

    @property
    def bias_parameters(self) -> int:
        """Of the biases of queries, keys and values."""
        return self.layers * (self.query + 2 * self.key) if self.qkv_bias else 0

    @property
    def norm_parameters(self) -> int:
        """Of two norms a block and the last one."""
        return (2 * self.layers + 1) * self.hidden

    @property
    def parameters(self) -> int:
        """All of them, a tied head counted once."""
        return (
            self.embedding_parameters
            + self.head_parameters
            + self.linear_parameters
            + self.bias_parameters
            + self.norm_parameters
        )

    def lora_parameters(self, rank: int, targets: str | tuple[str, ...] = "all-linear", *, dora: bool = False) -> int:
        """Of a LoRA adapter: ``rank * (rows + columns)`` a matrix (Hu et al. 2021, arXiv:2106.09685, section 4.1), and
        for DoRA a magnitude a row (Liu et al. 2024, arXiv:2402.09353).

        Raises:
            LabError: a target that is no linear layer, or a rank above a target's smaller side.
        """
        names = LINEAR if isinstance(targets, str) else targets
        if isinstance(targets, str) and targets != "all-linear":
            names = (targets,)
        sizes = {name: self.matrix(name) for name in names}
        tightest = min(sizes, key=lambda name: min(sizes[name]))
        if not 1 <= rank <= min(sizes[tightest]):
            rows, columns = sizes[tightest]
            raise LabError(
                f"rank {rank} is not between 1 and {min(rows, columns)}, the smaller side of {tightest} "
                f"({rows} x {columns}): an update of a matrix has no more rank than that",
                key="lora.rank",
            )
        count = sum(rank * (rows + columns) + (rows if dora else 0) for rows, columns in sizes.values())
        return self.layers * count


def _llama(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, head_dim: int, vocabulary: int = 128_256,
    *, tied: bool = True, max_position: int = 131_072,
) -> Shape:  # fmt: skip
    return Shape(
        "llama", hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, tied, False, max_position
    )


def _smol(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int) -> Shape:
    return _llama(hidden, intermediate, layers, heads, kv_heads, 64, 49_152, max_position=8192)


def _qwen(
    hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, vocabulary: int = 151_936,
    *, tied: bool = True,
) -> Shape:  # fmt: skip
    return Shape(
        "qwen2", hidden, intermediate, layers, heads, kv_heads, hidden // heads, vocabulary, tied, True, 32_768
    )


SHAPES = {
    "smollm2-135m-instruct": _smol(576, 1536, 30, 9, 3),
    "smollm2-135m-instruct-hub": _smol(576, 1536, 30, 9, 3),
    "smollm2-360m-instruct": _smol(960, 2560, 32, 15, 5),
    "smollm2-1.7b-instruct": _smol(2048, 8192, 24, 32, 32),
    "qwen2.5-0.5b-instruct": _qwen(896, 4864, 24, 14, 2),
    "qwen2.5-1.5b-instruct": _qwen(1536, 8960, 28, 12, 2),
    "qwen2.5-3b-instruct": _qwen(2048, 11_008, 36, 16, 2),
    "qwen2.5-7b-instruct": _qwen(3584, 18_944, 28, 28, 4, 152_064, tied=False),
    "qwen2.5-14b-instruct": _qwen(5120, 13_824, 48, 40, 8, 152_064, tied=False),
    "llama-3.2-1b-instruct": _llama(2048, 8192, 16, 32, 8, 64),
    "llama-3.2-3b-instruct": _llama(3072, 8192, 28, 24, 8, 128),
    "llama-3.1-8b-instruct": _llama(4096, 14_336, 32, 32, 8, 128, tied=False),
    "random-tiny": _llama(64, 128, 2, 4, 2, 16, 259, max_position=1024),
}
"""By alias; a test holds their parameter counts to the catalogue's."""


def shape_of(name: str) -> Shape:
    """The shape of an alias of the catalogue, or of a folder with a ``config.json``; weights need not be there.

    Raises:
        LabError: no such model, or one whose ``config.json`` is not of an architecture that is known here.
    """
    if name in SHAPES:
        return SHAPES[name]
    model = catalogue.find(name)
    if model.where != "folder":
        raise UnknownShape(
            f"the shape of {name!r} is not in the catalogue of shapes (llm/models/shapes.py)", key="model"
        )
    return from_config(Path(model.source) / "config.json")


def from_config(path: Path) -> Shape:
    """The shape that a ``config.json`` tells.

    Raises:
        LabError: it is no JSON, of an unknown architecture, or lacks a figure.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise LabError(f"{path} cannot be read as JSON: {error}", key="model") from error
    if not isinstance(config, dict):
        raise LabError(f"{path} is not a model's config: its top level is not a mapping", key="model")
    kind = config.get("model_type")
    if kind not in COUNTED:
        raise UnknownShape(
            f"{path}: the memory of architecture {kind!r} is not known: {nearest(str(kind), COUNTED)}",
            key="model",
        )
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise UnknownShape(f"{path}: a {kind} with biases in all its linear layers is not known here", key="model")
    hidden, heads = (
        architectures.count(config, "hidden_size", path),
        architectures.count(config, "num_attention_heads", path),
    )
    return Shape(
        architecture=kind,
        hidden=hidden,
        intermediate=architectures.count(config, "intermediate_size", path),
        layers=architectures.count(config, "num_hidden_layers", path),
        heads=heads,
        kv_heads=architectures.count(config, "num_key_value_heads", path, heads),
        head_dim=architectures.count(config, "head_dim", path, hidden // heads),
        vocabulary=architectures.count(config, "vocab_size", path),
        tied=bool(config.get("tie_word_embeddings", False)),
        qkv_bias=kind == "qwen2",
        max_position=architectures.count(config, "max_position_embeddings", path),
    )
