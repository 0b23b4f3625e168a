"""Loads a model and its tokenizer: the one place that knows import order, environment switches, 4-bit settings and
backends. Knows nothing of runs and never touches the network.

Backends: ``unsloth`` on CUDA where it is installed, ``hf`` (transformers and bitsandbytes) elsewhere.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, cast

from labqueue.domain.errors import LabError, nearest
from labqueue.llm import processor
from labqueue.llm.models import architectures, catalogue, pins, snapshot, stored_form, tensors, vocabulary
from labqueue.llm.types import Json
from labqueue.system.files import cache_folder

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

    from labqueue.llm.types import CausalModel, Model, Tokenizer

Backend = Literal["auto", "hf", "unsloth"]
Quantization = Literal["4bit", "none"]

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Loaded:
    """A model on its device with its tokenizer; unpacks as ``model, tokenizer = load_model(...)``."""

    model: CausalModel
    tokenizer: Tokenizer
    name: str
    backend: Literal["hf", "unsloth"]
    quantization: Quantization
    weights: str
    """What the weights are, for labels: where they come from and what was done to them."""
    dtype: str
    """What it was loaded in: ``bfloat16``, ``float16`` or ``float32``."""
    folder: Path
    """Where its files lie: of a model that this code makes, where it made them."""
    pin: str | None = None
    """That of ``labqueue.llm.models.pins``; None where the code itself pins it."""

    def __iter__(self) -> Iterator[CausalModel | Tokenizer]:
        return iter((self.model, self.tokenizer))


def choose_backend(backend: Backend, device: str) -> Literal["hf", "unsloth"]:
    """The backend that ``auto`` means on a device.

    Raises:
        LabError: unsloth was asked for by name and cannot run.
    """
    if backend == "hf" or (backend == "auto" and not device.startswith("cuda")):
        return "hf"
    installed = importlib.util.find_spec("unsloth") is not None
    if backend == "auto":
        return "unsloth" if installed else "hf"
    if not device.startswith("cuda"):
        raise LabError(f"backend 'unsloth' needs a CUDA device, this run has {device!r}; use hf or auto", key="backend")
    if not installed:
        raise LabError("backend 'unsloth' is not installed: `uv sync --extra gpu`, or use hf", key="backend")
    return "unsloth"


def prepare_process(backend: Literal["hf", "unsloth"], device: str) -> None:
    """Sets switches and imports in the only order that works. Call before anything imports transformers, peft or trl.

    Unsloth patches those three as it is imported, and its compiled trainers once lacked the name psutil, which
    importing it first supplied.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads deadlock in forked loaders
    processor.prepare_threads()
    os.environ["HF_HUB_OFFLINE"] = "1"  # assets are fetched before the night
    os.environ["TRANSFORMERS_OFFLINE"] = "1"
    _tell_nobody()
    if backend == "unsloth":
        os.environ["UNSLOTH_DISABLE_STATISTICS"] = "1"
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache_folder() / "unsloth_compiled"))
        import psutil  # noqa: F401  # before unsloth: see above
        import unsloth  # noqa: F401  # before transformers: see above
    else:
        with uncollected():
            import transformers

            if device == "cpu":
                _import_for_cpu()
        transformers.utils.logging.disable_progress_bar()


