"""EfficientNet-Lite0 (Google, 2020), with the names, the function and the random start of timm's.

timm's would do, but importing it takes six CPU-seconds, since torchvision loads torch's compiler: twice all else that
opening the inspector takes.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pad, relu6

STAGES = ((1, 1, 3, 1, 16), (2, 6, 3, 2, 24), (2, 6, 5, 2, 40), (3, 6, 3, 2, 80), (3, 6, 5, 1, 112),
          (4, 6, 5, 2, 192), (1, 6, 3, 1, 320))
"""Of each stage: blocks, expansion, kernel size, stride of the first block, channels."""


def pad_same(x: Tensor, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Zeros around (B, K, H, W) as TensorFlow's 'same' puts them: where their number is odd, one more goes behind."""
    high, wide = (max((-(-n // by) - 1) * by + k - n, 0) for n, k, by in zip(x.shape[2:], size, stride, strict=True))
    return pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2))


class Conv2dSame(nn.Conv2d):
    """A convolution that is padded by ``pad_same``."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(pad_same(x, self.kernel_size, self.stride), self.weight, self.bias)


def _conv(inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    kind, padding = (nn.Conv2d, size // 2) if stride == 1 else (Conv2dSame, 0)
    return kind(inputs, outputs, size, stride, padding, groups=groups, bias=False)


class Block(nn.Module):
    """MobileNetV2's inverted residual: expand, convolve each channel, project; without the first if ``expansion`` is 1.

    ReLU6 stands before all but the expansion, so that the first block, which has none, activates the stem's maps.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, size: int, stride: int):
        super().__init__()
        self.expands, self.skips, wide = expansion > 1, stride == 1 and inputs == outputs, inputs * expansion
        convs = {"conv_pw": _conv(inputs, wide)} if self.expands else {}
        convs["conv_dw"] = _conv(wide, wide, size, stride, wide)
        convs["conv_pwl" if self.expands else "conv_pw"] = _conv(wide, outputs)
        for number, (name, conv) in enumerate(convs.items(), start=1):
            self.add_module(name, conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(conv.out_channels, eps=1e-3))

    def forward(self, x: Tensor) -> Tensor:
        layers, y = list(self.children()), x
        for at, (conv, norm) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
            y = norm(conv(y if self.expands and not at else relu6(y)))
        return y + x if self.skips else y


def efficientnet_lite0() -> nn.Sequential:
    """The network for ImageNet's 1,000 classes, with what ``backbones`` asks timm's networks for."""
    stem, stages, info, inputs, reduction = _conv(3, 32, 3, 2), nn.Sequential(), [], 32, 2
    [nn.Conv2d(8, 8, 1) for _ in range(2)]  # timm tries out a layer here: with it, equal seeds give equal networks
    for count, expansion, size, stride, outputs in STAGES:
        stages.append(nn.Sequential(*(Block(outputs if k else inputs, outputs, expansion, size, 1 if k else stride)
                                      for k in range(count))))
        inputs, reduction = outputs, reduction * stride
        info.append({"module": f"blocks.{len(info)}", "num_chs": outputs, "reduction": reduction})
    network = nn.Sequential(OrderedDict(
        conv_stem=stem, bn1=nn.BatchNorm2d(32, eps=1e-3), blocks=stages,
        conv_head=_conv(inputs, 1280), bn2=nn.BatchNorm2d(1280, eps=1e-3),
        global_pool=nn.Sequential(nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), classifier=nn.Linear(1280, 1000)))
    for conv in (layer for layer in network.modules() if isinstance(layer, nn.Conv2d)):
        nn.init.normal_(conv.weight, 0, (2 * conv.groups / conv.weight[:, 0].numel()) ** 0.5)
    nn.init.uniform_(network.classifier.weight, -(1000**-0.5), 1000**-0.5)
    nn.init.zeros_(network.classifier.bias)
    network.feature_info, network.pretrained_cfg = info, {"std": (0.5, 0.5, 0.5), "classifier": "classifier"}
    return network
