"""TRL's trainer as the lab uses it: the one adapter to TRL's, transformers' and Unsloth's changing interfaces. No runs.

Verified against trl 1.15, transformers 5.17, peft 0.21, bitsandbytes 0.50.2. What is overridden is private there:
the tests of resuming and of the effective configuration are what notices a change.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from labqueue.llm.data.tokenize import Collator, TokenRow
from labqueue.llm.models.load import Loaded, bare, default_dtype
from labqueue.llm.training import checkpoint
from labqueue.llm.training.delayed_metrics import Readings
from labqueue.llm.training.lora import is_adapter
from labqueue.llm.training.recipe import (
    Interrupted,
    Recipe,
    Step,
    Trainer,
    Watch,
    answer_loss,
    epoch_order,
    held_out_loss,
    release_cache,
)
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from pydantic import JsonValue
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    from labqueue.llm.types import Batch, Model

    class LabTrainer(SFTTrainer):
        """What ``_classes`` makes, with what the lab adds: its base is not known before Unsloth has replaced it."""

        model: Model
        data_collator: Collator
        watch: Watch
        held_out: Sequence[TokenRow]
        eval_batch: int
        step_tokens: list[int]
        readings: Readings
        step_started_s: float
        train_dataset: Dataset
        optimizer: torch.optim.Optimizer
        lr_scheduler: torch.optim.lr_scheduler.LambdaLR

        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: Batch,
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor:
            """TRL's loss, nats."""


OPTIMIZERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
    "sgd": "sgd",
}
"""The lab's names of optimizers, and transformers'. Fused is its default too: ``adamw_torch`` makes temporary copies of
all adapter weights in each update, on a GPU at the moment when least memory is free."""


class ConfigDrift(RuntimeError):
    """The trainer does not hold what it was asked for: a library renamed, dropped or changed a setting."""


def make_trainer(
    loaded: Loaded,
    adapted: Model,
    rows: Sequence[TokenRow],
    held_out: Sequence[TokenRow],
    recipe: Recipe,
    watch: Watch,
    folder: Path,
) -> LabTrainer:
    """Returns TRL's trainer, ready; ``adapted`` is what ``labqueue.llm.training.lora`` made of the model.

    Raises:
        ConfigDrift: the trainer does not hold a setting that was asked for.
    """
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback

    order = epoch_order(len(rows), recipe.steps * recipe.batch * recipe.accumulation, recipe.seed)
    data = Dataset.from_list(list(rows)).select(order)
    asked = _settings(recipe, adapted, folder)
    if loaded.backend == "unsloth":
        # Rows come cut to length all the same; Unsloth replaces None by the model's own limit.
        asked["max_length"] = int(cast("int", adapted.max_seq_length))
    trainer_class, config_class = _classes(loaded)
    config = config_class(**asked)
    kept = checkpoint.trainable(adapted) if is_adapter(adapted) else {}
    exact = {name: value.detach().clone() for name, value in kept.items()}
    trainer = trainer_class(
        model=adapted,
        args=config,
        train_dataset=data,
        processing_class=loaded.tokenizer,
        data_collator=Collator(loaded.tokenizer.pad_token_id),
    )
    # TRL 1.15 rounds the adapters of a 4-bit model to bf16; a resume would reload them in fp32 and differ.
    for name, value in exact.items():
        trainer.model.get_parameter(name).data = value
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.watch, trainer.held_out, trainer.eval_batch = watch, held_out, recipe.batch
    trainer.step_tokens, trainer.readings = _step_tokens(rows, order, recipe), Readings()
    trainer.add_callback(_pulse(trainer))
    check_held(trainer, asked, recipe, len(order))
    return trainer


