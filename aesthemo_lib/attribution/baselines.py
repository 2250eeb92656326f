"""What an image is compared with: the mean image, black, a blurred copy, or other photographs."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.batches import resize

BASELINES = ("mean", "black", "blur", "photo", "set")
BLUR = 1 / 16  #: The blurred baseline's standard deviation, as a share of the photo's side


def baseline(
    kind: str, images: Tensor, mean: np.ndarray | None = None, std: Sequence[float] | None = None,
    others: Tensor | None = None,
) -> Tensor:
    """What an image is compared with. An attribution says what the image has *beyond this*, so it is a choice.

    Args:
        kind: 'mean' (the training set's mean image, zero after preprocessing), 'black', 'blur' (the photo itself,
            blurred), 'photo' (another photo) or 'set' (attributions are averaged over several others).
        images: (B, 3, s, s) as the network takes them.
        mean, std: (S, S, 3) mean image and the recipe's std, for 'black' and 'blur'.
        others: (1, 3, s, s) for 'photo', (D, 3, s, s) for 'set'.

    Returns:
        (D, 1 or B, 3, s, s): D baselines to average over, one for all images or one per image.
    """
    if kind not in BASELINES:
        raise ValueError(f"unknown baseline {kind!r}; choose one of {', '.join(BASELINES)}")
    if kind == "mean":
        return torch.zeros_like(images[:1])[None]
    if kind in ("photo", "set"):
        if others is None:
            raise ValueError(f"baseline {kind!r} needs others: the photo(s) to compare with, as the network takes them")
        return others[:, None]
    if mean is None or std is None:
        raise ValueError(f"baseline {kind!r} needs mean and std: the run's mean image and network.std")
    black = torch.zeros((1, *np.shape(mean)), dtype=torch.uint8)
    black = resize(black, torch.as_tensor(mean), torch.tensor(std), images.shape[-1]).to(images)
    if kind == "black":
        return black[None]
    from torchvision.transforms.functional import gaussian_blur

    sigma = BLUR * images.shape[-1]
    # Only the light above black is blurred, not the mean image with it.
    return (black + gaussian_blur(images - black, 2 * round(2 * sigma) + 1, sigma))[None]


def baselines_of(images: Tensor, given: Tensor | None) -> Tensor:
    """Any way to give a baseline as (D, 1 or B, 3, s, s): None (the mean image), (1 or B, 3, s, s), or ``baseline``'s.

    Raises:
        ValueError: another shape.
    """
    given = baseline("mean", images) if given is None else given if given.ndim == 5 else given[None]
    if given.shape[2:] != images.shape[1:] or given.shape[1] not in (1, len(images)):
        raise ValueError(f"baseline: expected (D, 1 or {len(images)}, {', '.join(map(str, images.shape[1:]))}), "
                         f"got {tuple(given.shape)}")
    return given.to(images)
