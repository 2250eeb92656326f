"""All answers that a photo gets when borrowed streams are replaced, and where in it what flows comes from: both quick.

Two branches with L cross-branch layers borrow 2L streams, so there are 2^(2L) states of open and closed ones. They are
few enough to compute all, by exact forward passes in which states that begin alike share their maps; then nothing is
left to compute when somebody clicks. A closed stream carries what it carries for another image: for the mean image
(a *cut*: nothing of this photo; the ledger's baseline too), or for a photo that is the donor of a *transplant*.
"""

from __future__ import annotations

from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor, nn

from .attribution import SignedMap, cut
from .models.fusion import Stream, evaluating, streams

MOST_SWITCHES = 10
"""Up to 2^10 states of a photo are computed at once; beyond, one by one as they are asked for."""
STEPS = {False: 10, True: 4}
"""Nodes of a map's quadrature: what is borrowed changes little along its path, what is own all that lies above."""


def switches(network: nn.Module) -> list[Stream]:
    """The borrowed streams, by layer and receiver: number k is closed in the states whose bit k is set.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> [(s.layer, s.receiver) for s in switches(build("cross_branch", PATENT_TASKS, "tiny", "none"))]
    [(1, 'aesthetics'), (1, 'emotion'), (2, 'aesthetics'), (2, 'emotion')]
    """
    return [stream for stream in streams(network) if stream.borrowed]


def idle(network: nn.Module, task: str) -> int:
    """The bits of a state that can't change a task: at the last layer, a stream feeds its receiver alone.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> bin(idle(network, "aesthetics"))  # the last of four: what emotion receives at layer 2
    '0b1000'
    """
    last = len(network.exchanges)
    return sum(1 << k for k, s in enumerate(switches(network)) if s.layer == last and s.receiver != task)


def distinct(network: nn.Module, task: str) -> np.ndarray:
    """The states that can differ for a task: all without a bit of ``idle``, in order.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> distinct(build("cross_branch", PATENT_TASKS, "tiny", "none"), "aesthetics").tolist()
    [0, 1, 2, 3, 4, 5, 6, 7]
    """
    states = np.arange(2 ** len(switches(network)))
    return states[states & idle(network, task) == 0]


def state_logits(network: nn.Module, images: Tensor, state: int, instead: Tensor | None = None) -> dict[str, Tensor]:
    """Every task's (B, C) logits in one state, by a forward pass with hooks.

    Args:
        images: (B, 3, s, s).
        state: its bits say which of the ``switches`` are closed.
        instead: (1, 3, s, s), whose maps a closed stream carries; None: the mean image.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, photo = build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(1, 3, 32, 32)
    >>> closed = state_logits(network, photo, state=0b1111)
    >>> torch.equal(closed["emotion"], state_logits(network, photo, state=0)["emotion"])
    False
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

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, photo = build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(1, 3, 32, 32)
    >>> found = all_logits(network, photo)["emotion"]
    >>> found.shape, torch.allclose(found[5], state_logits(network, photo, state=5)["emotion"], atol=1e-5)
    (torch.Size([16, 1, 8]), True)
    """
    known, names = switches(network), [task.name for task in network.tasks]
    if len(known) > MOST_SWITCHES:
        raise ValueError(f"the network borrows {len(known)} streams; all states are computed of at most "
                         f"{MOST_SWITCHES}. state_logits computes any of them one by one")
    instead = torch.zeros_like(images[:1]) if instead is None else instead
    with evaluating(network), torch.inference_mode():
        there, _ = flowing(network, instead)
        maps = [branch["groups"][0](images)[None] for branch in network.branches]  # (U, B, K, h, w): U distinct ones
        which = np.zeros((len(names), 1), int)  # (T, states so far): the row of a branch's maps in each state
        for i, exchange in enumerate(network.exchanges):
            here = [stream for stream in known if stream.layer == i + 1]
            bits, before = divmod(np.arange(which.shape[1] << len(here)), which.shape[1])
            following, onward = [], []
            for t, (name, branch) in enumerate(zip(names, network.branches, strict=True)):
                rows = which[:, before].T.copy()  # (states, T): what reaches this branch; -1 for a closed stream
                for k, stream in enumerate(here):
                    if stream.receiver == name:
                        rows[bits >> k & 1 == 1, names.index(stream.source)] = -1
                rows, where = np.unique(rows, axis=0, return_inverse=True)
                x = exchange.receive(t, [_picked(m, n, of) for m, n, of in zip(maps, there[i], rows.T, strict=True)])
                x = branch["groups"][i + 1](x) if i + 1 < len(branch["groups"]) else x
                following.append(x.unflatten(0, (len(rows), -1)))
                onward.append(where.reshape(-1))
            maps, which = following, np.stack(onward)
        return {name: branch["head"](x.flatten(0, 1)).unflatten(0, x.shape[:2])[of]
                for name, branch, x, of in zip(names, network.branches, maps, which, strict=True)}