def check_held(trainer: LabTrainer, asked: Json, recipe: Recipe, rows: int) -> None:
    """Compares the constructed trainer with what was asked.

    Raises:
        ConfigDrift: naming every setting that differs.
    """
    import torch

    held = trainer.args
    wrong = [
        f"{name}: asked {value!r}, holds {getattr(held, name, 'nothing')!r}"
        for name, value in asked.items()
        if getattr(held, name, None) != value
    ]
    if len(trainer.train_dataset) != rows:
        wrong.append(f"training rows: asked {rows}, holds {len(trainer.train_dataset)}")
    if held.train_batch_size != recipe.batch:
        wrong.append(f"micro-batch: asked {recipe.batch}, holds {held.train_batch_size}")
    if not isinstance(trainer.data_collator, Collator):
        wrong.append(f"collator: asked Collator, holds {type(trainer.data_collator).__name__}")
    other = sorted({str(value.dtype) for value in checkpoint.trainable(trainer.model).values()} - {str(torch.float32)})
    if other:
        wrong.append(f"dtype of trained weights: asked torch.float32, holds {', '.join(other)}")
    if wrong:
        raise ConfigDrift("the trainer does not hold what it was asked for: " + "; ".join(wrong))


def computes_in(trainer: Trainer) -> str:
    """The type of number of its products, as the trainer holds it."""
    return "bfloat16" if trainer.args.bf16 else "float16" if trainer.args.fp16 else "float32"


def held_config(trainer: Trainer) -> Json:
    """Every setting that the trainer really holds, as JSON values, without paths and tokens."""
    values = trainer.args.to_dict()
    drop = {name for name in values if name.endswith(("_dir", "_token")) or name in ("logging_dir", "run_name")}
    held: dict[str, JsonValue] = {name: _plain(value) for name, value in sorted(values.items()) if name not in drop}
    held["trainer"] = f"{type(trainer).__mro__[1].__module__}.{type(trainer).__mro__[1].__name__}"
    held["model_class"] = type(bare(trainer.model)).__name__
    return held


def _settings(recipe: Recipe, adapted: Model, folder: Path) -> Json:
    import torch

    on_cpu = adapted.device.type == "cpu"
    half = next((v.dtype for v in adapted.parameters() if v.dtype in (torch.bfloat16, torch.float16)), torch.float32)
    if not on_cpu and not is_adapter(adapted):
        half = default_dtype(str(adapted.device))  # fp32 master weights, computed with in 16 bit
    return {
        "output_dir": str(folder),
        "max_steps": recipe.steps,
        "per_device_train_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulation,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "lr_scheduler_kwargs": recipe.schedule_options(),
        "warmup_steps": recipe.warmup_steps,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "optim": OPTIMIZERS[recipe.optimizer],
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "seed": recipe.seed,
        "bf16": half == torch.bfloat16,
        "fp16": half == torch.float16,
        "use_cpu": on_cpu,
        "max_length": None,  # rows come cut to length
        "packing": False,
        "padding_free": False,
        "loss_type": "nll",
        "train_sampling_strategy": "sequential",  # the order is made by epoch_order
        "dataset_kwargs": {"skip_prepare_dataset": True},
        "logging_strategy": "no",  # numbers are read by Readings, which does not make a GPU wait
        "logging_nan_inf_filter": False,  # else a NaN loss is shown as the average of earlier ones
        "eval_strategy": "no",  # the watch decides when
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": not on_cpu,
    }


def _step_tokens(rows: Sequence[TokenRow], order: Sequence[int], recipe: Recipe) -> list[int]:
    width = recipe.batch * recipe.accumulation
    lengths = [len(rows[number]["input_ids"]) for number in order]
    return [sum(lengths[step * width : (step + 1) * width]) for step in range(recipe.steps)]


