"""Which sequences a step sees: a pure function of (seed, step, place in the batch), by integer hashing.

No sampler has a state: a resume needs the step's number alone, every device draws the same sequences, and a step that
is split into more micro-batches still sees the same ones. 64-bit arithmetic that wraps around is exact everywhere; the
mixing function is SplitMix64's (Steele et al. 2014, doi:10.1145/2660193.2660195).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from labqueue.domain.errors import LabError

if TYPE_CHECKING:
    import numpy.typing as npt

    Tokens = npt.NDArray[np.uint16 | np.uint32]

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
"""SplitMix64's increment and multipliers."""

ON_DEVICE_BYTES = 2**30
"""A corpus of at most this size lies on the GPU as a whole; a larger one is read from its memory map."""

MASK = 2**64 - 1


def mix(value: int) -> int:
    """SplitMix64's output function of a 64-bit number: each bit of the result depends on all of ``value``."""
    value = ((value ^ (value >> 30)) * FIRST) & MASK
    value = ((value ^ (value >> 27)) * SECOND) & MASK
    return value ^ (value >> 31)


def step_key(seed: int, step: int, use: int = 0) -> int:
    """A 64-bit number for a step (from 1) of a run; ``use`` tells batches (0) from dropout (1)."""
    key = mix((seed + GOLDEN) & MASK)
    key = mix((key + step * GOLDEN) & MASK)
    return mix((key + use * GOLDEN) & MASK)


def signed(value: int) -> int:
    """The 64-bit number as torch's int64 holds it."""
    return value - 2**64 if value >= 2**63 else value


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # torch shifts the sign in; a hash wants zeros


def mixed(x: Tensor) -> Tensor:
    """``mix`` of each element of an int64 tensor."""
    x = (x ^ _shifted(x, 30)) * signed(FIRST)
    x = (x ^ _shifted(x, 27)) * signed(SECOND)
    return x ^ _shifted(x, 31)


def offsets(key: Tensor, first: int, rows: int, places: int) -> Tensor:
    """Where the sequences ``first`` to ``first + rows`` of a step begin: [rows], from 0 to ``places`` - 1.

    ``key`` is ``step_key`` as an int64 scalar. Uniform to places / 2^63.
    """
    row = torch.arange(first + 1, first + rows + 1, device=key.device)  # [rows]
    return (mixed(key + row * signed(GOLDEN)) & (2**63 - 1)) % places  # [rows]


def check(tokens: int, context: int, split: str) -> None:
    """Raises LabError where a split is too short for one sequence and its targets."""
    if tokens < context + 1:
        raise LabError(
            f"the {split} split has {tokens:,} tokens, and a context of {context:,} needs {context + 1:,}: take a "
            "longer corpus, or a shorter context",
            key="corpus",
        )


class Batches:
    """Sequences of a corpus with their targets, on a device.

    ``tokens`` is one-dimensional and may be a memory map.
    """

    def __init__(self, tokens: Tokens, context: int, device: str) -> None:
        """
        Raises:
            LabError: fewer tokens than a context and its target.
        """
        check(len(tokens), context, "training")
        self.tokens, self.context, self.device = tokens, context, device
        self.places = len(tokens) - context
        self.whole: Tensor | None = None
        if device.startswith("cuda") and tokens.nbytes <= ON_DEVICE_BYTES:
            # torch indexes no unsigned types: the same bits as signed ones, made positive again in ``gather``.
            as_signed = np.ascontiguousarray(tokens).view(np.int16 if tokens.dtype == np.uint16 else np.int32)
            self.whole = torch.from_numpy(as_signed.copy()).to(device)  # [tokens]
        self.mask = 0xFFFF if tokens.dtype == np.uint16 else 0x7FFFFFFF

    def gather(self, key: Tensor, first: int, rows: int) -> Tensor:
        """Of a corpus on the device: sequences with one token more for the targets, [rows, context + 1], int64."""
        assert self.whole is not None, "the corpus is read from its memory map"
        begin = offsets(key, first, rows, self.places)  # [rows]
        place = begin[:, None] + torch.arange(self.context + 1, device=key.device)  # [rows, context + 1]
        return self.whole[place].long() & self.mask  # [rows, context + 1]

    def read(self, key: int, first: int, rows: int) -> Tensor:
        """The same from the memory map, on the CPU, for a ``step_key``."""
        begin = offsets(torch.tensor(signed(key)), first, rows, self.places).tolist()
        spans = np.stack([self.tokens[at : at + self.context + 1] for at in begin])  # [rows, context + 1]
        return torch.from_numpy(spans.astype(np.int64))
