"""Times that can be compared: works in turn within one process, and what each operation costs beside a roofline."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from aesthemo_lib.device import allowed_cores, fast_precision, pick_device

from .rows import AVX2, AVX512

MATRIX = 4096
"""The side of the square matrices whose product is the measure of what the machine can multiply."""
STREAMED = 2**26
"""Float32 numbers, 256 MB, that are copied to measure the memory: far more than a processor's cache holds."""
MOVES = frozenset({"aten::cat", "aten::stack", "aten::clone", "aten::copy_", "aten::_to_copy", "aten::index",
                   "aten::index_select", "aten::contiguous"})
"""Operations that compute nothing."""


def now(device: torch.device) -> float:
    """The time, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def processor_time(_: torch.device | None = None) -> float:
    """The seconds that all cores have spent on this process, and on the processes that it has waited for."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


def seconds(work: Callable[[], Any], device: torch.device, clock: Callable[[torch.device], float] = now) -> float:
    """How long a work takes."""
    began = clock(device)
    work()
    return clock(device) - began


def in_turn(works: dict[str, Callable[[], Any]], rounds: int, device: torch.device,
            clock: Callable[[torch.device], float] = now) -> dict[str, np.ndarray]:
    """Each work's seconds, round by round, the works in turn, so that a machine that slows down slows them all.

    A first round, which warms up, is not counted. ``clock`` may be ``processor_time``, which others' work hardly moves.
    """
    times = [[seconds(work, device, clock) for work in works.values()] for _ in range(rounds + 1)]
    return dict(zip(works, np.array(times[1:]).T, strict=True))


def matrix_product(device: torch.device, precision: torch.dtype, side: int = MATRIX) -> Callable[[], Tensor]:
    """A work: one product of two square matrices, of 2 side^3 operations."""
    a, b = (torch.randn(side, side, device=device).to(precision) for _ in range(2))
    return lambda: a @ b


def peak(device: torch.device, precision: torch.dtype, side: int = MATRIX, repeats: int = 5) -> float:
    """The best matrix product's operations a second."""
    work = matrix_product(device, precision, side)
    return 2 * side**3 / in_turn({"product": work}, repeats, device)["product"].min()


def bandwidth(device: torch.device, numbers: int = STREAMED, repeats: int = 5) -> float:
    """Bytes a second that the memory gives and takes when a large array is copied, at its best."""
    source, target = (torch.zeros(numbers, device=device) for _ in range(2))
    return 8 * numbers / in_turn({"copy": lambda: target.copy_(source)}, repeats, device)["copy"].min()


@dataclass
class Cost:
    """What one kind of operation took, all its calls together.

    Attributes:
        seconds: measured.
        operations: multiplications and additions, of convolutions and matrix products.
        bytes: of all that goes in and comes out.
        floor: the seconds that the roofline grants: operations over the matrix peak, or bytes over the bandwidth.
    """

    seconds: float = 0.0
    operations: float = 0.0
    bytes: float = 0.0
    floor: float = 0.0


