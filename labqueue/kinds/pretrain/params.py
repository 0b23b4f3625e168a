"""Parameters of a pretraining run: a preset, and what differs from it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind
from labqueue.kinds._pins import Dtype
from labqueue.llm.corpora.choice import TokenizerChoice

if TYPE_CHECKING:
    from labqueue.llm.pretraining.config import GPTConfig
    from labqueue.llm.pretraining.schedules import Recipe
    from labqueue.llm.pretraining.train_step import Way

PADDED_TO = 64
"""Rows of the embedding of a large vocabulary are a multiple of this: matrix products are faster so (nanoGPT)."""

LARGE_VOCABULARY = 4096
"""From here on."""


class Model(kind.Params):
    """The model; what is left out is as in the preset."""

    family: Literal["gpt2", "llama"] | None = None
    """``gpt2``: LayerNorm, learned positions, GELU, as nanoGPT. ``llama``: RMSNorm, rotary positions, SwiGLU."""
    context: int | None = Field(default=None, ge=2, le=131_072)
    """Tokens of a sequence."""
    layers: int | None = Field(default=None, ge=1, le=512)
    """Blocks."""
    heads: int | None = Field(default=None, ge=1, le=512)
    """Attention heads; ``width`` is a multiple."""
    width: int | None = Field(default=None, ge=1, le=65_536)
    """Width of the residual stream."""
    kv_heads: int | None = Field(default=None, ge=1, le=512)
    """Heads of keys and values (``llama``): grouped queries where it is below ``heads``."""
    hidden: int | None = Field(default=None, ge=1, le=262_144)
    """Width inside the MLP; 4 times ``width``, or 8/3 for SwiGLU."""
    activation: Literal["gelu", "swiglu", "relu2"] | None = None
    """The family's own, or ``relu2``: ungated squared ReLU, for ablations only."""
    qk_norm: bool | None = None
    """RMSNorm of queries and keys (``llama``): Qwen 3."""
    tied: bool | None = None
    """The head is the embedding's matrix."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Share dropped in training."""
    rope_base: float | None = Field(default=None, gt=0)
    """Base of the rotary frequencies."""
    zero_projections: bool | None = None
    """The last matrix of each branch starts at 0."""
    zero_head: bool | None = None
    """The head starts at 0; needs ``tied: false``."""
    value_embeddings: bool | None = None
    """An embedding of the token in every layer's values, for ablations only."""
    softcap: float | None = Field(default=None, gt=0)
    """Bound of the logits, for ablations only."""


