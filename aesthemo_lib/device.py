"""What the machine offers: cores that this process may use, the device, and its fast precision."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def allowed_cores() -> int:
    """Cores that this process may use: the smaller of its affinity and its container's quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _quota() or affinity))


def _quota() -> int | None:
    """A Linux control group's CPU quota in whole cores (version 2, then 1), None where there is none."""
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        try:
            limit = (folder / "cpu.cfs_quota_us").read_text(encoding="utf-8").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="utf-8").strip()
        except OSError:
            return None
    return None if limit in ("max", "-1") else max(1, math.ceil(int(limit) / int(period)))


def free_memory() -> float:
    """Bytes of memory that this process may still take: what the machine has, or its container's limit if less."""
    import psutil

    free = psutil.virtual_memory().available
    for limit in (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")):
        with contextlib.suppress(OSError, ValueError):  # 'max'
            free = min(free, int(limit.read_text(encoding="utf-8")))
    return free


def pick_device(name: str | None = None) -> torch.device:
    """The device to compute on: CUDA if there is one, else the CPU. Apple's 'mps' only when asked (it has no float64).

    Of several processes on a machine, as torchrun starts them, each has a GPU of its own. A ValueError says that the
    device that was asked for is not there.
    """
    import torch

    device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise ValueError(f"device {name!r} is not available here; use one of {[d for d, ok in there.items() if ok]}")
    return _own_gpu() if device == torch.device("cuda") and "LOCAL_RANK" in os.environ else device


def _own_gpu() -> torch.device:
    import torch

    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise ValueError(f"process {number + 1} of this machine has no GPU of its own, of {there}; start {there}")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def set_threads(threads: int | None = None) -> int:
    """Give torch this many threads, by default every core that the process may use; returns the number."""
    import torch

    keep_freed_memory()
    threads = threads or int(os.environ.get("OMP_NUM_THREADS", 0)) or allowed_cores()
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    return threads


def keep_freed_memory() -> None:
    """Have glibc keep large blocks for the next step instead of handing them back to the system and faulting them in.

    Training steps of the two-branch EfficientNet-Lite0 took 0.85 of the time with it (two cores), ledgers 0.7.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc has no such switch
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD: blocks below 1 GiB come from the heap
        mallopt(-1, -1)  # M_TRIM_THRESHOLD, none: the heap's free end stays, more than 2 GiB of it too


def fast_precision(device: torch.device) -> torch.dtype:
    """bfloat16 where the processor multiplies it faster than float32, else float32.

    PyTorch's own switch ``ATEN_CPU_CAPABILITY=avx2`` holds a processor that has more to float32.
    NVIDIA's cards from Volta up to Ampere have fast float16 instead, whose gradients need a scaled loss.
    """
    import torch

    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        return torch.float16 if torch.cuda.get_device_capability(device) >= (7, 0) else torch.float32
    usable = torch.backends.cpu.get_cpu_capability() == "AVX512"
    if device.type == "cpu" and usable and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32
