"""Mixtures of what flows for an image and what flows for another one, each distinct map computed once.

What are the logits if some streams carry the image's maps and others those of a baseline (or donor)? Hundreds of such
questions share most of their maps, so maps are numbered: at every layer a branch's map is 0, the baseline's; 1, the
image's; or a further number, for what becomes of one set of maps that reach the branch.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from ..models.inference import evaluating
from .streams import Stream

ROWS = 32
"""Maps that go through a group at once on a CPU: more of them no longer fit its caches, fewer waste its arithmetic."""


def maps_sent(network: nn.Module, images: Tensor) -> tuple[list[list[Tensor]], dict[str, Tensor]]:
    """What (B, 3, s, s) images send into each exchange layer, one map per branch, and their logits."""
    caught: list[list[Tensor]] = []
    with ExitStack() as stack:
        for exchange in network.exchanges:
            stack.callback(exchange.register_forward_pre_hook(lambda _, args: caught.append(list(args[0]))).remove)
        logits = network(images)
    return caught, logits


def with_flow(network: nn.Module, maps: Sequence[Tensor], stream: Stream, task: str, flow: Tensor) -> Tensor:
    """(n * B, C) logits of a task when one stream carries ``flow`` and all others what they carry for a batch.

    Args:
        maps: (B, K, h, w) what each branch sends into the stream's layer, see ``maps_sent``.
        flow: (n * B, K, h, w), n copies of the batch one after another.
    """
    names, exchange = [task.name for task in network.tasks], network.exchanges[stream.layer - 1]
    sent = [x.repeat(len(flow) // len(x), 1, 1, 1) for x in maps]
    reaching = [[flow if (receiver, source) == stream[1:] else x for source, x in zip(names, sent, strict=True)]
                for receiver in names]
    with evaluating(network):
        return network.onward(stream.layer, [exchange.receive(t, x) for t, x in enumerate(reaching)])[task]


class Mixtures:
    """Numbered maps of a network with exchange layers, for B images and a baseline; use it in inference mode.

    Args:
        network: in evaluation mode, with T branches and L exchange layers.
        images, base: (B, 3, s, s) and (1 or B, 3, s, s).

    Attributes:
        logits, at_base: (B, C) by task name, from a plain forward pass.
    """

    def __init__(self, network: nn.Module, images: Tensor, base: Tensor):
        self.network, self.images, self.layers = network, images, len(network.exchanges)
        caught, logits = maps_sent(network, torch.cat([base, images]))
        self.natural = [[self._pair(x, len(base)) for x in maps] for maps in caught]  # [layer][branch]: (2, B, K, h, w)
        last = [self._pair(logits[task.name], len(base)) for task in network.tasks]  # (2, B, C)
        self.at_base, self.logits = ({task.name: x[n] for task, x in zip(network.tasks, last, strict=True)}
                                     for n in (0, 1))
        self._last = last
        self.forget()

    def _pair(self, x: Tensor, bases: int) -> Tensor:
        return torch.stack([x[:bases].expand(len(self.images), *x.shape[1:]), x[bases:]])

    def forget(self) -> None:
        """Forget all mixtures; the numbers start again from 2."""
        branches = len(self.network.branches)
        same = {(n,) * branches: n for n in (0, 1)}
        self._numbers: list[list[dict]] = [[dict(same) for _ in range(branches)] for _ in range(self.layers)]

    def mixed(self, layer: int, receiver: int, sources: Sequence[int]) -> int:
        """The number, after a layer (from 0), of what branch ``receiver`` makes of maps, one number per branch."""
        known = self._numbers[layer][receiver]
        return known.setdefault(tuple(sources), len(known))

    def onward(self, layer: int, maps: Sequence[int]) -> tuple[int, ...]:
        """The numbers behind the last layer of maps, one per branch, that reach a layer (from 0)."""
        for i in range(layer, self.layers):
            maps = [self.mixed(i, t, maps) for t in range(len(maps))]
        return tuple(maps)

    def answers(self) -> list[Tensor]:
        """For each branch the (U, B, C) logits behind the last layer, by number; everything numbered is computed."""
        maps = self.natural[0]
        for i in range(self.layers):
            maps = [self._after(i, t, maps) for t in range(len(maps))]
        return maps

    def _after(self, i: int, t: int, maps: list[Tensor]) -> Tensor:
        """Branch t's maps behind layer i and its next group, by number; logits behind the last layer."""
        there = self._last[t] if i + 1 == self.layers else self.natural[i + 1][t]
        rows = np.array(list(self._numbers[i][t])[2:], dtype=np.int64).reshape(-1, len(maps))  # (U, T)
        at_once = max(ROWS // len(self.images), 1) if there.device.type == "cpu" else max(len(rows), 1)
        parts = [self._through(i, t, maps, rows[k:k + at_once]) for k in range(0, len(rows), at_once)]
        return torch.cat([there, *parts])

    def _through(self, i: int, t: int, maps: list[Tensor], rows: np.ndarray) -> Tensor:
        branch = self.network.branches[t]
        reaching = [x[torch.from_numpy(of).to(x.device)].flatten(0, 1) for x, of in zip(maps, rows.T, strict=True)]
        x = self.network.exchanges[i].receive(t, reaching)
        if i + 1 < len(branch.groups):
            x = branch.groups[i + 1](x)
        if i + 1 == self.layers:
            x = branch.head(x)
        return x.unflatten(0, (len(rows), -1))
