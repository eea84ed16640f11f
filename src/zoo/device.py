"""Where a model runs and in which precision: CPU, CUDA and MPS from one code path."""

import platform
import resource
import sys
from contextlib import AbstractContextManager

import torch

from zoo.errors import UserError


def pick(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        UserError: This machine has no such device.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    kind, colon, index = name.partition(":")
    if kind not in here or (colon and not index.isdecimal()):
        raise UserError(f"unknown device '{name}'; there are: auto, cpu, cuda, cuda:N, mps")
    if not here[kind] or (index and int(index) >= torch.cuda.device_count()):
        usable = ", ".join(kind for kind, usable in here.items() if usable)
        raise UserError(
            f"device '{name}' is not usable here; usable: {usable}\npass --device auto, or run 'zoo doctor' to see why"
        )
    return torch.device(name)


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` is bf16 on CUDA and fp32 elsewhere."""
    if precision == "auto":
        return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    return precision


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Matrix products in `precision`; weights, norms and losses stay in fp32."""
    enabled = resolve_precision(precision, device) == "bf16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def describe(device: torch.device) -> str:
    """The hardware's name, such as `NVIDIA H200` or `AMD EPYC (2 threads)`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()} ({torch.get_num_threads()} threads)" if device.type == "cpu" else platform.machine()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def is_out_of_memory(error: BaseException) -> bool:
    """Only CUDA's allocator raises a type of its own."""
    told = isinstance(error, RuntimeError) and any(
        each in str(error) for each in ("DefaultCPUAllocator", "MPS backend")
    )
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (told and "memory" in str(error))


def peak_memory_bytes(device: torch.device) -> int:
    """The most this process held so far: on the device for CUDA, else of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
