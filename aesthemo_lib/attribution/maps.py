"""What one task takes from the other, seen by captum: streams, baselines, maps over the photo, and cuts.

A stream is the map of one branch on its way to one receiver at one cross-branch layer: own, where a branch keeps its
own map, borrowed, where it takes another's. Each has a hook point (``models.fusion.HookPoint``), a module of its own
for captum and hooks. The ledgers, which add up exactly, are in ``ledger.py``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..models.fusion import HookPoint
from ..models.inference import evaluating
from .baselines import baselines_of
from .streams import Stream, hook_point, record, replaced

STREAM_MAPS = ("integrated_gradients", "grad_cam", "ablation")


def one_task(network: nn.Module, task: str) -> Callable[[Tensor], Tensor]:
    """images -> (B, C) logits of one task, as captum needs it: a forward that returns several tensors fails there."""
    names = [t.name for t in network.tasks]
    if task not in names:
        raise ValueError(f"unknown task {task!r}; the network predicts {', '.join(names)}")
    return lambda images: network(images)[task]


@dataclass
class SignedMap:
    """Where in B photos one logit comes from.

    Attributes:
        cells: (B, h, w) signed, in logits, at the resolution at which it was computed.
        effect: (B,) by how much the logit falls when the stream (or the whole input) is at its baseline.
        channels: (B, K) the same attribution by channel instead of by place; None where a method has none.
    """

    cells: np.ndarray
    effect: np.ndarray
    channels: np.ndarray | None = None

    @property
    def residual(self) -> np.ndarray:
        """(B,) the map's sum minus the effect, in logits: what the method leaves unexplained, or invents."""
        return self.cells.sum(axis=(1, 2)) - self.effect

    def at(self, side: int) -> np.ndarray:
        """(B, side, side), to lay over the photo."""
        cells = torch.from_numpy(np.ascontiguousarray(self.cells))[:, None]
        return nn.functional.interpolate(cells, (side, side), mode="bilinear", align_corners=False)[:, 0].numpy()


def integrated_gradients(
    network: nn.Module, images: Tensor, task: str, target: int, baseline: Tensor | None = None, steps: int = 64
) -> SignedMap:
    """Integrated gradients on the pixels (Sundararajan et al. 2017), for every network, with streams or without.

    Args:
        images, target: (B, 3, s, s), and the class number.
        baseline: see ``baseline``; by default the mean image.
        steps: gradients along the straight way from baseline to image; more make the residual smaller.
    """
    from captum.attr import IntegratedGradients

    forward, parts, effects = one_task(network, task), [], []
    with evaluating(network):
        for base in baselines_of(images, baseline):
            base = base.expand_as(images)
            values = IntegratedGradients(forward).attribute(
                images, base, target=target, n_steps=steps, internal_batch_size=max(32, len(images))
            )
            parts.append(values.detach())
            with torch.no_grad():
                effects.append((forward(images) - forward(base))[:, target])
    return _signed_map(parts, effects)


def stream_map(
    network: nn.Module, images: Tensor, stream: Stream, task: str, target: int, method: str = "integrated_gradients",
    baseline: Tensor | None = None, steps: int = 32, grid: int = 8,
) -> SignedMap:
    """Where in the photos one logit comes from *through one stream*, by captum at its hook point.

    Its sum should be the patch effect: the logit minus the logit of the same image with only this stream at its
    baseline. captum's own convergence delta means nothing for one hook point: compare with ``effect`` (``residual``).

    Args:
        images: (B, 3, s, s).
        method: 'integrated_gradients'; 'grad_cam' (channels weighted by their mean gradient, signed, not cut at zero;
            its effect is against an empty stream); or 'ablation' (a grid of patches set to the baseline, one by one).
        baseline: see ``baseline``; not used by 'grad_cam'.
        steps: of integrated gradients.
        grid: patches along a side, of 'ablation'.
    """
    if method not in STREAM_MAPS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(STREAM_MAPS)}")
    from captum.attr import LayerGradCam, LayerIntegratedGradients

    forward, place = one_task(network, task), hook_point(network, stream)
    parts, effects = [], []
    with evaluating(network):
        for base in baselines_of(images, baseline)[:1 if method == "grad_cam" else None]:
            at_base = record(network, [stream], base)[stream]
            if stream.layer == len(network.exchanges) and stream.receiver != task:
                values = torch.zeros_like(at_base).expand(len(images), -1, -1, -1)  # no way leads on to this logit
            elif method == "integrated_gradients":
                values = LayerIntegratedGradients(forward, place).attribute(
                    images, base.expand_as(images), target=target, n_steps=steps,
                    internal_batch_size=max(32, len(images)),
                )
            elif method == "grad_cam":
                at_base = torch.zeros_like(at_base)
                values = LayerGradCam(forward, place).attribute(images, target=target, relu_attributions=False)
            else:
                values = _ablation(forward, place, images, at_base, target, grid)
            parts.append(values.detach())
            with torch.no_grad():
                whole = forward(images)
                with replaced(place, lambda x, at_base=at_base: at_base.expand_as(x)):
                    effects.append((whole - forward(images))[:, target])
    return _signed_map(parts, effects, channels=method == "integrated_gradients")


def _ablation(forward, place: HookPoint, images: Tensor, at_base: Tensor, target: int, grid: int) -> Tensor:
    from captum.attr import LayerFeatureAblation

    patches = patch_numbers(at_base.shape[-2:], grid).to(images.device)  # (h, w)
    with torch.no_grad():
        values = LayerFeatureAblation(forward, place).attribute(
            images, layer_baselines=at_base.expand(len(images), -1, -1, -1), target=target,
            layer_mask=patches.expand_as(at_base[:1]),
        )
    # captum writes a patch's effect into each of its cells and channels: take one channel, and share it among cells.
    return values[:, :1] / torch.bincount(patches.flatten())[patches]


def patch_numbers(size: Sequence[int], grid: int) -> Tensor:
    """(h, w) int64: which patch of a grid x grid (at most h x w) each cell belongs to."""
    rows, columns = (torch.arange(n) * min(grid, n) // n for n in size)
    return rows[:, None] * min(grid, size[1]) + columns


def _signed_map(parts: list[Tensor], effects: list[Tensor], channels: bool = False) -> SignedMap:
    values = torch.stack(parts).cpu().double().mean(0)  # (B, K, h, w), over the baselines
    return SignedMap(
        values.sum(1).numpy(), torch.stack(effects).cpu().double().mean(0).numpy(),
        values.sum((2, 3)).numpy() if channels else None,
    )


def top_channels(attribution: SignedMap, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The channels of a stream with the largest attribution over all photos: (count,) numbers and signed means."""
    if attribution.channels is None:
        raise ValueError("only integrated gradients at a stream tell channels apart; make the map with that method")
    mean = attribution.channels.mean(axis=0)
    order = np.argsort(-np.abs(mean), kind="stable")[:count]
    return order, mean[order]
