"""Layers of the backbones as they run here: the same numbers as torch's and timm's, sooner or in less memory.

``adapt`` makes them of a network's own layers, whose parameters keep their names and places.
"""

from __future__ import annotations

import functools
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.utils.checkpoint import checkpoint

LARGE = 2**20
"""Weights of a fully connected layer from which on rounding them takes as long as the product."""
_Norm = nn.modules.batchnorm._BatchNorm


def adapt(module: nn.Module) -> None:
    """Turn the layers within a module into those of this page, in place."""
    for layer in module.modules():
        # In-place activations overwrite what attribution methods need to see (captum's layer methods fail on them).
        if hasattr(layer, "inplace"):
            layer.inplace = False
        if isinstance(layer, nn.Linear) and layer.weight.numel() > LARGE:
            layer.__class__ = LargeLinear
        elif isinstance(layer, nn.MaxPool2d):
            layer.__class__ = MaxPool
        elif isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1:
            _become_convolution(layer)
    for parent in module.modules():
        ordered = [(name, layer) for name, layer in parent.named_children() if isinstance(layer, nn.Conv2d | _Norm)]
        for (_, conv), (name, norm) in pairwise(ordered):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, _Norm):
                _become_convolution(conv)
                conv.behind = parent, name
                norm.__class__ = _folded(type(norm))  # type: ignore[arg-type]


def _become_convolution(layer: nn.Conv2d) -> None:
    if not isinstance(layer, Convolution):
        layer.same = type(layer) is not nn.Conv2d  # timm's Conv2dSame, the only other kind in these backbones
        layer.__class__ = Convolution


