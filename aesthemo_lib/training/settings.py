"""How a network is trained: what a preset decides, and the learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .aggregation import AGGREGATIONS
from .optimiser import OPTIMISERS


@dataclass(frozen=True)
class Settings:
    """How a network is trained. [0056-0061] fix the crops, the flips and SGD; the other numbers are ours."""

    backbone: str
    weights: str
    resize: int  # side of the cached pixels
    crop: int  # side of what a network sees
    batch: int
    epochs: int
    patience: int  # stop after this many epochs without a better validation loss
    learning_rate: float  # at its peak
    exchange_factor: float = 1.0  # the cross-branch layers' learning rate, times the rest's
    head_factor: float = 1.0  # that of what starts at random: the last fully connected layers
    keep_statistics: bool = False  # batch normalisation keeps the pretrained means and variances
    momentum: float = 0.9
    weight_decay: float = 5e-4
    warm_up: float = 0.3  # share of the steps over which the learning rate rises
    aggregation: str = "sum"  # how the tasks' losses make one step, see ``training.aggregation``
    accumulate: int = 1  # parts in which a batch is computed, one after another, where memory is short
    checkpoint: bool = False  # compute maps again in the backward pass instead of keeping them: less memory, more time
    compile: bool = False  # have torch.compile fuse the network's steps
    optimiser: str = "sgd"  # the patent's, or "adamw"
    probe_start: bool = False  # last layers start as a linear probe (Kumar et al., ICLR 2022), not at random
    group_decay: float = 1.0  # learning rate of a group, times this for each step away from the head
    averaging: float = 0.0  # what is tested and kept is a moving average of the weights with this decay a step
    vote_targets: bool = False  # learn the shares of the votes instead of their consensus
    frozen_groups: int = 0  # so many of the first conv groups are computed once a view and kept, see training.frozen
    views: int = 2  # cached crops and flips of each image, with frozen groups

    def __post_init__(self):
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"settings: optimiser: unknown {self.optimiser!r}; choose one of {', '.join(OPTIMISERS)}")
        if self.averaging >= 1:
            raise ValueError(f"settings: averaging: expected a decay below 1, got {self.averaging}")
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"settings: aggregation: unknown {self.aggregation!r}; "
                             f"choose one of {', '.join(AGGREGATIONS)}")


def learning_rate(step: int, steps: int, settings: Settings) -> float:
    """Rises linearly over the warm-up, then falls to zero along a cosine. A function of the step, so it can't drift."""
    rise = max(1, round(settings.warm_up * steps))
    if step < rise:
        return settings.learning_rate * (step + 1) / rise
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))
