"""Streams between branches (edges of the network's graph): find their hook points, record maps, patch activations."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..models.fusion import HookPoint
from ..models.inference import evaluating

NOTHING = ("so nothing is borrowed and there is no stream to explain or cut; plain integrated gradients "
           "(attribution.integrated_gradients) work for it")


class Stream(NamedTuple):
    """An edge: the map of branch ``source`` on its way to branch ``receiver`` at a cross-branch layer, from 1."""

    layer: int
    receiver: str
    source: str

    @property
    def borrowed(self) -> bool:
        """Whether it comes from another branch."""
        return self.receiver != self.source

    def __str__(self) -> str:
        return f"{self.source} to {self.receiver} at {self.layer}"


def streams(network: nn.Module) -> list[Stream]:
    """All streams of a network, by layer, receiver and source.

    Raises:
        ValueError: nothing flows between its branches.
    """
    exchanges = getattr(network, "exchanges", ())
    if not len(exchanges) or not hasattr(exchanges[0], "hook_points"):
        raise ValueError(f"a {type(network).__name__} network has no cross-branch layers, {NOTHING}")
    if len(network.tasks) == 1:
        raise ValueError(f"a network with one task has no second branch to borrow from, {NOTHING}")
    if getattr(exchanges[0], "own_twice", False):
        raise ValueError("a network with own_twice feeds each branch only its own maps: nothing is borrowed in it, so "
                         "there is no stream to explain or cut; train cross_branch without own_twice for that")
    names = [task.name for task in network.tasks]
    return [Stream(i + 1, t, s) for i in range(len(exchanges)) for t in names for s in names]


def hook_point(network: nn.Module, stream: Stream) -> HookPoint:
    """The module that one stream goes through.

    Raises:
        ValueError: the network has no such stream.
    """
    known = streams(network)
    if stream not in known:
        borrowed = ", ".join(f"'{s}'" for s in known if s.borrowed)
        raise ValueError(f"the network has no stream '{stream}'; what is borrowed in it: {borrowed}")
    names = [task.name for task in network.tasks]
    layer, receiver, source = stream
    return network.exchanges[layer - 1].hook_points[names.index(receiver)][names.index(source)]


def record(network: nn.Module, wanted: Sequence[Stream], images: Tensor) -> dict[Stream, Tensor]:
    """The maps (B, K, h, w) that flow through streams."""
    maps: dict[Stream, Tensor] = {}
    with ExitStack() as stack, evaluating(network), torch.no_grad():
        for stream in wanted:
            hook = partial(lambda stream, module, args, output: maps.__setitem__(stream, output), stream)
            stack.callback(hook_point(network, stream).register_forward_hook(hook).remove)
        network(images)
    return maps


def replaced(place: HookPoint, new: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Activation patching in a with block: a hook point hands on what ``new`` makes from what flows there."""
    return place.register_forward_hook(lambda module, args, output: new(output).to(output))
