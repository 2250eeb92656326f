r"""From several tasks' losses to one step: their weighted sum, learned weights, or aggregated gradients.

The gradient aggregators see one row a task, the gradient of its weighted loss over the parameters that more than one
task reaches (in a pair of cross-branch networks nearly all of them; a head has one task's gradient, which stays as it
is). They come from the package torchjd, which returns the weights :math:`w(J J^T)` with which the rows are added.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from ..tasks import Task
from .losses import joint_loss

Scale = Callable[[Tensor], Tensor]
CAGRAD_RADIUS = 0.4
"""c of CAGrad, as in its authors' scripts for both of their supervised data sets (github.com/Cranial-XIX/CAGrad)."""


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


class Aggregated(Sum):
    """Gradients of several tasks combined by torchjd.

    All are scaled as the sum is: without a conflict UPGrad and PCGrad are the sum, and CAGrad is within c of it (its
    authors, too, multiply their mean by the number of tasks). A task without a gradient in a batch, where no image
    is labelled for it, has no say.

    Args:
        name: 'upgrad' (Quinton & Rey, Jacobian descent, 2024; of two tasks it is PCGrad), 'pcgrad' (Yu et al., NeurIPS
            2020, algorithm 1) or 'cagrad' (Liu et al., NeurIPS 2021, algorithm 1).
    """

    divisible = False  # a batch's weights go by its gradients

    def __init__(self, name: str, tasks: tuple[Task, ...], parameters: Iterable[nn.Parameter]):
        super().__init__(tasks, parameters)
        self.weighting, self.mean = _weighting(name), name != "pcgrad"

    def backward(self, losses: dict[str, Tensor], part: float = 1.0, scale: Scale = torch.positive) -> None:
        last = len(self.tasks) - 1
        rows = [torch.autograd.grad(scale(task.loss_weight * losses[task.name]), self.trained, retain_graph=i < last,
                                    allow_unused=True) for i, task in enumerate(self.tasks)]
        columns = list(zip(*rows, strict=True))  # by parameter; None where a task doesn't reach it
        reached = [sum(gradient is not None for gradient in column) for column in columns]
        weights = self.combine(gramian([column for column, n in zip(columns, reached, strict=True) if n > 1]))
        for parameter, column, n in zip(self.trained, columns, reached, strict=True):
            terms = [g if n == 1 else w * g for w, g in zip(weights, column, strict=True) if g is not None]
            parameter.grad = sum(terms[1:], terms[0]) if terms else None

    def combine(self, products: Tensor) -> list[float]:
        """The tasks' weights from the (T, T) inner products of their gradients."""
        live = products.diagonal() > 0
        if live.sum() < 2 or not products.isfinite().all():  # the loop stops at what is not finite
            return [1.0] * len(products)
        weights = torch.ones(len(products), dtype=products.dtype)
        weights[live] = self.weighting(products[live][:, live]) * (int(live.sum()) if self.mean else 1)
        return weights.tolist()


def gramian(columns: list[tuple[Tensor | None, ...]]) -> Tensor:
    """(T, T) inner products, in float64 on the CPU, of T gradients that come in pieces, one tuple of T a parameter."""
    tasks = len(columns[0]) if columns else 0
    products = torch.zeros(tasks, tasks, dtype=torch.float64)
    for i in range(tasks):
        for j in range(i, tasks):
            both = [(c[i], c[j]) for c in columns]
            pieces = [(one * other).sum() for one, other in both if one is not None and other is not None]
            if pieces:
                products[i, j] = products[j, i] = torch.stack(pieces).double().sum().cpu()
    return products


def _weighting(name: str) -> nn.Module:
    try:
        from torchjd import aggregation as torchjd

        make = {"upgrad": torchjd.UPGradWeighting, "pcgrad": torchjd.PCGradWeighting,
                "cagrad": lambda: torchjd.CAGradWeighting(CAGRAD_RADIUS)}
        return make[name]()
    except ImportError as fault:
        raise ImportError(f"aggregation {name!r} needs the package torchjd ({fault}); install it with: "
                          f'pip install "torchjd[cagrad,quadprog-projector]>=0.18,<0.19"') from None


AGGREGATIONS = ("sum", "uncertainty", "hard_tasks", "upgrad", "pcgrad", "cagrad")


def aggregation(name: str, tasks: tuple[Task, ...], parameters: Iterable[nn.Parameter]) -> Sum:
    """One of ``AGGREGATIONS`` by its name; a single task has nothing to weigh and is always its plain loss."""
    if name == "sum" or len(tasks) == 1:
        return Sum(tasks, parameters)
    if name in ("uncertainty", "hard_tasks"):
        return {"uncertainty": Uncertainty, "hard_tasks": HardTasks}[name](tasks, parameters)
    return Aggregated(name, tasks, parameters)
