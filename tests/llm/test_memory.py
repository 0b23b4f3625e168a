"""Memory: peaks are measured, running out is recognised, and nothing is invented on a CPU."""

from __future__ import annotations

import pytest

from labqueue.llm.memory import device


class OutOfMemoryError(RuntimeError):
    """As torch names its own; found by name, so that torch need not be imported."""


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
        RuntimeError("CUDA error: out of memory at line 90 in file csrc/ops.cu"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_running_out_of_memory_is_recognised_also_behind_another_error(error: Exception) -> None:
    assert device.is_out_of_memory(error)
    wrapped = ValueError("while training")
    wrapped.__cause__ = error
    assert device.is_out_of_memory(wrapped)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("out of memory is what this text says"),
        RuntimeError("size mismatch"),
        KeyError("memory"),
        OSError(28, "No space left on device"),
    ],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not device.is_out_of_memory(error)


def test_a_cpu_has_a_measured_peak_no_cap_and_no_context() -> None:
    peak = device.peak_gib("cpu")
    assert peak is not None
    assert peak > 0.01
    assert device.cap("cpu", 4.0) == (None, None)
    with pytest.raises(ValueError, match="above 0"):
        device.cap("cpu", 0.0)


def test_a_real_allocation_that_cannot_be_met_is_recognised() -> None:
    import torch

    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert device.is_out_of_memory(caught.value)


@pytest.mark.gpu
def test_on_a_gpu_the_cap_holds_and_the_context_is_measured() -> None:
    import torch

    capped, _ = device.cap("cuda:0", 1.0)
    assert capped == 1.0
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        torch.empty(2 * device.GIB, dtype=torch.uint8, device="cuda:0")
    assert device.is_out_of_memory(caught.value)
    torch.cuda.set_per_process_memory_fraction(1.0)
