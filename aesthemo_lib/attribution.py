"""What one task takes from the other, seen by captum: streams, baselines, maps over the photo, and cuts.

A stream is the map of one branch on its way to one receiver at one cross-branch layer: own, where a branch keeps its
own map, borrowed, where it takes another's. Each has a port (``models.fusion.Port``), a module that captum and hooks
can reach alone. The ledgers, which add up exactly, are in ``ledger.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .data.batches import resize, to_device
from .evaluation import majority_class, softmax, task_metrics
from .models.fusion import Port, Stream, evaluating, port, record, replaced
from .training.fit import predict_logits

BASELINES = ("mean", "black", "blur", "photo", "set")
STREAM_MAPS = ("integrated_gradients", "grad_cam", "ablation")
CUTS = ("zero", "mean", "resample")
BLUR = 1 / 16
"""The blurred baseline's standard deviation, as a share of the photo's side."""


def one_task(network: nn.Module, task: str) -> Callable[[Tensor], Tensor]:
    """images -> (B, C) logits of one task, as captum needs it: a forward that returns several tensors fails there.

    Raises:
        ValueError: the network has no such task.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> one_task(network, "emotion")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 8])
    """
    names = [t.name for t in network.tasks]
    if task not in names:
        raise ValueError(f"unknown task {task!r}; the network predicts {', '.join(names)}")
    return lambda images: network(images)[task]


def image_batches(
    network: nn.Module, pixels: np.ndarray, rows: Sequence[int] | np.ndarray, mean: np.ndarray, side: int,
    batch: int = 4,
) -> Iterator[Tensor]:
    """Photos of the cache as prediction sees them [0063]: (batch, 3, side, side), on the network's device.

    Args:
        pixels: (N, S, S, 3) uint8.
        rows: (M,) which of them.
        mean: (S, S, 3), the mean image of the network's training.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> pixels = np.full((9, 40, 40, 3), 200, np.uint8)
    >>> batches = image_batches(network, pixels, range(6), mean=np.full((40, 40, 3), 100.0), side=32)
    >>> [tuple(images.shape) for images in batches]
    [(4, 3, 32, 32), (2, 3, 32, 32)]
    """
    device = next(network.parameters()).device
    mean, std = torch.as_tensor(mean, device=device), torch.tensor(network.std, device=device)
    for start in range(0, len(rows), batch):
        yield resize(to_device(pixels, np.asarray(rows[start:start + batch]), device), mean, std, side)


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
        (D, 1 or B, 3, s, s): D baselines to average over, one for all images or one an image.

    >>> photos = torch.rand(2, 3, 32, 32)
    >>> baseline("mean", photos).shape, baseline("set", photos, others=torch.zeros(5, 3, 32, 32)).shape
    (torch.Size([1, 1, 3, 32, 32]), torch.Size([5, 1, 3, 32, 32]))
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
    # Above black lies light alone, so that the mean image is not blurred with it.
    return (black + gaussian_blur(images - black, 2 * round(2 * sigma) + 1, sigma))[None]


def baselines_of(images: Tensor, given: Tensor | None) -> Tensor:
    """Any way to give a baseline as (D, 1 or B, 3, s, s): None (the mean image), (1 or B, 3, s, s), or ``baseline``'s.

    Raises:
        ValueError: another shape.

    >>> photos = torch.rand(2, 3, 32, 32)
    >>> baselines_of(photos, None).abs().sum().item(), baselines_of(photos, photos.flip(0)).shape
    (0.0, torch.Size([1, 2, 3, 32, 32]))
    """
    given = baseline("mean", images) if given is None else given if given.ndim == 5 else given[None]
    if given.shape[2:] != images.shape[1:] or given.shape[1] not in (1, len(images)):
        raise ValueError(f"baseline: expected (D, 1 or {len(images)}, {', '.join(map(str, images.shape[1:]))}), "
                         f"got {tuple(given.shape)}")
    return given.to(images)


@dataclass
class SignedMap:
    """Where in B photos one logit comes from.

    Attributes:
        cells: (B, h, w) signed, in logits, at the resolution at which it was computed.
        effect: (B,) by how much the logit falls when the stream (or the whole input) is at its baseline.
        channels: (B, K) the same attribution by channel instead of by place; None where a method has none.

    >>> found = SignedMap(cells=np.array([[[2.0, -0.5], [0.0, 0.0]]]), effect=np.array([1.4]))
    >>> found.residual.round(3), found.at(64).shape
    (array([0.1]), (1, 64, 64))
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
        images: (B, 3, s, s).
        target: the class number.
        baseline: see ``baseline``; by default the mean image.
        steps: gradients along the straight way from baseline to image; more make the residual smaller.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("independent", PATENT_TASKS, "tiny", "none")
    >>> found = integrated_gradients(network, torch.rand(1, 3, 32, 32), "emotion", target=2, steps=16)
    >>> found.cells.shape, bool(abs(found.residual[0]) < 0.05)
    ((1, 32, 32), True)
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
    """Where in the photos one logit comes from *through one stream*, by captum at its port.

    Its sum should be the patch effect: the logit minus the logit of the same image with this stream alone at its
    baseline. captum's own convergence delta means nothing for one port, so compare with ``effect`` (``residual``).

    Args:
        images: (B, 3, s, s).
        method: 'integrated_gradients'; 'grad_cam' (channels weighted by their mean gradient, signed, not cut at zero;
            its effect is against an empty stream); or 'ablation' (a grid of patches set to the baseline, one by one).
        baseline: see ``baseline``; not used by 'grad_cam'.
        steps: of integrated gradients.
        grid: patches along a side, of 'ablation'.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, photos = build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(2, 3, 32, 32)
    >>> found = stream_map(network, photos, Stream(1, "emotion", "aesthetics"), "emotion", target=2, steps=8)
    >>> found.cells.shape, found.effect.shape  # what emotion borrows at layer 1, where it was borrowed
    ((2, 16, 16), (2,))
    """
    if method not in STREAM_MAPS:
        raise ValueError(f"unknown method {method!r}; choose one of {', '.join(STREAM_MAPS)}")
    from captum.attr import LayerGradCam, LayerIntegratedGradients

    forward, place = one_task(network, task), port(network, stream)
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