def _plain(value: object) -> JsonValue:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _pulse(trainer: LabTrainer) -> TrainerCallback:
    """Transformers' callback that turns its events into the watch's."""
    from transformers import TrainerCallback

    class Pulse(TrainerCallback):
        def on_train_begin(
            self,
            args: TrainingArguments,  # noqa: ARG002  # transformers names them
            state: TrainerState,
            control: TrainerControl,  # noqa: ARG002  # likewise
            **kwargs: object,  # noqa: ARG002  # likewise
        ) -> None:
            if state.global_step == 0:
                trainer.watch.begin(trainer)
            else:
                trainer.watch.resumed(trainer)
            release_cache()

        def on_step_begin(self, *_: object, **__: object) -> None:
            trainer.step_started_s = time.perf_counter()

        def on_step_end(
            self,
            args: TrainingArguments,  # noqa: ARG002  # transformers names them
            state: TrainerState,
            control: TrainerControl,
            **kwargs: object,  # noqa: ARG002  # likewise
        ) -> TrainerControl:
            control.should_evaluate = trainer.watch.evaluate_after(state.global_step)
            return control

    return Pulse()


def _classes(loaded: Loaded) -> tuple[type[LabTrainer], type[SFTConfig]]:
    """The trainer's and the config's class; imported late, since Unsloth replaces both in their modules."""
    if TYPE_CHECKING:
        SFTTrainer: TypeAlias = LabTrainer
    else:
        from trl import SFTConfig, SFTTrainer

    from labqueue.llm.training.checkpoint import load_optimizer, load_random, load_weights

    plain_loss = loaded.model.device.type == "cpu"

    class Made(SFTTrainer):
        def compute_loss(
            self,
            model: torch.nn.Module,
            inputs: Batch,
            return_outputs: bool = False,
            num_items_in_batch: torch.Tensor | int | None = None,
        ) -> torch.Tensor:
            if plain_loss:  # TRL's loss head is a Triton kernel: "0 active drivers" without a GPU
                assert not return_outputs, "asked for by transformers' own evaluation, which is not used"
                return answer_loss(model, inputs, num_items_in_batch)
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        def evaluate(self, *_: object, **__: object) -> dict[str, float]:
            loss = held_out_loss(self, self.held_out, self.eval_batch)
            self.watch.evaluated(self.state.global_step, loss)
            release_cache()
            return {"eval_loss": loss}

        def _maybe_log_save_evaluate(
            self,
            tr_loss: torch.Tensor,
            grad_norm: torch.Tensor | float | None,
            *args: Any,
            **kwargs: Any,  # handed on
        ) -> None:
            number = self.state.global_step
            if number == self.__dict__.get("pulsed"):
                return  # transformers calls it once more at the end of the epoch
            self.__dict__["pulsed"] = number
            assert grad_norm is not None, "None only without clipping, and max_grad_norm is above 0"
            self.readings.take(number, tr_loss, grad_norm, kwargs["learning_rate"], self.step_started_s)
            tr_loss.zero_()
            for kept in self._metrics.values():
                kept.clear()  # TRL's own numbers of each step: read by nobody, and they would pile up
            self._tell(all_of_them=number == self.args.max_steps or self.control.should_evaluate)
            checkpointed = self.watch.checkpoint_after(number)
            if checkpointed:
                self._tell(all_of_them=True)
            try:
                super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)
            except Interrupted:  # the checkpoint says that this evaluation is owed; ``resumed`` makes up for it
                checkpointed = True
            if checkpointed:
                self.watch.checkpoint(number, lambda folder: checkpoint.save(folder, self, self.watch.about()))
            if self.watch.stop_after(number):
                self.control.should_training_stop = True

        def _tell(self, *, all_of_them: bool) -> None:
            for reading, loss, norm in self.readings.told(all_of_them=all_of_them):
                tokens = self.step_tokens[reading.number - 1]
                assert reading.wall_s is not None, "set before it is told"
                self.watch.step(Step(reading.number, loss, reading.learning_rate, norm, tokens, reading.wall_s))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
            load_weights(Path(resume_from_checkpoint), self.model if model is None else model)

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                load_optimizer(Path(checkpoint), self)

        def _load_rng_state(self, checkpoint: str | None) -> None:
            if checkpoint is not None:
                load_random(Path(checkpoint))

    return Made, SFTConfig
