"""Fine-tunes a model, an adapter or all of it, on questions and answers; measures held-out loss and exact answers.

LoRA freezes the base, in 4 bit (QLoRA) or 16; full fine-tuning trains every weight. Held-out loss is measured before
the first step, at ``evaluations`` steps in between and after the last; a run that misses one of them fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from labqueue.domain import artifacts, kind
from labqueue.kinds import _evaluation, _host, _method, _pins
from labqueue.kinds._data import Data
from labqueue.kinds._early import check  # noqa: F401  # of this kind: the lab looks for it here
from labqueue.kinds._evaluation import Also, Evaluations
from labqueue.kinds._host import Dtype, expected_s  # noqa: F401  # of this kind: the lab looks for it here
from labqueue.kinds._lora import Lora
from labqueue.kinds._memory import estimate, lessen  # noqa: F401  # of this kind: the lab looks for them here
from labqueue.kinds._pins import Pin
from labqueue.kinds._watch import Watch

if TYPE_CHECKING:
    from labqueue.domain.kind import Recorder

PREVIEWED_ROWS = 3
"""Training rows whose every token is shown with its mask."""


class Params(kind.Params):
    """Parameters of one fine-tuning run."""

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
    """The adapter; of no account where ``method`` is ``full``."""
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
    also: Annotated[tuple[Also, ...], Field(strict=False)] = ()
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
            raise ValueError(f"evaluations is {self.evaluations}, but only {self.steps - 1} steps lie in between")
        _method.check(self)
        if max(self.samples, self.scored) > self.data.eval_items:
            raise ValueError(f"samples and scored are drawn from the {self.data.eval_items} rows of data.eval_items")
        if self.scored and self.data.task is None:
            raise ValueError("scored needs data.task: a file has no scorer")
        known = self.data.train_items
        if known is not None and (wrong := self.data.too_few(self.batch, self.accumulation, known)):
            raise ValueError(wrong)
        _evaluation.check_names(self.also, self.max_length, self.data.path)
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
    from labqueue.domain.errors import LabError
    from labqueue.llm import encode, generate, memory, packing, trainer
    from labqueue.llm.checkpoint import about, save
    from labqueue.llm.train import Left, Recipe

    split = params.data.load()
    for note in (split.source, *split.notes):
        rec.note(f"data: {note}")
    memory.reset_peak(rec.device)
    loaded = _method.load(params, rec.device)
    for note in generate.settle(loaded, params.data.template):
        rec.note(note)
    also = Evaluations(params.also, rec, loaded, params.max_length)
    split = also.apart(split)
    loss = params.data.loss
    encoded = encode.encode(loaded.tokenizer, split.train, params.max_length, loss=loss)
    held_out = encode.encode(loaded.tokenizer, split.held_out, params.max_length, "held-out", loss=loss)
    encode.check_context((*encoded.rows, *held_out.rows), loaded.model.config)
    for what, each in (("training", encoded), ("held-out", held_out)):
        if each.truncated:
            rec.note(f"{each.truncated} of {len(each.rows)} {what} rows lost the end of their answer at max_length")
    rows = packing.pack(encoded.rows, params.max_length, seed=rec.seed) if params.data.packing else encoded.rows
    packed = len(rows) if params.data.packing else None
    if wrong := params.data.too_few(params.batch, params.accumulation, len(encoded.rows), packed):
        raise LabError(wrong, key="batch")
    adapted = _method.adapt(params, loaded, rec.seed)
    recipe = Recipe(seed=rec.seed, **{key: getattr(params, key) for key in Recipe.__annotations__ if key != "seed"})
    watch = Watch(params, rec, loaded, adapted, split, also)
    made = trainer.make_trainer(loaded, adapted, rows, held_out.rows, recipe, watch, rec.directory / "trainer")
    if params.data.packing:
        _pack(rec, loaded, adapted, made, rows, len(encoded.rows))
    watch.trainer = made
    also.describe()
    _describe(rec, loaded, adapted, made, rows)
    if rec.resume_from:
        watch.restore(about(rec.resume_from.path))
    rec.progress(rec.resume_from.step if rec.resume_from else 0, params.steps)
    try:
        made.train(resume_from_checkpoint=str(rec.resume_from.path) if rec.resume_from else None)
    except kind.Diverged:
        watch.read_curve(finite=False)
        raise
    except Left:  # before the first step there is nothing to keep, and after a resume nothing new
        raise kind.Stopped(str(watch.stopped)) from None
    if watch.stopped:
        raise kind.Stopped(watch.stopped)
    try:
        watch.finish()
        if (peak := watch.peak_gib()) is not None:
            rec.metric("peak_memory_gib", peak, params.steps)
        rec.metric("train_tokens", sum(made.step_tokens), params.steps)
        _method.keep(params, rec, loaded, adapted, made, held_out.rows)
    except Left:
        watch.checkpoint(params.steps, lambda folder: save(folder, made, watch.about()))
        raise kind.Stopped(str(watch.stopped)) from None


def _pack(rec: Recorder, loaded: Any, adapted: Any, made: Any, packs: Any, rows: int) -> None:
    """Packed rows get the collator that keeps their documents apart, and proof that it does."""
    from labqueue.llm import packing

    made.data_collator = packing.PackedCollator(loaded.tokenizer.pad_token_id, flat=loaded.backend == "unsloth")
    found = packing.check_isolated(adapted, made.data_collator, packs)
    rec.note(
        f"{rows} training rows are packed into {len(packs)} sequences; a document's loss packed is within "
        f"{found.get('alone', 0.0):.1e} nats of the same alone, and moves by {found.get('influence', 0.0):.1e} when "
        "its neighbours change"
    )


def _describe(rec: Recorder, loaded: Any, adapted: Any, made: Any, rows: Any) -> None:
    """What is about to be trained, recorded before it is: config, masks, sizes."""
    from labqueue.llm import adapters, encode, trainer

    named = "" if loaded.weights.startswith(loaded.name) else f"{loaded.name}: "  # a folder's source is its path
    rec.note(f"{named}{loaded.weights}; backend {loaded.backend}; computed in {trainer.computes_in(made)}")
    config = trainer.held_config(made)
    config["lora"] = adapters.held_config(adapted)
    rec.artifact("trainer_config", artifacts.Json(data=config))
    shown = tuple(encode.preview(loaded.tokenizer, rows, PREVIEWED_ROWS))
    rec.artifact("token_preview", artifacts.Table(columns=encode.PREVIEW_COLUMNS, rows=shown))
    _method.describe(rec, loaded, adapted)


def pinned(params: Params) -> Params:
    """With the content of its model and of what it trains and measures on."""
    found = {"model_pin": _pins.model(params.model, params.model_pin), "data": params.data.pinned()}
    return params.model_copy(update=found | {"also": tuple(each.pinned() for each in params.also)})


def resolved(params: Params, device: str) -> Params:
    """With the type that this computer computes in; full fine-tuning on a CPU computes in its weights' float32."""
    full = params.method == "full" and device == "cpu" and params.dtype == "auto"
    return params.model_copy(update={"dtype": "float32" if full else _host.decided(params.dtype, device)})


