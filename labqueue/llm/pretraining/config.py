"""What a GPT is made of, in numbers: its shape, its parameters counted, its switches checked. No torch.

Letters: V vocabulary, T context, L layers, d width, H heads, h = d / H width of a head, G key-value heads, f hidden
width of the MLP.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from labqueue.domain.errors import LabError

Family = Literal["gpt2", "llama"]
Activation = Literal["gelu", "swiglu", "relu2"]

INIT_STD = 0.02
"""Standard deviation of every weight at first (Radford et al. 2019, as in their code; Touvron et al. 2023)."""


@dataclass(frozen=True)
class GPTConfig:
    """A GPT of one of two families: ``gpt2`` as nanoGPT writes it, ``llama`` with rotary positions and RMSNorm.

    Raises:
        LabError: a number that does not divide another, or switches that exclude each other; ``key`` is the field.
    """

    vocabulary: int
    context: int
    layers: int
    heads: int
    width: int
    family: Family = "gpt2"
    kv_heads: int | None = None
    """Heads of keys and values, each shared by heads / kv_heads of the queries; None: as many as heads."""
    hidden: int | None = None
    """Width inside the MLP; None: 4 d, or with SwiGLU's third matrix 8/3 d rounded up to a multiple of 64."""
    activation: Activation | None = None
    """None: the family's own, ``gelu`` or ``swiglu``. ``relu2`` (ungated) is for ablations only."""
    qk_norm: bool = False
    """RMSNorm of each query and key (``llama`` only): Qwen 3."""
    tied: bool = True
    """The head is the embedding's matrix."""
    dropout: float = 0.0
    """Share dropped of embeddings, attention weights and both branches' outputs in training."""
    rope_base: float = 10_000.0
    zero_projections: bool = False
    """The last matrix of each branch starts at 0, so that every block starts as the identity."""
    zero_head: bool = False
    """The head starts at 0: the first loss is exactly ln V. Needs ``tied: false``."""
    value_embeddings: bool = False
    """Adds an embedding of the token itself to every layer's values. For ablations only."""
    softcap: float | None = None
    """Logits are squeezed into (-softcap, softcap). For ablations only."""

    def __post_init__(self) -> None:
        for name in ("vocabulary", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise LabError(f"{name} is {getattr(self, name)}, at least 1 is needed", key=name)
        if self.width % self.heads:
            raise LabError(f"width {self.width} is no multiple of heads {self.heads}", key="width")
        if self.heads % self.groups:
            raise LabError(f"heads {self.heads} is no multiple of kv_heads {self.groups}", key="kv_heads")
        if self.family == "llama" and self.head_width % 2:
            raise LabError(
                f"width {self.width} over {self.heads} heads leaves {self.head_width} a head, and rotary positions "
                "need an even number",
                key="heads",
            )
        if self.family == "gpt2":
            if self.groups != self.heads or self.qk_norm:
                raise LabError("kv_heads and qk_norm belong to family llama: GPT-2 has neither", key="family")
            if self.activation == "swiglu":
                raise LabError("swiglu belongs to family llama: GPT-2's MLP has no gate", key="activation")
        elif self.activation == "gelu":
            raise LabError("gelu belongs to family gpt2: Llama's MLP is gated (swiglu)", key="activation")
        if self.zero_head and self.tied:
            raise LabError(
                "zero_head needs tied: false, for a tied head is the embedding, which cannot start at 0",
                key="zero_head",
            )
        if self.softcap is not None and not self.softcap > 0:
            raise LabError(f"softcap is {self.softcap}, it must be above 0", key="softcap")
        if not 0 <= self.dropout < 1:
            raise LabError(f"dropout is {self.dropout}, it must be at least 0 and below 1", key="dropout")

    @property
    def head_width(self) -> int:
        """h."""
        return self.width // self.heads

    @property
    def groups(self) -> int:
        """G."""
        return self.kv_heads or self.heads

    @property
    def kv_width(self) -> int:
        """G h: of all keys, or of all values, of one token."""
        return self.groups * self.head_width

    @property
    def mlp(self) -> Activation:
        """The activation that is meant."""
        return self.activation or ("gelu" if self.family == "gpt2" else "swiglu")

    @property
    def inner(self) -> int:
        """f."""
        if self.hidden is not None:
            return self.hidden
        # Three matrices of 8/3 d hold what two of 4 d hold (Shazeer 2020, arXiv:2002.05202, section 3).
        return -(-8 * self.width // 3 // 64) * 64 if self.mlp == "swiglu" else 4 * self.width

    @property
    def ablations(self) -> tuple[str, ...]:
        """Switches that are on and that no class of transformers has; empty where the model loads anywhere."""
        found = []
        if self.mlp == "relu2":
            found.append("activation: relu2")
        if self.value_embeddings:
            found.append("value_embeddings")
        if self.softcap is not None:
            found.append("softcap")
        return tuple(found)

    @property
    def class_name(self) -> str | None:
        """The class of transformers that computes the same from the same weights; None for ablation-only models."""
        if self.ablations:
            return None
        if self.family == "gpt2":
            return "GPT2LMHeadModel"
        return "Qwen3ForCausalLM" if self.qk_norm else "LlamaForCausalLM"

    @property
    def block_matrices(self) -> int:
        """Parameters of the matrices of one block: they are multiplied with once a token and pass."""
        attention = self.width * (2 * self.width + 2 * self.kv_width)
        return attention + (3 if self.mlp == "swiglu" else 2) * self.width * self.inner

    @property
    def parameters(self) -> int:
        """All parameters, a tied head counted once."""
        norms = 2 * self.width + (2 * self.head_width if self.qk_norm else 0)
        block = self.block_matrices + norms + (1 if self.value_embeddings else 0)
        positions = self.context * self.width if self.family == "gpt2" else 0
        heads = self.vocabulary * self.width * (1 if self.tied else 2)
        values = self.vocabulary * self.kv_width if self.value_embeddings else 0
        return self.layers * block + heads + positions + values + self.width

    @property
    def initial_loss(self) -> float:
        """Expected loss of the untrained model, nats a token.

        The final norm leaves a vector of squared length d, so each logit is about normal with variance d std², and the
        mean of log sum exp over V of them is ln V + d std² / 2; with a head of zeros every token has probability 1 / V.
        """
        return math.log(self.vocabulary) + (0.0 if self.zero_head else self.width * INIT_STD**2 / 2)
