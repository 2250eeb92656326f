"""The cross-branch layer [0048]: T branches' maps stacked along the channels, then one 1x1 convolution a branch.

And its relatives, and the streams that such layers hold, by name, so that each can be watched, explained or cut alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

INITIALISATIONS = ("diagonal", "random", "default")


class Port(nn.Module):
    """One stream: the map of one branch on its way to one receiver, where a hook can watch or replace it alone.

    All receivers read the same tensor. Were a port to hand it on as it is (as ``nn.Identity`` does), a gradient
    taken at one receiver's port would also hold what flows through the others; a copy keeps the streams apart.

    >>> x, place = torch.ones(1, 2, 4, 4), Port()
    >>> torch.equal(place(x), x), place(x) is x
    (True, False)
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def hooked(self) -> bool:
        """Whether anyone watches."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)


class ExchangeLayer(nn.Module):
    """T branches' maps in, T maps out; each kind says in ``receive`` what one branch makes of what reaches it.

    Attributes:
        ports: ``ports[t][s]`` is the stream from branch s to receiver t, own where t = s, borrowed elsewhere. Ports
            hold no parameters, and run only while a hook is on one of them: training does not pay for them.

    >>> class Swap(ExchangeLayer):
    ...     def receive(self, receiver, maps):
    ...         return maps[1 - receiver]
    >>> [float(x.mean()) for x in Swap(2)([torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)])]
    [1.0, 0.0]
    """

    def __init__(self, branches: int):
        super().__init__()
        self.ports = nn.ModuleList(nn.ModuleList(Port() for _ in range(branches)) for _ in range(branches))

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        """What one branch goes on with, given the T maps (B, K, H, W) that reach it."""
        raise NotImplementedError

    def unwatched(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``receive`` for all branches at once."""
        return [self.receive(t, maps) for t in range(len(maps))]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """T maps (B, K, H, W) to T maps of the same shape."""
        if any(port.hooked() for row in self.ports for port in row):
            return [
                self.receive(t, [port(x) for port, x in zip(row, maps, strict=True)])
                for t, row in enumerate(self.ports)
            ]
        return self.unwatched(maps)


class CrossBranchLayer(ExchangeLayer):
    r"""Exchange feature maps between the branches.

    With maps :math:`x_1 .. x_T`, each of K channels, branch t goes on with

    .. math:: z_t = W_t [x_1; ..; x_T] + b_t = \sum_s W_{ts} x_s + b_t

    equation 2.1 of lesson 02: a 1x1 convolution of K kernels over the T*K stacked channels, stride 1, padding 0. The
    patent has T = 2.
    Bias and 'no activation after it' are our reading: the text leaves both open.

    Args:
        branches: T, at least 2.
        channels: K.
        init: how W starts, which the patent only calls random [0057]:
            'random' scales a normal distribution to its inputs (He et al. 2015), 'default' is PyTorch's own
            (it shrinks the maps to a few per cent), 'diagonal' starts at W_tt = alpha*I, W_ts = beta/(T-1)*I
            (Gao et al., NDDR-CNN, 2019), which keeps pretrained channels in their places.
        alpha, beta: the diagonal's share of the own and of the other branches' maps. With alpha + beta = 1 and
            equal branches the joint network starts as the single one.
        own_twice: the control: each branch gets [x_t; ..; x_t], its own map T times, so that parameters and operations
            are the same and nothing is exchanged.
        without: links (receiver, source) that are left out: their W_ts is 0 and stays so. What a receiver would have
            started with from them is added to its own share, so that the maps keep their scale.

    >>> layer = CrossBranchLayer(branches=2, channels=3, init="diagonal", alpha=0.75, beta=0.25)
    >>> own, other = layer([torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)])
    >>> own.mean().item(), other.mean().item()
    (0.75, 0.25)
    """

    def __init__(
        self, branches: int, channels: int, init: str = "diagonal", alpha: float = 0.9, beta: float = 0.1,
        own_twice: bool = False, without: Sequence[tuple[int, int]] = (),
    ):
        super().__init__(branches)
        if init not in INITIALISATIONS:
            raise ValueError(f"unknown initialisation {init!r}; choose one of {', '.join(INITIALISATIONS)}")
        if without and init != "diagonal":
            raise ValueError(f"without: links can be left out of a diagonal start only, not of {init!r}")
        self.channels, self.own_twice, self.without = channels, own_twice, tuple(without)
        self.convs = nn.ModuleList(nn.Conv2d(branches * channels, channels, 1) for _ in range(branches))
        if init == "random":
            for conv in self.convs:
                # No ReLU follows: a gain of 1 keeps the scale.
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
                nn.init.zeros_(conv.bias)
        elif init == "diagonal":
            self._start_diagonal(alpha, beta)
        if self.without:
            links = torch.ones(branches, branches)
            for receiver, source in self.without:
                links[receiver, source] = 0
            # (T, T*K, 1, 1) factors of each receiver's kernels; they follow from the options, so they are not saved.
            # Of rank 4, as channels_last asks of all that has more than three.
            self.register_buffer("links", links.repeat_interleave(channels, 1)[:, :, None, None], False)

    @torch.no_grad()
    def _start_diagonal(self, alpha: float, beta: float) -> None:
        others = max(len(self.convs) - 1, 1)
        identity = torch.eye(self.channels)
        for own, conv in enumerate(self.convs):
            shares = [0.0 if (own, s) in self.without else beta / others for s in range(len(self.convs))]
            shares[own] = alpha + beta / others * sum(receiver == own for receiver, _ in self.without)
            blocks = [identity * share for share in shares]
            conv.weight.copy_(torch.cat(blocks, dim=1)[:, :, None, None])  # (K, T*K, 1, 1)
            conv.bias.zero_()

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        return self.mixed(receiver, torch.cat(list(maps), dim=1))

    def mixed(self, receiver: int, stacked: Tensor) -> Tensor:
        """(B, T*K, H, W) to one branch's (B, K, H, W)."""
        conv = self.convs[receiver]
        if not self.without:
            return conv(stacked)
        return nn.functional.conv2d(stacked, conv.weight * self.links[receiver], conv.bias)

    def unwatched(self, maps: Sequence[Tensor]) -> list[Tensor]:
        if self.own_twice:
            return [self.receive(t, [x] * len(maps)) for t, x in enumerate(maps)]
        stacked = torch.cat(list(maps), dim=1)  # one copy for all receivers
        return [self.mixed(t, stacked) for t in range(len(maps))]


