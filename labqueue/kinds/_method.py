"""How a fine-tuning run trains: adapter or all weights, what fits together, what is kept. No kind itself."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, Literal

from labqueue.domain import artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labqueue.domain.kind import Recorder
    from labqueue.kinds.finetune import Params


def check(params: Params) -> None:
    """Raises ValueError, naming the cure, where settings of the method exclude each other."""
    full = params.method == "full"
    if full and params.quantization != "none":
        raise ValueError("method full trains the weights themselves, which 4 bit cannot hold: set quantization: none")
    if full and params.backend == "unsloth":
        raise ValueError("method full runs on the backend hf: set backend: auto or hf")
    if full and params.merge:
        raise ValueError("merge folds an adapter in, and method full has none: save_model: true keeps its weights")
    if params.save_model and not full:
        raise ValueError("save_model keeps the weights of method full; a LoRA run keeps its adapter: use merge: true")
    if params.warmup_steps > params.steps:
        raise ValueError(f"warmup_steps is {params.warmup_steps}, more than the {params.steps} steps")
    if params.schedule == "constant" and params.warmup_steps:
        raise ValueError("schedule constant has no warmup: use constant_with_warmup, or warmup_steps: 0")
    if params.schedule == "inverse_sqrt" and not params.warmup_steps:
        raise ValueError("schedule inverse_sqrt falls from the end of its warmup: give warmup_steps of 1 or more")
    if params.decay_steps is not None:
        if params.schedule != "warmup_stable_decay":
            raise ValueError(f"decay_steps belongs to schedule warmup_stable_decay, not to {params.schedule}")
        if params.warmup_steps + params.decay_steps > params.steps:
            raise ValueError(
                f"warmup_steps and decay_steps are {params.warmup_steps + params.decay_steps} together, more than the "
                f"{params.steps} steps"
            )


def backend(params: Params) -> Literal["auto", "hf", "unsloth"]:
    """The backend that is asked for: full fine-tuning is done by hf alone."""
    return "hf" if params.method == "full" else params.backend


def measures_updates(params: Params) -> bool:
    """Whether ΔW is measured: by default where it costs next to nothing."""
    return params.method == "lora" and not params.lora.dora if params.updates is None else params.updates


def load(params: Params, device: str) -> Any:
    """The model as the method needs it: fp32 master weights for ``full``, else in the type that it computes in."""
    from labqueue.llm import load

    return load.load_model(
        params.model,
        pin=params.model_pin,
        backend=backend(params),
        quantization=params.quantization,
        device=device,
        dtype="float32" if params.method == "full" else params.dtype,
        max_length=params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
    )


def adapt(params: Params, loaded: Any, seed: int) -> Any:
    """What is trained of a loaded model."""
    from labqueue.llm import adapters

    if params.method == "full":
        return adapters.train_all(loaded, seed)
    return adapters.add_lora(
        loaded,
        **params.lora.model_dump(),
        seed=seed,
        max_length=params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
    )


def describe(rec: Recorder, loaded: Any, adapted: Any) -> None:
    """Records how much of the model is trained."""
    from labqueue.llm import adapters

    trainable, every = adapters.counts(adapted)
    rec.metric("trainable_parameters", trainable, 0)
    rec.metric("trainable_share", trainable / every, 0)
    if not adapters.is_adapter(adapted):
        how = "computed with in bfloat16" if rec.device.startswith("cuda") else "computed with as they are"
        rec.note(f"full fine-tuning: fp32 master weights of {loaded.name}, {how}")


def keep(
    params: Params, rec: Recorder, loaded: Any, adapted: Any, trainer: Any, held_out: Sequence[dict[str, list[int]]]
) -> None:
    """Stores what was trained: the adapter, the merged model or all weights, as the parameters ask."""
    from labqueue.llm import adapter_folders, merge

    if params.method == "full":
        if params.save_model:
            merge.save_model(adapted, loaded.tokenizer, rec.directory / "model")
            _hand_over(rec, "model")
        return
    adapter_folders.save(adapted, rec.directory / "adapter", loaded, params.data.template)
    _hand_over(rec, "adapter")
    if not params.merge:
        return
    number = merge.merge(loaded, adapted, rec.directory / "merged")
    _hand_over(rec, "merged")
    changed = merge.difference(trainer, held_out, params.batch)
    rec.metric("merge_logit_difference", changed.logit_max, params.steps)
    rec.metric("merge_logit_difference_mean", changed.logit_mean, params.steps)
    rec.metric("merge_loss_difference", changed.loss_after - changed.loss_before, params.steps)
    base = "the dequantised base" if params.quantization == "4bit" else "the base"
    rec.note(f"merged into {base} in {number}; compared with the adapter on {changed.rows} held-out rows")


def _hand_over(rec: Recorder, name: str) -> None:
    """Stores a folder of the run's own as an artifact, which is a copy, and drops it: a merged 7B model is 15 GB."""
    rec.artifact(name, artifacts.Files(type="model", path=rec.directory / name))
    shutil.rmtree(rec.directory / name)
