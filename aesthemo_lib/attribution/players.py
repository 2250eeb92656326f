"""Who plays in each ledger, and which maps a coalition of players leads to, as numbers of ``flows.Flows``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import nn

from .mixtures import Flows
from .streams import Stream, streams


class Part(NamedTuple):
    """What one ledger takes from its game: some of the logits, and the players in its own order."""

    key: str | tuple[int, str]
    task: str
    labels: tuple[str, ...]
    streams: tuple[Stream | None, ...]
    order: list[int]
    classes: slice


class Game(NamedTuple):
    """How many play, and the numbers that a coalition (a 0 or 1 a player) has behind the last layer of some branches.
    """

    players: int
    branches: list[int]
    numbers: Callable[[Flows, list[int]], Sequence[int]]
    parts: list[Part]


def trunk_games(network: nn.Module) -> list[Game]:
    """A game a task, whose players are the own trunk and each map that comes in."""
    known, names = streams(network), [task.name for task in network.tasks]
    games = []
    for t, name in enumerate(names):
        incoming = [s for s in known if s.borrowed and s.receiver == name]
        labels = ("own", *(f"borrowed at {s.layer}" + f" from {s.source}" * (len(names) > 2) for s in incoming))
        players = 1 + len(incoming)
        part = Part(name, name, labels, (None, *incoming), list(range(players)), slice(None))
        games.append(Game(players, [t], partial(_trunk_number, t=t, branches=len(names)), [part]))
    return games


def _trunk_number(flows: Flows, bits: list[int], t: int, branches: int) -> tuple[int]:
    """Branch t with its own trunk fed by bits[0], and what comes in from the others layer by layer as bits say."""
    number, coming = bits[0], iter(bits[1:])
    for i in range(flows.layers):
        number = flows.mixed(i, t, [number if s == t else next(coming) for s in range(branches)])
    return (number,)


def layer_games(network: nn.Module) -> list[Game]:
    """A game a layer, for all tasks, whose players are the layer's T*T streams, receiver by receiver."""
    known, names = streams(network), [task.name for task in network.tasks]
    ends, games = np.cumsum([len(task.classes) for task in network.tasks]), []
    for i in range(len(network.exchanges)):
        here, parts = [s for s in known if s.layer == i + 1], []
        for task, end in zip(network.tasks, ends, strict=True):
            order = sorted(range(len(here)), key=lambda p, name=task.name: (
                here[p].receiver != name, names.index(here[p].receiver), here[p].borrowed))
            labels = tuple(_label(here[p], task.name, len(names)) for p in order)
            parts.append(Part((i + 1, task.name), task.name, labels, tuple(here[p] for p in order), order,
                               slice(end - len(task.classes), end)))
        numbers = partial(_layer_numbers, i=i, branches=len(names))
        games.append(Game(len(here), list(range(len(names))), numbers, parts))
    return games


def _layer_numbers(flows: Flows, bits: list[int], i: int, branches: int) -> tuple[int, ...]:
    """All branches, when what reaches each of them at layer i (from 0) is as its own ``branches`` bits say."""
    maps = [flows.mixed(i, t, bits[t * branches:(t + 1) * branches]) for t in range(branches)]
    return flows.onward(i + 1, maps)


def _label(stream: Stream, task: str, tasks: int) -> str:
    what = "own" if not stream.borrowed else f"borrowed from {stream.source}" if tasks > 2 else "borrowed"
    return what if stream.receiver == task else f"via {stream.receiver}: {what}"
