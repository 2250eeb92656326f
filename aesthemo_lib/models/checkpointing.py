"""Activation checkpointing: maps within a conv group are computed again in the backward pass instead of being kept."""

import contextlib
from collections.abc import Iterator
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from .backbones import Network


@contextlib.contextmanager
def checkpointed(network: Network) -> Iterator[None]:
    """Within this block a training step keeps only what each conv group puts out, and pays with a second forward pass.

    Gradients are the same: dropout draws the same numbers again, and batch statistics are counted once.
    """
    groups = list(dict.fromkeys(group for groups, _ in network.parts() for group in groups))
    for group in groups:
        norms = [m for m in group.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        group.forward = partial(checkpoint, group.forward, use_reentrant=False,  # for the first and the second pass
                                context_fn=lambda norms=norms: (contextlib.nullcontext(), _still(norms)))
    try:
        yield
    finally:
        for group in groups:
            del group.forward  # the class' own is there again


@contextlib.contextmanager
def _still(norms: list[nn.Module]) -> Iterator[None]:
    """Running statistics stay as they are."""
    before = [(norm, norm.momentum, norm.num_batches_tracked.clone()) for norm in norms
              if norm.training and norm.track_running_stats]
    for norm, *_ in before:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
