"""Fine-tunes a LoRA adapter on questions and answers, and measures held-out loss and exact answers.

The base is frozen, in 4 bit (QLoRA) or 16; loss falls on the answer only. Held-out loss is measured before the first
step, at ``evaluations`` steps in between and after the last; a run that misses one of them fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import artifacts, kind
from labqueue.kinds._data import Data
from labqueue.kinds._lora import Lora
from labqueue.kinds._watch import Watch

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder

PREVIEWED_ROWS = 3
"""Training rows whose every token is shown with its mask."""


class Params(kind.Params):
    """Parameters of one fine-tuning run."""

    model: str = "smollm2-135m-instruct"
    """An alias of ``labqueue models``, or a folder with a config.json."""
    data: Data
    """What is learned."""
    steps: int = Field(default=100, ge=1, le=10_000_000)
    """Optimizer steps."""
    batch: int = Field(default=4, ge=1, le=4096)
    """Rows of a micro-batch: what memory must hold at once."""
    accumulation: int = Field(default=1, ge=1, le=4096)
    """Micro-batches of one step; the effective batch is ``batch * accumulation``."""
    learning_rate: float = Field(default=2e-4, gt=0)
    """Peak learning rate."""
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "cosine"
    """Course of the learning rate after the warmup."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay on the adapter."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Gradients are clipped to this norm."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW, or bitsandbytes' with moments in 8 bit."""
    lora: Lora = Lora()
    """The adapter."""
    quantization: Literal["4bit", "none"] = "4bit"
    """``4bit``: NF4 with double quantisation (QLoRA); ``none``: the base in 16 bit."""
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
    checkpoint_every: int | None = Field(default=None, ge=1)
    """Steps between checkpoints; by default every ``checkpoint_minutes``."""
    checkpoint_minutes: float = Field(default=5.0, gt=0)
    """Minutes between checkpoints where ``checkpoint_every`` is not given."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.evaluations > self.steps - 1:
            raise ValueError(f"evaluations is {self.evaluations}, but only {self.steps - 1} steps lie in between")
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, more than the {self.steps} steps")
        if max(self.samples, self.scored) > self.data.eval_items:
            raise ValueError(f"samples and scored are drawn from the {self.data.eval_items} rows of data.eval_items")
        if self.scored and self.data.task is None:
            raise ValueError("scored needs data.task: a file has no scorer")
        return self


def run(params: Params, rec: Recorder) -> None:
    """Trains one adapter; see the module's docstring.

    Raises:
        UserError: a parameter that only showed itself wrong here (a row without room for its answer, say).
        Stopped: asked to stop, and checkpointed.
        MissingEvaluations: the run came to its end without all held-out evaluations.
    """
    from labqueue.domain.errors import LabError, WorkFailed

    try:
        _run(params, rec)
    except WorkFailed:
        raise
    except LabError as error:
        raise kind.UserError(str(error)) from error


def _run(params: Params, rec: Recorder) -> None:
    from labqueue.llm import adapters, encode, load, memory, tasks, trainer
    from labqueue.llm.checkpoint import about
    from labqueue.llm.train import Recipe

    source = params.data
    split = tasks.split(
        source.task,
        source.path,
        train_items=source.train_items,
        held_out_items=source.eval_items,
        options=dict(source.options),
        seed=source.seed,
    )
    memory.reset_peak(rec.device)
    loaded = load.load_model(
        params.model,
        backend=params.backend,
        quantization=params.quantization,
        device=rec.device,
        max_length=params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
    )
    rows = encode.encode(loaded.tokenizer, split.train, params.max_length)
    held_out = encode.encode(loaded.tokenizer, split.held_out, params.max_length, "held-out")
    if cut := rows.truncated + held_out.truncated:
        rec.note(f"{cut} of {len(rows.rows) + len(held_out.rows)} rows lost the end of their answer at max_length")
    adapted = adapters.add_lora(
        loaded,
        **params.lora.model_dump(),
        seed=rec.seed,
        max_length=params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
    )
    recipe = Recipe(seed=rec.seed, **{key: getattr(params, key) for key in Recipe.__annotations__ if key != "seed"})
    watch = Watch(params, rec, loaded, adapted, split)
    made = trainer.make_trainer(loaded, adapted, rows.rows, held_out.rows, recipe, watch, rec.directory / "trainer")
    _describe(rec, loaded, adapted, made, rows.rows)
    if rec.resume_from:
        watch.restore(about(rec.resume_from.path))
    rec.progress(rec.resume_from.step if rec.resume_from else 0, params.steps)
    made.train(resume_from_checkpoint=str(rec.resume_from.path) if rec.resume_from else None)
    if watch.stopped:
        raise kind.Stopped(watch.stopped)
    watch.finish()
    folder = rec.directory / "adapter"
    adapters.save(adapted, folder)
    rec.artifact("adapter", artifacts.Files(type="model", path=folder))
    if (peak := memory.peak_gib(rec.device)) is not None:
        rec.metric("peak_memory_gib", peak, params.steps)


def _describe(rec: Recorder, loaded: Any, adapted: Any, made: Any, rows: Any) -> None:
    """What is about to be trained, recorded before it is: config, masks, sizes."""
    from labqueue.llm import adapters, encode, trainer

    rec.note(f"{loaded.name}: {loaded.weights}; backend {loaded.backend}")
    config = trainer.held_config(made)
    config["lora"] = adapters.held_config(adapted)
    rec.artifact("trainer_config", artifacts.Json(data=config))
    columns = ("row", "position", "token", "id", "loss")
    shown = tuple(encode.preview(loaded.tokenizer, rows, PREVIEWED_ROWS))
    rec.artifact("token_preview", artifacts.Table(columns=columns, rows=shown))
    trainable, every = adapters.counts(adapted)
    rec.metric("trainable_share", trainable / every, 0)


def assets(params: Params) -> list[str]:
    """The model, and the task or the file; names of ``labqueue.llm.assets``."""
    data = f"task:{params.data.task}" if params.data.task is not None else f"file:{params.data.path}"
    return [params.model, data]


def smaller(params: Params) -> Params | None:
    """Half the micro-batch at the same effective batch, then gradient checkpointing; None when both are spent."""
    if params.batch % 2 == 0:
        return params.model_copy(update={"batch": params.batch // 2, "accumulation": params.accumulation * 2})
    if params.batch > 1:  # an odd micro-batch goes to single rows: no half keeps the effective batch
        return params.model_copy(update={"batch": 1, "accumulation": params.accumulation * params.batch})
    if not params.gradient_checkpointing:
        return params.model_copy(update={"gradient_checkpointing": True})
    return None


def would_fit(params: Params) -> str:
    """What is left to a person: it changes the experiment, so the lab does not do it by itself."""
    ways = [
        f"max_length below {params.max_length}",
        f"lora.rank below {params.lora.rank}",
        f"a model smaller than {params.model}",
    ]
    if params.optimizer == "adamw":
        ways.append("optimizer: adamw_8bit")
    if params.quantization != "4bit":
        ways.insert(0, "quantization: 4bit")
    return ", or ".join(ways)


def rehearse(params: Params) -> Params:
    """Two steps of the same shape: same model, adapter, micro-batch and lengths; little data and no scoring."""
    plain = Params(data=params.data)
    rows = 2 * params.batch * params.accumulation
    few = {"eval_items": min(params.data.eval_items, max(params.batch, 4))}
    if params.data.train_items is not None:
        few["train_items"] = min(params.data.train_items, max(rows, 8))
    same = ("learning_rate", "schedule", "warmup_steps", "weight_decay", "max_grad_norm", "checkpoint_minutes")
    short = {
        "steps": min(params.steps, 2),
        "evaluations": 0,
        "samples": min(params.samples, 1),
        "scored": 0,
        "checkpoint_every": 1,
        "data": params.data.model_copy(update=few),
        "lora": params.lora.model_copy(update={"alpha": plain.lora.alpha, "scaling": plain.lora.scaling}),
    }
    return params.model_copy(update={name: getattr(plain, name) for name in same} | short)