def _tell_nobody() -> None:
    """Switches the hub's telemetry off: TRL reports every trainer that is made, from a thread that asks for addresses
    while others may change the environment, which ends a process now and then."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    known = sys.modules.get("huggingface_hub.constants")  # it has read the environment already
    if known is not None:
        vars(known)["HF_HUB_DISABLE_TELEMETRY"] = True


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Imports without the cyclic garbage collector: what they make stays, and looking through it is a tenth of them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _import_for_cpu() -> None:
    """Imports bitsandbytes and transformers without what they import for others: a third of a run's imports.

    bitsandbytes has torch's compiler wrap the kernels of devices that it has no library for; on a CPU it has one.
    transformers imports scikit-learn and SciPy for assisted generation, images and scores that the lab does not use.
    """
    import torch
    from transformers import utils

    if "bitsandbytes" not in sys.modules:
        with _replaced(torch, "compile", lambda model=None, **_: model or (lambda function: function)):
            import bitsandbytes  # noqa: F401  # its kernels of a CPU
    with (
        _replaced(utils, "is_sklearn_available", lambda: False),
        _replaced(utils, "is_scipy_available", lambda: False),
    ):
        for name in ("data.metrics", "generation.candidate_generator", "modeling_utils"):
            importlib.import_module(f"transformers.{name}")


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, stand_in: Callable[..., object]) -> Iterator[None]:
    known = getattr(module, name)
    setattr(module, name, stand_in)
    try:
        yield
    finally:
        setattr(module, name, known)


def load_model(
    name: str,
    *,
    backend: Backend = "auto",
    quantization: Quantization = "4bit",
    device: str = "cpu",
    dtype: str | None = None,
    max_length: int = 2048,
    attention: Literal["sdpa", "eager"] = "sdpa",
    gradient_checkpointing: bool = False,
    pin: str | None = None,
) -> Loaded:
    """Loads a model of the catalogue, or of a folder, for training or reading.

    ``quantization`` "4bit" is NF4 with double quantisation, computing in ``dtype`` (Dettmers et al. 2023,
    arXiv:2305.14314); norms, embeddings and head stay in ``dtype``, on a CPU in float32: a young adapter's output is
    less than half a step of bfloat16 beside its layer's, and would be rounded away. ``dtype`` None or "auto" is what
    the device is fast in: on a GPU bfloat16 where it computes in it, else float16; on a CPU see ``compute``.
    ``attention`` "eager" is what weights can be read from. ``pin`` is that of ``labqueue.llm.models.pins``, of what was
    submitted.

    Raises:
        LabError: unknown model or dtype, weights that are not on this machine, not those of ``pin``, not what their
            config says or already in 4 bit where 16 are asked for, a backend or a
            processor that cannot run here.
    """
    if device == "cpu":
        processor.check_processor()
    dtype = None if dtype == "auto" else dtype
    if dtype is not None and dtype not in DTYPES:
        raise LabError(f"unknown dtype {dtype!r}: {nearest(dtype, DTYPES)}", key="dtype")
    entry = catalogue.find(name)
    chosen = choose_backend(backend, device)
    # What is missing or has changed is said before ten seconds of imports.
    files = pins.local(name, pin) if entry.where in ("hub", "folder") else None
    form = catalogue.form(name)
    stored_form.check_use(form, name, quantization=quantization, backend=chosen)
    prepare_process(chosen, device)
    import torch

    number = getattr(torch, dtype) if dtype else default_dtype(device)
    kept = torch.float32 if device == "cpu" and quantization == "4bit" else number
    folder = files or _made(entry)
    if chosen == "unsloth":
        model, tokenizer = _load_unsloth(folder, quantization, number, max_length, gradient_checkpointing)
    else:
        settings = {"quantization_config": nf4(number)} if quantization == "4bit" and not form else {}
        model, tokenizer = _load_hf(folder, name, settings, kept, device, attention)
    check_loaded(model, folder, name, quantization)
    tame_cpu_4bit(model, number)
    vocabulary.check_highest(max(tokenizer.get_vocab().values()), model.get_input_embeddings().weight.shape[0], name)
    _agree_on_tokens(model, tokenizer)
    weights = "random weights" if entry.where == "random" else entry.source
    weights += ", dequantised Q4_1" if entry.where == "package" else ""
    weights += f", {form.label if form else 'NF4'}" if quantization == "4bit" else ""
    return Loaded(
        model,
        tokenizer,
        name,
        chosen,
        quantization,
        weights,
        str(number).removeprefix("torch."),
        folder,
        pin or pins.of(name),
    )


def bare(model: Model) -> CausalModel:
    """The model inside its adapter, or the model itself where it has none."""
    unwrap: Callable[[], torch.nn.Module] | None = getattr(model, "get_base_model", None)
    return cast("CausalModel", model if unwrap is None else unwrap())


def default_dtype(device: str) -> torch.dtype:
    """On a GPU bfloat16, or float16 where it has no bfloat16; on a CPU what its processor is faster in."""
    import torch

    if not device.startswith("cuda"):
        number: torch.dtype = getattr(torch, processor.cpu_dtype())
        return number
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    """The 4-bit settings. bitsandbytes' own defaults are fp4 and float32 compute."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def tame_cpu_4bit(model: Model, dtype: torch.dtype | None = None) -> int:
    """Keeps bitsandbytes 0.50.2 from repacking 4-bit weights; returns how many layers there are.

    On AVX512-BF16 processors an evaluation repacks them for a kernel without autograd, and training afterwards
    silently gets worse: loss 6.6 to 9.3 in 10 steps where it should fall. Layers of a folder that was quantised before
    compute in what its config says, until ``dtype`` is given.
    """
    import bitsandbytes

    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
        layer.compute_dtype = dtype or layer.compute_dtype
        if layer.weight.device.type == "cpu":
            # What it is unpacked to, so that merged weights are those that were trained with.
            layer.weight.quant_state.dtype = layer.compute_dtype
    return len(layers)


