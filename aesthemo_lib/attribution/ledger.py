r"""Two exact ledgers of what a task's logit is made of: own, and borrowed at each cross-branch layer.

All are Shapley values: each player (a stream of feature maps) is either at its value for the image or at its value
for a baseline image, the logit of every coalition S is computed, and a player's value is its weighted mean effect

.. math:: \phi_p = \sum_{S \not\ni p} \frac{|S|! (P-|S|-1)!}{P!} \left( v(S \cup p) - v(S) \right)

so that they add up to logit(image) - logit(baseline), whatever the network.

- **Trunk ledger**: a logit is a function of its own branch's input and of the maps that come in from other branches.
  Players: 'own', and each incoming map. What comes in at layer i holds what its branch had itself borrowed before i.
- **Layer ledger**: all T*T streams of one layer. The other branches' streams have entries of their own, 'via' these
  branches: what they do to this logit through later layers. The bias belongs to no stream.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import comb, sqrt

import numpy as np
import torch
from torch import Tensor, nn

from ..device import keep_freed_memory
from ..models.inference import evaluating
from .baselines import baselines_of
from .mixtures import Mixtures
from .players import Game, Part, layer_games, trunk_games
from .streams import Stream

EXACT = 2**12  #: Up to so many coalitions all are computed; beyond, permutations are drawn
DRAWS = 100  #: How many permutations are drawn then, each with its reverse
ROWS = 1024  #: Coalitions times images whose maps are in memory at once


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
    """(2^P, P) bool, every coalition; the first player changes slowest."""
    return (np.arange(2**players)[:, None] >> np.arange(players)[::-1] & 1).astype(bool)


def shapley_plan(players: int, draws: int | None, seed: int) -> tuple[np.ndarray, Callable]:
    """The distinct coalitions (M, P) that are needed, and what makes the Shapley values of their (M, ...) values.

    Those are (P, ...), with standard errors, None where exact. ``draws``: how many permutations to draw, each with its
    reverse (together they vary less than two drawn apart); None: exact up to ``EXACT`` coalitions, else ``DRAWS``.
    """
    if draws is None and 2**players <= EXACT:
        return coalitions(players), lambda values: (_exact(values, players), None)
    rng = np.random.default_rng(seed)
    return from_orders(np.array([rng.permutation(players) for _ in range(max(draws or DRAWS, 2))]))


def from_orders(orders: np.ndarray) -> tuple[np.ndarray, Callable]:
    """A plan from (R, P) drawn permutations, each with its reverse."""
    draws, players = orders.shape
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
    cube, weights = values.reshape(*[2] * players, *values.shape[1:]), coalition_weights(players)
    gains = (np.diff(cube, axis=p).reshape(-1, *values.shape[1:]) for p in range(players))
    return np.stack([np.tensordot(weights, gain, axes=1) for gain in gains])


def coalition_weights(players: int) -> np.ndarray:
    """(2^(P-1),) the weight of each coalition of the others in a player's Shapley value."""
    sizes = coalitions(players - 1).sum(axis=1)
    return 1 / (players * np.array([comb(players - 1, k) for k in range(players)]))[sizes]


def trunk_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[str, Ledger]:
    """Every task's logits as own + borrowed at 1 + .. + borrowed at the last layer.

    Args:
        network: any with streams between its branches; a ValueError refuses others.
        images: (B, 3, H, W).
        baseline: see ``attribution.baseline``; by default the mean image.
        draws, seed: see ``shapley_plan``.

    Returns:
        a ledger by task name, of 1 + (T-1) * layers players.
    """
    return play(network, images, baseline, trunk_games(network), draws, seed)


def layer_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[tuple[int, str], Ledger]:
    """Every task's logits split among the T*T streams of one layer, for each layer, by (layer, task name).

    A ledger's first T players are the task's own stream and what it borrows there; the others act 'via' other
    branches, and are exactly 0 at the last layer. Args, Raises: see ``trunk_ledger``.
    """
    return play(network, images, baseline, layer_games(network), draws, seed)


def play(
    network: nn.Module, images: Tensor, baseline: Tensor | None, games: Iterable[Game], draws: int | None, seed: int,
    plan: Callable | None = None,
) -> dict:
    """Play the games on what flows for the images and for each baseline; average over the baselines.

    ``plan``: of the games' players, draws and seed what ``shapley_plan`` makes, which is the default.
    """
    keep_freed_memory()  # each level's maps take the place of the last one's
    games = list(games)
    plans = [(plan or shapley_plan)(game.players, draws, seed) for game in games]
    ledgers: dict = {}
    with evaluating(network), torch.inference_mode():
        given = baselines_of(images, baseline)
        for base in given:
            mixtures = Mixtures(network, images, base)
            values = _values(mixtures, games, [masks for masks, _ in plans])
            for game, (_, combine), reached in zip(games, plans, values, strict=True):
                shares, error = combine(reached)  # (P, B, C)
                for part in game.parts:
                    _add(ledgers, part, shares, error, mixtures, len(given))
    return ledgers


def _values(mixtures: Mixtures, games: list[Game], masks: list[np.ndarray]) -> list[np.ndarray]:
    """For each game (M, B, C of its branches) logits of its (M, P) coalitions; so many at a time as memory allows."""
    asked = [(g, bits) for g, rows in enumerate(masks) for bits in rows.astype(int).tolist()]
    logits: list[list[np.ndarray]] = [[] for _ in games]
    at_once = max(ROWS // len(mixtures.images), 1)
    for start in range(0, len(asked), at_once):
        mixtures.forget()
        some = asked[start:start + at_once]
        numbers = [games[g].numbers(mixtures, bits) for g, bits in some]
        answers = [x.cpu().double().numpy() for x in mixtures.answers()]
        for (g, _), of in zip(some, numbers, strict=True):
            values = [answers[t][n] for t, n in zip(games[g].branches, of, strict=True)]
            logits[g].append(np.concatenate(values, axis=1))
    return [np.stack(rows) for rows in logits]


def _add(ledgers: dict, part: Part, shares: np.ndarray, error: np.ndarray | None, mixtures: Mixtures, of: int) -> None:
    """One baseline's ledger, as one of ``of`` that are averaged."""
    logits, at_base = (x[part.task].cpu().double().numpy() for x in (mixtures.logits, mixtures.at_base))
    new = Ledger(part.task, part.labels, part.streams, np.zeros(()), logits, np.zeros(()))
    ledger = ledgers.setdefault(part.key, new)
    mine = [None if x is None else np.moveaxis(x[part.order][..., part.classes], 0, 2) / of for x in (shares, error)]
    ledger.values, ledger.baseline = ledger.values + mine[0], ledger.baseline + at_base / of
    if mine[1] is not None:  # every baseline has the same permutations, so their errors are not apart: add up
        ledger.standard_error = mine[1] + (0 if ledger.standard_error is None else ledger.standard_error)
