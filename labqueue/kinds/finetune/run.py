"""Executes a fine-tuning run, from its rows to what is kept of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.domain import artifacts, kind
from labqueue.domain.spec.references import is_unresolved
from labqueue.kinds import _host, _pins
from labqueue.kinds.finetune import extra_evals, method
from labqueue.kinds.finetune.callbacks import Watch
from labqueue.kinds.finetune.evaluation import Evaluations
from labqueue.kinds.finetune.params import Params

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labqueue.domain.kind import Recorder
    from labqueue.llm.data.tokenize import TokenRow
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.training.trl_trainer import LabTrainer
    from labqueue.llm.types import Model

PREVIEWED_ROWS = 3
"""Training rows whose every token is shown with its mask."""


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
    from labqueue.llm.data import packing, tokenize
    from labqueue.llm.evaluation import generate
    from labqueue.llm.memory import device
    from labqueue.llm.training import trl_trainer
    from labqueue.llm.training.checkpoint import about, save
    from labqueue.llm.training.recipe import Interrupted, Recipe

    split = params.data.load()
    for note in (split.source, *split.notes):
        rec.note(f"data: {note}")
    device.reset_peak(rec.device)
    loaded = method.load(params, rec.device)
    for note in generate.settle(loaded, params.data.template):
        rec.note(note)
    extra = Evaluations(params.extra_evals, rec, loaded, params.max_length)
    split = extra.decontaminate(split)
    loss = params.data.loss
    encoded = tokenize.encode(loaded.tokenizer, split.train, params.max_length, loss=loss)
    held_out = tokenize.encode(loaded.tokenizer, split.held_out, params.max_length, "held-out", loss=loss)
    tokenize.check_context((*encoded.rows, *held_out.rows), loaded.model.config)
    for what, each in (("training", encoded), ("held-out", held_out)):
        if each.truncated:
            rec.note(f"{each.truncated} of {len(each.rows)} {what} rows lost the end of their answer at max_length")
    rows = packing.pack(encoded.rows, params.max_length, seed=rec.seed) if params.data.packing else encoded.rows
    packed = len(rows) if params.data.packing else None
    if wrong := params.data.too_few(params.batch, params.accumulation, len(encoded.rows), packed):
        raise LabError(wrong, key="batch")
    adapted = method.adapt(params, loaded, rec.seed)
    recipe = Recipe(seed=rec.seed, **{key: getattr(params, key) for key in Recipe.__annotations__ if key != "seed"})
    watch = Watch(params, rec, loaded, adapted, split, extra)
    made = trl_trainer.make_trainer(loaded, adapted, rows, held_out.rows, recipe, watch, rec.directory / "trainer")
    if params.data.packing:
        _pack(rec, loaded, adapted, made, rows, len(encoded.rows))
    watch.trainer = made
    extra.describe()
    _describe(rec, loaded, adapted, made, rows)
    if rec.resume_from:
        watch.restore(about(rec.resume_from.path))
    rec.progress(rec.resume_from.step if rec.resume_from else 0, params.steps)
    try:
        made.train(resume_from_checkpoint=str(rec.resume_from.path) if rec.resume_from else None)
    except kind.Diverged:
        watch.read_curve(finite=False)
        raise
    except Interrupted:  # before the first step there is nothing to keep, and after a resume nothing new
        raise kind.Stopped(str(watch.stopped)) from None
    if watch.stopped:
        raise kind.Stopped(watch.stopped)
    try:
        watch.finish()
        if (peak := watch.peak_gib()) is not None:
            rec.metric("peak_memory_gib", peak, params.steps)
        rec.metric("train_tokens", sum(made.step_tokens), params.steps)
        method.keep(params, rec, loaded, adapted, made, held_out.rows)
    except Interrupted:
        watch.checkpoint(params.steps, lambda folder: save(folder, made, watch.about()))
        raise kind.Stopped(str(watch.stopped)) from None


def _pack(
    rec: Recorder, loaded: Loaded, adapted: Model, made: LabTrainer, packs: Sequence[TokenRow], rows: int
) -> None:
    """Packed rows get the collator that keeps their documents apart, and proof that it does."""
    from labqueue.llm.data import packing
    from labqueue.llm.training import packing_check

    made.data_collator = packing.PackedCollator(loaded.tokenizer.pad_token_id, flat=loaded.backend == "unsloth")
    found = packing_check.check_isolated(adapted, made.data_collator, packs)
    rec.note(
        f"{rows} training rows are packed into {len(packs)} sequences; a document's loss packed is within "
        f"{found.get('alone', 0.0):.1e} nats of the same alone, and moves by {found.get('influence', 0.0):.1e} when "
        "its neighbours change"
    )


def _describe(rec: Recorder, loaded: Loaded, adapted: Model, made: LabTrainer, rows: Sequence[TokenRow]) -> None:
    """What is about to be trained, recorded before it is: config, masks, sizes."""
    from labqueue.llm.data import tokenize
    from labqueue.llm.training import lora, trl_trainer

    named = "" if loaded.weights.startswith(loaded.name) else f"{loaded.name}: "  # a folder's source is its path
    rec.note(f"{named}{loaded.weights}; backend {loaded.backend}; computed in {_computes_in(loaded, made)}")
    config = trl_trainer.held_config(made)
    config["lora"] = lora.held_config(adapted)
    rec.artifact("trainer_config", artifacts.Json(data=config))
    shown = tuple(tokenize.preview(loaded.tokenizer, rows, PREVIEWED_ROWS))
    rec.artifact("token_preview", artifacts.Table(columns=tokenize.PREVIEW_COLUMNS, rows=shown))
    method.describe(rec, loaded, adapted)


def _computes_in(loaded: Loaded, made: LabTrainer) -> str:
    """The type of number of its products: with an adapter the model's own, else the trainer's."""
    from labqueue.llm.training import lora, trl_trainer

    return str(loaded.dtype) if lora.is_adapter(made.model) else trl_trainer.computes_in(made)


def pinned(params: Params) -> Params:
    """With the content of its model and of what it trains and measures on."""
    found = {"model_pin": _pins.model(params.model, params.model_pin), "data": params.data.pinned()}
    return params.model_copy(update=found | {"extra_evals": tuple(each.pinned() for each in params.extra_evals)})


def resolved(params: Params, device: str) -> Params:
    """With the type that this computer computes in; full fine-tuning on a CPU computes in its weights' float32."""
    full = params.method == "full" and device == "cpu" and params.dtype == "auto"
    return params.model_copy(update={"dtype": "float32" if full else _host.decided(params.dtype, device)})


