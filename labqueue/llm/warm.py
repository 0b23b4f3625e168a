"""Importing this imports what every run on a CPU needs, after the switches that must come before.

A process in waiting does it while the run before still computes: some ten seconds of every short run.
"""

from __future__ import annotations

import importlib

from labqueue.llm.data.generated import task_source
from labqueue.llm.models import load

load.prepare_process("hf", "cpu")
with load.uncollected():
    for name in ("torch", "transformers", "bitsandbytes", "peft", "trl"):
        importlib.import_module(name)
    # transformers and TRL import most of themselves only when a name is asked for.
    for module, attribute in (("transformers", "AutoModelForCausalLM"), ("trl", "SFTTrainer")):
        getattr(importlib.import_module(module), attribute)
    task_source.library()
