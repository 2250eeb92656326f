"""Images to logits: evaluation mode, the fast precision, and batches of cached pixels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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

    Args:
        pixels: (N, S, S, 3) uint8.
        rows: (M,) which of them.
        mean: (S, S, 3), the mean image of the network's training.
    """
    device = next(network.parameters()).device
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    for start in range(0, len(rows), batch):
        yield resize(to_device(pixels, np.asarray(rows[start:start + batch]), device), mean, std, side)


@contextmanager
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
    """Matrix products in the precision that the device is good at; everything else in float32."""
    precision = fast_precision(device)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        yield


def predict_logits(
    network: nn.Module, pixels: np.ndarray, rows: np.ndarray, mean: np.ndarray, side: int, device: torch.device,
    batch: int = 64,
) -> dict[str, np.ndarray]:
    """The logits of images as prediction sees them [0063]: resized, not cropped.

    Processes that train together share the batches out, and each gets all logits.

    Args:
        pixels: (N, S, S, 3) uint8.
        rows: (M,) which of them.
        mean: (S, S, 3).
        side: what they are resized to.

    Returns:
        (M, C) float32 by task name.
    """
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    logits = {task.name: torch.zeros(len(rows), len(task.classes), device=device) for task in network.tasks}
    with evaluating(network), quick_cpu(network), torch.inference_mode(), fast(device):
        for start in range(distributed.rank() * batch, len(rows), distributed.size() * batch):
            images = resize(to_device(pixels, rows[start:start + batch], device), mean, std, side)
            for name, values in network(images).items():
                if values.shape[1] != logits[name].shape[1]:  # a head without its last layer puts out features
                    logits[name] = torch.zeros(len(rows), values.shape[1], device=device)
                logits[name][start:start + batch] = values
    return {name: distributed.total(values).cpu().numpy() for name, values in logits.items()}
