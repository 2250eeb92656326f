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
from dataclasses import dataclass, replace
from math import comb, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from ..device import keep_freed_memory
from ..models.inference import evaluating
from .baselines import baselines_of
from .mixtures import Flows
from .players import Game, Part, layer_games, trunk_games
from .streams import Stream

EXACT = 12
"""Up to so many players every coalition is computed; beyond, permutations are drawn."""
DRAWS = 100
"""How many permutations are drawn then, each with its reverse."""
ROWS = 1024
"""Coalitions times images whose maps are in memory at once."""


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
    masks, combine = _plan(players, draws, seed)
    return combine(np.concatenate([value(masks[start:start + chunk]) for start in range(0, len(masks), chunk)]))


def _plan(players: int, draws: int | None, seed: int) -> tuple[np.ndarray, Callable]:
    """The distinct coalitions (M, P) that are needed, and what makes ``shapley``'s answer of their (M, ...) values."""
    if draws is None and players <= EXACT:
        return coalitions(players), lambda values: (_exact(values, players), None)
    rng, draws = np.random.default_rng(seed), max(draws or DRAWS, 2)
    orders = np.array([rng.permutation(players) for _ in range(draws)])
    orders = np.stack([orders, orders[:, ::-1]], axis=1).reshape(-1, players)  # (2R, P)
    place = np.argsort(orders, axis=1)  # when each player joins
    masks = place[:, None, :] < np.arange(players + 1)[:, None]  # (2R, P+1, P): who has joined by then
    distinct, where = np.unique(masks.reshape(-1, players), axis=0, return_inverse=True)

    def combine(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        reached = values[where.reshape(masks.shape[:2])]  # (2R, P+1, ...)
        steps = np.stack([np.diff(path, axis=0)[at] for path, at in zip(reached, place, strict=True)])
        pairs = steps.reshape(draws, 2, *steps.shape[1:]).mean(axis=1)  # (R, P, ...)
        return pairs.mean(axis=0), pairs.std(axis=0, ddof=1) / sqrt(draws)

    return distinct, combine


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

    >>> from ..models.networks import build
    >>> from ..tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> ledger = trunk_ledger(network, torch.rand(1, 3, 32, 32))["emotion"]
    >>> ledger.players, bool(ledger.residual()[0] < 1e-4)
    (('own', 'borrowed at 1', 'borrowed at 2'), True)
    """
    return _ledgers(network, images, baseline, trunk_games(network), draws, seed)


def layer_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[tuple[int, str], Ledger]:
    """Every task's logits split among the T*T streams of one layer, for each layer.

    Args, Raises: see ``trunk_ledger``.

    Returns:
        a ledger by (layer, task name). Its first T players are the task's own stream and what it borrows there;
        the others act 'via' other branches, and are exactly 0 at the last layer.

    >>> from ..models.networks import build
    >>> from ..tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> layer_ledger(network, torch.rand(1, 3, 32, 32))[1, "emotion"].values.shape  # images, classes, streams
    (1, 8, 4)
    """
    return _ledgers(network, images, baseline, layer_games(network), draws, seed)


def both_ledgers(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict:
    """Trunk and layer ledgers at once, in one dictionary, quicker than apart: they share a third of their maps.

    Args, Raises: see ``trunk_ledger``.

    Returns:
        the ledgers of ``trunk_ledger`` by task name, and those of ``layer_ledger`` by (layer, task name).

    >>> from ..models.networks import build
    >>> from ..tasks import PATENT_TASKS
    >>> network = build("cross_branch", PATENT_TASKS, "tiny", "none")
    >>> list(both_ledgers(network, torch.rand(1, 3, 32, 32)))[1:4]
    ['emotion', (1, 'aesthetics'), (1, 'emotion')]
    """
    return _ledgers(network, images, baseline, [*trunk_games(network), *layer_games(network)], draws, seed)


def _ledgers(
    network: nn.Module, images: Tensor, baseline: Tensor | None, games: list[Game], draws: int | None, seed: int
) -> dict:
    """Play the games on what flows for the images and for each baseline; average over the baselines."""
    keep_freed_memory()  # each level's maps take the place of the last one's
    plans = [_plan(game.players, draws, seed) for game in games]
    ledgers: dict = {}
    with evaluating(network), torch.inference_mode():
        given = baselines_of(images, baseline)
        for base in given:
            flows = Flows(network, images, base)
            values = _values(flows, games, [masks for masks, _ in plans])
            for game, (_, combine), reached in zip(games, plans, values, strict=True):
                shares, error = combine(reached)  # (P, B, C)
                for part in game.parts:
                    _add(ledgers, part, shares, error, flows, len(given))
    return ledgers


def _values(flows: Flows, games: list[Game], masks: list[np.ndarray]) -> list[np.ndarray]:
    """For each game (M, B, C of its branches) logits of its (M, P) coalitions; so many at a time as memory allows."""
    asked = [(g, bits) for g, rows in enumerate(masks) for bits in rows.astype(int).tolist()]
    found: list[list[np.ndarray]] = [[] for _ in games]
    at_once = max(ROWS // len(flows.images), 1)
    for start in range(0, len(asked), at_once):
        flows.forget()
        some = asked[start:start + at_once]
        numbers = [games[g].numbers(flows, bits) for g, bits in some]
        answers = [x.cpu().double().numpy() for x in flows.answers()]
        for (g, _), of in zip(some, numbers, strict=True):
            found[g].append(np.concatenate([answers[t][n] for t, n in zip(games[g].branches, of, strict=True)], axis=1))
    return [np.stack(rows) for rows in found]


def _add(ledgers: dict, part: Part, shares: np.ndarray, error: np.ndarray | None, flows: Flows, of: int) -> None:
    """One baseline's ledger, as one of ``of`` that are averaged."""
    logits, at_base = (x[part.task].cpu().double().numpy() for x in (flows.logits, flows.at_base))
    new = Ledger(part.task, part.labels, part.streams, np.zeros(()), logits, np.zeros(()))
    found = ledgers.setdefault(part.key, new)
    mine = [None if x is None else np.moveaxis(x[part.order][..., part.classes], 0, 2) / of for x in (shares, error)]
    found.values, found.baseline = found.values + mine[0], found.baseline + at_base / of
    if mine[1] is not None:  # every baseline has the same permutations, so their errors are not apart: add up
        found.standard_error = mine[1] + (0 if found.standard_error is None else found.standard_error)


def over_set(ledger: Callable, network: nn.Module, batches: Iterable[Tensor], **options) -> dict:
    """A ledger over a whole set, batch by batch.

    Args:
        ledger: ``trunk_ledger``, ``layer_ledger`` or ``both_ledgers``, with their ``options``.
        batches: (B, 3, H, W) each, see ``attribution.image_batches``.

    Returns:
        as the ledger does, of all N images.

    >>> from ..models.networks import build
    >>> from ..tasks import PATENT_TASKS
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
