"""Prepares a loaded model for training: a LoRA adapter through PEFT or Unsloth, or every weight. fp32 and seeded; an
adapter equals its base until it is trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, cast

from labqueue.domain.errors import LabError, nearest
from labqueue.llm.models.load import Loaded, bare
from labqueue.llm.training.checkpoint import trainable
from labqueue.llm.types import Json

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig, PeftModel
    from typing_extensions import TypeIs

    from labqueue.llm.types import AdapterLayer, CausalModel, LinearLayer, Model

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a Llama- or Qwen-style block, what ``all-linear`` means to Unsloth."""

REFERENCE_RANK = 16
"""The rank at which ``constant`` scaling equals ``standard``: the update is scaled by alpha/16 at every rank."""

Scaling = Literal["standard", "rslora", "constant"]


def add_lora(
    loaded: Loaded,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    scaling: Scaling,
    targets: str | tuple[str, ...],
    seed: int,
    max_length: int,
    gradient_checkpointing: bool,
    dora: bool = False,
) -> Model:
    """Returns the model with a fresh LoRA (Hu et al. 2021, arXiv:2106.09685): A random, B zero, both fp32.

    Updates are scaled by alpha/rank, by alpha/sqrt(rank) for ``rslora`` (Kalajdzievski 2023, arXiv:2312.03732), or by
    alpha/16 whatever the rank for ``constant`` (alpha in proportion to the rank). ``dora`` learns the norm of each
    output's weights apart from their direction (Liu et al. 2024, arXiv:2402.09353).

    Raises:
        LabError: ``targets`` names no linear layer of the model, or ``rank`` is above a dimension of one.
    """
    from transformers import set_seed

    check_targets(loaded, targets, rank)
    set_seed(seed)
    chosen = list(targets) if isinstance(targets, tuple) else targets
    common: Json = {
        "r": rank,
        "lora_alpha": alpha * rank / REFERENCE_RANK if scaling == "constant" else alpha,
        "lora_dropout": dropout,
        "use_rslora": scaling == "rslora",
        "use_dora": dora,
        "bias": "none",
    }
    if loaded.backend == "unsloth":
        from unsloth import FastLanguageModel

        model: Model = FastLanguageModel.get_peft_model(
            loaded.model,
            target_modules=list(ALL_LINEAR) if chosen == "all-linear" else chosen,
            random_state=seed,
            max_seq_length=max_length,
            use_gradient_checkpointing="unsloth" if gradient_checkpointing else False,
            **common,
        )
    else:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(loaded.model, LoraConfig(task_type="CAUSAL_LM", target_modules=chosen, **common))
    import torch

    for value in trainable(model).values():
        value.data = value.data.to(torch.float32)
    return model


def train_all(loaded: Loaded, seed: int) -> CausalModel:
    """Returns the model itself with every weight trainable, as fp32 master weights.

    Raises:
        LabError: the weights are in 4 bit or the backend is not hf.
    """
    import torch
    from transformers import set_seed

    if loaded.quantization != "none" or loaded.backend != "hf":
        raise LabError(
            f"full fine-tuning needs weights in 16 or 32 bit and the backend hf, {loaded.name} is loaded with "
            f"quantization {loaded.quantization} by {loaded.backend}: set quantization: none and backend: auto",
            key="quantization",
        )
    set_seed(seed)
    model = loaded.model
    for value in model.parameters():
        value.data = value.data.to(torch.float32)
        value.requires_grad_(True)
    return model


def is_adapter(model: Model) -> TypeIs[PeftModel]:
    """Whether the model carries a LoRA; False where every weight is trained."""
    return hasattr(model, "peft_config")


def check_targets(loaded: Loaded, targets: str | tuple[str, ...], rank: int) -> list[str]:
    """The full names of the layers that get an adapter, in the model's order.

    Raises:
        LabError: a name that fits no linear layer (the message names the nearest), or a rank above the smallest
            dimension of a layer that fits.
    """
    linear = linear_layers(loaded.model)
    names = list(linear)
    if isinstance(targets, tuple):
        for target in targets:
            if not any(_fits(name, target) for name in names):
                others = [name for name, _ in loaded.model.named_modules() if name and _fits(name, target)]
                is_not = f"is no linear layer of {loaded.name} that takes an adapter" if others else "fits no layer"
                known = nearest(target, {name.rsplit(".", 1)[-1] for name in names})
                raise LabError(
                    f"lora.targets names {target!r}, which {is_not}{'' if others else f' of {loaded.name}'}: {known}; "
                    "or all-linear",
                    key="lora.targets",
                )
        names = [name for name in names if any(_fits(name, target) for target in targets)]
    elif loaded.backend == "unsloth":
        names = [name for name in names if name.rsplit(".", 1)[-1] in ALL_LINEAR]
    for name in names:
        rows, columns = shape(linear[name])
        if rank > min(rows, columns):
            smallest = min(min(shape(linear[other])) for other in names)
            raise LabError(
                f"lora.rank {rank} is above the smallest dimension of {name} ({rows} x {columns}): an update of that "
                f"layer has no higher rank. Use {smallest} at most, or lora.targets without it",
                key="lora.rank",
            )
    return names


