"""Types of models, tokenizers and trainers, for annotations alone: importing them costs nothing. No runs.

Names of libraries stand under ``TYPE_CHECKING``, so whoever uses ``Model``, ``CausalModel``, ``AdapterLayer`` or
``Tokenizer`` imports them there too. The classes say what transformers and PEFT leave untyped: a module's attribute is
a tensor or a module to torch, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

    class CausalModel(PreTrainedModel):
        """A decoder with its head, as ``AutoModelForCausalLM`` makes it."""

        generation_config: GenerationConfig

        def get_input_embeddings(self) -> torch.nn.Embedding:
            """The embedding, ``[vocabulary, hidden]``."""

        def get_output_embeddings(self) -> torch.nn.Linear:
            """The head, ``[vocabulary, hidden]``."""

        def generate(
            self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, generation_config: GenerationConfig
        ) -> torch.Tensor:
            """Prompts and what follows them, ``[batch, position]``."""

    class AdapterLayer(torch.nn.Module):
        """A linear layer with a LoRA: PEFT has a class of its own for each form of the weight."""

        lora_A: Mapping[str, torch.nn.Linear]
        """By name of the adapter: A, ``[rank, inputs]``."""
        lora_B: Mapping[str, torch.nn.Linear]
        """By name of the adapter: B, ``[outputs, rank]``."""
        scaling: Mapping[str, float]
        """By name of the adapter: what B A is multiplied with."""

        def get_base_layer(self) -> LinearLayer:
            """The layer without its adapter."""

    Model: TypeAlias = CausalModel | PeftModel
    """A model with or without an adapter around it."""

    Tokenizer: TypeAlias = PreTrainedTokenizerBase


Json: TypeAlias = dict[str, Any]
"""An object of a JSON file, a row of a dataset, settings of a library: its values are checked where they are used."""
JsonMapping: TypeAlias = Mapping[str, Any]
"""The same, to read only."""

Batch: TypeAlias = dict[str, Any]
"""Arguments of a model by name: tensors ``[batch, position]``, and for packed rows a flag beside them."""


class LinearLayer(Protocol):
    """A layer with a weight: torch's, bitsandbytes' in 4 bit, or GPT-2's Conv1D, which keeps its weight transposed."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None


class Accelerator(Protocol):
    """What the lab uses of accelerate's, which has no types."""

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which a forward pass computes in the trainer's type of number."""