def assets(params: Params) -> list[str]:
    """The model, and the task, file or dataset; names of ``labqueue.llm.assets``."""
    model = [] if params.model == _pins.FROM_RUN else [params.model]
    return [*model, *params.data.assets, *(asset for each in params.also for asset in each.assets)]


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
    ways = [f"max_length below {params.max_length}", f"a model smaller than {params.model}"]
    if params.method == "lora":
        ways.insert(1, f"lora.rank below {params.lora.rank}")
    if params.optimizer == "adamw":
        ways.append("optimizer: adamw_8bit")
    if params.method == "full":
        ways.insert(0, "method: lora")
    elif params.quantization != "4bit":
        ways.insert(0, "quantization: 4bit")
    return ", or ".join(ways)


def rehearse(params: Params) -> Params:
    """Two steps of the same shape: same model, adapter, micro-batch and lengths; little data and no scoring."""
    plain = Params(data=params.data)
    rows = 2 * params.batch * params.accumulation
    few = {"eval_items": min(params.data.eval_items, max(params.batch, 4))}
    if params.data.train_items is not None and not params.data.packing:  # packs are as full as there are rows to fill
        few["train_items"] = min(params.data.train_items, max(rows, 8))
    same = ("learning_rate", "schedule", "warmup_steps", "min_rate", "decay_steps", "weight_decay", "max_grad_norm")
    short = {
        "steps": min(params.steps, 2),
        "evaluations": 0,
        "samples": min(params.samples, 1),
        "scored": 0,
        "also": _evaluation.short(params.also, few["eval_items"]),
        "checkpoint_every": 1,
        "checkpoint_minutes": plain.checkpoint_minutes,
        "data": params.data.model_copy(update=few),
        "lora": params.lora.model_copy(update={"alpha": plain.lora.alpha, "scaling": plain.lora.scaling}),
    }
    return params.model_copy(update={name: getattr(plain, name) for name in same} | short)
