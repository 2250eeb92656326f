r"""Two exact ledgers of what a task's logit is made of: own, and borrowed at each cross-branch layer.

Both are Shapley values: each player (a stream of feature maps) is either at its value for the image or at its value
for a baseline image, the logit of every coalition S is computed, and a player's value is its weighted mean effect

.. math:: \phi_p = \sum_{S \not\ni p} \frac{|S|! (P-|S|-1)!}{P!} \left( v(S \cup p) - v(S) \right)

so that they add up to logit(image) - logit(baseline), whatever the network. That they do proves nothing about whose
they are; the tests work a linear network out by hand.

- **Trunk ledger**: a logit is a function of its own branch's input and of the maps that come in from other branches.
  Players: 'own', and each incoming map. What comes in at layer i holds what its branch had itself borrowed before i.
- **Layer ledger**: all T*T streams of one layer. The other branches' streams have entries of their own, 'via' these
  branches: what they do to this logit through later layers. The bias belongs to no stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import comb, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from .attribution import baselines_of
from .device import keep_freed_memory
from .models.fusion import Stream, evaluating, streams

EXACT = 12
"""Up to so many players every coalition is computed; beyond, permutations are drawn."""
DRAWS = 100
"""How many permutations are drawn then, each with its reverse."""
ROWS = 512
"""Coalitions times images that go through a network at once."""


@dataclass
class Ledger:
    """One task's logits of N images, split among P players.

    Attributes:
        task: its name.
        players: P labels.
        streams: the stream behind each player; None for the own trunk, or for a patch.
        values: (N, C, P) float64, in logits.
        logits, baseline: (N, C), of the images and of the baseline, from plain forward passes.
        standard_error: (N, C, P) where permutations were drawn; None: the values are exact.

    >>> ledger = Ledger("aesthetics", ("own", "borrowed at 1"), (None, Stream(1, "aesthetics", "emotion")),
    ...                 np.array([[[3.0, 1.0]]]), logits=np.array([[5.0]]), baseline=np.array([[1.0]]))
    >>> ledger.residual().tolist(), ledger.borrowed().tolist()
    ([0.0], [[1.0]])
    """

    task: str
    players: tuple[str, ...]
    streams: tuple[Stream | None, ...]
    values: np.ndarray
    logits: np.ndarray
    baseline: np.ndarray
    standard_error: np.ndarray | None = None

    def residual(self) -> np.ndarray:
        """(N,) how far the sums are from logit(image) - logit(baseline), as a share of the largest piece or logit."""
        off = np.abs(self.values.sum(axis=2) - (self.logits - self.baseline)).max(axis=1)
        largest = np.abs(np.concatenate([self.values, self.logits[..., None], self.baseline[..., None]], axis=2))
        return off / np.maximum(largest.max(axis=(1, 2)), np.finfo(np.float64).tiny)

    def borrowed(self) -> np.ndarray:
        """(N, C) the sum of what this task's branch takes from others."""
        mine = [s is not None and s.borrowed and s.receiver == self.task for s in self.streams]
        return self.values[:, :, mine].sum(axis=2)


def coalitions(players: int) -> np.ndarray:
    """(2^P, P) bool, every coalition; the first player changes slowest.

    >>> coalitions(2).astype(int).tolist()
    [[0, 0], [0, 1], [1, 0], [1, 1]]
    """
    return (np.arange(2**players)[:, None] >> np.arange(players)[::-1] & 1).astype(bool)


