"""The cross-branch layer [0048]: T branches' maps stacked along the channels, then one 1x1 convolution per branch.

And its relatives, and the streams that such layers hold, by name, so that each can be watched, explained or cut.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

INITIALISATIONS = ("diagonal", "random", "default")


class HookPoint(nn.Module):
    """The hook point of one stream: the map of one branch on its way to one receiver, to be watched or replaced.

    All receivers read the same tensor. Were it handed on as it is, a gradient taken at one receiver's hook point would
    also hold what flows through the others; a copy keeps the streams apart.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def hooked(self) -> bool:
        """Whether anyone watches."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)


class ExchangeLayer(nn.Module):
    """T branches' maps in, T maps out; each kind says in ``receive`` what one branch makes of what reaches it.

    Attributes:
        hook_points: ``hook_points[t][s]`` is the stream from branch s to receiver t, own where t = s, else borrowed.
            They hold no parameters, and run only while a hook is on one of them: training does not pay for them.
    """

    def __init__(self, branches: int):
        super().__init__()
        self.hook_points = nn.ModuleList(nn.ModuleList(HookPoint() for _ in range(branches)) for _ in range(branches))

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        """The map that one branch continues with, from the T maps (B, K, H, W) that reach it."""
        raise NotImplementedError

    def unwatched(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """``receive`` for all branches at once."""
        return [self.receive(t, maps) for t in range(len(maps))]

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """T maps (B, K, H, W) to T maps of the same shape."""
        if any(point.hooked() for row in self.hook_points for point in row):
            return [
                self.receive(t, [point(x) for point, x in zip(row, maps, strict=True)])
                for t, row in enumerate(self.hook_points)
            ]
        return self.unwatched(maps)


class CrossBranchLayer(ExchangeLayer):
    r"""Exchange feature maps between the branches.

    With maps :math:`x_1 .. x_T`, each of K channels, branch t continues with

    .. math:: z_t = W_t [x_1; ..; x_T] + b_t = \sum_s W_{ts} x_s + b_t

    equation 2.1 of lesson 02: a 1x1 convolution of K kernels over the T*K stacked channels; the patent has T = 2.
    Bias and 'no activation after it' are our reading: the text leaves both open.

    Args:
        branches: T, at least 2.
        channels: K.
        init: how W starts, which the patent only calls random [0057]: 'random' scales a normal distribution to its
            inputs (He et al. 2015), 'default' is PyTorch's own (it shrinks the maps to a few per cent), 'diagonal'
            starts at W_tt = alpha*I, W_ts = beta/(T-1)*I (Gao et al., NDDR-CNN, 2019), which keeps pretrained channels.
        alpha, beta: the diagonal's share of the own and of the other branches' maps. With alpha + beta = 1 and
            equal branches the joint network starts as the single one.
        own_twice: the control: each branch gets its own map T times, so that nothing is exchanged at equal cost.
        without: links (receiver, source) that are left out: their W_ts stays 0, and its share goes to the own maps.
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

    ``start_norms`` makes it begin as the mix that the diagonal start means, and leaves the ReLU out after groups that
    end linearly, as EfficientNet-Lite's do: both are ours, since normalised maps are not what the next group expects.
    """

    def __init__(self, branches: int, channels: int, alpha: float = 0.9, beta: float = 0.1):
        super().__init__(branches, channels, "diagonal", alpha, beta)
        for conv in self.convs:
            conv.register_parameter("bias", None)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(branches))
        self.register_buffer("rectified", torch.tensor(True))

    def mixed(self, receiver: int, stacked: Tensor) -> Tensor:
        normalised = self.norms[receiver](super().mixed(receiver, stacked))
        return torch.where(self.rectified, normalised.relu(), normalised)

    @contextmanager
    def start_norms(self) -> Iterator[None]:
        """Within this block each normalisation takes over what enters it: its mean and deviation, and gives them back.

        So it changes nothing at first (data-dependent initialisation, Salimans and Kingma 2016).
        """
        def take_over(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
            x = inputs[0].float()
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            with torch.no_grad():
                norm.weight.copy_((variance + norm.eps).sqrt())
                norm.bias.copy_(mean)
            self.rectified &= (x >= 0).all()

        with ExitStack() as hooks:
            for norm in self.norms:
                hooks.callback(norm.register_forward_pre_hook(take_over).remove)
            yield


class CrossStitchUnit(ExchangeLayer):
    r"""Misra et al., Cross-stitch networks, CVPR 2016: :math:`z_t^k = \sum_s \alpha_{ts}^k x_s^k`.

    A T x T matrix of scalars for each channel k (the paper's 'one unit a channel'; one for the whole map is the other
    reading), so channels never mix. The start, .9 own and .1 of others, is ours from the range that the paper tried.
    """

    def __init__(self, branches: int, channels: int, alpha: float = 0.9, beta: float = 0.1):
        super().__init__(branches)
        shares = torch.full((branches, branches), beta / max(branches - 1, 1)).fill_diagonal_(alpha)
        self.shares = nn.Parameter(shares[..., None].repeat(1, 1, channels))  # (T, T, K)

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        return sum(share[:, None, None] * x for share, x in zip(self.shares[receiver], maps, strict=True))
