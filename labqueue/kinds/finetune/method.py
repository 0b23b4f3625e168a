"""Sets up how a fine-tuning run trains (adapter or all weights) and keeps what came of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Literal

from labqueue.domain import artifacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labqueue.domain.kind import Recorder
    from labqueue.kinds.finetune.params import Params
    from labqueue.llm.models.load import Loaded
    from labqueue.llm.training.recipe import Trainer
    from labqueue.llm.types import Model


def backend(params: Params) -> Literal["auto", "hf", "unsloth"]:
    """The backend that is asked for: full fine-tuning is done by hf alone."""
    return "hf" if params.method == "full" else params.backend


def measures_updates(params: Params) -> bool:
    """Whether ΔW is measured: by default where it costs next to nothing."""
    return params.method == "lora" and not params.lora.dora if params.updates is None else params.updates


def load(params: Params, device: str) -> Loaded:
    """The model as the method needs it: fp32 master weights for ``full``, else in the type that it computes in."""
    from labqueue.llm.models import load

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


def adapt(params: Params, loaded: Loaded, seed: int) -> Model:
    """Adds LoRA adapters to a loaded model, or unfreezes all its weights."""
    from labqueue.llm.training import lora

    if params.method == "full":
        return lora.train_all(loaded, seed)
    return lora.add_lora(
        loaded,
        **params.lora.model_dump(),
        seed=seed,
        max_length=params.max_length,
        gradient_checkpointing=params.gradient_checkpointing,
    )


def describe(rec: Recorder, loaded: Loaded, adapted: Model) -> None:
    """Records how much of the model is trained."""
    from labqueue.llm.training import lora

    trainable, every = lora.counts(adapted)
    rec.metric("trainable_parameters", trainable, 0)
    rec.metric("trainable_share", trainable / every, 0)
    if not lora.is_adapter(adapted):
        how = "computed with in bfloat16" if rec.device.startswith("cuda") else "computed with as they are"
        rec.note(f"full fine-tuning: fp32 master weights of {loaded.name}, {how}")


def keep(
    params: Params,
    rec: Recorder,
    loaded: Loaded,
    adapted: Model,
    trainer: Trainer,
    held_out: Sequence[dict[str, list[int]]],
) -> None:
    """Stores what was trained: the adapter, the merged model or all weights, as the parameters ask."""
    from labqueue.llm.models import adapter_folder
    from labqueue.llm.training import lora, merge

    if params.method == "full":
        if params.save_model:
            merge.save_model(adapted, loaded.tokenizer, rec.directory / "model")
            _hand_over(rec, "model")
        return
    assert lora.is_adapter(adapted), "method lora"
    adapter_folder.save(adapted, rec.directory / "adapter", loaded, params.data.template)
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
