"""What a pretraining run would find out as it begins, found out at submission; and how long it takes on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labqueue.domain.errors import LabError
from labqueue.kinds import _host
from labqueue.kinds.pretrain import memory
from labqueue.kinds.pretrain import params as parameters

if TYPE_CHECKING:
    from labqueue.kinds.pretrain.params import Params

START_S = 12.0
"""Until torch is imported and a cached corpus is opened, on two slow cores. Assumption."""

CALLS_S = 1.5e-3
"""Of a block in a step beside its products: calls of small kernels, measured with 0.8M parameters on two cores."""

EFFICIENCY = 0.4
"""Of a large product's speed, what the products of a small model reach. Measured likewise."""

REFERENCE_TOKENS = 100_000
"""Of a validation split that has not been read yet."""


def check(params: Params, device: str) -> None:
    """Does nothing where a run could begin, as far as its corpus's name and its numbers tell.

    Raises:
        LabError: an unknown preset or corpus, a corpus that has changed, numbers that do not fit each other, a warm-up
            beyond the run, a vocabulary above the embedding, a way of computing that the device has not, a processor
            without AVX2.
    """
    from labqueue.llm.corpora import catalogue
    from labqueue.llm.models import architectures

    rows = memory.vocabulary(params)
    config = parameters.config(params, rows)
    parameters.recipe(params)
    if params.probe_every is not None and config.class_name is None:
        raise LabError(
            f"{architectures.no_class('this model', config.ablations)}: leave probe_every out", key="probe_every"
        )
    _host.check_processor(device)
    if device == "cpu" and params.compile == "graph":
        raise LabError("compile: graph records a CUDA graph: leave compile at auto on a CPU", key="compile")
    if params.compile == "graph" and params.activation_checkpointing:
        raise LabError(
            "activation_checkpointing saves random states, which a CUDA graph cannot record: leave compile at auto",
            key="compile",
        )
    choice = params.tokenizer
    least = {"byte": 257, "bpe": choice.tokens, "character": 2}.get(choice.kind)
    if params.vocabulary is not None and least is not None and params.vocabulary < least:
        raise LabError(
            f"vocabulary is {params.vocabulary}, but the tokenizer ({choice.kind}) has {least} tokens: leave it out, "
            f"or give at least {least}",
            key="vocabulary",
        )
    opened = catalogue.open_corpus(params.corpus) if catalogue.available(params.corpus) else None
    if opened is not None and params.corpus_sha256 is not None and opened.sha256 != params.corpus_sha256:
        raise LabError(
            f"corpus {params.corpus!r} has changed since it was submitted: put it back, or submit again", key="corpus"
        )


def expected_s(params: Params, device: str) -> float | None:
    """Predicted seconds of one run on this computer's processor; None on a GPU."""
    from labqueue.llm import processor
    from labqueue.llm.pretraining.throughput import flops_a_token

    if device != "cpu":
        return None
    made, trained = parameters.config(params, memory.vocabulary(params)), parameters.recipe(params)
    speed = processor.speeds().of("bfloat16" if params.dtype == "bfloat16" else "float32") * 1e9 * EFFICIENCY
    shared = 1.0 + 0.8 * (processor.cores() - 1)
    forward = flops_a_token(made) / 3.0
    tokens = trained.steps * trained.batch * trained.accumulation * made.context
    validated = (params.evaluations + 2) * REFERENCE_TOKENS
    sampled = (params.evaluations + 2) * len(params.prompts) * params.sample_tokens
    products = forward * (3.0 * tokens + validated + sampled * made.context) / speed / shared
    calls = CALLS_S * made.layers * (trained.steps * trained.accumulation + 0.3 * sampled)
    return START_S + products + calls