def shapley(
    value: Callable[[np.ndarray], np.ndarray], players: int, draws: int | None = None, seed: int = 0, chunk: int = ROWS
) -> tuple[np.ndarray, np.ndarray | None]:
    """Shapley values, exact by enumeration or from drawn permutations.

    Args:
        value: (M, P) bool coalitions to (M, ...) float64.
        players: P.
        draws: how many permutations to draw, each with its reverse (together they vary less than two drawn apart);
            None: exact up to ``EXACT`` players, else ``DRAWS``.
        chunk: coalitions in one call of ``value``.

    Returns:
        (P, ...) values and their standard errors, None where exact.

    >>> game = lambda masks: masks @ np.array([1.0, 2.0]) + 4.0 * masks.all(axis=1)  # together they make 4 more
    >>> shapley(game, players=2)[0].tolist()
    [3.0, 4.0]
    """
    def values(masks: np.ndarray) -> np.ndarray:
        return np.concatenate([value(masks[start:start + chunk]) for start in range(0, len(masks), chunk)])

    if draws is None and players <= EXACT:
        return _exact(values(coalitions(players)), players), None
    rng, draws = np.random.default_rng(seed), max(draws or DRAWS, 2)
    orders = np.array([rng.permutation(players) for _ in range(draws)])
    orders = np.stack([orders, orders[:, ::-1]], axis=1).reshape(-1, players)  # (2R, P)
    place = np.argsort(orders, axis=1)  # when each player joins
    masks = place[:, None, :] < np.arange(players + 1)[:, None]  # (2R, P+1, P): who has joined by then
    distinct, where = np.unique(masks.reshape(-1, players), axis=0, return_inverse=True)
    reached = values(distinct)[where.reshape(masks.shape[:2])]  # (2R, P+1, ...)
    steps = np.stack([np.diff(path, axis=0)[at] for path, at in zip(reached, place, strict=True)])
    pairs = steps.reshape(draws, 2, *steps.shape[1:]).mean(axis=1)  # (R, P, ...)
    return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / sqrt(draws)


def _exact(values: np.ndarray, players: int) -> np.ndarray:
    """(2^P, ...) values of all coalitions to (P, ...). Of differences, so that who changes nothing has exactly 0."""
    cube = values.reshape(*[2] * players, *values.shape[1:])
    others = coalitions(players - 1).sum(axis=1)
    share = 1 / (players * np.array([comb(players - 1, k) for k in range(players)]))[others]
    gains = (np.diff(cube, axis=p).reshape(len(share), *values.shape[1:]) for p in range(players))
    return np.stack([np.tensordot(share, gain, axes=1) for gain in gains])


