"""The cross-branch layer [0048]: T branches' maps stacked along the channels, then one 1x1 convolution a branch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

INITIALISATIONS = ("diagonal", "random", "default")


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
    """

    def __init__(self, branches: int, channels: int, init: str = "diagonal", alpha: float = 0.9, beta: float = 0.1):
        super().__init__()
        if init not in INITIALISATIONS:
            raise ValueError(f"unknown initialisation {init!r}; choose one of {', '.join(INITIALISATIONS)}")
        self.channels = channels
        self.convs = nn.ModuleList(nn.Conv2d(branches * channels, channels, 1) for _ in range(branches))
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

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """T maps (B, K, H, W) to T maps of the same shape."""
        stacked = torch.cat(list(maps), dim=1)  # (B, T*K, H, W)
        return [conv(stacked) for conv in self.convs]
