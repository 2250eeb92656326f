"""All answers that a photo gets when borrowed streams are replaced, and where in it what flows comes from: both quick.

Two branches with L cross-branch layers borrow 2L streams, so there are 2^(2L) states of open and closed ones. They are
few enough to compute all, by exact forward passes in which states that begin alike share their maps; then nothing is
left to compute when somebody clicks. A closed stream carries what it carries for another image: for the mean image
(a *cut*: nothing of this photo; the ledger's baseline too), or for a photo that is the donor of a *transplant*.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..attribution.cuts import cut
from ..attribution.maps import SignedMap
from ..attribution.mixtures import Mixtures, maps_sent
from ..attribution.streams import Stream, streams
from ..models.inference import evaluating

MOST_SWITCHES = 10
"""Up to 2^10 states of a photo are computed at once; beyond, one by one as they are asked for."""
STEPS = {False: 10, True: 4}
"""Nodes of a map's quadrature: what is borrowed changes little along its path, what is own all that lies above."""


def switches(network: nn.Module) -> list[Stream]:
    """The borrowed streams, by layer and receiver: number k is closed in the states whose bit k is set."""
    return [stream for stream in streams(network) if stream.borrowed]


def idle(network: nn.Module, task: str) -> int:
    """The bits of a state that can't change a task: at the last layer, a stream feeds its receiver alone."""
    last = len(network.exchanges)
    return sum(1 << k for k, s in enumerate(switches(network)) if s.layer == last and s.receiver != task)


def distinct(network: nn.Module, task: str) -> np.ndarray:
    """The states that can differ for a task: all without a bit of ``idle``, in order."""
    states = np.arange(2 ** len(switches(network)))
    return states[states & idle(network, task) == 0]


def state_logits(network: nn.Module, images: Tensor, state: int, instead: Tensor | None = None) -> dict[str, Tensor]:
    """Every task's (B, C) logits in one state, by a forward pass with hooks.

    Args:
        images: (B, 3, s, s).
        state: its bits say which of the ``switches`` are closed.
        instead: (1, 3, s, s), whose maps a closed stream carries; None: the mean image.
    """
    which = [stream for k, stream in enumerate(switches(network)) if state >> k & 1]
    reference = torch.zeros_like(images[:1]) if instead is None else instead
    with evaluating(network), torch.inference_mode(), cut(network, which, "mean", reference):
        return network(images)


def all_logits(network: nn.Module, images: Tensor, instead: Tensor | None = None) -> dict[str, Tensor]:
    """Every task's logits for (B, 3, s, s) images in every state.

    Args:
        images, instead: see ``state_logits``.

    Returns:
        (2^S, B, C) by task name, for the S streams of ``switches``; state 0 is the network as it is.

    Raises:
        ValueError: there are too many states to compute them all.
    """
    known, names = switches(network), [task.name for task in network.tasks]
    if len(known) > MOST_SWITCHES:
        raise ValueError(f"the network borrows {len(known)} streams; all states are computed of at most "
                         f"{MOST_SWITCHES}. state_logits computes any of them one by one")
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
    r"""Where in one photo a logit comes from, through each stream that its branch receives at one layer.

    Integrated gradients at the stream alone, from the mean image's map :math:`\bar x` to the photo's :math:`x`,

    .. math:: (x - \bar x) \int_0^1 \nabla f(\bar x + a (x - \bar x))\, da

    with all other streams as they are: what ``attribution.stream_map`` has captum compute at the hook point, quick
    enough to wait for, since only what lies above the layer is run and Gauss-Legendre's nodes are few.

    Args:
        image: (1, 3, s, s).
        task, target: whose logit.
        layer: from 1.

    Returns:
        a map by stream; its ``effect`` is by how much the logit falls when this stream alone is the mean image's.
    """
    names = [t.name for t in network.tasks]
    with torch.no_grad(), evaluating(network):
        caught, logits = maps_sent(network, torch.cat([torch.zeros_like(image), image]))
    here = [[x[1:] for x in maps] for maps in caught]
    found = {}
    for s, stream in enumerate(Stream(layer, task, source) for source in names):
        rest, nodes, weights = caught[layer - 1][s][:1], *np.polynomial.legendre.leggauss(STEPS[stream.borrowed])
        change = here[layer - 1][s] - rest
        along = rest + torch.tensor((nodes + 1) / 2).to(change)[:, None, None, None] * change
        along.requires_grad_()
        (slope,) = torch.autograd.grad(_with_stream(network, here, stream, along)[:, target].sum(), along)
        values = torch.einsum("n,nkhw->khw", torch.tensor(weights / 2).to(slope), slope) * change[0]
        with torch.no_grad():
            without = _with_stream(network, here, stream, rest)[0, target]
        values, effect = (x.cpu().double().numpy() for x in (values, logits[task][1, target] - without))
        found[stream] = SignedMap(values.sum(0)[None], effect[None], values.sum((1, 2))[None])
    return found


def _with_stream(network: nn.Module, here: list[list[Tensor]], stream: Stream, instead: Tensor) -> Tensor:
    """The receiver's (S, C) logits when one stream carries ``instead`` (S, K, h, w) and all others what they do.

    Only what it can change is run: at its own layer, and at the last one, the receiver alone.
    """
    names, last = [task.name for task in network.tasks], len(network.exchanges)
    t, source, maps = names.index(stream.receiver), names.index(stream.source), here[stream.layer - 1]
    with evaluating(network):
        for i in range(stream.layer, last + 1):
            reaching = [x.expand(len(instead), -1, -1, -1) for x in maps]
            if i == stream.layer:
                reaching[source] = instead
            changed = {}
            for r in [t] if i in (stream.layer, last) else range(len(names)):
                x, groups = network.exchanges[i - 1].receive(r, reaching), network.branches[r].groups
                changed[r] = groups[i](x) if i < len(groups) else x
            maps = [] if i == last else [changed.get(r, x) for r, x in enumerate(here[i])]
        return network.branches[t].head(changed[t])
