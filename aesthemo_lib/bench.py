"""How fast the parts are, as ratios measured within one process."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from .ledger import layer_ledger, trunk_ledger
from .models.fusion import evaluating, record, streams


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


def ledger_speed(network: nn.Module, images: Tensor, repeats: int = 3) -> dict[str, float]:
    """Seconds a photo for both ledgers, and how many times longer captum takes, layer by layer and class by class.

    captum is timed on one layer and class at each layer, and the classes' share multiplied: they cost the same.
    """
    def seconds(work: Callable) -> float:
        work()
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            work()
            times.append(time.perf_counter() - began)
        return sorted(times)[len(times) // 2] / len(images)

    trunk, layer = (seconds(lambda ledger=ledger: ledger(network, images)) for ledger in (trunk_ledger, layer_ledger))
    classes, base = sum(len(task.classes) for task in network.tasks), torch.zeros_like(images[:1])
    captum = sum(classes * seconds(lambda i=i: captum_layer(network, images, base, i, network.tasks[0].name, 0))
                 for i in range(1, len(network.exchanges) + 1))
    return {"trunk_seconds": trunk, "layer_seconds": layer, "captum_seconds": captum, "times_faster": captum / layer}
