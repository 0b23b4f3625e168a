"""Decides for runs that load a model what they compute in and import, and checks the processor."""

from __future__ import annotations

from labqueue.kinds._pins import Dtype


def decided(dtype: Dtype, device: str) -> str:
    """What ``auto`` means on this computer's processor; unchanged for a GPU, whose card decides when it is there.

    Raises:
        LabError: as ``labqueue.llm.processor.cpu_dtype``.
    """
    from labqueue.llm import processor

    return processor.cpu_dtype() if dtype == "auto" and device == "cpu" else dtype


def imports(device: str) -> tuple[str, ...]:
    """What runs that load a model import. On a GPU only torch: Unsloth, if it is used, must come before the rest."""
    return ("labqueue.llm.warm",) if device == "cpu" else ("torch",)


def check_processor(device: str) -> None:
    """Checks that this computer's processor can run what a run on a CPU needs.

    Raises:
        LabError: it has no AVX2.
    """
    from labqueue.llm import processor

    if device == "cpu":
        processor.check_processor()
