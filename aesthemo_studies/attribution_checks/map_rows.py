"""What the attribution study measures of maps and baselines, as rows of its tables.

Each function yields tuples: what is measured, in which case, (at which step,) of which image (its place), the value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn

from aesthemo_lib.attribution.baselines import baseline
from aesthemo_lib.attribution.ledger import trunk_ledger
from aesthemo_lib.attribution.maps import patch_numbers
from aesthemo_lib.attribution.streams import Stream

from . import ledgers as checks, maps as faithfulness

BASELINES = ("mean", "black", "blur", "set")
OTHERS = 4
"""Of the images, the last ones are not explained: they are the set that others are compared with."""


def deleted(network: nn.Module, images: Tensor, stream: Stream, targets: Tensor) -> Iterator[tuple]:
    """The answer's logit against that of the whole network while channels go, in three orders."""
    curves = faithfulness.deletion(network, images, stream, stream.receiver, targets, 6, draws=4)
    start = curves["map"][:, :1]
    for name, curve in curves.items():
        for n, point in np.ndindex(curve.shape):
            yield "deletion", name, point / (curve.shape[1] - 1), n, (curve - start)[n, point]


def by_captum(network: nn.Module, images: Tensor, stream: Stream, targets: Tensor, few: int) -> Iterator[tuple]:
    """Infidelity, also of the same map with its places shuffled, and sensitivity, of the first ``few`` images."""
    shuffle = torch.Generator().manual_seed(0)
    for n in range(few):
        given = network, images[n:n + 1], stream, stream.receiver
        values = faithfulness.stream_gradients(*given, targets[n:n + 1])
        mixed = values.flatten()[torch.randperm(values.numel(), generator=shuffle)].view(values.shape)
        for case, judged in (("integrated gradients", values), ("the same, shuffled", mixed)):
            yield "infidelity", case, 0, n, faithfulness.infidelity(*given, int(targets[n]), judged)
        yield "sensitivity", "integrated gradients", 0, n, faithfulness.sensitivity(*given, int(targets[n]))


def destroyed(network: nn.Module, images: Tensor, stream: Stream, targets: Tensor, few: int) -> Iterator[tuple]:
    """How alike the maps of the first ``few`` images stay while the weights are destroyed, stage by stage."""
    def cells_of(network: nn.Module) -> np.ndarray:
        values = faithfulness.stream_gradients(network, images[:few], stream, stream.receiver, targets[:few])
        return values.sum(1).cpu().numpy()

    original = cells_of(network)
    for stage, (name, broken) in enumerate(faithfulness.randomised(network), start=1):
        destroyed_cells = cells_of(broken)
        for sign in ("signed", "size alone"):
            alike = faithfulness.rank_similarity(original, destroyed_cells, absolute=sign != "signed")
            yield from (("destroyed", f"{name}, {sign}", stage, n, value) for n, value in enumerate(alike))


def patches(network: nn.Module, images: Tensor, links: Sequence[Stream], few: int) -> Iterator[tuple]:
    """Integrated gradients, added up over a 3 x 3 grid, against the exact Shapley values of these patches."""
    for stream, (n, image) in product(links, enumerate(images[:few].split(1))):
        task = stream.receiver
        target = network(image)[task].argmax(1).detach()
        slow = faithfulness.patch_shapley(network, image, stream, task, int(target), grid=3)[0].ravel()
        cells = faithfulness.stream_gradients(network, image, stream, task, target)[0].sum(0).cpu()
        quick = np.bincount(patch_numbers(cells.shape, 3).ravel(), cells.ravel(), minlength=len(slow))
        yield task, "patches", "correlation", n, np.corrcoef(slow, quick)[0, 1]
        yield task, "patches", "distance", n, np.linalg.norm(quick - slow) / np.linalg.norm(slow)


def baselines(network: nn.Module, images: Tensor, mean: np.ndarray) -> Iterator[tuple]:
    """What share is borrowed against each baseline, and how alike an image's pieces rank to those against the mean."""
    asked, others, first = images[:-OTHERS], images[-OTHERS:], {}
    for kind in BASELINES:
        ledgers = trunk_ledger(network, asked, baseline(kind, asked, mean, network.std, others))
        for task, ledger in ledgers.items():
            pieces = ledger.values.reshape(len(asked), -1)
            alike = faithfulness.rank_similarity(first.setdefault(task, pieces), pieces, absolute=False)
            borrowed = checks.shares(ledger)[:, 1:].sum(1)
            for n, (one, other) in enumerate(zip(borrowed, alike, strict=True)):
                yield task, "borrowed", kind, n, one
                yield task, "alike", kind, n, other