class Meter(TorchDispatchMode):
    """Within its block, times every operation that torch runs, the backward pass's too, and adds them up by kind.

    A convolution's gradients by data and by weights are asked for one after the other, to time each.

    Args:
        peaks: operations a second by precision; empty: no floors.
        bandwidth: bytes a second.
    """

    def __init__(self, peaks: dict[torch.dtype, float] | None = None, bandwidth: float = float("inf")):
        super().__init__()
        self.peaks, self.bandwidth = peaks or {}, bandwidth
        self.costs: dict[str, Cost] = {}
        self.moved = 0.0  # seconds of operations that compute nothing

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket == torch.ops.aten.convolution_backward and all(args[10][:2]):
            data = self._timed(func, [*args[:10], [True, False, False]])[0]
            _, weight, bias = self._timed(func, [*args[:10], [False, True, args[10][2]]])
            return data, weight, bias
        return self._timed(func, args, kwargs)

    def _timed(self, func, args, kwargs=None):
        device = next((x.device for x in tree_leaves(args) if isinstance(x, Tensor)), torch.device("cpu"))
        began = now(device)
        out = func(*args, **(kwargs or {}))
        spent = now(device) - began
        if not func.is_view:
            self._add(func, args, out, spent)
        return out

    def _add(self, func, args, out, spent: float) -> None:
        cost = self.costs.setdefault(kind(func, args), Cost())
        tensors = [x for x in tree_leaves((args, out)) if isinstance(x, Tensor)]
        worked, carried = operations(func, args, out), sum(x.numel() * x.element_size() for x in tensors)
        floors = [carried / self.bandwidth]
        if worked and self.peaks:
            floors.append(worked / self.peaks.get(tensors[0].dtype, max(self.peaks.values())))
        cost.seconds, cost.operations, cost.bytes = cost.seconds + spent, cost.operations + worked, cost.bytes + carried
        cost.floor += min(max(floors), spent)  # what lies in the processor's cache is quicker than the memory
        self.moved += spent * (func._schema.name in MOVES)

    @property
    def total(self) -> Cost:
        """All kinds together."""
        costs = self.costs.values()
        return Cost(*(sum(getattr(cost, name) for cost in costs) for name in Cost.__dataclass_fields__))

    def table(self, most: int = 10) -> list[str]:
        """The kinds that take longest, as lines of a Markdown table."""
        total = self.total.seconds
        lines = ["| operation | share of the time | GFLOP/s | GB/s | of which the roofline grants |", "|---" * 5 + "|"]
        for name, cost in sorted(self.costs.items(), key=lambda entry: -entry[1].seconds)[:most]:
            work = f"{cost.operations / cost.seconds / 1e9:.0f}" if cost.operations else ""
            lines.append(f"| {name} | {cost.seconds / total:.1%} | {work} | {cost.bytes / cost.seconds / 1e9:.1f} | "
                         f"{cost.floor / cost.seconds:.0%} |")
        return lines


def kind(func, args) -> str:
    """What an operation is called in a table; a convolution's name says of which sort it is, and which gradient."""
    name = func._schema.name.removeprefix("aten::")
    if name not in ("convolution", "convolution_backward"):
        return name
    back = name == "convolution_backward"
    weight, stride, groups = args[2] if back else args[1], args[4 if back else 3], args[9 if back else 8]
    sort = "depthwise " * (groups > 1) + "x".join(map(str, weight.shape[2:])) + f" stride {stride[0]}" * (stride[0] > 1)
    return f"conv {sort}" + ("" if not back else ", gradient by data" if args[10][0] else ", gradient by weights")


def operations(func, args, out) -> float:
    """Multiplications and additions of a convolution or a matrix product; 0 of anything else."""
    name = func._schema.name.removeprefix("aten::")
    if name == "convolution":
        return 2.0 * out.numel() * args[1][0].numel()
    if name == "convolution_backward":  # each gradient takes what the forward pass took
        return 2.0 * args[0].numel() * args[2][0].numel()
    if name in ("mm", "addmm"):
        a, b = args[-2:]
        return 2.0 * a.shape[0] * a.shape[1] * b.shape[1]
    return 0.0


def metered(work: Callable[[], Any], device: torch.device, precisions: Iterable[torch.dtype], side: int, numbers: int,
            ) -> Meter:
    """One run of a work, every operation beside this machine's roofline, which is measured in the same process."""
    peaks = {precision: peak(device, precision, side, 3) for precision in precisions}
    with Meter(peaks, bandwidth(device, numbers, 3)) as meter:
        work()
    return meter


def describe(device: str | None) -> str:
    """The machine in a line: what a measured ratio may depend on, and nothing that names this one."""
    at = pick_device(device or "cpu")
    cores, gigabytes = allowed_cores(), round(psutil.virtual_memory().total / 2**30)
    card = [torch.cuda.get_device_name(at)] if at.type == "cuda" else []
    threads = int(os.environ.get("OMP_NUM_THREADS", 0)) or cores
    used = [] if threads == cores else [f"{threads} thread{'s' * (threads > 1)}"]
    words = [*card, _processor(), instructions(), f"{cores} core{'s' * (cores > 1)}", *used, f"{gigabytes} GB",
            platform.system(), f"Python {platform.python_version()}", f"torch {torch.__version__}"]
    return ", ".join(words)


def instructions() -> str:
    """The best instructions that torch may use on this processor: a name of ``rows.KINDS``, or torch's own."""
    if fast_precision(torch.device("cpu")) == torch.bfloat16:
        return AVX512
    has = torch.backends.cpu.get_cpu_capability()
    return {"AVX2": AVX2, "AVX512": "AVX-512 in float32"}.get(has, has)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
