"""Photographs to decode: noise with the spectrum of natural pictures, whose JPEG costs what a photograph's does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (500, 400)
"""Width and height of OASIS' photographs."""
QUALITY = 75
"""With it the files have 80 kB, as OASIS' have."""


def draw_photos(folder: Path, count: int, distinct: int = 32, size: tuple[int, int] = SIZE) -> list[Path]:
    """Write JPEG files, the same few pictures again and again; returns their paths.

    Their amplitudes fall with the frequency, as those of natural pictures do (Field 1987).
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths, dice = [folder / f"{i}.jpg" for i in range(count)], np.random.default_rng(0)
    for first in range(min(distinct, count)):
        _picture(dice, size).save(paths[first], quality=QUALITY)
        data = paths[first].read_bytes()
        for path in paths[first + distinct::distinct]:
            path.write_bytes(data)
    return paths


def _picture(dice: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    width, height = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf
    noise = dice.standard_normal((2, 4, *frequency.shape))
    planes = np.fft.irfft2((noise[0] + 1j * noise[1]) / frequency, s=(height, width))
    pixels = 0.85 * planes[:1] + 0.5 * planes[1:]  # colours go together
    pixels = 128 + 55 * (pixels - pixels.mean()) / pixels.std()
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
