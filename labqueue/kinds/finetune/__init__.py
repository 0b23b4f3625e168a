"""Fine-tunes a model, an adapter or all of it, on questions and answers; measures held-out loss and exact answers.

LoRA freezes the base, in 4 bit (QLoRA) or 16; full fine-tuning trains every weight. Held-out loss is measured before
the first step, at ``evaluations`` steps in between and after the last; a run that misses one of them fails.
"""

from __future__ import annotations

from labqueue.kinds._host import expected_s, imports
from labqueue.kinds.finetune.checks import check
from labqueue.kinds.finetune.memory import estimate, lessen
from labqueue.kinds.finetune.params import Params
from labqueue.kinds.finetune.run import assets, pinned, rehearse, resolved, run, smaller, would_fit

__all__ = [
    "Params",
    "assets",
    "check",
    "estimate",
    "expected_s",
    "imports",
    "lessen",
    "pinned",
    "rehearse",
    "resolved",
    "run",
    "smaller",
    "would_fit",
]
