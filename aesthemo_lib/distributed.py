"""One training on several processes, as ``torchrun`` and ``accelerate launch`` start them.

Every process computes its part of each batch, gradients are added (PyTorch's DistributedDataParallel), and only the
first process writes. A batch is that of all processes together, so that their number changes a run no more than the
number of threads does. In one process all of this does nothing.
"""

import contextlib
import ctypes
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others before it gives up: one of them may be writing the run's state."""
DECODING = timedelta(days=1)
"""How long it waits at the start, where another machine may still decode its photographs."""
BACKENDS = {"cuda": "nccl", "cpu": "gloo"}
_group: Any = None


def size() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if _group else 1


def rank() -> int:
    """This process' number among them, from 0."""
    return distributed.get_rank() if _group else 0


@contextlib.contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Join the processes that were started with this one, as the variables RANK, WORLD_SIZE, .. say.

    If the starter ends, this process ends too (on Linux); if another of the processes ends, the next exchange fails.
    """
    global _group
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield
        return
    if device.type not in BACKENDS:
        raise ValueError(f"several processes train on {' or '.join(BACKENDS)}, not on {device.type}; start one process")
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: no orphan remains
    distributed.init_process_group(BACKENDS[device.type], timeout=DECODING)
    _group = distributed.new_group(timeout=PATIENCE)
    yield
    _group = None  # after a fault the process ends as it is: to leave in order, others would have to answer
    distributed.destroy_process_group()


def part(rows: np.ndarray) -> np.ndarray:
    """This process' part of a batch; the parts of all hold each row once."""
    return np.array_split(rows, size())[rank()]


def broadcast(value: Any, device: torch.device) -> Any:
    """The first process' value, which JSON can hold, in every process."""
    if not _group:
        return value
    content = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    length = torch.tensor([len(content)], device=device)
    distributed.broadcast(length, 0, group=_group)
    if rank():
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
    distributed.broadcast(content, 0, group=_group)
    return json.loads(content.cpu().numpy().tobytes())


def copy(tensors: Iterable[Tensor]) -> None:
    """Give every process the first one's numbers, in place."""
    for tensor in tensors if _group else ():
        plain = tensor.detach().contiguous()  # whatever its layout
        distributed.broadcast(plain, 0, group=_group)
        tensor.detach().copy_(plain)


def total(tensor: Tensor) -> Tensor:
    """The sum of all processes' tensors, in each of them."""
    if _group:
        tensor = tensor.contiguous().clone()
        distributed.all_reduce(tensor, group=_group)
    return tensor


def wrap_ddp(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with gradients that are the processes' mean; its weights become the first process' own.

    Batch statistics are taken over all processes on GPUs; on CPUs, where PyTorch can't, each takes those of its part.
    """
    if not _group:
        return network
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm  # torch's own would lose timm's activations

        network = convert_sync_batchnorm(network, _group)
    return nn.parallel.DistributedDataParallel(network, process_group=_group, gradient_as_bucket_view=True)


def unsynchronised(network: nn.Module, last: bool):
    """Where gradients are not yet exchanged: in all but the last of the parts that one step is computed in."""
    waits = isinstance(network, nn.parallel.DistributedDataParallel) and not last
    return network.no_sync() if waits else contextlib.nullcontext()