def _picked(maps: Tensor, there: Tensor, rows: np.ndarray) -> Tensor:
    """Rows of (U, B, K, h, w) maps as one batch; row -1 is that of the image whose maps a closed stream carries."""
    return torch.cat([maps, there.expand_as(maps[0])[None]])[torch.from_numpy(rows).to(maps.device)].flatten(0, 1)


def flowing(network: nn.Module, images: Tensor) -> tuple[list[list[Tensor]], dict[str, Tensor]]:
    """What (B, 3, s, s) images send into each exchange layer, one map a branch, and their logits.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> maps, logits = flowing(build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(1, 3, 32, 32))
    >>> [[tuple(x.shape) for x in branch_maps] for branch_maps in maps]
    [[(1, 8, 16, 16), (1, 8, 16, 16)], [(1, 16, 8, 8), (1, 16, 8, 8)]]
    """
    caught: list[list[Tensor]] = []
    with ExitStack() as stack:
        for exchange in network.exchanges:
            stack.callback(exchange.register_forward_pre_hook(lambda _, args: caught.append(list(args[0]))).remove)
        logits = network(images)
    return caught, logits


def stream_maps(network: nn.Module, image: Tensor, task: str, target: int, layer: int) -> dict[Stream, SignedMap]:
    r"""Where in one photo a logit comes from, through each stream that its branch receives at one layer.

    Integrated gradients at the stream alone, from the mean image's map :math:`\bar x` to the photo's :math:`x`,

    .. math:: (x - \bar x) \int_0^1 \nabla f(\bar x + a (x - \bar x))\, da

    with all other streams as they are: what ``attribution.stream_map`` has captum compute at the port, quick enough
    to wait for, since only what lies above the layer is run and Gauss-Legendre's nodes are few.

    Args:
        image: (1, 3, s, s).
        task, target: whose logit.
        layer: from 1.

    Returns:
        a map by stream; its ``effect`` is by how much the logit falls when this stream alone is the mean image's.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network, photo = build("cross_branch", PATENT_TASKS, "tiny", "none"), torch.rand(1, 3, 32, 32)
    >>> for stream, found in stream_maps(network, photo, "emotion", target=2, layer=1).items():
    ...     print(stream.source, found.cells.shape)
    aesthetics (1, 16, 16)
    emotion (1, 16, 16)
    """
    names = [t.name for t in network.tasks]
    with torch.no_grad(), evaluating(network):
        caught, logits = flowing(network, torch.cat([torch.zeros_like(image), image]))
    rest, here = ({name: x[n:n + 1] for name, x in zip(names, caught[layer - 1], strict=True)} for n in (0, 1))
    found = {}
    for stream in (Stream(layer, task, source) for source in names):
        nodes, weights = np.polynomial.legendre.leggauss(STEPS[stream.borrowed])
        change = here[stream.source] - rest[stream.source]
        along = rest[stream.source] + torch.tensor((nodes + 1) / 2).to(change)[:, None, None, None] * change
        along.requires_grad_()
        (slope,) = torch.autograd.grad(_with_stream(network, here, stream, along)[:, target].sum(), along)
        values = torch.einsum("n,nkhw->khw", torch.tensor(weights / 2).to(slope), slope) * change[0]
        with torch.no_grad():
            without = _with_stream(network, here, stream, rest[stream.source])[0, target]
        values, effect = (x.cpu().double().numpy() for x in (values, logits[task][1, target] - without))
        found[stream] = SignedMap(values.sum(0)[None], effect[None], values.sum((1, 2))[None])
    return found


def _with_stream(network: nn.Module, here: dict[str, Tensor], stream: Stream, instead: Tensor) -> Tensor:
    """The receiver's (S, C) logits when one stream carries ``instead`` (S, K, h, w) and all others what they do."""
    def arriving(receiver: str) -> list[Tensor]:
        return [instead if (receiver, name) == stream[1:] else x.expand_as(instead) for name, x in here.items()]

    exchange = network.exchanges[stream.layer - 1]
    with evaluating(network):
        maps = [exchange.receive(t, arriving(name)) for t, name in enumerate(here)]
        return network.onward(stream.layer, maps)[stream.receiver]