def linear_layers(model: Model) -> dict[str, torch.nn.Module]:
    """The layers that can carry an adapter, by name: every linear one but the head."""
    import torch
    from transformers.pytorch_utils import Conv1D

    inner = bare(model)
    head = inner.get_output_embeddings()
    found: dict[str, torch.nn.Module] = {}
    for name, module in inner.named_modules():
        linear = hasattr(module, "get_base_layer") or isinstance(module, torch.nn.Linear | Conv1D)
        # Parts of an adapter (lora_A.default, base_layer) are no layers of their own.
        if linear and module is not head and not any(name.startswith(f"{outer}.") for outer in found):
            found[name] = module
    return found


def shape(layer: torch.nn.Module) -> tuple[int, int]:
    """(outputs, inputs) of a linear layer, whatever form its weight is kept in."""
    base = base_layer(layer)
    if hasattr(base, "out_features") and hasattr(base, "in_features"):
        return int(base.out_features), int(base.in_features)
    inputs, outputs = base.weight.shape  # GPT-2's Conv1D keeps its weight transposed
    return int(outputs), int(inputs)


def is_adapter_layer(layer: torch.nn.Module) -> TypeIs[AdapterLayer]:
    """Whether a layer carries a LoRA."""
    return hasattr(layer, "lora_A") and hasattr(layer, "get_base_layer")


def lora_layers(model: Model) -> Iterator[tuple[str, AdapterLayer]]:
    """(name in the base model, layer) of every layer with an adapter."""
    for name, module in bare(model).named_modules():
        if is_adapter_layer(module):
            yield name, module


def factors(layer: AdapterLayer) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(B [outputs, rank], A [rank, inputs], scale) of a layer's adapter: the update is ``scale * B @ A``."""
    (key,) = layer.lora_A.keys()
    return layer.lora_B[key].weight.detach(), layer.lora_A[key].weight.detach(), float(layer.scaling[key])


def base_layer(layer: torch.nn.Module) -> LinearLayer:
    """A linear layer without its adapter: the layer itself where it has none."""
    unwrap: Callable[[], LinearLayer] | None = getattr(layer, "get_base_layer", None)
    return cast("LinearLayer", layer) if unwrap is None else unwrap()


def base_weight(layer: torch.nn.Module) -> torch.Tensor:
    """The weight of a layer without its adapter, ``[outputs, inputs]``, dequantised where it is in 4 bit."""
    base = base_layer(layer)
    weight = base.weight.detach()
    state = getattr(base.weight, "quant_state", None)
    if state is not None:
        import bitsandbytes

        plain: torch.Tensor = bitsandbytes.functional.dequantize_4bit(base.weight.data, quant_state=state)
        return plain
    return weight.T if is_transposed(layer) else weight


def is_transposed(layer: torch.nn.Module) -> bool:
    """Whether a layer keeps its weight as ``[inputs, outputs]``, as GPT-2's Conv1D does."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(base_layer(layer), Conv1D)


def folded_weight(layer: AdapterLayer) -> torch.Tensor:
    """The weight that does alone what a layer does with its adapter, ``[outputs, inputs]``, fp32.

    W + scale * B @ A; for DoRA each row of it at the norm that was learned.
    """
    import torch

    b, a, scale = factors(layer)
    # A caller's autocast would make the product in 16 bit, and round the update more than the weight itself is.
    with torch.autocast(b.device.type, enabled=False):
        weight = base_weight(layer).float()
        weight = weight + scale * (b.float() @ a.float())  # [outputs, inputs]
    for learned in getattr(layer, "lora_magnitude_vector", {}).values():
        norm = torch.linalg.vector_norm(weight, dim=1)  # [outputs]
        weight = weight * (learned.weight.detach().float() / norm)[:, None]
    return weight


def counts(model: Model) -> tuple[int, int]:
    """(trainable parameters, all parameters); a 4-bit weight counts as the parameters that it stands for."""
    if not is_adapter(model):
        sizes = [(value.numel(), value.requires_grad) for value in model.parameters()]
        return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)
    train, every = model.get_nb_trainable_parameters()
    return int(train), int(every)


def held_config(model: Model) -> Json:
    """The adapter's settings as PEFT holds them, as JSON values, with the scale that its layers really apply."""
    dtypes = sorted({str(value.dtype) for value in trainable(model).values()})
    if not is_adapter(model):
        return {"method": "full", "dtype": dtypes}
    config = cast("LoraConfig", model.peft_config[model.active_adapter])
    return {
        "method": "lora",
        "rank": config.r,
        "alpha": config.lora_alpha,
        "dropout": config.lora_dropout,
        "rslora": config.use_rslora,
        "dora": config.use_dora,
        "targets": sorted(config.target_modules or ()),
        "scale": sorted({factors(layer)[2] for _, layer in lora_layers(model)}),
        "dtype": dtypes,
    }


def _fits(name: str, target: str) -> bool:
    """PEFT's rule: a target is a whole name or its last parts."""
    return name == target or name.endswith(f".{target}")
