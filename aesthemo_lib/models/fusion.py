"""The cross-branch layer [0048]: T branches' maps stacked along the channels, then one 1x1 convolution a branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

INITIALISATIONS = ("diagonal", "random", "default")


class Port(nn.Module):
    """One stream: the map of one branch on its way to one receiver, where a hook can watch or replace it alone.

    All receivers read the same tensor. Were a port to hand it on as it is (as ``nn.Identity`` does), a gradient
    taken at one receiver's port would also hold what flows through the others; a copy keeps the streams apart.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()

    def hooked(self) -> bool:
        """Whether anyone watches."""
        return bool(self._forward_hooks or self._forward_pre_hooks or self._backward_hooks or self._backward_pre_hooks)


class CrossBranchLayer(nn.Module):
    r"""Exchange feature maps between the branches.

    With maps :math:`x_1 .. x_T`, each of K channels, branch t goes on with

    .. math:: z_t = W_t [x_1; ..; x_T] + b_t = \sum_s W_{ts} x_s + b_t

    a 1x1 convolution of K kernels over the T*K stacked channels, stride 1, padding 0. The patent has T = 2.
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

    Attributes:
        ports: ``ports[t][s]`` is the stream from branch s to receiver t, own where t = s, borrowed elsewhere. Ports
            hold no parameters, and run only while a hook is on one of them: training does not pay for them.
    """

    def __init__(self, branches: int, channels: int, init: str = "diagonal", alpha: float = 0.9, beta: float = 0.1):
        super().__init__()
        if init not in INITIALISATIONS:
            raise ValueError(f"unknown initialisation {init!r}; choose one of {', '.join(INITIALISATIONS)}")
        self.channels = channels
        self.convs = nn.ModuleList(nn.Conv2d(branches * channels, channels, 1) for _ in range(branches))
        self.ports = nn.ModuleList(nn.ModuleList(Port() for _ in range(branches)) for _ in range(branches))
        if init == "random":
            for conv in self.convs:
                # No ReLU follows: a gain of 1 keeps the scale.
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
                nn.init.zeros_(conv.bias)
        elif init == "diagonal":
            self._start_diagonal(alpha, beta)

    @torch.no_grad()
    def _start_diagonal(self, alpha: float, beta: float) -> None:
        others = max(len(self.convs) - 1, 1)
        identity = torch.eye(self.channels)
        for own, conv in enumerate(self.convs):
            blocks = [identity * (alpha if source == own else beta / others) for source in range(len(self.convs))]
            conv.weight.copy_(torch.cat(blocks, dim=1)[:, :, None, None])  # (K, T*K, 1, 1)
            conv.bias.zero_()

    def receive(self, receiver: int, maps: Sequence[Tensor]) -> Tensor:
        """What one branch goes on with, given the T maps (B, K, H, W) that reach it."""
        return self.convs[receiver](torch.cat(list(maps), dim=1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """T maps (B, K, H, W) to T maps of the same shape."""
        if any(port.hooked() for row in self.ports for port in row):
            return [
                self.receive(t, [port(x) for port, x in zip(row, maps, strict=True)])
                for t, row in enumerate(self.ports)
            ]
        stacked = torch.cat(list(maps), dim=1)  # (B, T*K, H, W), one copy for all receivers
        return [conv(stacked) for conv in self.convs]
