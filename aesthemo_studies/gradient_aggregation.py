r"""Gradients of several tasks aggregated by torchjd: three more ways to make one step, for the studies.

The aggregators see one row a task, the gradient of its weighted loss over the parameters that more than one task
reaches (in a pair of cross-branch networks nearly all of them; a head has one task's gradient, which stays as it is).
torchjd returns the weights :math:`w(J J^T)` with which the rows are added. Importing this module makes 'upgrad',
'pcgrad' and 'cagrad' known to the setting ``aggregation``.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from aesthemo_lib.tasks import Task
from aesthemo_lib.training.aggregation import AGGREGATIONS, Scale, Sum

CAGRAD_RADIUS = 0.4
"""c of CAGrad, as in its authors' scripts for both of their supervised data sets (github.com/Cranial-XIX/CAGrad)."""


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


AGGREGATIONS.update({name: partial(Aggregated, name) for name in ("upgrad", "pcgrad", "cagrad")})
