"""From cached pixels to what a network takes: random crops, flips and the mean, on whole batches, on the device.

Pixels enter a network as (x - mean image) / 255 / std, the mean image taken at the same crop and flip; std belongs to
the weights' recipe. [0056] subtracts the mean before it crops, which is the same thing.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def uniform(seed: int, epoch: int, images: np.ndarray, draw: int) -> np.ndarray:
    """One number in [0, 1) per image, (B,) float64, that depends only on (seed, epoch, image, draw below 65,536).

    So an epoch's crops change neither with the batch size or the order of the images, nor in a resumed run or with the
    number of processes. Philox (Salmon et al. 2011) has a sequence for each (seed, epoch, draw), where an image's row
    number is its place.
    """
    dice = np.random.Generator(np.random.Philox(key=[seed, (epoch << 16) + draw]))
    return dice.random(int(np.max(images, initial=-1)) + 1)[images]


def to_device(pixels: np.ndarray, rows: np.ndarray, device: torch.device) -> Tensor:
    """Rows of the cache as a (B, S, S, 3) uint8 tensor on the device: a quarter of the bytes that floats would be."""
    return send(torch.from_numpy(pixels[rows]), device)


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on the device; to a GPU from pinned memory, so that the CPU need not wait for what runs there."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def crop_and_flip(
    pixels: Tensor, mean: Tensor, std: Tensor, crop: int, top: Tensor, left: Tensor, flip: Tensor
) -> Tensor:
    """Cut a square out of each image, mirror some, subtract the mean image there, scale.

    Args:
        pixels, mean, std: (B, S, S, 3) uint8, (S, S, 3) and (3,) float32.
        crop: the side s of the squares.
        top, left, flip: (B,) int64 in 0..S-s, and bool.

    Returns:
        (B, 3, s, s) float32 in channels_last layout.
    """
    if pixels.device.type == "cpu":
        return _cut_one_by_one(pixels, mean, std, crop, top, left, flip).permute(0, 3, 1, 2)
    along = torch.arange(crop, device=pixels.device)
    rows = (top[:, None] + along)[:, :, None]  # (B, s, 1)
    across = torch.where(flip[:, None], crop - 1 - along, along)  # (B, s)
    columns = (left[:, None] + across)[:, None, :]  # (B, 1, s)
    batch = torch.arange(len(pixels), device=pixels.device)[:, None, None]
    values = (pixels[batch, rows, columns] - mean[rows, columns]) / (255 * std)  # (B, s, s, 3)
    return values.permute(0, 3, 1, 2)


def _cut_one_by_one(pixels, mean, std, crop: int, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """The same (B, s, s, 3) to the bit, in a tenth of the time on a CPU, which is quicker at rows than at pixels."""
    values, scale = torch.empty(len(pixels), crop, crop, 3), (255 * std).expand(crop, crop, 3).contiguous()
    for out, image, y, x, mirrored in zip(values, pixels, top.tolist(), left.tolist(), flip.tolist(), strict=True):
        there = (slice(y, y + crop), slice(x, x + crop))
        cut = image[there] - mean[there]
        torch.div(cut.flip(1) if mirrored else cut, scale, out=out)
    return values


def resize(pixels: Tensor, mean: Tensor, std: Tensor, side: int) -> Tensor:
    """What prediction sees [0063]: the whole image resized, in whole grey levels, and the mean image resized with it.

    Args, Returns: see ``crop_and_flip``; ``side`` is s.
    """
    scale = (255 * std).expand(side, side, 3).contiguous()
    values = _resized(pixels.permute(0, 3, 1, 2), side).permute(0, 2, 3, 1)
    mean = _resized(mean.permute(2, 0, 1)[None], side)[0].permute(1, 2, 0).contiguous()
    return (values - mean).div_(scale).permute(0, 3, 1, 2)


def _resized(planes: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) to (B, 3, s, s); grey levels stay whole, which a CPU resizes in a quarter of the time."""
    if planes.shape[-1] == side:
        return planes
    whole = planes.dtype == torch.uint8
    if whole and planes.device.type != "cpu":  # only CPUs have a way for uint8
        return _resized(planes.float(), side).round_().clamp_(0, 255)
    return torch.nn.functional.interpolate(planes, (side, side), mode="bilinear", antialias=True)


class TrainingBatches:
    """The random batches of one epoch after another.

    Args:
        pixels, mean, std: (N, S, S, 3) uint8, the training rows' mean image (S, S, 3), the weights' recipe.
        rows: the training rows.
        crop: side of the crops.
        size: images per batch.
        seed: of order, crops and flips.
    """

    def __init__(self, pixels, rows, mean, std, crop: int, size: int, seed: int, device: torch.device):
        self.pixels, self.rows, self.crop, self.size, self.seed, self.device = pixels, rows, crop, size, seed, device
        self.mean = torch.as_tensor(mean, device=device)
        self.std = torch.tensor(std, device=device)

    def __len__(self) -> int:
        one_left = len(self.rows) % self.size == 1 and self.size > 1
        return max(1, -(-len(self.rows) // self.size) - one_left)

    def epoch(self, number: int) -> Iterator[tuple[np.ndarray, Tensor]]:
        """Yields (rows, images): (B,) row numbers and (B, 3, s, s); every training image once.

        A single image that would be left at the end joins the last batch: one image has no batch statistics.
        """
        for rows in self.order(number):
            yield rows, self.images(number, rows)

    def order(self, number: int) -> list[np.ndarray]:
        """The row numbers of each batch of an epoch."""
        order = self.rows[np.argsort(uniform(self.seed, number, self.rows, 0), kind="stable")]
        # Copies, so that no long array stays in the midst of the memory that maps come and go in, and parts it.
        return [part.copy() for part in np.split(order, self.size * np.arange(1, len(self)))]

    def images(self, epoch: int, rows: np.ndarray) -> Tensor:
        """The augmented (B, 3, s, s) of these rows in that epoch."""
        places = self.pixels.shape[1] - self.crop + 1
        top, left = (torch.from_numpy((uniform(self.seed, epoch, rows, d) * places).astype(np.int64)) for d in (1, 2))
        flip = torch.from_numpy(uniform(self.seed, epoch, rows, 3) < 0.5)
        return crop_and_flip(
            to_device(self.pixels, rows, self.device), self.mean, self.std, self.crop,
            send(top, self.device), send(left, self.device), send(flip, self.device),
        )

    def plain(self, rows: np.ndarray) -> Tensor:
        """These rows as prediction sees them, (B, 3, s, s): resized, not cropped [0063]."""
        return resize(to_device(self.pixels, rows, self.device), self.mean, self.std, self.crop)