class Convolution(nn.Conv2d):
    r"""A convolution that takes the batch normalisation behind it into its own kernels as long as that keeps its
    statistics, and whose depthwise gradients are quick on a CPU.

    With frozen statistics :math:`\mu, \sigma^2` normalising is linear, so that

    .. math:: \gamma \frac{W x + b - \mu}{\sqrt{\sigma^2 + \epsilon}} + \beta = W' x + b', \quad
              W' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} W, \quad
              b' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} (b - \mu) + \beta

    and a small product of the kernels stands for a pass over all maps, forwards and backwards. The gradients of
    :math:`W, \gamma, \beta` flow through :math:`W'` and :math:`b'`.

    Attributes:
        same: it pads as TensorFlow does: what is missing for ceil(side / stride) outputs, the odd pixel at the end.
        behind: where the batch normalisation behind it is, module and name, or nothing. It is looked up each time:
            training in several processes puts others in their places, which are not folded.
    """

    same: bool = False
    behind: tuple[nn.Module, str] | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        norm = getattr(*self.behind) if self.behind else None
        if norm is not None and getattr(norm, "folded", False) and not norm.training:
            weight, bias = self._with(norm)
        if self._is_depthwise() and x.device.type == "cpu" and torch.is_grad_enabled():
            precision = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            if precision == torch.bfloat16 and (self.stride == (1, 1) or x.shape[2] % 2 == x.shape[3] % 2 == 0):
                rounded = [None if values is None else values.to(precision) for values in (x, weight, bias)]
                return Depthwise.apply(*rounded, self.stride[0])
        return self._conv_forward(self._padded(x), weight, bias)

    def _with(self, norm: nn.Module) -> tuple[Tensor, Tensor]:
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        centre = norm.running_mean if self.bias is None else norm.running_mean - self.bias
        return self.weight * scale[:, None, None, None], norm.bias - centre * scale

    def _is_depthwise(self) -> bool:
        """Of a kind that ``Depthwise`` knows."""
        centred = self.same if self.stride == (2, 2) else self.padding == (self.kernel_size[0] // 2,) * 2
        return (self.groups == self.in_channels == self.out_channels > 1 and self.kernel_size in ((3, 3), (5, 5))
                and self.dilation == (1, 1) and self.stride in ((1, 1), (2, 2)) and centred)

    def _padded(self, x: Tensor) -> Tensor:
        if not self.same:
            return x
        missing = [max((-(-side // step) - 1) * step + size - side, 0)
                   for side, size, step in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)]
        (above, below), (left, right) = [(both // 2, both - both // 2) for both in missing]
        return pad(x, (left, right, above, below))


@functools.cache
def _folded(kind: type[nn.Module]) -> type[nn.Module]:
    """A batch normalisation that is done already where its statistics are kept; what stands behind it remains."""

    class Folded(kind):
        folded = True

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                return super().forward(x)
            for name in ("drop", "act"):  # timm's normalisation holds the activation too
                x = getattr(self, name, nn.Identity())(x)
            return x

    return Folded


class Depthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose gradients a CPU computes with kernels that it is quick at.

    oneDNN has depthwise kernels for stride 1 and for weights of 3x3; the gradient of 5x5 weights, or by the maps that
    a stride of 2 read, took it 5 to 70 times as long as here, and up to 5 times in float32 (one core with AVX-512,
    torch 2.14). So a 5x5 gradient is put together from four of 3x3, and the maps' gradient at stride 2 from four
    convolutions of stride 1, one for each of the pixels of a 2x2 cell.

    Args:
        x: (B, K, H, W) bfloat16; with a stride of 2, H and W are even.
        weight: (K, 1, k, k), k = 3 or 5.
        bias: (K,) or None.
        stride: 1, with k // 2 pixels of padding all around, or 2, with (k - 3) // 2 before and one more behind.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.stride, ctx.biased = stride, bias is not None
        ctx.save_for_backward(x, weight)
        size = weight.shape[-1]
        if stride == 1:
            return conv2d(x, weight, bias, 1, size // 2, groups=len(weight))
        return conv2d(_framed(x, size), weight, bias, stride, groups=len(weight))

    @staticmethod
    def backward(ctx, slope: Tensor):
        x, weight = ctx.saved_tensors
        size, slope = weight.shape[-1], slope.contiguous(memory_format=torch.channels_last)
        by_x = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_x = _by_maps_at_2(slope, weight) if ctx.stride == 2 else _by_maps_at_1(slope, weight)
        if ctx.needs_input_grad[1] and size == 3:
            seen, padding = (x, 1) if ctx.stride == 1 else (_framed(x, size), 0)
            by_weight, by_bias = _by_weights(slope, seen, weight, ctx.stride, padding, ctx.biased)
        elif ctx.needs_input_grad[1]:
            seen = pad(x, (2, 3) * 2 if ctx.stride == 1 else (1, 3) * 2)
            by_weight, by_bias = _by_5x5(slope, seen, ctx.stride, ctx.biased)
        return by_x, by_weight, by_bias, None


def _framed(x: Tensor, size: int) -> Tensor:
    """With the padding of a stride of 2."""
    before = (size - 3) // 2
    return pad(x, (before, before + 1) * 2)


def _by_weights(slope: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, biased: bool):
    """The gradients by the weights (of which the shape counts) and by the bias."""
    return torch.ops.aten.convolution_backward(
        slope, x, weight, [len(weight)] if biased else None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0],
        len(weight), [False, True, biased])[1:]


def _by_5x5(slope: Tensor, x: Tensor, stride: int, biased: bool):
    """The gradients (K, 1, 5, 5) by the weights and (K,) by the bias, from padded maps that would hold a kernel of
    6x6: one of 3x3 at each of its corners."""
    (height, width), channels = slope.shape[2:], slope.shape[1]
    part, whole, by_bias = slope.new_empty(channels, 1, 3, 3), slope.new_empty(channels, 1, 6, 6), None
    for top, left in product((0, 3), repeat=2):
        seen = x[:, :, top:top + stride * (height - 1) + 3, left:left + stride * (width - 1) + 3]
        first = (top, left) == (0, 0)
        corner, bias = _by_weights(slope, seen, part, stride, 0, biased and first)
        whole[:, :, top:top + 3, left:left + 3] = corner
        by_bias = bias if first else by_bias
    return whole[:, :, :5, :5], by_bias


def _by_maps_at_1(slope: Tensor, weight: Tensor) -> Tensor:
    """The gradient (B, K, H, W) by the maps: the convolution with the kernels turned round."""
    return conv2d(slope, weight.flip(2, 3), None, 1, weight.shape[-1] // 2, groups=len(weight))


def _by_maps_at_2(slope: Tensor, weight: Tensor) -> Tensor:
    """The gradient (B, K, 2h, 2w) by the maps that a stride of 2 read, from (B, K, h, w).

    Row 2u + a of the maps was met by the weights' rows a + before + {2, 0, -2} in the outputs u - 1, u, u + 1.
    """
    (batch, channels, height, width), before = slope.shape, (weight.shape[-1] - 3) // 2
    weight = pad(weight, (2, 2, 2, 2))
    cells = slope.new_empty(batch, height, 2, width, 2, channels)
    for a, b in product((0, 1), repeat=2):
        kernel = weight[:, :, a + before:a + before + 5:2, b + before:b + before + 5:2].flip(2, 3)
        cells[:, :, a, :, b] = conv2d(slope, kernel, None, 1, 1, groups=channels).permute(0, 2, 3, 1)
    return cells.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


class LargeLinear(nn.Linear):
    """A ``LARGE`` fully connected layer, which leaves CPU autocast while training.

    It takes as long either way, since its weights are rounded anew at every step, but they are not held twice (0.5 GB
    of a VGG16 pair). The forward pass alone is quicker in bfloat16.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)


class MaxPool(nn.MaxPool2d):
    """Max-pooling that, while training, finds the largest pixels again in the backward pass instead of keeping where
    they were: torch notes that in eight bytes each, 0.4 GB of a VGG16 pair at batch 16, for a hundredth of its time.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and torch.is_grad_enabled()):
            return super().forward(x)
        return checkpoint(super().forward, x, use_reentrant=False, preserve_rng_state=False)