class NDDRLayer(CrossBranchLayer):
    r"""Gao et al., NDDR-CNN, CVPR 2019: :math:`z_t = ReLU(BN_t(W_t [x_1; ..; x_T]))`, no bias, diagonal start.

    Args:
        branches, channels, alpha, beta: see ``CrossBranchLayer``.

    >>> NDDRLayer(2, 3)([torch.ones(2, 3, 4, 4)] * 2)[0].shape
    torch.Size([2, 3, 4, 4])
    """

    def __init__(self, branches: int, channels: int, alpha: float = 0.9, beta: float = 0.1):
        super().__init__(branches, channels, "diagonal", alpha, beta)
        for conv in self.convs:
            conv.register_parameter("bias", None)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))

    def mixed(self, receiver: int, stacked: Tensor) -> Tensor:
        return nn.functional.relu(self.norms[receiver](super().mixed(receiver, stacked)))


class CrossStitchUnit(ExchangeLayer):
    r"""Misra et al., Cross-stitch networks, CVPR 2016: :math:`z_t^k = \sum_s \alpha_{ts}^k x_s^k`.

    A T x T matrix of scalars for each channel k (the paper's 'one unit a channel'; one for the whole map is the other
    reading), so channels never mix. The start, .9 own and .1 the others', is ours from the range that the paper tried.

    Args:
        branches, channels: T and K.
        alpha, beta: the own share at the start, and that of all the other branches together.

    >>> unit = CrossStitchUnit(2, 3, alpha=0.75, beta=0.25)
    >>> unit([torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)])[1].mean().item()
    0.25
    """

    def __init__(self, branches: int, channels: int, alpha: float = 0.9, beta: float = 0.1):
        super().__init__(branches)
        shares = torch.full((branches, branches), beta / max(branches - 1, 1)).fill_diagonal_(alpha)
        self.shares = nn.Parameter(shares[..., None].repeat(1, 1, channels))  # (T, T, K)

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        return sum(share[:, None, None] * x for share, x in zip(self.shares[receiver], maps, strict=True))


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
    >>> from .networks import build
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
    >>> from .networks import build
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


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, then as it was.

    >>> layer = nn.Dropout()
    >>> with evaluating(layer):
    ...     layer.training
    False
    >>> layer.training
    True
    """
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)


def record(network: nn.Module, wanted: Sequence[Stream], images: Tensor) -> dict[Stream, Tensor]:
    """The maps (B, K, h, w) that flow through streams.

    >>> from ..tasks import PATENT_TASKS
    >>> from .networks import build
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
