"""The early variant: descriptor maps as input channels, so that colour and texture pass through the CNN.

The source feeds colour and texture *through* its improved CNN; its maps and layers are not in the text available to us.
Ours: local histograms of L*, a* and b*, and of uniform local binary patterns (Ojala et al. 2002), join the pixels as
more channels of the first convolution. Their weights start at zero, so that the training starts from the pretrained
network, with its last layer set to a linear probe.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from aesthemo_lib.models.appearance import RANGES, lab
from aesthemo_lib.models.backbones import HALF
from aesthemo_lib.models.inference import fast
from aesthemo_lib.models.networks import build
from aesthemo_lib.models.quick_cpu import quick_cpu
from aesthemo_lib.tasks import EMOTION
from aesthemo_lib.training.probe import start_heads

SIDE, BINS, WINDOW = 96, 4, 9
"""Pixels of the pictures; bins of a channel's histogram; width of the window that a histogram is taken from."""
PATTERNS = 10
"""Uniform local binary patterns of 8 neighbours: 0 to 8 bright ones in a row, and all others."""
CHANNELS = 3 * BINS + PATTERNS
EPOCHS, BATCH, RATE, NEW = 6, 20, 1e-4, 1e-2
"""Passes, pictures a step, AdamW's rate, and that of the new input weights: tried once, not tuned."""
CPU = torch.device("cpu")


def binary_patterns(grey: Tensor) -> Tensor:
    """Uniform local binary patterns: (B, H, W) to class numbers 0..9, (B, H, W); the border is repeated outwards."""
    padded = functional.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    h, w = grey.shape[1:]
    ring = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    bright = torch.stack([padded[:, 1 + y:1 + y + h, 1 + x:1 + x + w] >= grey for y, x in ring])  # (8, B, H, W)
    changes = (bright != bright.roll(1, 0)).sum(0)
    return torch.where(changes <= 2, bright.sum(0), PATTERNS - 1)


def descriptor_maps(pixels: Tensor) -> Tensor:
    """Local histograms of colour and texture: (B, 3, H, W) sRGB in 0..1 to (B, CHANNELS, H, W) shares in 0..1."""
    channels = lab(pixels)  # (B, 3, H, W)
    low, high = channels.new_tensor(RANGES).T[:, :, None, None]
    place = ((channels - low) / (high - low) * BINS - 0.5).clamp(0, BINS - 1)
    soft = [(1 - (place - b).abs()).clamp(min=0) for b in range(BINS)]
    grey = (pixels * pixels.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)
    hard = functional.one_hot(binary_patterns((255 * grey).round()), PATTERNS).permute(0, 3, 1, 2)
    shares = torch.cat([*soft, hard.to(pixels)], 1)
    return functional.avg_pool2d(shares, WINDOW, 1, WINDOW // 2, count_include_pad=False)


class Early(nn.Module):
    """EfficientNet-Lite0 whose first convolution also sees descriptor maps.

    Args:
        centre: (CHANNELS, 1, 1), the maps' mean over the training pictures: what counts as nothing.
    """

    def __init__(self, centre: Tensor):
        super().__init__()
        self.network = build("independent", (EMOTION,), "efficientnet_lite0", "imagenet")
        self.first = next(layer for layer in self.network.modules() if isinstance(layer, nn.Conv2d))
        old = self.first.weight.detach()
        self.first.weight = nn.Parameter(torch.cat([old, old.new_zeros(len(old), CHANNELS, *old.shape[2:])], 1))
        self.first.in_channels = 3 + CHANNELS
        self.register_buffer("centre", centre)

    def forward(self, pixels: Tensor, maps: Tensor) -> Tensor:
        """(B, 3, H, W) sRGB in 0..1 and (B, CHANNELS, H, W) to (B, 8) logits of the emotion."""
        return self.network(self.inputs(pixels, maps))[EMOTION.name]

    def inputs(self, pixels: Tensor, maps: Tensor) -> Tensor:
        """Everything that the first convolution sees, (B, 3 + CHANNELS, H, W)."""
        return torch.cat([(pixels - HALF[0]) / HALF[0], maps - self.centre], 1)


def answers(
    pixels: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray, contender: str, seed: int,
    epochs: int = EPOCHS,
) -> np.ndarray:
    """Fine-tune on some pictures; the (M, 8) probabilities of others.

    Args:
        pixels: (N, S, S, 3) uint8.
        labels: (N,) emotions.
        train, test: row numbers.
        contender: 'fine_tuned' (the maps are blank), 'early', or 'early_shuffled' (another picture's maps).
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        maps = torch.cat([descriptor_maps(part) for part in images.split(64)])
    centre = maps[train].mean((0, 2, 3))[:, None, None].clone()
    if contender == "fine_tuned":
        maps = centre.expand_as(maps).clone()
    elif contender == "early_shuffled":
        for rows in (train, test):
            maps[rows] = maps[rng.permutation(rows)]
    model = Early(centre).eval()  # the statistics of the normalisations stay
    at = lambda rows: (images[rows], maps[rows])  # noqa: E731
    start_heads(model.network, model.network, lambda rows: model.inputs(*at(rows)), train,
                {EMOTION.name: labels}, np.full(len(labels), "one"), CPU)
    rest = [p for p in model.parameters() if p is not model.first.weight]
    search = torch.optim.AdamW([{"params": rest}, {"params": [model.first.weight]}], lr=RATE, weight_decay=0.02)
    scale = torch.ones(3 + CHANNELS)[:, None, None]
    scale[3:] = NEW / RATE
    truth = torch.from_numpy(labels)
    for _ in range(epochs):
        for rows in np.array_split(rng.permutation(train), max(1, len(train) // BATCH)):
            search.zero_grad()
            with quick_cpu(model.network):
                with fast(CPU):
                    loss = functional.cross_entropy(model(*at(rows)).float(), truth[rows])
                loss.backward()
            before = model.first.weight.detach().clone()
            search.step()
            with torch.no_grad():  # AdamW's step does not depend on the gradient's size, so the rate is set here
                model.first.weight.copy_(before + scale * (model.first.weight - before))
    with torch.inference_mode(), fast(CPU):
        parts = np.array_split(test, max(1, len(test) // 50))
        return torch.cat([model(*at(rows)).float().softmax(1) for rows in parts]).numpy()
