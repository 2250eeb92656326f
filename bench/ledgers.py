"""Ledgers next to captum's way to them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from aesthemo_lib.attribution.ledger import layer_ledger, trunk_ledger
from aesthemo_lib.attribution.streams import record, streams
from aesthemo_lib.models.inference import evaluating
from aesthemo_lib.models.networks import build
from aesthemo_lib.tasks import PATENT_TASKS

from .child import Job
from .measure import in_turn


def captum_layer(network: nn.Module, images: Tensor, base: Tensor, layer: int, task: str, target: int) -> np.ndarray:
    """One layer, one class of the layer ledger as captum's ``ShapleyValues`` has it: the slow reference.

    Returns:
        (B, T*T) values, receiver by receiver.
    """
    from captum.attr import ShapleyValues

    here = [s for s in streams(network) if s.layer == layer]
    tasks = len(network.tasks)

    def forward(*flows: Tensor) -> Tensor:
        received = [network.exchanges[layer - 1].receive(t, flows[t * tasks:(t + 1) * tasks]) for t in range(tasks)]
        return network.onward(layer, received)[task]

    with evaluating(network), torch.no_grad():
        given, blank = (tuple(record(network, here, x)[s] for s in here) for x in (images, base.expand_as(images)))
        mask = tuple(torch.full((1, 1, 1, 1), p) for p in range(len(here)))
        values = ShapleyValues(forward).attribute(given, blank, target=target, feature_mask=mask)
    return np.stack([value[:, 0, 0, 0].cpu().numpy() for value in values], axis=1)


def ledger_times(network: nn.Module, images: Tensor, repeats: int = 3) -> dict[str, np.ndarray]:
    """Seconds a photo of both ledgers and of captum's way to the layer ledgers, round by round, in turn.

    Captum is timed on one class at each layer, and the classes' share multiplied: they cost the same.
    """
    base, task = torch.zeros_like(images[:1]), network.tasks[0].name
    layers = range(1, len(network.exchanges) + 1)
    times = in_turn({
        "trunk": lambda: trunk_ledger(network, images), "layer": lambda: layer_ledger(network, images),
        **{str(i): lambda i=i: captum_layer(network, images, base, i, task, 0) for i in layers},
    }, repeats, images.device)
    classes = sum(len(task.classes) for task in network.tasks)
    captum = classes * np.sum([times[str(i)] for i in layers], axis=0)
    return {name: values / len(images) for name, values in
            (("trunk", times["trunk"]), ("layer", times["layer"]), ("captum", captum))}


def ledger_speed(network: nn.Module, images: Tensor, repeats: int = 3) -> dict[str, float]:
    """The medians of ``ledger_times``, and how many times longer captum takes."""
    times = ledger_times(network, images, repeats)
    seconds = {f"{name}_seconds": float(np.median(values)) for name, values in times.items()}
    return seconds | {"times_faster": seconds["captum_seconds"] / seconds["layer_seconds"]}


def ledgers(job: Job) -> Iterator[tuple]:
    """Ledgers of the pair of the lessons."""
    name, side = ("tiny", 32) if job.small else ("efficientnet_lite0", 192)
    network = build("cross_branch", PATENT_TASKS, name, "none" if job.small else "imagenet", "diagonal")
    network = network.to(job.device, memory_format=torch.channels_last).eval()
    images = torch.randn(1, 3, side, side, device=job.device).contiguous(memory_format=torch.channels_last)
    times = ledger_times(network, images, 1 if job.small else 2)
    lines = [f"- {what}: {', '.join(f'{value:.3g}' for value in values)} s a photo" for what, values in times.items()]
    yield "ledgers_captum", times["captum"] / times["layer"], {"profile": lines}
