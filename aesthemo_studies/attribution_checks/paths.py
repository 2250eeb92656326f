"""The path ledger: the trunk ledger with each borrowed map's two origins apart, 'seen' and 'round trip'."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from torch import Tensor, nn

from aesthemo_lib.attribution import ledger
from aesthemo_lib.attribution.ledger import Ledger, coalition_weights, coalitions, from_orders, play
from aesthemo_lib.attribution.mixtures import Mixtures
from aesthemo_lib.attribution.players import Game, Part, incoming
from aesthemo_lib.attribution.streams import Stream
from aesthemo_lib.models.networks import Exchanging


def path_ledger(
    network: nn.Module, images: Tensor, baseline: Tensor | None = None, draws: int | None = None, seed: int = 0
) -> dict[str, Ledger]:
    """The trunk ledger with each 'borrowed at i' split: 'seen' by the other branch itself, and 'round trip'.

    A map that branch t borrows at layer i depends on the pixels that the other branches saw, and on the maps that left
    branch t at layers before i. Each of the two is at the image or at the baseline, which makes two players of a map
    after layer 1. They form a union (Owen 1977), so the two add up to 'borrowed at i' of the trunk ledger, exactly.
    Maps that left branch t count as a round trip whatever they hold, what t had borrowed itself included.

    Two branches with L layers take L * 2^(L+1) coalitions a task, L times as many as the trunk ledger; their maps are
    mostly shared, so that with L = 4 both tasks' ledgers compute 376 distinct maps instead of 104.

    Args, Raises: see ``trunk_ledger``.

    Returns:
        a ledger by task name, of 1 + (T-1) * (2 * layers - 1) players.
    """
    return play(network, images, baseline, path_games(network), draws, seed, owen_plan)


def path_games(network: Exchanging) -> Iterator[Game]:
    """A game a task: the trunk game, in which each map that comes in after layer 1 is a union of two players.

    'Seen' is what the other branches make of their own pixels, 'round trip' what they make of the maps that branch t
    sent them at earlier layers, whatever these hold.
    """
    for t, task in enumerate(network.tasks):
        borrowed, places = incoming(network, t)
        unions, labels = [[0]], ["own"]
        sources: list[Stream | None] = [None]
        for stream, place in zip(borrowed, places, strict=True):
            kinds = ("seen", "round trip")[: 1 if stream.layer == 1 else 2]
            unions.append([len(labels) + k for k in range(len(kinds))])
            labels += [f"{kind} at {place}" for kind in kinds]
            sources += [stream] * len(kinds)
        part = Part(task.name, task.name, tuple(labels), tuple(sources), list(range(len(labels))), slice(None))
        yield Game(unions, [t], partial(_path_number, t=t, branches=len(network.tasks)), [part])


def _path_number(mixtures: Mixtures, bits: list[int], t: int, branches: int) -> tuple[int]:
    """As ``_trunk_number``, but of what comes in after layer 1 one bit says what was seen, one what had been sent."""
    number, coming = bits[0], iter(bits[1:])
    for i in range(mixtures.layers):
        reaching = [number] * branches
        for s in range(branches):
            if s != t:
                seen = next(coming)
                reaching[s] = _sent(mixtures, i, s, t, seen, next(coming) if i else seen)
        number = mixtures.mixed(i, t, reaching)
    return (number,)


def _sent(mixtures: Mixtures, layer: int, s: int, t: int, seen: int, sent: int) -> int:
    """The number of branch s's map at a layer (from 0) if all branches but t see the baseline (0) or the image (1), and
    the maps that leave t on the way are those of the baseline or of the image."""
    maps = [seen] * len(mixtures.network.branches)
    for i in range(layer):
        maps[t] = sent
        maps = [mixtures.mixed(i, u, maps) if u != t else sent for u in range(len(maps))]
    return maps[s]


def owen_plan(unions: Sequence[Sequence[int]], draws: int | None, seed: int) -> tuple[np.ndarray, Callable]:
    """``shapley_plan`` where players form unions, lists of player numbers: for Owen values, exact or drawn."""
    needed = 2 ** len(unions) + sum(2 ** len(union) - 2 for union in unions) * 2 ** (len(unions) - 1)
    if draws is None and needed <= ledger.EXACT:
        masks, places = _coalitions_of(unions)
        return masks, lambda values: (_exact(values, unions, places), None)
    rng = np.random.default_rng(seed)
    return from_orders(np.array([
        np.concatenate([rng.permutation(unions[u]) for u in rng.permutation(len(unions))])
        for _ in range(max(draws or ledger.DRAWS, 2))]))


def _coalitions_of(unions: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The distinct coalitions (M, P) that split at most one union; for each union the rows (2^k, 2^(U-1)) of its own
    coalitions with those of the others."""
    wanted = []
    for u, union in enumerate(unions):
        others = coalitions(len(unions) - 1)
        masks = np.zeros((2 ** len(union), len(others), sum(map(len, unions))), dtype=bool)
        masks[:, :, union] = coalitions(len(union))[:, None]
        for joined, other in zip(others.T, [*unions[:u], *unions[u + 1:]], strict=True):
            masks[:, :, other] = joined[:, None]
        wanted.append(masks)
    rows = np.concatenate([masks.reshape(-1, masks.shape[-1]) for masks in wanted])
    distinct, where = np.unique(rows, axis=0, return_inverse=True)
    ends = np.cumsum([masks.shape[0] * masks.shape[1] for masks in wanted])[:-1]
    parts = np.split(where.ravel(), ends)
    return distinct, [part.reshape(masks.shape[:2]) for part, masks in zip(parts, wanted, strict=True)]


def _exact(values: np.ndarray, unions: Sequence[Sequence[int]], places: list[np.ndarray]) -> np.ndarray:
    """(M, ...) values of the coalitions to (P, ...). Of differences, so that who changes nothing has exactly 0."""
    weights, parts = coalition_weights(len(unions)), np.empty((sum(map(len, unions)), *values.shape[1:]))
    for union, place in zip(unions, places, strict=True):
        cube = values[place].reshape(*[2] * len(union), *place.shape[1:], *values.shape[1:])
        for k, player in enumerate(union):  # the Shapley value within the union, for each coalition of the others
            gains = np.diff(cube, axis=k).reshape(-1, len(weights), *values.shape[1:])
            parts[player] = np.tensordot(weights, np.tensordot(coalition_weights(len(union)), gains, axes=1), axes=1)
    return parts
