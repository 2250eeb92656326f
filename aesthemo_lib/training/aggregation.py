"""From several tasks' losses to one step: their weighted sum, or learned weights."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..tasks import Task
from .losses import joint_loss

Scale = Callable[[Tensor], Tensor]


class Sum(nn.Module):
    """The patent's: the sum of the losses with the tasks' weights [0061], and its gradient.

    Attributes:
        divisible: whether the gradient of a batch is the sum of its parts' gradients, so that a batch can be computed
            in parts, or on several processes.
    """

    divisible = True

    def __init__(self, tasks: tuple[Task, ...], parameters: Iterable[nn.Parameter]):
        super().__init__()
        self.tasks, self.trained = tasks, tuple(p for p in parameters if p.requires_grad)

    def backward(self, losses: dict[str, Tensor], part: float = 1.0, scale: Scale = torch.positive) -> None:
        """Add the step's gradient to the ``grad`` of the parameters.

        Args:
            losses: a scalar by task name.
            part: how much of a batch these losses are; other than 1 only where ``divisible``.
            scale: multiplies the loss before its gradient is taken.
        """
        scale(self.loss(losses, part)).backward()

    def loss(self, losses: dict[str, Tensor], part: float = 1.0) -> Tensor:
        """What is made smaller, of this part of a batch."""
        return joint_loss(losses, self.tasks)

    def weights(self) -> dict[str, float]:
        """Weights that were learned, for the history."""
        return {}


class Uncertainty(Sum):
    r"""Kendall, Gal & Cipolla, CVPR 2018, for classification: :math:`\sum_t e^{-s_t} L_t + s_t / 2`.

    :math:`s_t = \log \sigma_t^2` is learned, from 0 (their section 3.2: the factor of a classification loss is
    :math:`1 / \sigma^2`; a regression has half of that). At its best :math:`e^{-s_t} = 1 / (2 L_t)`. These weights
    take the place of the tasks' own; which epoch is kept still goes by the tasks' own.
    """

    def __init__(self, tasks: tuple[Task, ...], parameters: Iterable[nn.Parameter]):
        super().__init__(tasks, parameters)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))

    def loss(self, losses: dict[str, Tensor], part: float = 1.0) -> Tensor:
        values = torch.stack([losses[task.name] for task in self.tasks])
        return (torch.exp(-self.log_variance) * values + part * self.log_variance / 2).sum()

    def weights(self) -> dict[str, float]:
        learned = torch.exp(-self.log_variance.detach()).tolist()
        return {f"weight_{task.name}": weight for task, weight in zip(self.tasks, learned, strict=True)}


class HardTasks(Sum):
    r"""Tasks whose loss is large count more.

    .. math:: L = \frac1T \sum_j w_j a_j, \quad w_j = 1 + (a_j - l_{avg}) / (l_{max} - l_{min})

    CN109190514B weighs its tasks by a_j (task j's loss) and by the mean, largest and smallest of the tasks' losses; the
    formula is not in the text available to us. This one is **our assumption**: scale-free, all weights 1 when all tasks
    are alike, and their mean is 1. No gradient flows through the weights.
    """

    divisible = False  # a batch's weights go by its losses

    def loss(self, losses: dict[str, Tensor], part: float = 1.0) -> Tensor:
        values = torch.stack([task.loss_weight * losses[task.name] for task in self.tasks])
        return (self.shares(values.detach()) * values).mean()

    @staticmethod
    def shares(values: Tensor) -> Tensor:
        """w_1 .. w_T of the losses a_1 .. a_T."""
        return 1 + (values - values.mean()) / (values.max() - values.min()).clamp(min=1e-8)


AGGREGATIONS: dict[str, Callable[..., Sum]] = {"sum": Sum, "uncertainty": Uncertainty, "hard_tasks": HardTasks}
"""By the names that the setting ``aggregation`` has; ``aesthemo_studies.gradient_aggregation`` adds three more."""


def aggregation(name: str, tasks: tuple[Task, ...], parameters: Iterable[nn.Parameter]) -> Sum:
    """One of ``AGGREGATIONS`` by its name; a single task has nothing to weigh and is always its plain loss."""
    return (AGGREGATIONS[name] if len(tasks) > 1 else Sum)(tasks, parameters)
