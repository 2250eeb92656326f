"""Faster ways to compute a network's layers on a CPU, which only training and prediction switch on.

CPU time with this page as a share of that without it, and of each part by itself (``python -m bench.quick_cpu``:
EfficientNet-Lite0 pair, 128 px, batch 32, kept statistics, one busy thread; medians differ by .05 between runs):

=============================  ====  =======  ===================
..                             both  folding  depthwise gradients
=============================  ====  =======  ===================
bfloat16, training step        0.37  0.97     0.42
bfloat16, prediction           0.92  0.89     1.03
AVX2 in float32, step          0.94  0.91     1.00 (not used)
AVX2 in float32, prediction    0.94  0.91     1.00 (not used)
=============================  ====  =======  ===================

``LARGE`` layers and max-pooling save memory instead, of a pair of VGG16.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad
from torch.utils.checkpoint import checkpoint

from .lite0 import pad_same

SWITCH = "AESTHEMO_QUICK_CPU"
"""The environment variable that turns this page off: 0 leaves all layers as they are."""
LARGE = 2**20  #: Weights of a fully connected layer above which rounding them costs as much as the product


@contextmanager
def quick_cpu(network: nn.Module) -> Iterator[None]:
    """Within this block a network's layers take the quicker ways; nothing else about it changes."""
    with ExitStack() as stack:
        for layer, forward in _quicker(network) if os.environ.get(SWITCH) != "0" else ():
            stack.callback(_put_back, layer, vars(layer).get("forward"))
            layer.forward = forward
        yield


def _put_back(layer: nn.Module, before: Callable | None) -> None:
    del layer.forward  # the class' own is there again
    if before:
        layer.forward = before


def _quicker(network: nn.Module) -> Iterator[tuple[nn.Module, Callable[..., Tensor]]]:
    """The layers that have a quicker way, and it."""
    behind = {}
    for parent in network.modules():
        for layer, norm in pairwise(parent.children()):
            if _is_known(layer) and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats and norm.affine:
                behind[layer] = norm
    for layer in network.modules():
        if layer in behind or _is_known(layer) and _is_depthwise(layer):
            yield layer, partial(_convolve, layer, behind.get(layer))
        elif isinstance(layer, nn.Linear) and layer.weight.numel() > LARGE:
            yield layer, partial(_large_linear, layer)
        elif isinstance(layer, nn.MaxPool2d):
            yield layer, partial(_max_pool, layer)
    for norm in behind.values():
        yield norm, partial(_what_is_left, norm)


def _is_known(layer: nn.Module) -> bool:
    return type(layer) is nn.Conv2d or type(layer).__name__ == "Conv2dSame" and layer.dilation == (1, 1)  # ours, timm's


def _convolve(layer: nn.Conv2d, norm: nn.BatchNorm2d | None, x: Tensor) -> Tensor:
    r"""A convolution that takes the batch normalisation behind it into its kernels where that keeps its statistics.

    Normalising is linear then, so that a small product of the kernels replaces a pass over all maps, both ways:

    .. math:: W' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} W, \quad
              b' = \frac{\gamma}{\sqrt{\sigma^2 + \epsilon}} (b - \mu) + \beta
    """
    weight, bias = layer.weight, layer.bias
    if norm is not None and not norm.training:
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        bias = norm.bias - (norm.running_mean if bias is None else norm.running_mean - bias) * scale
        weight = weight * scale[:, None, None, None]
    if _has_slow_gradients(layer, x):
        rounded = [None if values is None else values.to(torch.bfloat16) for values in (x, weight, bias)]
        return Depthwise.apply(*rounded, layer.stride[0])
    if type(layer) is not nn.Conv2d:
        x = pad_same(x, layer.kernel_size, layer.stride)
    return layer._conv_forward(x, weight, bias)


def _what_is_left(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """A batch normalisation that is done already where its statistics are kept; what timm put into it remains."""
    if norm.training:
        return type(norm).forward(norm, x)
    for name in ("drop", "act"):
        x = getattr(norm, name, nn.Identity())(x)
    return x


def _has_slow_gradients(layer: nn.Conv2d, x: Tensor) -> bool:
    """Whether torch's own gradients of a convolution are slow here, and ``Depthwise`` knows a quicker way."""
    return (x.device.type == "cpu" and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
            and torch.get_autocast_dtype("cpu") == torch.bfloat16 and _is_depthwise(layer)
            and (layer.stride == (1, 1) or x.shape[2] % 2 == x.shape[3] % 2 == 0))


def _is_depthwise(layer: nn.Conv2d) -> bool:
    """Of a kind that ``Depthwise`` knows."""
    same = type(layer) is not nn.Conv2d
    centred = same if layer.stride == (2, 2) else layer.padding == (layer.kernel_size[0] // 2,) * 2
    return (layer.groups == layer.in_channels == layer.out_channels > 1 and layer.kernel_size in ((3, 3), (5, 5))
            and layer.dilation == (1, 1) and layer.stride in ((1, 1), (2, 2)) and centred)


def _large_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A ``LARGE`` layer leaves CPU autocast in training: its weights would be rounded at each step, and held twice."""
    if not (x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
        return type(layer).forward(layer, x)
    with torch.autocast("cpu", enabled=False):
        return type(layer).forward(layer, x.float()).to(x.dtype)


def _max_pool(layer: nn.MaxPool2d, x: Tensor) -> Tensor:
    """Max-pooling finds the largest pixels again in the backward pass: to keep where they were takes 8 bytes each."""
    if not (layer.training and torch.is_grad_enabled()):
        return type(layer).forward(layer, x)
    return checkpoint(partial(type(layer).forward, layer), x, use_reentrant=False, preserve_rng_state=False)


class Depthwise(torch.autograd.Function):
    """A depthwise convolution in bfloat16 whose gradients a CPU computes with its fast kernels.

    oneDNN has depthwise kernels for stride 1 and for weights of 3x3; the gradient of 5x5 weights, or by the maps that
    a stride of 2 read, took it 5 to 70 times as long as here (one core with AVX-512, torch 2.14). So a 5x5 gradient is
    put together from four of 3x3, and the maps' gradient at stride 2 from four convolutions of stride 1, one for each
    of the pixels of a 2x2 cell.

    Args:
        x, weight, bias: (B, K, H, W) bfloat16, H and W even with a stride of 2; (K, 1, k, k), k = 3 or 5; (K,) or None.
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
    """The gradients (K, 1, 5, 5) by the weights and (K,) by the bias: of 3x3 at each corner of a padded 6x6 kernel."""
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