def trunk_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[str, Ledger]:
    """Every task's logits as own + borrowed at 1 + .. + borrowed at the last layer.

    Args:
        network: any with streams between its branches.
        images: (B, 3, H, W).
        baseline: see ``attribution.baseline``; by default the mean image.
        draws, seed: see ``shapley``.

    Returns:
        a ledger by task name, of 1 + (T-1) * layers players.

    Raises:
        ValueError: the network has no streams.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> ledger = trunk_ledger(network, torch.rand(1, 3, 32, 32))["emotion"]
    >>> ledger.players, bool(ledger.residual()[0] < 1e-4)
    (('own', 'borrowed at 1', 'borrowed at 2'), True)
    """
    known, names = streams(network), [task.name for task in network.tasks]

    def split(natural: list[list[Tensor]]):
        for t, name in enumerate(names):
            incoming = [s for s in known if s.borrowed and s.receiver == name]
            labels = ["own", *(f"borrowed at {s.layer}" + f" from {s.source}" * (len(names) > 2) for s in incoming)]
            found = shapley(lambda masks, t=t: _trunk_values(network, natural, t, masks),
                            len(labels), draws, seed, max(ROWS // len(images), 1))
            yield name, name, labels, [None, *incoming], found

    return _ledgers(network, images, baseline, split)


def layer_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[tuple[int, str], Ledger]:
    """Every task's logits split among the T*T streams of one layer, for each layer.

    Args, Raises: see ``trunk_ledger``.

    Returns:
        a ledger by (layer, task name). Its first T players are the task's own stream and what it borrows there;
        the others act 'via' other branches, and are exactly 0 at the last layer.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> layer_ledger(network, torch.rand(1, 3, 32, 32))[1, "emotion"].values.shape  # images, classes, streams
    (1, 8, 4)
    """
    known, names = streams(network), [task.name for task in network.tasks]
    ends = np.cumsum([len(task.classes) for task in network.tasks])

    def split(natural: list[list[Tensor]]):
        for i in range(len(natural)):
            here = [s for s in known if s.layer == i + 1]
            found = shapley(lambda masks, i=i: _layer_values(network, natural[i], i, masks),
                            len(here), draws, seed, max(ROWS // len(images), 1))
            for task, end in zip(network.tasks, ends, strict=True):
                order = sorted(range(len(here)), key=lambda p: (
                    here[p].receiver != task.name, names.index(here[p].receiver), here[p].borrowed))
                classes = slice(end - len(task.classes), end)
                mine = [None if part is None else part[order][..., classes] for part in found]
                labels = [_label(here[p], task.name, len(names)) for p in order]
                yield (i + 1, task.name), task.name, labels, [here[p] for p in order], mine

    return _ledgers(network, images, baseline, split)


def _label(stream: Stream, task: str, tasks: int) -> str:
    what = "own" if not stream.borrowed else f"borrowed from {stream.source}" if tasks > 2 else "borrowed"
    return what if stream.receiver == task else f"via {stream.receiver}: {what}"


def _ledgers(network: nn.Module, images: Tensor, baseline: Tensor | None, split: Callable) -> dict:
    """Run ``split`` on what flows for the images and for each baseline; average over the baselines."""
    keep_freed_memory()  # each level's maps take the place of the last one's
    parts: dict = {}
    zero = np.zeros(())
    with evaluating(network), torch.inference_mode():
        given = baselines_of(images, baseline)
        for base in given:
            natural, logits, at_base = _natural(network, images, base)
            for key, task, labels, who, (values, error) in split(natural):
                found = parts.setdefault(key, Ledger(task, tuple(labels), tuple(who), zero, logits[task], zero))
                found.values = found.values + np.moveaxis(values, 0, 2) / len(given)
                found.baseline = found.baseline + at_base[task] / len(given)
                if error is not None:  # every baseline has the same permutations, so their errors are not apart: add up
                    so_far = 0 if found.standard_error is None else found.standard_error
                    found.standard_error = so_far + np.moveaxis(error, 0, 2) / len(given)
    return parts


def _natural(network: nn.Module, images: Tensor, base: Tensor) -> tuple[list[list[Tensor]], dict, dict]:
    """What flows by itself: natural[i][s] (2, B, K, h, w), branch s's map at layer i for baseline and image; logits."""
    caught: list[list[Tensor]] = []
    with ExitStack() as stack:
        for exchange in network.exchanges:
            stack.callback(exchange.register_forward_pre_hook(lambda _, args: caught.append(list(args[0]))).remove)
        logits = network(torch.cat([base, images]))
    n, size = len(base), len(images)
    natural = [[torch.stack([x[:n].expand(size, -1, -1, -1), x[n:]]) for x in maps] for maps in caught]
    plain = {task: values.cpu().double().numpy() for task, values in logits.items()}
    at_base = {task: np.broadcast_to(values[:n], values[n:].shape) for task, values in plain.items()}
    return natural, {task: values[n:] for task, values in plain.items()}, at_base


def _flat(module: Callable, *maps: Tensor) -> Tensor:
    """A module on (U, B, ..) as if the first two were one."""
    out = module(*(x.flatten(0, 1) for x in maps))
    return out.unflatten(0, maps[0].shape[:2])


def _distinct(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct rows, where each is first, and which of them each row is."""
    rows, first, where = np.unique(masks, axis=0, return_index=True, return_inverse=True)
    return rows.astype(np.int64), first, where.reshape(-1)


def _trunk_values(network: nn.Module, natural: list[list[Tensor]], t: int, masks: np.ndarray) -> np.ndarray:
    """(M, B, C) logits of branch t, for (M, 1 + layers * (T-1)) coalitions of own trunk and incoming maps.

    Coalitions that begin alike share their nodes: one walks down a binary tree, a level at a time, as one batch.
    """
    branch, others = network.branches[t], [s for s in range(len(network.branches)) if s != t]
    rows, _, where = _distinct(masks[:, :1])
    maps = natural[0][t][rows[:, 0]]  # (U, B, K, h, w), what the own first group puts out
    for i, exchange in enumerate(network.exchanges):
        known = 1 + (i + 1) * len(others)
        rows, first, onward = _distinct(masks[:, :known])
        arriving = [maps[where[first]] if s == t else natural[i][s][rows[:, known - len(others) + others.index(s)]]
                    for s in range(len(network.branches))]
        maps, where = _flat(lambda *x, e=exchange: e.receive(t, x), *arriving), onward
        if i + 1 < len(branch["groups"]):
            maps = _flat(branch["groups"][i + 1], maps)
    return _flat(branch["head"], maps).cpu().double().numpy()[where]


def _layer_values(network: nn.Module, natural: list[Tensor], i: int, masks: np.ndarray) -> np.ndarray:
    """(M, B, C of all tasks) logits for (M, T*T) coalitions of one layer's streams, receiver by receiver.

    What a branch receives, and so its next group, depends on its own T streams alone; after the last layer all does.
    """
    exchange, tasks = network.exchanges[i], len(network.branches)
    maps, where = [], []
    for t, branch in enumerate(network.branches):
        rows, _, of = _distinct(masks[:, t * tasks:(t + 1) * tasks])
        x = _flat(lambda *x, t=t: exchange.receive(t, x), *(natural[s][rows[:, s]] for s in range(tasks)))
        maps.append(_flat(branch["groups"][i + 1], x) if i + 1 < len(branch["groups"]) else x)
        where.append(of)
    if i + 1 == len(network.exchanges):
        found = [_flat(branch["head"], x)[of] for branch, x, of in zip(network.branches, maps, where, strict=True)]
    else:
        arriving = [x[of].flatten(0, 1) for x, of in zip(maps, where, strict=True)]
        logits = network.onward(i + 2, network.exchange(i + 1, arriving))
        found = [values.unflatten(0, (len(masks), -1)) for values in logits.values()]
    return torch.cat(found, dim=2).cpu().double().numpy()


def over_set(ledger: Callable, network: nn.Module, batches: Iterable[Tensor], **options) -> dict:
    """A ledger over a whole set, batch by batch.

    Args:
        ledger: ``trunk_ledger`` or ``layer_ledger``, with their ``options``.
        batches: (B, 3, H, W) each, see ``attribution.image_batches``.

    Returns:
        as the ledger does, of all N images.

    >>> from .models.networks import build
    >>> from .tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> over_set(trunk_ledger, network, torch.rand(2, 1, 3, 32, 32))["emotion"].values.shape
    (2, 8, 3)
    """
    parts = [ledger(network, images, **options) for images in batches]
    if not parts:
        raise ValueError("no images were given")
    return {key: _joined([part[key] for part in parts]) for key in parts[0]}


def _joined(parts: Sequence[Ledger]) -> Ledger:
    def whole(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in parts])

    error = None if parts[0].standard_error is None else whole("standard_error")
    return replace(parts[0], values=whole("values"), logits=whole("logits"), baseline=whole("baseline"),
                   standard_error=error)


def mean_flows(ledger: Ledger, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """What flows on average into each logit, by the photos' class (of this task or of another).

    Args:
        ledger: of N images.
        labels: (N,) class numbers, negative where unlabelled.
        classes: L.

    Returns:
        (L, C, P) means in logits, and their standard errors over photos; NaN where there are no (or too few) photos.

    >>> ledger = Ledger("aesthetics", ("own", "borrowed at 1"), (None, Stream(1, "aesthetics", "emotion")),
    ...                 np.array([[[3.0, 1.0]]]), logits=np.array([[5.0]]), baseline=np.array([[1.0]]))
    >>> mean_flows(ledger, labels=np.array([0]), classes=2)[0][0].tolist()
    [[3.0, 1.0]]
    """
    shape = (classes, *ledger.values.shape[1:])
    means, errors = np.full(shape, np.nan), np.full(shape, np.nan)
    for c in range(classes):
        values = ledger.values[labels == c]
        if len(values):
            means[c] = values.mean(axis=0)
        if len(values) > 1:
            errors[c] = values.std(axis=0, ddof=1) / sqrt(len(values))
    return means, errors
