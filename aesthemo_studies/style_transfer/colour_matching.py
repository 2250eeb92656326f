"""What style transfer is compared with: colours matched without a network; and how near photographs are to the truth.

The rivals see no more than the networks do: photographs of both styles, none of them labelled, no pairs.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter
from skimage.exposure import match_histograms
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

RADIUS, AMOUNTS = 1.5, (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Of unsharp masking: the Gaussian's standard deviation in pixels, and the strengths that are tried."""


def looked_up(photos: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All photographs through one table a channel: it brings the first style's common histogram to the second's.

    Args:
        photos: (N, S, S, 3) uint8.
        first, second: (M, S, S, 3) uint8 of each style, of as many photographs as there are.
    """
    source, reference = (style.reshape(-1, *style.shape[2:]) for style in (first, second))
    matched = match_histograms(source, reference, channel_axis=-1)
    mapped = np.empty_like(photos)
    for channel in range(3):
        values, where = np.unique(source[..., channel], return_index=True)
        table = np.interp(np.arange(256), values, matched[..., channel].ravel()[where])
        mapped[..., channel] = table.round().astype(np.uint8)[photos[..., channel]]
    return mapped


def mixed(photos: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All photographs through one 3x3 matrix and an offset, which bring mean and covariance to the second style's.

    Of all such matrices the one that moves colours least (Pitie & Kokaram 2007). Arguments as of ``looked_up``.
    """
    pixels = [style.reshape(-1, 3).astype(np.float64) for style in (first, second)]
    means, (a, b) = [x.mean(axis=0) for x in pixels], [np.cov(x.T) for x in pixels]
    root = _power(a, 0.5)
    matrix = _power(a, -0.5) @ _power(root @ b @ root, 0.5) @ _power(a, -0.5)
    return ((photos - means[0]) @ matrix + means[1]).round().clip(0, 255).astype(np.uint8)


def _power(symmetric: np.ndarray, exponent: float) -> np.ndarray:
    values, axes = np.linalg.eigh(symmetric)
    return axes * np.maximum(values, 1e-9) ** exponent @ axes.T


def sharpened(photos: np.ndarray, made: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Unsharp masking, as strong as gives the second style's mean gradient.

    Args:
        photos: (N, S, S, 3) uint8, what is sharpened.
        made: (M, S, S, 3) uint8, training photographs treated alike so far, by which the strength is chosen.
        second: (M, S, S, 3) uint8 of the second style.
    """
    wanted = _gradient(second)
    amount = min(AMOUNTS, key=lambda one: abs(_gradient(_unsharp(made, one)) - wanted))
    return _unsharp(photos, amount)


def _unsharp(photos: np.ndarray, amount: float) -> np.ndarray:
    blurred = gaussian_filter(photos.astype(np.float32), (0, RADIUS, RADIUS, 0))
    return (photos + amount * (photos - blurred)).round().clip(0, 255).astype(np.uint8)


def _gradient(photos: np.ndarray) -> float:
    return float(np.abs(np.diff(photos.astype(np.float32), axis=1)).mean())


def best_table(photos: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The best that any table a channel could do, with the truth known: each value becomes its mean truth.

    No table has a smaller squared error on these very photographs, so what lies above it in PSNR no table can do.
    """
    mapped = np.empty_like(photos)
    for channel in range(3):
        values, wanted = photos[..., channel].ravel(), truth[..., channel].ravel().astype(np.float64)
        mean = np.bincount(values, wanted, 256) / np.maximum(np.bincount(values, minlength=256), 1)
        mapped[..., channel] = mean.round().astype(np.uint8)[photos[..., channel]]
    return mapped


def likeness(photos: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """How near photographs come to the truth, one row a photograph: psnr in decibels, ssim up to 1.

    Args:
        photos, truth: (N, S, S, 3) uint8.
    """
    return pd.DataFrame([
        {"psnr": peak_signal_noise_ratio(true, made), "ssim": structural_similarity(true, made, channel_axis=-1)}
        for made, true in zip(photos, truth, strict=True)
    ])
