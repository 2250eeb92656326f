"""Colour and texture as numbers, and networks that see them as well as the pixels.

Li, Xu & Duan (2019) let an 'improved CNN' learn an image's emotion from its colour and texture. Their descriptors,
their layers and where the two meet are not in the text available to us: all of it is ours. The descriptors are the
classical ones, in torch, so that attribution has a gradient to follow; scikit-image is the tests' reference.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..tasks import Task
from .backbones import Backbone, Network

MEAN = (0.485, 0.456, 0.406)
"""The colour that stands in for the mean image, which was taken off before a network sees the pixels: ImageNet's."""
WHITE = (0.95047, 1.0, 1.08883)  #: D65 at 2 degrees, in XYZ
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
RANGES = ((0.0, 100.0), (-60.0, 60.0), (-60.0, 60.0))
"""What the bins of L, a and b span; what lies beyond counts at the end (b of a strong blue is -108)."""
BINS, ORIENTATIONS, FREQUENCY, SCALES = 8, 4, 0.25, 3
COLOUR = 3 * (3 + BINS)  #: Colour numbers: of L, a and b three moments and a histogram each
TEXTURE = 2 * ORIENTATIONS * SCALES
"""Texture numbers: mean and deviation of each Gabor filter's energy at each scale."""


def lab(rgb: Tensor) -> Tensor:
    """sRGB in 0..1 to CIE L*a*b* (D65), (B, 3, H, W) to the same shape: L in 0..100, a and b about -110..110."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp(min=0) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("dc,bchw->bdhw", rgb.new_tensor(TO_XYZ), linear) / rgb.new_tensor(WHITE)[:, None, None]
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def colour(pixels: Tensor) -> Tensor:
    """Colour moments (after Stricker & Orengo 1995) and histograms, of L, a and b each: (B, 3, H, W) to (B, COLOUR).

    The moments are mean, standard deviation and the third moment over the variance (that paper's cube root has an
    infinite gradient at 0). A pixel between the middles of two bins counts for both, in proportion.
    """
    flat = pixels.flatten(2)  # (B, 3, P)
    mean = flat.mean(dim=2, keepdim=True)
    deviation, third = _deviation(flat), ((flat - mean) ** 3).mean(dim=2)
    moments = torch.cat([mean[..., 0], deviation, third / (deviation**2 + 1)], dim=1)
    low, high = flat.new_tensor(RANGES).T[:, :, None]
    place = ((flat - low) / (high - low) * BINS - 0.5).clamp(0, BINS - 1)
    shares = [(1 - (place - number).abs()).clamp(min=0).mean(dim=2) for number in range(BINS)]
    return torch.cat([moments, *shares], dim=1)


def gabor_bank() -> Tensor:
    """Gabor filters (Daugman 1985) of one frequency, (2 * ORIENTATIONS, 1, 15, 15): real, then imaginary."""
    sigma = math.sqrt(math.log(2) / 2) / math.pi * 3 / FREQUENCY
    half = math.ceil(3 * sigma)
    y, x = torch.meshgrid(*(2 * [torch.arange(-half, half + 1, dtype=torch.float64)]), indexing="ij")
    angle = torch.arange(ORIENTATIONS, dtype=torch.float64)[:, None, None] * math.pi / ORIENTATIONS
    wave = torch.exp(2j * math.pi * FREQUENCY * (x * angle.cos() + y * angle.sin()))
    bank = torch.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2) * wave
    return torch.cat([bank.real, bank.imag])[:, None].float()


def gabor_energy(grey: Tensor, bank: Tensor) -> Tensor:
    """The magnitude of each filter's answer, (B, 1, H, W) to (B, ORIENTATIONS, H, W); mirrored at the border."""
    half = bank.shape[-1] // 2
    mirrored = functional.pad(grey, 4 * [half], mode="reflect")
    real, imaginary = functional.conv2d(mirrored, bank.flip(-1, -2)).chunk(2, dim=1)  # flipped: a convolution
    return (real**2 + imaginary**2 + 1e-12).sqrt()


