"""Device memory: what a process has used at most, how to cap it, and which errors mean that it ran out. No runs.

GiB everywhere. On CUDA the peak is of the allocator's reserved bytes and the context is separate; on a CPU it is the
process's peak resident set, context and all.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from labqueue.system import cards, resident_memory

GIB = 2**30

_MESSAGES = re.compile(
    r"out of memory"  # torch CUDA, the driver (CUDA error: out of memory), Triton, bitsandbytes' own kernels
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED|CUSOLVER_STATUS_ALLOC_FAILED"
    r"|CUBLAS_STATUS_NOT_INITIALIZED"  # what cuBLAS says when its handle's workspace does not fit
    r"|failed to map segment"  # a library that is first imported under a limit of the process's memory
    r"|DefaultCPUAllocator: (can't|not enough)|std::bad_alloc|Cannot allocate memory",
    re.IGNORECASE,
)


def reset_peak(device: str) -> None:
    """Starts the peak of a CUDA device anew; a CPU process's peak cannot be reset and is left."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: str) -> float | None:
    """The most memory this process has held; None where the system does not say."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved(device) / GIB
    peak = resident_memory.peak_bytes()
    return None if peak is None else peak / GIB


def cap(device: str, memory_gib: float | None) -> tuple[float | None, float | None]:
    """Caps this process's allocator on a CUDA device; returns (cap, CUDA context), GiB. (None, None) on a CPU.

    ``memory_gib`` None caps at what is free once the context exists. The context is the difference in the device's used
    memory around its creation, so it is None where this process already had one: call this before any CUDA work.

    Raises:
        ValueError: ``memory_gib`` is not above 0.
    """
    if memory_gib is not None and not memory_gib > 0:
        raise ValueError(f"memory_gib must be above 0, got {memory_gib}")
    if not device.startswith("cuda"):
        return None, None
    enable_expandable_segments()
    import torch

    index = torch.device(device).index or 0
    initialised = bool(torch.cuda.is_initialized())
    before = None if initialised else _used_gib(index)
    torch.cuda.set_device(index)
    torch.zeros(1, device=device)  # the context exists from here on
    free, total = torch.cuda.mem_get_info(index)
    reserved = torch.cuda.memory_reserved(index)
    # NVML on both sides: what the driver keeps for itself counts as used there and is no part of the context.
    after = _used_gib(index)
    context_gib = None if before is None or after is None else max(0.0, after - before - reserved / GIB)
    cap_gib = (free + reserved) / GIB if memory_gib is None else memory_gib
    cap_gib = min(cap_gib, total / GIB)
    # Above 1 raises: a "16 GB" card has less than 16 GiB.
    torch.cuda.set_per_process_memory_fraction(min(1.0, cap_gib * GIB / total), index)
    torch.cuda.empty_cache()
    return cap_gib, context_gib


def enable_expandable_segments() -> None:
    """Asks the CUDA allocator for segments that grow, where drivers have them; read as torch is first used.

    Blocks of other shapes that an evaluation or a load leaves can then be used again: without it the reserved peak of
    a 7B QLoRA was 5 to 10 % higher (measured). Unsloth asks for the same, too late once a cap has been set. A person's
    own setting stays. WSL and Tegra lack what it is built on.
    """
    if "microsoft" not in os.uname().release.lower() and not Path("/etc/nv_tegra_release").exists():
        os.environ.setdefault("PYTORCH_ALLOC_CONF", "expandable_segments:True")


def _used_gib(index: int) -> float | None:
    """Used memory of a device without making a CUDA context on it, GiB; None without NVML."""
    return next((card.total_gib - card.free_gib for card in cards.gpus() if card.index == index), None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, says that memory ran out.

    Knows torch (CUDA and CPU), bitsandbytes, Triton, cuBLAS, cuDNN and Python's own MemoryError.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        named = any(base.__name__ in ("OutOfMemoryError", "MemoryError") for base in type(link).__mro__)
        # Triton's OutOfResources is shared memory of one kernel: no smaller batch helps.
        if named or (isinstance(link, RuntimeError | OSError | ImportError) and _MESSAGES.search(str(link))):
            return True
        link = link.__cause__ or link.__context__
    return False


_FAULT = re.compile(
    r"unspecified launch failure|uncorrectable (NVLink|ECC)|hardware (stack|error)|GPU is lost|"
    r"no CUDA-capable device|No CUDA GPUs are available|CUDA driver|"
    r"device(s)? (is|are) busy or unavailable|driver shutting down|"
    r"system (not yet initialized|driver mismatch)|CUDA error: (unknown error|initialization error|launch timed out)|"
    r"the launch timed out",
    re.IGNORECASE,
)
"""Messages of the CUDA runtime (cudaGetErrorString) that a sound program can meet on a card that misbehaves.

Not among them: an illegal memory access and a device-side assert, which a program causes and will cause again.
"""


def is_device_fault(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is the device's or its driver's fault."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, RuntimeError) and _FAULT.search(str(link)):
            return True
        link = link.__cause__ or link.__context__
    return False


def unsupported(index: int) -> str | None:
    """Why this torch has no kernels for a CUDA device, in words; None when it has."""
    import torch

    major, minor = torch.cuda.get_device_capability(index)
    built = torch.cuda.get_arch_list()
    exact = {f"sm_{major}{lower}" for lower in range(minor + 1)}  # kernels run on later minors of their major version
    runs = any(arch.startswith("compute_") or arch.rstrip("af") in exact for arch in built)
    return None if runs else f"torch {torch.__version__} is built for {', '.join(built)}, not for sm_{major}{minor}"
