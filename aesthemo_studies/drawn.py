"""Fresh collections of drawn scenes, as a frozen network and the colour and texture descriptors see them.

Drawn data are free: where a study needs another sample it draws one, so that its samples share no picture and an
interval over them needs no correction. Only the first picture of each series is drawn: all pictures are independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from aesthemo_lib.data.batches import resize, to_device
from aesthemo_lib.data.readers import scenes
from aesthemo_lib.files import atomic, digest
from aesthemo_lib.models.appearance import COLOUR, MEAN, TEXTURE, Appearance
from aesthemo_lib.models.backbones import HALF
from aesthemo_lib.models.inference import predict_logits
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import AESTHETICS
from aesthemo_scenes.drawing import picture, scene_of

SIDE = 128
"""Pixels of a drawn picture, and of what the descriptors are computed from."""
BATCH, DESCRIPTORS = 64, COLOUR + TEXTURE


@dataclass(frozen=True)
class Collection:
    """Some drawn pictures.

    Attributes:
        seed: of the pictures; other seeds share none.
        numbers: (N,) which pictures of the seed.
    """

    seed: int
    numbers: np.ndarray

    def factors(self, relatedness: float = 0.5) -> pd.DataFrame:
        """The (N,) pictures' factors and scores, see ``scenes.sample``."""
        return scenes.sample(self.numbers[-1] + 1, self.seed, relatedness).iloc[self.numbers]

    def labels(self, relatedness: float) -> dict[str, np.ndarray]:
        """The (N,) consensus classes of the ten annotators by task, at a relatedness."""
        count = self.numbers[-1] + 1
        ratings = scenes.rate(scenes.sample(count, self.seed, relatedness), self.seed)
        _, votes = scenes.votes(ratings, count)
        return {name: summed[self.numbers].argmax(axis=1) for name, summed in votes.items()}

    def pixels(self, side: int = SIDE) -> np.ndarray:
        """(N, side, side, 3) uint8, drawn anew."""
        factors = self.factors()
        return np.stack([np.asarray(picture(factors.loc[n], (self.seed, n), side)[0]) for n in self.numbers])

    def seen(self, out: Path) -> tuple[np.ndarray, np.ndarray]:
        """Frozen features (N, 1280) and descriptors (N, 57), kept below ``out``."""
        name = digest([self.seed, self.numbers.tolist(), scenes.VERSION, SIDE])[:16]
        return kept(Path(out) / "collections" / f"{name}.npy", lambda: np.concatenate(look(self.pixels()), axis=1))


def collection(seed: int, images: int) -> Collection:
    """The first pictures of a seed that show a scene of their own."""
    numbers = np.arange(2 * images)
    return Collection(seed, numbers[scene_of(numbers) == numbers][:images])


def kept(target: Path, make) -> tuple[np.ndarray, np.ndarray]:
    """Features and descriptors from a file, which is written first where it is not there yet."""
    if not target.exists():
        both = make().astype(np.float32)
        with atomic(target) as temporary, open(temporary, "wb") as file:
            np.save(file, both)
    both = np.load(target, allow_pickle=False)
    return both[:, :-DESCRIPTORS], both[:, -DESCRIPTORS:]


@torch.inference_mode()
def look(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, 1280), what enters EfficientNet-Lite0's last layer, and descriptors (N, 57) of some pictures.

    Args:
        pixels: (N, S, S, 3) uint8.
    """
    network = build("independent", (AESTHETICS,), "efficientnet_lite0", "imagenet")
    network.branches[0].head[-1] = nn.Identity()
    cpu, rows = torch.device("cpu"), np.arange(len(pixels))
    grey = np.full(pixels.shape[1:], 255 * HALF[0], np.float32)
    (features,) = predict_logits(network, pixels, rows, grey, pixels.shape[1], cpu).values()
    appearance, std = Appearance(HALF), torch.tensor(HALF)
    mean = (255 * torch.tensor(MEAN)).expand(pixels.shape[1:])  # one colour as an image
    parts = [appearance(resize(to_device(pixels, rows[start:start + BATCH], cpu), mean, std, SIDE))
             for start in range(0, len(pixels), BATCH)]
    return features, torch.cat(parts).numpy()
