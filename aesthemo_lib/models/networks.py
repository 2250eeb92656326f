"""The networks, all with one face: ``network(images) -> {task name: logits}``.

Images are (B, 3, H, W) float tensors as ``data.batches`` makes them; logits are (B, C) by task name. Everything that
evaluates, predicts or explains relies on this face alone, so it is written once for every method.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ..tasks import Task
from .backbones import Backbone, backbone
from .fusion import CrossBranchLayer


class Branches(nn.Module):
    """T parallel branches of n conv groups and a head each, one a task, with nothing between them.

    Trained with one task it is the single-task reference; ``Independent`` puts T of these side by side.

    Args:
        tasks: T tasks; T branches are built in this order.
        name, weights: as for ``backbones.backbone``.
    """

    def __init__(self, tasks: tuple[Task, ...], name: str, weights: str = "imagenet"):
        super().__init__()
        self.tasks = tasks
        built = [backbone(name, len(task.classes), weights) for task in tasks]
        self.branches = nn.ModuleList(nn.ModuleDict({"groups": b.groups, "head": b.head}) for b in built)
        self._describe(built[0])

    def _describe(self, first: Backbone) -> None:
        self.channels, self.std, self.weights = first.channels, first.std, first.weights
        self.deviations = first.deviations()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        maps = [images] * len(self.tasks)
        for i in range(len(self.channels)):
            maps = [branch["groups"][i](x) for branch, x in zip(self.branches, maps, strict=True)]
            maps = self.exchange(i, maps)
        return self.heads(maps)

    def exchange(self, i: int, maps: list[Tensor]) -> list[Tensor]:
        """What happens between the branches after their i-th group (from 0): here nothing."""
        return maps

    def heads(self, maps: list[Tensor]) -> dict[str, Tensor]:
        """The last maps, one a task, to logits."""
        return {task.name: branch["head"](x) for task, branch, x in zip(self.tasks, self.branches, maps, strict=True)}

    def exchange_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of what lies between the branches, which may have their own learning rate."""
        return iter(())


class Independent(Branches):
    """One network a task, trained apart from one another: the honest reference."""


class CrossBranch(Branches):
    """The patent's network: a cross-branch layer after each of the first n-1 conv groups (claim 2).

    Args:
        tasks: two in the patent; any number here.
        name, weights: as for ``backbones.backbone``.
        init, alpha, beta: how the cross-branch layers start, see ``CrossBranchLayer``.
        after_last: a further layer between the last group and the fully connected layers; [0048] leaves it open.
    """

    def __init__(
        self, tasks: tuple[Task, ...], name: str, weights: str = "imagenet",
        init: str = "diagonal", alpha: float = 0.9, beta: float = 0.1, after_last: bool = False,
    ):
        super().__init__(tasks, name, weights)
        layers = len(self.channels) if after_last else len(self.channels) - 1
        self.exchanges = nn.ModuleList(
            CrossBranchLayer(len(tasks), channels, init, alpha, beta) for channels in self.channels[:layers]
        )

    def exchange(self, i: int, maps: list[Tensor]) -> list[Tensor]:
        return self.exchanges[i](maps) if i < len(self.exchanges) else maps

    def exchange_parameters(self) -> Iterator[nn.Parameter]:
        return self.exchanges.parameters()


class SharedBottom(nn.Module):
    """Hard sharing [0049]: the first ``depth`` conv groups are one for all tasks, the rest is a branch a task.

    Args:
        depth: 1..n; by default all n groups, so that only the heads are per task.
    """

    def __init__(self, tasks: tuple[Task, ...], name: str, weights: str = "imagenet", depth: int | None = None):
        super().__init__()
        self.tasks = tasks
        built = [backbone(name, len(task.classes), weights) for task in tasks]
        groups = len(built[0].groups)
        depth = groups if depth is None else depth
        if not 1 <= depth <= groups:
            raise ValueError(f"depth: {name} has {groups} conv groups; expected 1..{groups}, got {depth}")
        self.trunk = nn.Sequential(*list(built[0].groups)[:depth])
        self.branches = nn.ModuleList(nn.Sequential(*list(b.groups)[depth:], b.head) for b in built)
        Branches._describe(self, built[0])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        shared = self.trunk(images)
        return {task.name: branch(shared) for task, branch in zip(self.tasks, self.branches, strict=True)}

    def exchange_parameters(self) -> Iterator[nn.Parameter]:
        return iter(())


METHODS: dict[str, type[nn.Module]] = {
    "cross_branch": CrossBranch, "independent": Independent, "shared_bottom": SharedBottom,
}
VARIANTS = {"cross_branch": ("diagonal", "random", "default")}
"""A method's variants; for ``cross_branch`` they are the initialisation of its cross-branch layers."""


def build(
    method: str, tasks: tuple[Task, ...], name: str, weights: str = "imagenet",
    variant: str | None = None, seed: int = 0, **options,
) -> nn.Module:
    """A network by its method's name, its random parts drawn from ``seed``.

    Raises:
        ValueError: an unknown method or variant; the message lists the known ones.
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(METHODS)}")
    known = VARIANTS.get(method, ())
    if variant is not None and variant not in known:
        raise ValueError(f"method {method!r} has no variant {variant!r}; " + (f"choose one of {', '.join(known)}" if known else "it has none"))
    if variant is not None:
        options["init"] = variant
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return METHODS[method](tasks, name, weights, **options)


def count_parameters(network: nn.Module) -> int:
    """All trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_multiplies(network: nn.Module, side: int) -> int:
    """Multiply-adds of one (1, 3, side, side) image in convolutions and fully connected layers."""
    from torch.utils.flop_counter import FlopCounterMode

    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 3, side, side, device=device))
    network.train(was_training)
    return counter.get_total_flops() // 2  # a multiply-add counts as two operations there
