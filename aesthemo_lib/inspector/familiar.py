"""Whether a photo looks like the data that a network was trained on, judged by what its branches make of it.

By Mahalanobis's distance of the channels' means between the conv groups (Lee et al., NeurIPS 2018), with the covariance
of Ledoit and Wolf (2004); a twentieth of held-out images lies beyond the limit (``results/familiar.json``).
"""

from contextlib import ExitStack

import torch
from torch import Tensor, nn

from ..models.inference import evaluating

SAMPLE = 128
STATISTICS = "familiar.safetensors"  #: In a run's folder, what ``learnt`` gives, where its photographs can't be had


def seen(network: nn.Module, images: Tensor) -> Tensor:
    """(B, D) the mean of each channel between the conv groups of each branch, for (B, 3, s, s) images."""
    means: dict[nn.Module, Tensor] = {}
    with ExitStack() as stack, evaluating(network), torch.inference_mode():
        for group in (group for groups, _ in network.parts() for group in groups[:-1] or groups):
            hook = group.register_forward_hook(lambda g, _, x: means.update({g: x.float().mean((2, 3))}))
            stack.callback(hook.remove)
        network(images)
    return torch.cat(list(means.values()), dim=1).cpu()


def learnt(values: Tensor) -> dict[str, Tensor]:
    """From (n, D) of training images: half of them give the centre and the whitening, the others the limit."""
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(values[::2].double().numpy())
    whitening = torch.linalg.cholesky(torch.tensor(fitted.precision_))
    known = {"centre": torch.tensor(fitted.location_).float(), "whitening": whitening.half()}
    return known | {"limit": distances(known, values[1::2]).quantile(0.95)}


def distances(known: dict[str, Tensor], values: Tensor) -> Tensor:
    """(B,) of (B, D) values from the centre, in standard deviations."""
    return ((values - known["centre"]) @ known["whitening"].float()).norm(dim=1)
