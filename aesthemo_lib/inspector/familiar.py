"""Whether a photo looks like the data that a network was trained on, judged by eight statistics of its pixels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..data.decoding import picture

SAMPLE = SIDE = 64
STATISTICS = "familiar.json"
"""In a run's folder, what ``sampled`` gives, where its photographs are not passed on."""


def pixel_statistics(path: Path | str) -> np.ndarray:
    """(8,): each channel's mean and deviation, the log of the mean step to the next pixel, the share of flat steps."""
    pixels = np.asarray(picture(path, SIDE).resize((SIDE, SIDE)), dtype=float)
    steps = np.abs(np.diff(pixels.mean(axis=2), axis=1))
    return np.array([*pixels.mean((0, 1)), *pixels.std((0, 1)), np.log1p(steps.mean()), (steps < 1).mean()])


def sampled(paths: Sequence[Path]) -> np.ndarray:
    """(n, 8) the statistics of up to ``SAMPLE`` images, evenly spaced."""
    chosen = np.linspace(0, len(paths) - 1, min(SAMPLE, len(paths))).astype(int)
    return np.stack([pixel_statistics(paths[row]) for row in chosen])


def far_from(values: np.ndarray) -> Callable[[Path | str], bool]:
    """Whether a photo lies farther, by Mahalanobis's distance, from training images' statistics than each of these."""
    centre, inverse = values.mean(axis=0), np.linalg.pinv(np.cov(values.T) + 1e-3 * np.eye(8))

    def distance(one: np.ndarray) -> float:
        return float((one - centre) @ inverse @ (one - centre))

    limit = max(map(distance, values))
    return lambda path: distance(pixel_statistics(path)) > limit
