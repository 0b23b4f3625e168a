"""Fine-tunes a model, an adapter or all of it, on questions and answers; measures held-out loss and exact answers.

LoRA freezes the base, in 4 bit (QLoRA) or 16; full fine-tuning trains every weight. Held-out loss is measured before
the first step, at ``evaluations`` steps in between and after the last; a run that misses one of them fails.
"""

from __future__ import annotations

from labqueue.kinds._host import imports
from labqueue.kinds.finetune.checks import check
from labqueue.kinds.finetune.host import expected_s
from labqueue.kinds.finetune.memory import estimate, memory_groups, reduce
from labqueue.kinds.finetune.metrics import ARTIFACTS, METRICS, family_metrics
from labqueue.kinds.finetune.params import Params
from labqueue.kinds.finetune.run import assets, memory_advice, pinned, preflight, resolved, run, with_less_memory

COMPUTED_IN = "dtype"

__all__ = [
    "ARTIFACTS",
    "COMPUTED_IN",
    "METRICS",
    "Params",
    "assets",
    "check",
    "estimate",
    "expected_s",
    "family_metrics",
    "imports",
    "memory_advice",
    "memory_groups",
    "pinned",
    "preflight",
    "reduce",
    "resolved",
    "run",
    "with_less_memory",
]
