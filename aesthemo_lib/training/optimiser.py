"""The optimiser of a training: SGD with momentum, the patent's, or AdamW; both in one pass over the weights."""

import torch
from torch import Tensor

OPTIMISERS = ("sgd", "adamw")


def optimiser(kind: str, groups: list[dict], momentum: float, weight_decay: float) -> torch.optim.Optimizer:
    """Torch's fused optimiser: the bits of its plain one, and no second copy of the gradients (1.1 GB for two VGG16).

    It reads weights, gradients and momenta as they lie in memory, so they have to lie alike.

    Args:
        kind: one of ``OPTIMISERS``.
        groups: of parameters, see ``torch.optim.Optimizer``; the learning rate is set at each step.
        momentum: of SGD; AdamW has (.9, .999).
        weight_decay: of every group that has none of its own.
    """
    if kind == "adamw":
        chosen: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=weight_decay, fused=True)
    else:
        chosen = torch.optim.SGD(groups, lr=0.0, momentum=momentum, weight_decay=weight_decay, fused=True)
        for weight in _weights(chosen):
            # From nothing, which is where it starts anyway: all must have one as soon as one has, and a task without a
            # label in the first batch may leave weights without a gradient.
            chosen.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
    chosen.register_step_pre_hook(_lay_alike)
    return chosen


def state_tensors(of: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Momenta and counts by the number of their weight and their name, such as '3.exp_avg'."""
    return {f"{i}.{name}": value for i, weight in enumerate(_weights(of)) for name, value in of.state[weight].items()
            if isinstance(value, Tensor)}


def load_state_tensors(of: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what ``state_tensors`` gave; each takes its weight's device and layout, for the same sums again."""
    weights = _weights(of)
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        weight = weights[int(number)]
        like = weight if value.shape == weight.shape else value
        of.state[weight][name] = torch.empty_like(like, device=weight.device).copy_(value)


def _weights(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimiser.param_groups for weight in group["params"]]


def _lay_alike(optimiser: torch.optim.Optimizer, *_) -> None:
    """Give each gradient the layout of its weight; autograd's own have it, an aggregator's may not."""
    for weight in _weights(optimiser):
        if weight.grad is not None and weight.grad.stride() != weight.stride():
            weight.grad = torch.empty_like(weight).copy_(weight.grad)
