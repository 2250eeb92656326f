"""SGD with momentum in one pass over the weights."""

from __future__ import annotations

import torch
from torch import Tensor


def sgd(groups: list[dict], momentum: float, weight_decay: float) -> torch.optim.SGD:
    """Torch's fused SGD, which gives the same bits as its plain one.

    On one core it took a sixth of the time for large weights, and it holds no second copy of the gradients: 1.1 GB for
    a pair of VGG16. It reads weights, gradients and momenta as they lie in memory, so they have to lie alike.

    Args:
        groups: of parameters, see ``torch.optim.Optimizer``; the learning rate is set at each step.
        momentum, weight_decay: of every group that has none of its own.
    """
    optimiser = torch.optim.SGD(groups, lr=0.0, momentum=momentum, weight_decay=weight_decay, fused=True)
    for weight in _weights(optimiser):
        # From nothing, which is where it starts anyway: all must have one as soon as one has, and a task without a
        # label in the first batch may leave weights without a gradient.
        optimiser.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    optimiser.register_step_pre_hook(_lay_alike)
    return optimiser


def _weights(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _lay_alike(optimiser: torch.optim.Optimizer, *_) -> None:
    """Give each gradient the layout of its weight; autograd's own have it, an aggregator's may not."""
    for weight in _weights(optimiser):
        if weight.grad is not None and weight.grad.stride() != weight.stride():
            weight.grad = torch.empty_like(weight).copy_(weight.grad)
