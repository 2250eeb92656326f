"""A photo's answers under all cuts of borrowed streams, and maps of where in it a stream's part comes from; both fast.

S borrowed streams have 2^S states of open and closed ones: few enough to compute all by exact forward passes that share
maps. A closed stream carries what it carries for the mean image (a *cut*), or for the donor of a *transplant*.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ..attribution.maps import SignedMap
from ..attribution.mixtures import Mixtures, maps_sent, with_flow
from ..attribution.streams import Stream, streams
from ..models.inference import evaluating

MOST_SWITCHES = 10
"""All 2^10 states of a photo are computed at once; where more is borrowed, the last layers have the switches."""
STEPS = {False: 10, True: 4}
"""Nodes of a map's quadrature: what is borrowed changes little along its path, what is own all that lies above."""


def switches(network: nn.Module) -> list[Stream]:
    """All borrowed streams, or those of the last layers: number k is closed in the states whose bit k is set."""
    borrowed = [stream for stream in streams(network) if stream.borrowed]
    fitting = [s for s in borrowed if sum(other.layer >= s.layer for other in borrowed) <= MOST_SWITCHES]
    return fitting or borrowed[-MOST_SWITCHES:]


def idle(network: nn.Module, task: str) -> int:
    """The bits of a state that can't change a task: at the last layer, a stream feeds only its receiver."""
    last = len(network.exchanges)
    return sum(1 << k for k, s in enumerate(switches(network)) if s.layer == last and s.receiver != task)


def distinct(network: nn.Module, task: str) -> np.ndarray:
    """The states that can differ for a task: all without a bit of ``idle``, in order."""
    states = np.arange(2 ** len(switches(network)))
    return states[states & idle(network, task) == 0]


def all_logits(network: nn.Module, images: Tensor, instead: Tensor | None = None) -> dict[str, Tensor]:
    """Every task's logits of (B, 3, s, s) images in every state of the S ``switches``: (2^S, B, C) by task name.

    ``instead``: (1, 3, s, s), whose maps a closed stream carries; None: the mean image. State 0 is the plain network.
    """
    known, names = switches(network), [task.name for task in network.tasks]
    instead = torch.zeros_like(images[:1]) if instead is None else instead
    closing = [(s.layer - 1, names.index(s.receiver), names.index(s.source)) for s in known]
    with evaluating(network), torch.inference_mode():
        mixtures = Mixtures(network, images, instead)
        numbers = [_state_numbers(mixtures, {s for k, s in enumerate(closing) if state >> k & 1}, len(names))
                   for state in range(2 ** len(known))]
        by_branch = zip(names, mixtures.answers(), zip(*numbers, strict=True), strict=True)
        return {name: values[list(of)] for name, values, of in by_branch}


def _state_numbers(mixtures: Mixtures, closed: set[tuple[int, int, int]], branches: int) -> list[int]:
    """The numbers behind the last layer of all branches, with some (layer, receiver, source), all from 0, closed."""
    maps = [1] * branches
    for i in range(mixtures.layers):
        maps = [mixtures.mixed(i, t, [0 if (i, t, s) in closed else maps[s] for s in range(branches)])
                for t in range(branches)]
    return maps


def stream_maps(network: nn.Module, image: Tensor, task: str, target: int, layer: int) -> dict[Stream, SignedMap]:
    """Where in one photo a logit comes from, through each stream that its branch receives at one layer.

    Integrated gradients at this one stream, from the mean image's map to the photo's, all other streams as they are:
    what ``attribution.stream_map`` has captum compute, quick enough to wait for, since only what lies above the layer
    is run and Gauss-Legendre's nodes are few.

    Args:
        image: (1, 3, s, s).
        task, target: whose logit; of two classes, the second one's minus the first one's, whatever the target.
        layer: from 1.
    """
    names = [t.name for t in network.tasks]
    with torch.no_grad(), evaluating(network):
        caught, logits = maps_sent(network, torch.cat([torch.zeros_like(image), image]))
    here = [x[1:] for x in caught[layer - 1]]
    maps = {}
    for s, stream in enumerate(Stream(layer, task, source) for source in names):
        rest, nodes, weights = caught[layer - 1][s][:1], *np.polynomial.legendre.leggauss(STEPS[stream.borrowed])
        change = here[s] - rest
        along = rest + torch.tensor((nodes + 1) / 2).to(change)[:, None, None, None] * change
        along.requires_grad_()
        (slope,) = torch.autograd.grad(_score(with_flow(network, here, stream, task, along), target).sum(), along)
        values = torch.einsum("n,nkhw->khw", torch.tensor(weights / 2).to(slope), slope) * change[0]
        with torch.no_grad():
            without = _score(with_flow(network, here, stream, task, rest), target)[0]
        values, effect = (x.cpu().double().numpy() for x in (values, _score(logits[task], target)[1] - without))
        maps[stream] = SignedMap(values.sum(0)[None], effect[None], values.sum((1, 2))[None])
    return maps


def _score(logits: Tensor, target: int) -> Tensor:
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, target]
