"""Parameters of a fine-tuning run, and which of them exclude each other."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import kind
from labqueue.domain.errors import Conflict
from labqueue.kinds._pins import Dtype, Pin
from labqueue.kinds.finetune.data import Data
from labqueue.kinds.finetune.extra_evals import ExtraEval, check_names


class Lora(kind.Params):
    """The adapter."""

    rank: int = Field(default=16, ge=1, le=1024)
    """Rank of each update; at most the smallest dimension of the layers that get one."""
    alpha: float = Field(default=32, gt=0)
    """Numerator of the update's scale."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of adapter inputs dropped in training."""
    scaling: Literal["standard", "rslora", "constant"] = "standard"
    """``standard``: alpha/rank; ``rslora``: alpha/sqrt(rank); ``constant``: alpha/16 at every rank."""
    dora: bool = False
    """Learns each output's magnitude apart from its direction (DoRA): more time and memory a step."""
    targets: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] | Literal["all-linear"] = "all-linear"
    """Layers that get one: ``all-linear``, or names such as ``q_proj``."""


class Params(kind.Params):
    """Parameters of one fine-tuning run."""

    RENAMED: ClassVar = {"also": "extra_evals"}

    model: str = "smollm2-135m-instruct"
    """An alias of ``labqueue models``, or a folder with a config.json."""
    model_pin: Pin | None = None
    """SHA-256 of the folder's files, or the hub model's commit, filled in at submission: another is another run."""
    data: Data
    """What is learned."""
    method: Literal["lora", "full"] = "lora"
    """``lora``: an adapter on a frozen base; ``full``: every weight, kept in fp32, computed with in 16 bit on CUDA."""
    steps: int = Field(default=100, ge=1, le=10_000_000)
    """Optimizer steps."""
    batch: int = Field(default=4, ge=1, le=4096)
    """Rows (with data.packing: packed sequences) of a micro-batch: what memory must hold at once."""
    accumulation: int = Field(default=1, ge=1, le=4096)
    """Micro-batches of one step; the effective batch is ``batch * accumulation``."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal[
        "constant",
        "constant_with_warmup",
        "linear",
        "cosine",
        "cosine_with_min_lr",
        "inverse_sqrt",
        "warmup_stable_decay",
    ] = "cosine"
    """Course of the learning rate after the warmup."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from 0."""
    min_rate: float = Field(default=0.1, ge=0, lt=1)
    """Where ``cosine_with_min_lr`` ends, as a share of ``learning_rate``."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Last steps, over which ``warmup_stable_decay`` falls to 0; by default a tenth of all."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on what is trained."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"] = "adamw"
    """AdamW, bitsandbytes' with moments in 8 bit, Adafactor, or plain gradient descent without momentum."""
    lora: Lora = Lora()
    """The adapter; ignored where ``method`` is ``full``."""
    quantization: Literal["4bit", "none"] = "4bit"
    """``4bit``: NF4 with double quantisation (QLoRA), or as a folder in NF4 keeps it; ``none``: the base in 16 bit."""
    dtype: Dtype = "auto"
    """Type of number that is computed in. ``auto``: on a CPU what it multiplies faster, written down at submission; on
    a GPU 16 bit."""
    backend: Literal["auto", "hf", "unsloth"] = "auto"
    """``auto``: unsloth on CUDA where it is installed, else hf."""
    max_length: int = Field(default=1024, ge=8, le=1_000_000)
    """Tokens of a row at most; longer answers lose their end."""
    gradient_checkpointing: bool = True
    """Recomputes activations in the backward pass: less memory, about a third more time."""
    evaluations: int = Field(default=4, ge=0, le=10_000)
    """Held-out evaluations between the one before the first step and the one after the last."""
    samples: int = Field(default=4, ge=0, le=1000)
    """Held-out questions answered greedily before and after, shown side by side."""
    scored: int = Field(default=0, ge=0, le=100_000)
    """Held-out questions answered before and after for the exact score; needs a task."""
    max_new_tokens: int = Field(default=32, ge=1, le=4096)
    """Tokens of such an answer at most."""
    extra_evals: Annotated[tuple[ExtraEval, ...], Field(strict=False)] = ()
    """What else is measured: further tasks, running text."""
    updates: bool | None = None
    """Measures the change of each layer's weights at evaluations; by default for LoRA without DoRA: cheap there."""
    merge: bool = False
    """Also keeps the base with the adapter folded in, as a model for other runs, and measures what folding changed."""
    save_model: bool = False
    """Keeps all weights of a full fine-tuning, 4 bytes each."""
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; by default every ``checkpoint_minutes``."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between checkpoints where ``checkpoint_every`` is not given."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.evaluations > self.steps - 1:
            words = f"evaluations is {self.evaluations}, but only {self.steps - 1} steps lie in between"
            raise Conflict("evaluations", f"{words}: set it to {self.steps - 1} or less, or take more steps")
        _check_method(self)
        for name, asked in (("samples", self.samples), ("scored", self.scored)):
            if asked > self.data.eval_items:
                rows = f"samples and scored are drawn from the {self.data.eval_items} rows of data.eval_items"
                raise Conflict(name, f"{name} is {asked}; {rows}: lower it, or hold out more rows")
        if self.scored and self.data.task is None:
            words = f"scored is {self.scored} and needs data.task: a file has no scorer"
            raise Conflict("scored", f"{words}. Set scored: 0; samples shows replies, held-out loss is measured anyway")
        known = self.data.train_items
        if known is not None and (wrong := self.data.too_few(self.batch, self.accumulation, known)):
            raise Conflict("batch", f"{wrong}: lower batch or accumulation, or raise data.train_items")
        check_names(self.extra_evals, self.max_length, self.data.path)
        return self


