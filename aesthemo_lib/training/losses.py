"""The joint loss [0058-0061]: a weighted sum of cross-entropies, each over the images labelled for its task."""

import torch
from torch import Tensor
from torch.nn import functional

from ..tasks import Task


def labelled(target: Tensor) -> Tensor:
    """Which of the images have a label, see ``task_losses``."""
    return target >= 0 if target.ndim == 1 else target.sum(dim=1) > 0


def task_losses(
    logits: dict[str, Tensor], labels: dict[str, Tensor], counts: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    r"""Each task's mean cross-entropy over the images that are labelled for it.

    .. math:: L_t = -\frac{1}{|\{i: y_i \ge 0\}|} \sum_{i: y_i \ge 0} \log p_t(y_i | x_i)

    Equations 3.1 and 3.2 of lesson 03: with two classes it is the patent's La, -y log p - (1-y) log(1-p) [0059]. A
    distribution q for a label gives the cross-entropy :math:`-\sum_c q_c \log p_c`: of the raters' votes, the mean of
    the losses that each of their votes would give.

    Args:
        logits: (B, C) by task name.
        labels: by task name (B,) int64, negative where unlabelled; or (B, C) float rows that sum to 1, or to 0 where
            unlabelled.
        counts: by task name how many images are labelled; by default those given here. The whole batch's counts make
            the losses of its parts sum up to the batch's.

    Returns:
        a scalar by task name; 0, with a gradient of 0, where no image of the batch is labelled.
    """
    losses = {}
    for name, values in logits.items():
        target = labels[name]
        known = labelled(target)
        total = functional.cross_entropy(values.float(), target.clamp(min=0), reduction="none")
        losses[name] = (total * known).sum() / (counts[name] if counts else known.sum()).clamp(min=1)
    return losses


def joint_loss(losses: dict[str, Tensor], tasks: tuple[Task, ...]) -> Tensor:
    """L = sum of loss weight times task loss (equation 3.3 of lesson 3); with weights 1 and 1/4 the patent's [0061]."""
    return torch.stack([task.loss_weight * losses[task.name] for task in tasks]).sum()
