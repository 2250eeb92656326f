"""Hook points on the streams between branches: find them, record their maps, replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..models.fusion import Port
from ..models.inference import evaluating


class Stream(NamedTuple):
    """The map of branch ``source`` on its way to branch ``receiver`` at cross-branch layer ``layer`` (from 1).

    >>> str(Stream(2, receiver="aesthetics", source="emotion"))
    'emotion to aesthetics at 2'
    """

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

    >>> from ..tasks import PATENT_TASKS
    >>> from ..models.networks import build
    >>> found = streams(build("cross_branch", PATENT_TASKS, "tiny", "none"))
    >>> len(found), [str(stream) for stream in found if stream.borrowed][0]
    (8, 'emotion to aesthetics at 1')
    """
    exchanges = getattr(network, "exchanges", ())
    if not len(exchanges) or not hasattr(exchanges[0], "ports"):
        raise ValueError(
            f"a {type(network).__name__} network has no cross-branch layers, so nothing is borrowed and there is no "
            f"stream to explain or cut; plain integrated gradients (attribution.integrated_gradients) work for it"
        )
    if getattr(exchanges[0], "own_twice", False):
        raise ValueError("a network with own_twice feeds each branch its own maps alone: nothing is borrowed in it, so "
                         "there is no stream to explain or cut; train cross_branch without own_twice for that")
    names = [task.name for task in network.tasks]
    return [Stream(i + 1, t, s) for i in range(len(exchanges)) for t in names for s in names]


def port(network: nn.Module, stream: Stream) -> Port:
    """The module that one stream goes through.

    Raises:
        ValueError: the network has no such stream.

    >>> from ..tasks import PATENT_TASKS
    >>> from ..models.networks import build
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> port(network, Stream(1, "emotion", "aesthetics"))
    Port()
    """
    known = streams(network)
    if stream not in known:
        borrowed = ", ".join(f"'{s}'" for s in known if s.borrowed)
        raise ValueError(f"the network has no stream '{stream}'; what is borrowed in it: {borrowed}")
    names = [task.name for task in network.tasks]
    layer, receiver, source = stream
    return network.exchanges[layer - 1].ports[names.index(receiver)][names.index(source)]


def record(network: nn.Module, wanted: Sequence[Stream], images: Tensor) -> dict[Stream, Tensor]:
    """The maps (B, K, h, w) that flow through streams.

    >>> from ..tasks import PATENT_TASKS
    >>> from ..models.networks import build
    >>> network, stream = build("cross_branch", PATENT_TASKS, "tiny", "none"), Stream(1, "emotion", "aesthetics")
    >>> record(network, [stream], torch.zeros(2, 3, 32, 32))[stream].shape
    torch.Size([2, 8, 16, 16])
    """
    found = {}

    def keeper(stream):
        def keep(module, args, output):
            found[stream] = output
        return keep

    with ExitStack() as stack, evaluating(network), torch.no_grad():
        for stream in wanted:
            stack.callback(port(network, stream).register_forward_hook(keeper(stream)).remove)
        network(images)
    return found


@contextmanager
def replaced(place: Port, new: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """A port that hands on something else; ``new`` makes it from what flows there.

    >>> place = Port()
    >>> with replaced(place, torch.zeros_like):
    ...     place(torch.ones(2)).tolist()
    [0.0, 0.0]
    """
    handle = place.register_forward_hook(lambda module, args, output: new(output).to(output))
    try:
        yield
    finally:
        handle.remove()