def _check_method(params: Params) -> None:
    """Raises Conflict, naming the cure, where settings of the method exclude each other."""
    full = params.method == "full"
    if full and params.quantization != "none":
        words = "method full trains the weights themselves, which 4 bit cannot hold: set quantization: none"
        raise Conflict("quantization", words)
    if full and params.backend == "unsloth":
        raise Conflict("backend", "method full runs on the backend hf, not on unsloth: set backend: auto or hf")
    if full and params.merge:
        words = "merge folds an adapter in, and method full has none: save_model: true keeps its weights"
        raise Conflict("merge", words)
    if params.save_model and not full:
        words = "save_model keeps the weights of method full; a LoRA run keeps its adapter: use merge: true"
        raise Conflict("save_model", words)
    if params.warmup_steps > params.steps:
        words = f"warmup_steps is {params.warmup_steps}, more than the {params.steps} steps"
        raise Conflict("warmup_steps", f"{words}: lower it, or take more steps")
    if params.schedule == "constant" and params.warmup_steps:
        words = f"schedule constant has no warmup, and warmup_steps is {params.warmup_steps}"
        raise Conflict("schedule", f"{words}: use constant_with_warmup, or warmup_steps: 0")
    if params.schedule == "inverse_sqrt" and not params.warmup_steps:
        words = "schedule inverse_sqrt falls from the end of its warmup, here 0: give warmup_steps of 1 or more"
        raise Conflict("warmup_steps", words)
    if params.decay_steps is not None:
        if params.schedule != "warmup_stable_decay":
            words = f"decay_steps is {params.decay_steps} and belongs to schedule warmup_stable_decay, not to"
            raise Conflict("decay_steps", f"{words} {params.schedule}: leave it out, or name that schedule")
        if params.warmup_steps + params.decay_steps > params.steps:
            together = params.warmup_steps + params.decay_steps
            words = f"warmup_steps and decay_steps are {together} together, more than the {params.steps} steps"
            raise Conflict("decay_steps", f"{words}: lower one of them, or take more steps")
