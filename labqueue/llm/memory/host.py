"""Estimates seconds and memory of a fine-tuning run on a computer without a GPU. Needs no torch.

Counted from the model's shape and the run's plan. What no count gives (imports, calls, the allocator) was measured with
SmolLM2-135M on two cores and is scaled by how fast this processor is: meant to tell minutes from hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from labqueue.llm.memory import footprint
from labqueue.llm.memory.workload import Workload
from labqueue.llm.models.shapes import LINEAR, Shape
from labqueue.llm.processor import Speeds

GIB = 2**30


@dataclass(frozen=True)
class Work:
    """How much a run does."""

    steps: int
    evaluated: int
    """Rows whose loss is measured, all evaluations together."""
    answered: int
    """Questions that are answered, before and after together."""
    new_tokens: int
    """Of an answer at most."""


IMPORTS_S = 9.0
"""Until torch, transformers, PEFT and TRL are imported and rows are made."""

QUANTISED_S = 4.5e-8
"""To bring a parameter into NF4."""

FORWARD_S, BACKWARD_S = 0.5e-3, 2.3e-3
"""Of one linear layer in one pass beside what grows with its tokens: dequantised, called, its adapter's gradient."""

TOKEN_S = 4e-8
"""Of an element of the hidden state, in each block and pass, beside products: norms, attention, dropout, copies."""

REFERENCE_GFLOPS = 130.0
"""A core's speed in float32 where these seconds were measured; another core's are scaled by the root of its own."""

SECOND_CORE = 0.8
"""How much of each further core is used by what is done in threads."""

AT_ONCE = 16
"""Questions that ``generate.answers`` takes at once."""

PROCESS_GIB = 1.4
"""A process that has imported torch, transformers, bitsandbytes, PEFT and TRL (0.9), and its libraries' own buffers."""

ALLOCATOR = 0.3
"""Part by which a process's memory is larger than what is counted: blocks that are free and not given back."""


def seconds(shape: Shape, plan: Workload, work: Work, dtype: str, speeds: Speeds, cores: int) -> float:
    """Predicted wall time of a run on an otherwise quiet computer."""
    matrices = shape.layers * len(LINEAR)
    micro = work.steps * plan.accumulation
    back = (1.0 if plan.method == "lora" else 2.0) + (1.0 if plan.checkpointing else 0.0)  # in forward passes
    tokens = micro * plan.tokens * (1.0 + back) + work.evaluated * plan.sequence
    tokens += work.answered * (plan.sequence + work.new_tokens)
    headed = work.answered * work.new_tokens  # elsewhere too only few positions go through the head
    forward = micro + work.evaluated / plan.batch + math.ceil(work.answered / AT_ONCE) * work.new_tokens
    products = 2.0 * (shape.linear_parameters * tokens + shape.embedding_parameters * headed)
    products /= speeds.of(dtype) * 1e9
    calls = matrices * (forward * FORWARD_S + micro * back * BACKWARD_S)
    elements = tokens * shape.layers * shape.hidden * TOKEN_S
    quantised = shape.linear_parameters * QUANTISED_S if plan.quantization == "4bit" else 0.0
    slower = math.sqrt(REFERENCE_GFLOPS / speeds.float32)
    shared = 1.0 + SECOND_CORE * (cores - 1)
    return (IMPORTS_S + quantised + calls + elements / shared) * slower + products / shared


def memory_gib(shape: Shape, plan: Workload, dtype: str) -> float:
    """Predicted peak of a run's resident memory."""
    # The counts are those of 16 bit; beside 4-bit weights all is kept in float32.
    wide = 2.0 if dtype == "float32" or plan.method == "full" or plan.quantization == "4bit" else 1.0
    held = footprint.held(shape, plan)
    other = held.pop("optimizer") + held.pop("adapters") + 4.0 * footprint.trained(shape, plan)  # with gradients, fp32
    packed = held.pop("quantization_state", 0.0)
    if plan.quantization == "4bit":
        packed += held.pop("weights")
    weights = sum(held.values()) * (1.0 if plan.method == "full" else wide)
    blocks = 1 if plan.checkpointing else shape.layers
    kept = plan.tokens * footprint.saved_per_token(shape, plan) * blocks * wide
    # Without a GPU the loss is not made in tiles; where every token has loss: logits, their logarithms, their gradient.
    logits = plan.tokens * shape.vocabulary * (8.0 + 4.0 * wide)
    file = 4.0 * shape.parameters if plan.method == "lora" else 0.0  # read by mapping it; pages that stay count
    return PROCESS_GIB + (file + (other + packed + weights + kept + logits) * (1 + ALLOCATOR)) / GIB
