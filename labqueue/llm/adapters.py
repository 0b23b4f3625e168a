"""LoRA adapters on a loaded model, through PEFT or Unsloth. fp32, seeded, and equal to the base until trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from labqueue.domain.errors import LabError
from labqueue.llm.checkpoint import trainable
from labqueue.llm.load import Loaded

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama- or Qwen-style block, what ``all-linear`` means to Unsloth."""


def add_lora(
    loaded: Loaded,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    scaling: Literal["standard", "rslora"],
    targets: str | tuple[str, ...],
    seed: int,
    max_length: int,
    gradient_checkpointing: bool,
) -> Any:
    """Returns the model with a fresh LoRA (Hu et al. 2021, arXiv:2106.09685): A random, B zero, both fp32.

    Updates are scaled by alpha/rank, or by alpha/sqrt(rank) for ``rslora`` (Kalajdzievski 2023, arXiv:2312.03732).

    Raises:
        LabError: ``targets`` names no linear layer of the model.
    """
    from transformers import set_seed

    set_seed(seed)
    chosen: Any = list(targets) if isinstance(targets, tuple) else targets
    common = {
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": dropout,
        "use_rslora": scaling == "rslora",
        "bias": "none",
    }
    if loaded.backend == "unsloth":
        from unsloth import FastLanguageModel

        model = FastLanguageModel.get_peft_model(
            loaded.model,
            target_modules=list(ALL_LINEAR) if chosen == "all-linear" else chosen,
            random_state=seed,
            max_seq_length=max_length,
            use_gradient_checkpointing="unsloth" if gradient_checkpointing else False,
            **common,
        )
    else:
        from peft import LoraConfig, get_peft_model

        try:
            model = get_peft_model(loaded.model, LoraConfig(task_type="CAUSAL_LM", target_modules=chosen, **common))
        except ValueError as error:
            raise LabError(
                f"lora.targets {chosen!r} fits no layer of {loaded.name}: {error}. Use all-linear, or names such as "
                f"{', '.join(ALL_LINEAR)}",
                key="lora.targets",
            ) from error
    import torch

    for value in trainable(model).values():
        value.data = value.data.to(torch.float32)
    return model


def save(model: Any, folder: Path) -> None:
    """Writes the adapter alone (safetensors and JSON), for ``PeftModel.from_pretrained`` on the same base."""
    import json

    model.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    # Where the base lay on this machine is nobody's business and nobody's truth elsewhere.
    about = folder / "adapter_config.json"
    config = json.loads(about.read_text())
    about.write_text(json.dumps(config, indent=1, sort_keys=True))


def counts(model: Any) -> tuple[int, int]:
    """(trainable parameters, all parameters); a 4-bit weight counts as the parameters that it stands for."""
    train, every = model.get_nb_trainable_parameters()
    return int(train), int(every)


def held_config(model: Any) -> dict[str, Any]:
    """The adapter's settings as PEFT holds them, as JSON values, with the scale that its layers really apply."""
    config = model.peft_config[model.active_adapter]
    # Attention modules have a "scaling" of their own: only LoRA's is a mapping from adapter to scale.
    found = (module.scaling for module in model.modules() if isinstance(getattr(module, "scaling", None), dict))
    scales = {float(scale) for scaling in found for scale in scaling.values()}
    return {
        "rank": config.r,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "rslora": config.use_rslora,
        "targets": sorted(config.target_modules),
        "scale": sorted(scales),
        "dtype": sorted({str(value.dtype) for value in trainable(model).values()}),
    }
