"""Are the maps at a stream faithful to the network? Deletion, captum's metrics, destroyed weights, known masks.

Each function gives a number an image, so that an interval can be put on it; none of them needs a human to look.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from math import sqrt

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from aesthemo_lib.attribution.baselines import baselines_of
from aesthemo_lib.attribution.ledger import ROWS, shapley_plan
from aesthemo_lib.attribution.maps import one_task, patch_numbers
from aesthemo_lib.attribution.mixtures import maps_sent, with_flow
from aesthemo_lib.attribution.streams import Stream, hook_point, record
from aesthemo_lib.models.inference import evaluating

STEPS = 8
"""Nodes of captum's Gauss-Legendre rule: what lies above one borrowed stream bends little along its path."""


def through(network: nn.Module, images: Tensor, stream: Stream, task: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A stream's map, and the task's logits as a function of it alone: all other streams carry what they do.

    Returns:
        (B, K, h, w), and a function from (n*B, K, h, w), n copies of the batch one after another, to (n*B, C).
    """
    hook_point(network, stream), one_task(network, task)  # both refuse what the network hasn't got
    with evaluating(network), torch.no_grad():
        maps = maps_sent(network, images)[0][stream.layer - 1]
    source = [t.name for t in network.tasks].index(stream.source)
    return maps[source], partial(with_flow, network, maps, stream, task)


def stream_gradients(
    network: nn.Module, images: Tensor, stream: Stream, task: str, targets: Tensor, steps: int = STEPS
) -> Tensor:
    """Captum's integrated gradients of a stream's map, from the mean image's: (B, K, h, w), place and channel apart.

    Args:
        targets: (B,) class numbers, one an image.
    """
    from captum.attr import IntegratedGradients

    with evaluating(network):
        flow, forward = through(network, images, stream, task)
        rest = record(network, [stream], torch.zeros_like(images[:1]))[stream].expand_as(flow)
        return IntegratedGradients(forward).attribute(flow, rest, target=targets, n_steps=steps).detach()


def deletion(
    network: nn.Module, images: Tensor, stream: Stream, task: str, targets: Tensor, points: int = 8, draws: int = 8,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """A logit while more and more of a stream's channels are set to the mean image's.

    Args:
        targets: (B,) whose logits.
        points: how many cuts after the first point, where nothing is deleted yet.
        draws: random orders, whose curves are averaged.

    Returns:
        (B, points + 1) by order: 'map' (the channels first that speak most for the logit), 'reverse' and 'random'.
    """
    values = stream_gradients(network, images, stream, task, targets).sum((2, 3)).cpu().numpy()  # (B, K)
    rng = np.random.default_rng(seed)
    orders = {"map": [np.argsort(-values, axis=1)], "reverse": [np.argsort(values, axis=1)],
              "random": [rng.permuted(np.tile(np.arange(values.shape[1]), (len(values), 1)), axis=1)
                         for _ in range(draws)]}
    with evaluating(network), torch.no_grad():
        flow, forward = through(network, images, stream, task)
        rest = record(network, [stream], torch.zeros_like(images[:1]))[stream]
        return {name: np.mean([_curve(flow, rest, forward, order, targets, points) for order in some], axis=0)
                for name, some in orders.items()}


def _curve(
    flow: Tensor, rest: Tensor, forward: Callable, order: np.ndarray, targets: Tensor, points: int
) -> np.ndarray:
    """(B, points + 1) the logit with the first 0 .. K channels of each image's order at rest."""
    channels = flow.shape[1]
    place = torch.from_numpy(np.argsort(order, axis=1)).to(flow.device)  # when each channel goes
    curve = []
    for gone in np.linspace(0, channels, points + 1).round().astype(int):
        kept = (place >= int(gone))[:, :, None, None]
        curve.append(forward(torch.where(kept, flow, rest)).gather(1, targets[:, None])[:, 0])
    return torch.stack(curve, dim=1).cpu().double().numpy()


def area_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N,) the mean height of the second of two (N, points + 1) curves above the first, by the trapezoid rule."""
    return np.trapezoid(second - first, dx=1 / (first.shape[1] - 1), axis=1)


def infidelity(
    network: nn.Module, image: Tensor, stream: Stream, task: str, target: int, values: Tensor, samples: int = 24,
    grid: int = 4, seed: int = 0,
) -> float:
    """Captum's infidelity (Yeh et al. 2019) when random patches of a stream are set to the mean image's.

    The mean square of what a map predicts for such a deletion minus what it does, as a share of the mean square of what
    it does: 0 is perfect, and 1 is what an empty map gets.

    Args:
        image: (1, 3, s, s).
        values: (1, K, h, w), the attribution to be judged.
        samples: random sets of patches, each patch in it with probability 1/2.
    """
    from captum.metrics import infidelity as captum_infidelity, infidelity_perturb_func_decorator

    with evaluating(network), torch.no_grad():
        flow, forward = through(network, image, stream, task)
        rest = record(network, [stream], torch.zeros_like(image))[stream]
        patches = patch_numbers(flow.shape[-2:], grid).to(flow.device)

        @infidelity_perturb_func_decorator(True)
        def perturbed(maps: Tensor, baselines: Tensor) -> Tensor:
            random = torch.Generator().manual_seed(seed)
            gone = torch.rand(len(maps), int(patches.max()) + 1, generator=random).to(flow.device) < 0.5
            return torch.where(gone[:, patches][:, None], baselines, maps)

        error, most = (captum_infidelity(forward, perturbed, flow, attributions, baselines=rest, target=target,
                                         n_perturb_samples=samples)
                       for attributions in (values, torch.zeros_like(values)))
    return float(error / most.clamp_min(torch.finfo(most.dtype).tiny))


def sensitivity(
    network: nn.Module, image: Tensor, stream: Stream, task: str, target: int, radius: float = 0.02, samples: int = 6
) -> float:
    """Captum's max-sensitivity (Yeh et al. 2019) of the integrated gradients at a stream.

    By what share of itself the map changes, at most, when noise of +-radius (in the network's pixels) is added.

    Args:
        image: (1, 3, s, s).
    """
    from captum.metrics import sensitivity_max

    targets = torch.tensor([target], device=image.device)

    def explained(given: Tensor | tuple[Tensor]) -> tuple[Tensor]:
        images = given[0] if isinstance(given, tuple) else given
        maps = [stream_gradients(network, x[None], stream, task, targets) for x in images]
        return (torch.cat(maps).contiguous(),)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the noise
        return float(sensitivity_max(explained, image, perturb_radius=radius, n_perturb_samples=samples))


def randomised(network: nn.Module, seed: int = 0) -> Iterator[tuple[str, nn.Module]]:
    """The network with its weights destroyed from the top to the bottom (Adebayo et al. 2018): heads, last group, ..

    Parameters are destroyed by shuffling the entries of each tensor, which keeps their scale; batch statistics, which
    were learnt too, start again.

    Yields:
        what has just been destroyed, in all branches at once, and the network (one copy, which goes on changing).
    """
    network, random = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    parts, frozen = [("heads", [branch.head for branch in network.branches])], len(network.frozen)
    for i in reversed(range(len(network.branches[0].groups))):
        if i < len(network.exchanges):
            parts.append((f"layer {i + 1}", [network.exchanges[i]]))
        parts.append((f"group {frozen + i + 1}", [branch.groups[i] for branch in network.branches]))
    parts += [(f"group {i + 1}", [network.frozen[i]]) for i in reversed(range(frozen))]
    for name, modules in parts:
        with torch.no_grad():
            for values in (values for module in modules for values in module.parameters()):
                order = torch.randperm(values.numel(), generator=random).to(values.device)
                values.copy_(values.flatten()[order].view_as(values))
        for norm in (part for module in modules for part in module.modules()):
            if isinstance(norm, nn.modules.batchnorm._BatchNorm):
                norm.reset_running_stats()
        yield name, network


def rank_similarity(first: np.ndarray, second: np.ndarray, absolute: bool) -> np.ndarray:
    """(N,) Spearman's rank correlation of each pair of (N, h, w) maps, of their sizes alone if ``absolute``.

    A map without any variation has nothing in common with another: 0.
    """
    from scipy.stats import rankdata

    ranks = [rankdata((np.abs(x) if absolute else x).reshape(len(x), -1), axis=1) for x in (first, second)]
    ranks = [r - r.mean(axis=1, keepdims=True) for r in ranks]
    scale = np.sqrt((ranks[0] ** 2).sum(1) * (ranks[1] ** 2).sum(1))
    return (ranks[0] * ranks[1]).sum(1) / np.maximum(scale, np.finfo(np.float64).tiny)


def pointing(maps: np.ndarray, masks: np.ndarray) -> pd.DataFrame:
    """The pointing game (Zhang et al. 2016): does a map's largest value, of any sign, lie within its image's mask?

    Args:
        maps: (N, S, S), enlarged to the masks' size.
        masks: (N, S, S) bool.

    Returns:
        a row an image whose mask isn't empty: hit (0 or 1); area (the mask's share of the image); chance (how often the
        same point would hit the *other* images' masks, so that a habit of pointing at the middle gains nothing).
    """
    peaks = np.abs(maps).reshape(len(maps), -1).argmax(axis=1)
    known = masks.reshape(len(masks), -1).any(axis=1)
    hits = masks.reshape(len(masks), -1)[:, peaks].T  # (map, mask)
    own = hits.diagonal().astype(float)
    chance = (hits[:, known].sum(axis=1) - own) / max(known.sum() - 1, 1)
    table = pd.DataFrame({"image": range(len(maps)), "hit": own, "area": masks.mean(axis=(1, 2)), "chance": chance})
    return table[known]


def shapley(
    value: Callable[[np.ndarray], np.ndarray], players: int, draws: int | None = None, seed: int = 0, chunk: int = ROWS,
    plan: Callable = shapley_plan,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Shapley values of a game that is given as a function, exact by enumeration or from drawn permutations.

    Args:
        value: (M, P) bool coalitions to (M, ...) float64.
        players, draws, seed, plan: P; see ``ledger.shapley_plan``, which is the plan by default.
        chunk: coalitions in one call of ``value``.

    Returns:
        (P, ...) values and their standard errors, None where exact.
    """
    masks, combine = plan(players, draws, seed)
    return combine(np.concatenate([value(masks[start:start + chunk]) for start in range(0, len(masks), chunk)]))


def patch_shapley(
    network: nn.Module, images: Tensor, stream: Stream, task: str, target: int, baseline: Tensor | None = None,
    grid: int = 3, draws: int | None = None, seed: int = 0,
) -> tuple[np.ndarray, np.ndarray | None]:
    """The slow check of the gradient maps: exact Shapley values of the patches of one stream's map.

    Args:
        images, stream, task, target, baseline: see ``attribution.stream_map``; one baseline.
        grid: patches along a side; 3 gives 512 passes an image, 4 or more are drawn.

    Returns:
        (B, grid, grid) values that add up to the stream's patch effect, and their standard errors, None where exact.
    """
    base = baselines_of(images, baseline)[0]
    with evaluating(network), torch.inference_mode():
        flow, forward = through(network, images, stream, task)
        rest = record(network, [stream], base)[stream]
        patches = patch_numbers(rest.shape[-2:], grid).to(images.device)
        players = int(patches.max()) + 1

        def value(masks: np.ndarray) -> np.ndarray:
            inside = torch.from_numpy(masks).to(images.device)[:, patches][:, None, None]  # (M, 1, 1, h, w)
            logits = forward(torch.where(inside, flow, rest).flatten(0, 1))[:, target]
            return logits.cpu().double().unflatten(0, (len(masks), -1)).numpy()

        result = shapley(value, players, draws, seed, max(64 // len(images), 1))
    side = round(sqrt(players))
    values, errors = result
    shape = len(images), side, side
    return values.T.reshape(shape), None if errors is None else errors.T.reshape(shape)