def assets(params: Params) -> list[str]:
    """The model, and the task, file or dataset; names of ``labqueue.llm.assets``."""
    model = [] if is_unresolved(params.model) else [params.model]
    return [*model, *params.data.assets, *(asset for each in params.extra_evals for asset in each.assets)]


def with_less_memory(params: Params) -> Params | None:
    """Half the micro-batch at the same effective batch, then gradient checkpointing; None when both are spent."""
    if params.batch % 2 == 0:
        return params.model_copy(update={"batch": params.batch // 2, "accumulation": params.accumulation * 2})
    if params.batch > 1:  # an odd micro-batch goes to single rows: no half keeps the effective batch
        return params.model_copy(update={"batch": 1, "accumulation": params.accumulation * params.batch})
    if not params.gradient_checkpointing:
        return params.model_copy(update={"gradient_checkpointing": True})
    return None


def memory_advice(params: Params) -> str:
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


def preflight(params: Params) -> Params:
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
        "extra_evals": extra_evals.short(params.extra_evals, few["eval_items"]),
        "checkpoint_every": 1,
        "checkpoint_minutes": plain.checkpoint_minutes,
        "data": params.data.model_copy(update=few),
        "lora": params.lora.model_copy(update={"alpha": plain.lora.alpha, "scaling": plain.lora.scaling}),
    }
    return params.model_copy(update={name: getattr(plain, name) for name in same} | short)