class Params(kind.Params):
    """Parameters of one pretraining run. What is left out of model and recipe is as in the preset."""

    corpus: str = "python_docs"
    """A name of ``labqueue corpora``, or a file or folder of text."""
    corpus_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of its content, filled in at submission: another is another run."""
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of the text that is held out; no document is on both sides."""
    tokenizer: TokenizerChoice = TokenizerChoice(kind="character")
    """What the text is read with."""
    preset: str = "gpt2-0.8m"
    """A model with its recipe, named by its parameters: gpt2-0.8m, gpt2-10.7m, gpt2-124m, modern-0.9m, modern-10.7m,
    modern-162m."""
    model: Model = Model()
    """What differs from the preset's model."""
    vocabulary: int | None = Field(default=None, ge=2, le=1_000_000)
    """Rows of the embedding; by default the tokenizer's, a large one padded to a multiple of 64."""
    steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Optimizer steps."""
    batch: int | None = Field(default=None, ge=1, le=65_536)
    """Sequences of a micro-batch: what memory must hold at once."""
    accumulation: int | None = Field(default=None, ge=1, le=65_536)
    """Micro-batches of one step; a step sees ``batch * accumulation`` sequences, the same ones however it is split."""
    optimizer: Literal["adamw", "muon"] | None = None
    """``muon``: Muon for the blocks' matrices (scaled to AdamW's updates), AdamW for the rest."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Peak learning rate."""
    muon_rate: float | None = Field(default=None, gt=0)
    """Peak rate of what Muon trains; by default ``learning_rate``."""
    min_rate: float | None = Field(default=None, ge=0, le=1)
    """Where the rate ends, as a share of its peak."""
    schedule: Literal["cosine", "wsd", "constant"] | None = None
    """Course of the rate after the warm-up; ``wsd`` stays at its peak and falls at the end."""
    warmup_steps: int | None = Field(default=None, ge=0)
    """Steps over which the rate rises; the preset's, or a tenth of a run that is too short for it."""
    decay_share: float | None = Field(default=None, gt=0, le=1)
    """Of ``wsd``: the last share of the steps."""
    weight_decay: float | None = Field(default=None, ge=0)
    """Decoupled weight decay of matrices and embeddings."""
    beta1: float | None = Field(default=None, ge=0, lt=1)
    """AdamW's first decay rate."""
    beta2: float | None = Field(default=None, ge=0, lt=1)
    """AdamW's second."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Gradients are clipped to this norm."""
    dtype: Dtype = "auto"
    """Type of matrix products; weights are float32. ``auto``: float32 on a CPU, bfloat16 on a GPU that has it."""
    compile: Literal["auto", "eager", "compiled", "graph"] = "auto"
    """How steps are computed. ``auto``: eager on a CPU; on a GPU compiled, a small model's step as one CUDA graph."""
    attention: Literal["auto", "flash", "cudnn"] = "auto"
    """Which attention kernel comes first on a GPU."""
    activation_checkpointing: bool = False
    """Recomputes blocks in the backward pass: less memory, about a third more time."""
    evaluations: int = Field(default=8, ge=0, le=10_000)
    """Validations over the whole split between the one before the first step and the one after the last."""
    prompts: Annotated[tuple[str, ...], Field(strict=False, max_length=100)] = ("\n",)
    """What is continued at every evaluation, to see it learn; none of them empty."""
    sample_tokens: int = Field(default=200, ge=1, le=100_000)
    """Tokens of a sample."""
    temperature: float = Field(default=0.8, ge=0, le=100)
    """Of samples; 0 takes the likeliest token."""
    top_k: int = Field(default=40, ge=1)
    """Samples draw from so many likeliest tokens."""
    probe_every: int | None = Field(default=None, ge=1)
    """Steps between two looks at the attention heads: their scores, and the maps of the beginning of the validation
    split; also before the first step and after the last. None: no look."""
    kept: Literal["quarters", "final", "none"] = "quarters"
    """Models that are kept: at 25, 50 and 75 % and at the end (``step_000500``, ``final``), the last alone, or none."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; by default every ``checkpoint_minutes``."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between checkpoints where ``checkpoint_every`` is not given."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if any(not prompt for prompt in self.prompts):
            raise ValueError("prompts has an empty one: a model continues at least one token, a line end say")
        if len(set(self.prompts)) < len(self.prompts):
            raise ValueError("prompts has one twice: each is shown once a step")
        if self.muon_rate is not None and self.optimizer == "adamw":
            raise ValueError("muon_rate belongs to optimizer: muon")
        return self


def config(params: Params, vocabulary: int) -> GPTConfig:
    """The model, with as many rows of its embedding as are asked for.

    Raises:
        LabError: no such preset, or numbers that do not fit each other; ``key`` is the parameter.
    """
    from labqueue.domain.errors import LabError
    from labqueue.llm.pretraining import presets

    preset = presets.find(params.preset)
    changed = {name: value for name, value in params.model.model_dump().items() if value is not None}
    if changed.get("family", preset.config.family) != preset.config.family:
        # What belongs to the preset's family goes with it.
        own = {"kv_heads": None, "hidden": None, "activation": None, "qk_norm": False}
        changed = {name: value for name, value in own.items() if name not in changed} | changed
    try:
        return replace(preset.config, vocabulary=vocabulary, **changed)
    except LabError as error:
        key = error.key if error.key in (None, "vocabulary") else f"model.{error.key}"
        raise LabError(error.message, key=key) from error


def recipe(params: Params) -> Recipe:
    """How it is trained.

    Raises:
        LabError: no such preset, a warm-up beyond the run.
    """
    from labqueue.llm.pretraining import presets
    from labqueue.llm.pretraining.schedules import Recipe

    base = presets.find(params.preset).recipe
    given = {each.name: getattr(params, each.name) for each in fields(Recipe)}
    changed = {name: value for name, value in given.items() if value is not None}
    steps = changed.get("steps", base.steps)
    if params.warmup_steps is None and 4 * base.warmup_steps > steps:
        changed["warmup_steps"] = steps // 10
    return replace(base, **changed)


def filled(params: Params) -> Params:
    """The same with nothing left to the preset: what is stored says how a run is trained, whatever presets become.

    Raises:
        LabError: as ``config`` and ``recipe``.
    """
    made, trained = config(params, 2), recipe(params)
    model = Model(**{name: getattr(made, name) for name in Model.model_fields})
    written = {each.name: getattr(trained, each.name) for each in fields(trained)}
    return params.model_copy(update=written | {"model": model})


def way(params: Params) -> Way:
    """How steps are computed."""
    from labqueue.llm.pretraining.train_step import Way

    return Way(
        mode=None if params.compile == "auto" else params.compile,
        dtype=params.dtype,
        attention=params.attention,
        recompute=params.activation_checkpointing,
    )


def rows_for(tokens: int) -> int:
    """Rows of the embedding for a tokenizer's tokens."""
    return -(-tokens // PADDED_TO) * PADDED_TO if tokens >= LARGE_VOCABULARY else tokens
