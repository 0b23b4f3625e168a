"""Trains a GPT from nothing on a corpus, watches it learn, and keeps it for other experiments.

Loss is measured over the whole validation split before the first step, at ``evaluations`` steps in between and after
the last; samples are written at each. Models are kept at 25, 50 and 75 %, at the end and on demand, as folders that
transformers opens.
"""

from __future__ import annotations

from labqueue.kinds.pretrain.checks import check, expected_s
from labqueue.kinds.pretrain.memory import estimate, memory_advice, memory_groups, reduce, with_less_memory
from labqueue.kinds.pretrain.metrics import ARTIFACTS, METRICS
from labqueue.kinds.pretrain.params import Params
from labqueue.kinds.pretrain.run import assets, imports, pinned, preflight, resolved, run

COMPUTED_IN = "dtype"
KEEPS_ON_DEMAND = True

__all__ = [
    "ARTIFACTS",
    "METRICS",
    "Params",
    "assets",
    "check",
    "estimate",
    "expected_s",
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
