"""What style transfer is compared with: colours matched without a network; and how near photographs are to the truth.

The rivals see no more than the networks do: photographs of both styles, none of them labelled.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from skimage.exposure import match_histograms
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def histogram_matched(photos: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Each photograph by itself brought to the histogram that all of the second style have together, by channel.

    Args:
        photos: (N, S, S, 3) uint8.
        second: (M, S, S, 3) uint8.
    """
    reference = second.reshape(-1, *second.shape[2:])
    return np.stack([match_histograms(photo, reference, channel_axis=-1) for photo in photos])


def looked_up(photos: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """All photographs through one table a channel: it brings the first style's common histogram to the second's.

    The stronger rival, since a dark photograph stays dark.

    Args:
        photos: (N, S, S, 3) uint8.
        first, second: (M, S, S, 3) uint8 of each style, of as many photographs as there are.
    """
    source, reference = (style.reshape(-1, *style.shape[2:]) for style in (first, second))
    matched = match_histograms(source, reference, channel_axis=-1)
    found = np.empty_like(photos)
    for channel in range(3):
        values, where = np.unique(source[..., channel], return_index=True)
        table = np.interp(np.arange(256), values, matched[..., channel].ravel()[where])
        found[..., channel] = table.round().astype(np.uint8)[photos[..., channel]]
    return found


def likeness(photos: np.ndarray, truth: np.ndarray) -> pd.DataFrame:
    """How near photographs come to the truth, one row a photograph: psnr in decibels, ssim up to 1.

    Args:
        photos, truth: (N, S, S, 3) uint8.
    """
    return pd.DataFrame([
        {"psnr": peak_signal_noise_ratio(true, made), "ssim": structural_similarity(true, made, channel_axis=-1)}
        for made, true in zip(photos, truth, strict=True)
    ])