def check_loaded(model: CausalModel, folder: Path, name: str, quantization: Quantization) -> None:
    """Checks that every weight of a loaded model is one of its files', and is in the form that was asked for.

    Libraries fill in random weights for what they do not find and only warn.

    Raises:
        LabError: one is not.
    """
    import bitsandbytes
    from transformers.pytorch_utils import Conv1D

    wanted: architectures.Shapes = {}
    forms = set()
    for owner, module in model.named_modules():
        for last, value in module.named_parameters(recurse=False):
            state = getattr(value, "quant_state", None)
            shape = tuple(value.shape if state is None else state.shape)
            # A Conv1D is turned as it is quantised.
            turned = state is not None and getattr(module, "source_cls", None) is Conv1D
            wanted[f"{owner}.{last}"] = shape[::-1] if turned else shape
            if last == "weight" and isinstance(module, bitsandbytes.nn.Linear4bit):
                forms.add(getattr(state, "quant_type", "16 bit"))
    known = architectures.names(model.config.to_dict())
    if known.tied and known.embedding in wanted:
        wanted.setdefault(architectures.HEAD, wanted[known.embedding])
    tensors.compare(tensors.held(folder, snapshot.weights(folder), name), wanted, known, name)
    if forms != ({"nf4"} if quantization == "4bit" else set()):
        raise LabError(
            f"model {name!r} was asked for with quantization {quantization} and its linear layers were loaded in "
            f"{', '.join(sorted(forms)) or '16 bit'}: its config.json does not describe its weights",
            key="quantization",
        )


def _made(entry: catalogue.Model) -> Path:
    """The folder of a model that this code makes: of random weights, or of a package's."""
    if entry.where == "random":
        from labqueue.llm.models import tiny

        return tiny.folder()
    from labqueue.llm.models import gguf

    return gguf.converted(entry)


def _load_hf(
    folder: Path, name: str, settings: Json, dtype: torch.dtype, device: str, attention: str
) -> tuple[CausalModel, Tokenizer]:
    from transformers import AutoModelForCausalLM

    common = {"local_files_only": True, "trust_remote_code": False}
    found = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        attn_implementation=attention,
        output_loading_info=True,
        **common,
        **settings,
    )
    model, info = cast("tuple[CausalModel, Json]", found)
    tensors.check_info(info, name)
    return model, load_tokenizer(folder, name)


def load_tokenizer(folder: Path, name: str) -> Tokenizer:
    """A folder's tokenizer, without code of its own.

    Raises:
        LabError: it cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"the tokenizer of model {name!r} cannot be loaded ({str(error).splitlines()[0]}): copy its files again",
            key="model",
        ) from error


def _load_unsloth(
    folder: Path, quantization: Quantization, dtype: torch.dtype, max_length: int, gradient_checkpointing: bool
) -> tuple[CausalModel, Tokenizer]:
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=str(folder),
        max_seq_length=max_length,  # it clips silently at what it is told here
        dtype=dtype,
        load_in_4bit=quantization == "4bit",
        use_gradient_checkpointing="unsloth" if gradient_checkpointing else False,
        use_exact_model_name=True,  # else it may swap in another, prequantised repository
        local_files_only=True,
        trust_remote_code=False,
    )
    return model, tokenizer


def _agree_on_tokens(model: CausalModel, tokenizer: Tokenizer) -> None:
    """One pad, on tokenizer, model and generation alike; labels never depend on which token pads. What ends a reply
    depends on the template and is settled with it (``generate.settle``)."""
    if tokenizer.pad_token_id is None and (spare := tokenizer.unk_token or tokenizer.eos_token) is not None:
        tokenizer.pad_token = spare
    # On byte-level BPE it would strip spaces before punctuation from what is decoded.
    tokenizer.clean_up_tokenization_spaces = False
    for config in (model.config, model.generation_config):
        config.pad_token_id = tokenizer.pad_token_id
