"""Images to logits: evaluation mode, the fast precision, and batches of cached pixels."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from .. import distributed
from ..data.batches import resize, to_device
from ..device import fast_precision
from .quick_cpu import quick_cpu


def image_batches(
    network: nn.Module, pixels: np.ndarray, rows: Sequence[int] | np.ndarray, mean: np.ndarray, side: int,
    batch: int = 4,
) -> Iterator[Tensor]:
    """Photos of the cache as prediction sees them [0063]: (batch, 3, side, side), on the network's device.

    ``pixels``: (N, S, S, 3) uint8; ``rows``: (M,) of them; ``mean``: (S, S, 3), of the network's training.
    """
    device = next(network.parameters()).device
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    for start in range(0, len(rows), batch):
        yield resize(to_device(pixels, np.asarray(rows[start:start + batch]), device), mean, std, side)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, then as it was."""
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


@contextlib.contextmanager
def fast(device: torch.device):
    """Matrix products in the device's fast precision; everything else in float32."""
    precision = fast_precision(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


def predict_logits(
    network: nn.Module, pixels: np.ndarray, rows: np.ndarray, mean: np.ndarray, side: int, device: torch.device,
    batch: int = 64, exact: bool = False,
) -> dict[str, np.ndarray]:
    """The logits of images as prediction sees them [0063]: resized, not cropped; (M, C) float32 by task name.

    Args:
        pixels, mean: (N, S, S, 3) uint8, and (S, S, 3).
        rows: (M,) which of them.
        side: what they are resized to.
        exact: in float32, so that every processor gives the same answers; otherwise in the device's fast precision.
    """
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    with evaluating(network), quick_cpu(network):
        return logits_of(network, lambda part: resize(to_device(pixels, part, device), mean, std, side), rows, device,
                         batch, exact)


def logits_of(
    forward: Callable[[Tensor], dict[str, Tensor]], inputs: Callable[[np.ndarray], Tensor], rows: np.ndarray,
    device: torch.device, batch: int = 64, exact: bool = False,
) -> dict[str, np.ndarray]:
    """The outputs of ``forward`` for some rows, a batch at a time, in the device's fast precision.

    Processes that train together divide the batches among them, and each gets all outputs.

    Args:
        forward, inputs: from inputs to (B, C) by name, in evaluation mode; from row numbers to inputs.
        rows: (M,) row numbers.

    Returns:
        (M, C) float32 by name.
    """
    made: dict[str, Tensor] = {}
    with torch.inference_mode(), contextlib.nullcontext() if exact else fast(device):
        for start in range(0, len(rows), batch):
            mine = (start // batch) % distributed.size() == distributed.rank()
            if not mine and made:
                continue
            for name, values in forward(inputs(rows[start:start + batch])).items():
                if name not in made:
                    made[name] = torch.zeros(len(rows), *values.shape[1:], device=device)
                if mine:
                    made[name][start:start + batch] = values
    return {name: distributed.total(values).cpu().numpy() for name, values in made.items()}