def _ablation(forward, place: Port, images: Tensor, at_base: Tensor, target: int, grid: int) -> Tensor:
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
    """(h, w) int64: which patch of a grid x grid (at most h x w) each cell belongs to.

    >>> patch_numbers((4, 4), grid=2).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    """
    rows, columns = (torch.arange(n) * min(grid, n) // n for n in size)
    return rows[:, None] * min(grid, size[1]) + columns


def _signed_map(parts: list[Tensor], effects: list[Tensor], channels: bool = False) -> SignedMap:
    values = torch.stack(parts).cpu().double().mean(0)  # (B, K, h, w), over the baselines
    return SignedMap(
        values.sum(1).numpy(), torch.stack(effects).cpu().double().mean(0).numpy(),
        values.sum((2, 3)).numpy() if channels else None,
    )


def top_channels(found: SignedMap, count: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """The channels of a stream with the largest attribution, over all photos of the map.

    Args:
        found: of ``stream_map`` with integrated gradients.

    Returns:
        (count,) channel numbers, the largest absolute mean first, and their signed means, in logits.

    >>> found = SignedMap(np.zeros((1, 2, 2)), np.zeros(1), channels=np.array([[0.1, -2.0, 0.7]]))
    >>> channels, means = top_channels(found, count=2)
    >>> channels.tolist(), means.tolist()
    ([1, 2], [-2.0, 0.7])
    """
    if found.channels is None:
        raise ValueError("only integrated gradients at a stream tell channels apart; make the map with that method")
    mean = found.channels.mean(axis=0)
    order = np.argsort(-np.abs(mean), kind="stable")[:count]
    return order, mean[order]


def channel_means(network: nn.Module, batches: Iterable[Tensor], stream: Stream) -> np.ndarray:
    """(N, K) each photo's mean activation of each channel of a stream: sort a column to find what excites it most.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, batches = build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(3, 2, 3, 32, 32)
    >>> channel_means(network, batches, Stream(1, "emotion", "aesthetics")).shape  # six photos, eight channels
    (6, 8)
    """
    return np.concatenate([record(network, [stream], images)[stream].mean((2, 3)).cpu().numpy() for images in batches])


@contextmanager
def cut(
    network: nn.Module, which: Stream | Sequence[Stream], how: str = "zero", reference: Tensor | None = None,
    seed: int = 0,
) -> Iterator[nn.Module]:
    """While this is open, some streams carry nothing of the image at hand; everything after them answers.

    Args:
        which: one stream or several.
        how: 'zero'; 'mean' (the reference photos' mean map); 'resample' (the maps of one reference photo, drawn anew
            for each image, the same for all streams: with a single reference photo, a transplant).
        reference: (R, 3, s, s) for 'mean' and 'resample'.
        seed: of the draws.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, photo = build("cross_branch", PATENT_TASKS, "tiny", "none").eval(), torch.rand(1, 3, 32, 32)
    >>> with cut(network, Stream(2, "aesthetics", "emotion")):
    ...     logits = network(photo)
    >>> {task: torch.equal(values, network(photo)[task]) for task, values in logits.items()}
    {'aesthetics': False, 'emotion': True}
    """
    if how not in CUTS:
        raise ValueError(f"how: unknown {how!r}; choose one of {', '.join(CUTS)}")
    if how != "zero" and reference is None:
        raise ValueError(f"how={how!r} needs reference: photos whose maps stand in for the image's own")
    which = [which] if isinstance(which, Stream) else list(which)
    kept = {} if how == "zero" else record(network, which, reference)
    rng, donors = np.random.default_rng(seed), []

    def draw(module, args):
        donors[:] = [torch.from_numpy(rng.integers(0, len(reference), len(args[0]))).to(reference.device)]

    def instead(stream):
        if how == "zero":
            return torch.zeros_like
        if how == "mean":
            return lambda x: kept[stream].mean(0, keepdim=True).expand_as(x)
        return lambda x: kept[stream][donors[0]]

    with ExitStack() as stack:
        if how == "resample":
            stack.callback(network.register_forward_pre_hook(draw).remove)
        for stream in which:
            stack.enter_context(replaced(port(network, stream), instead(stream)))
        yield network


def cut_table(
    network: nn.Module, pixels: np.ndarray, rows: np.ndarray, truth: dict[str, np.ndarray], mean: np.ndarray, side: int,
    cuts: dict[str, Sequence[Stream]], how: str = "zero", reference: Tensor | None = None, seed: int = 0,
) -> pd.DataFrame:
    """The test set again with streams cut.

    Args:
        pixels, rows, mean, side: see ``image_batches``.
        truth: (M,) class numbers of these rows by task name, negative where unlabelled.
        cuts: the streams of each cut, by a name for it; the uncut network is put first, as 'nothing'.
        how, reference, seed: see ``cut``.

    Returns:
        one row a cut and task: cut, task, ``evaluation.task_metrics`` (with the confusion matrix), and changed: the
        share of photos whose answer is another than uncut.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, pixels = build("cross_branch", PATENT_TASKS, "tiny", "none"), np.zeros((4, 32, 32, 3), np.uint8)
    >>> truth = {"aesthetics": np.array([0, 1, 1]), "emotion": np.array([2, 5, -1])}
    >>> cuts = {"layer 2": [Stream(2, "aesthetics", "emotion")]}
    >>> mean = np.zeros((32, 32, 3), np.float32)
    >>> table = cut_table(network, pixels, np.arange(3), truth, mean, side=32, cuts=cuts)
    >>> table[["cut", "task", "n"]].values.tolist()
    [['nothing', 'aesthetics', 3], ['nothing', 'emotion', 2], ['layer 2', 'aesthetics', 3], ['layer 2', 'emotion', 2]]
    """
    device, found, uncut = next(network.parameters()).device, [], {}
    for name, which in {"nothing": [], **cuts}.items():
        with cut(network, which, how, reference, seed):
            logits = predict_logits(network, pixels, rows, mean, side, device)
        uncut = uncut or {task: values.argmax(1) for task, values in logits.items()}
        for task, values in logits.items():
            metrics = task_metrics(truth[task], softmax(values), majority_class(truth[task]))
            changed = float((values.argmax(1) != uncut[task]).mean())
            found.append({"cut": name, "task": task, **metrics, "changed": changed})
    return pd.DataFrame(found)