def texture(light: Tensor, bank: Tensor) -> Tensor:
    """Gabor energies at full, half and quarter size, mean and deviation each (Manjunath & Ma 1996).

    Of (B, 1, H, W) L in 0..1 the (B, TEXTURE) numbers.
    """
    numbers, grey = [], light
    for _ in range(SCALES):
        energy = gabor_energy(grey, bank).flatten(2)
        numbers += [energy.mean(dim=2), _deviation(energy)]
        grey = functional.avg_pool2d(grey, 2)
    return torch.cat(numbers, dim=1)


def _deviation(values: Tensor) -> Tensor:
    """The standard deviation along the last axis, with a gradient where all values are the same."""
    return (values.var(dim=2, correction=0) + 1e-8).sqrt()


class Appearance(nn.Module):
    """Images as networks see them to their colour and texture: (B, 3, H, W) to (B, COLOUR + TEXTURE) float32.

    ``std`` is the pixels' scale, see ``data.batches``. A ValueError refuses images too small for the filters.
    """

    def __init__(self, std: Sequence[float]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.register_buffer("bank", gabor_bank(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < (least := 2 ** (SCALES - 1) * (self.bank.shape[-1] // 2 + 1)):
            raise ValueError(f"colour and texture: expected images of {least} px or more, got "
                             f"{tuple(images.shape[-2:])}; set a larger crop")
        with torch.autocast(images.device.type, enabled=False):
            pixels = lab((images.float() * self.std + self.mean).clamp(0, 1))
            light = pixels[:, :1] / 100
            return torch.cat([colour(pixels), texture(light, self.bank)], dim=1)


class Described(Network):
    r"""One task's network: with the backbone's features :math:`f` and the descriptors :math:`d` of the same pixels

    .. math:: l = W\,[\,f;\ ReLU(P\,BN(d) + p)\,] + b

    so without the second half of W it is the backbone itself: the unimproved CNN.

    Args:
        task, backbone: the task and its branch, whose head gets a wider last layer.
        width: of the descriptors' half.
    """

    def __init__(self, task: Task, backbone: Backbone, width: int):
        super().__init__((task,), [backbone])
        self.groups, self.head = nn.Sequential(*backbone.groups), backbone.head
        last = self.head[-1]
        self.head[-1] = nn.Linear(last.in_features + width, last.out_features)
        nn.init.normal_(self.head[-1].weight, 0, 0.01)
        nn.init.zeros_(self.head[-1].bias)
        self.appearance = Appearance(self.std)
        self.described = nn.Sequential(
            nn.BatchNorm1d(COLOUR + TEXTURE, affine=False), nn.Linear(COLOUR + TEXTURE, width), nn.ReLU()
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        features = self.head[:-1](self.groups(images))
        with torch.autocast(images.device.type, enabled=False):
            looks = self.described(self.appearance(images))
        return {self.tasks[0].name: self.head[-1](torch.cat([features.float(), looks], dim=1))}

    def parts(self) -> list[tuple[list[nn.Module], nn.Sequential]]:
        return [(list(self.groups), self.head)]

    def fresh_parameters(self) -> Iterator[nn.Parameter]:
        """What starts at random: the last layer and the descriptors' own."""
        return chain(super().fresh_parameters(), self.described.parameters())


class ColourTexture(Network):
    """The 'improved CNN' of Li, Xu & Duan (2019) as we read it: ``Described`` for each task, trained apart."""

    def __init__(self, tasks: tuple[Task, ...], backbones: Sequence[Backbone], *, width: int = 32):
        super().__init__(tasks, backbones)
        self.networks = nn.ModuleList(
            Described(replace(task, loss_weight=1.0), b, width) for task, b in zip(tasks, backbones, strict=True)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to {task name: (B, C)}."""
        return {name: logits for network in self.networks for name, logits in network(images).items()}

    def single_task(self, i: int) -> Described:
        """Task i's network by itself, with loss weight 1; see ``networks.Independent``."""
        return self.networks[i]

    def parts(self) -> list[tuple[list[nn.Module], nn.Sequential]]:
        return [part for network in self.networks for part in network.parts()]

    def fresh_parameters(self) -> Iterator[nn.Parameter]:
        return (parameter for network in self.networks for parameter in network.fresh_parameters())
