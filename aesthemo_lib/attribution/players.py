"""The players of each ledger, and which maps a coalition of them leads to, as numbers of ``mixtures.Mixtures``."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..models.networks import Exchanging
from .mixtures import Mixtures
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
    """A cooperative game: the logits of every coalition of its players.

    Attributes:
        players, branches: P (or what the game's own plan takes); the branches whose logits are the value.
        numbers: the numbers that a coalition (a 0 or 1 per player) has behind the last layer of these branches.
        parts: the ledgers that are made of the values.
    """

    players: Any
    branches: list[int]
    numbers: Callable[[Mixtures, list[int]], Sequence[int]]
    parts: list[Part]


def incoming(network: Exchanging, t: int) -> tuple[list[Stream], list[str]]:
    """The streams that task t borrows, and ' from <task>' behind each one's layer where there are several sources."""
    name = network.tasks[t].name
    borrowed = [s for s in streams(network) if s.borrowed and s.receiver == name]
    return borrowed, [f"{s.layer}" + f" from {s.source}" * (len(network.tasks) > 2) for s in borrowed]


def trunk_games(network: Exchanging) -> Iterator[Game]:
    """One game per task; its players are the branch's own trunk and each map that comes in."""
    for t, task in enumerate(network.tasks):
        borrowed, places = incoming(network, t)
        players = range(1 + len(borrowed))
        labels = ("own", *(f"borrowed at {place}" for place in places))
        part = Part(task.name, task.name, labels, (None, *borrowed), list(players), slice(None))
        numbers = partial(_trunk_number, t=t, branches=len(network.tasks))
        yield Game(len(players), [t], numbers, [part])


def _trunk_number(mixtures: Mixtures, bits: list[int], t: int, branches: int) -> tuple[int]:
    """Branch t with its own trunk fed by bits[0], and what comes in from the others layer by layer as bits say."""
    number, coming = bits[0], iter(bits[1:])
    for i in range(mixtures.layers):
        number = mixtures.mixed(i, t, [number if s == t else next(coming) for s in range(branches)])
    return (number,)


def layer_games(network: Exchanging) -> Iterator[Game]:
    """One game per layer, for all tasks; its players are the layer's T*T streams, receiver by receiver."""
    known, names = streams(network), [task.name for task in network.tasks]
    ends = np.cumsum([len(task.classes) for task in network.tasks])
    for i in range(len(network.exchanges)):
        here, parts = [s for s in known if s.layer == i + 1], []
        for task, end in zip(network.tasks, ends, strict=True):
            order = sorted(range(len(here)), key=lambda p, name=task.name: (
                here[p].receiver != name, names.index(here[p].receiver), here[p].borrowed))
            labels = tuple(_label(here[p], task.name, len(names)) for p in order)
            parts.append(Part((i + 1, task.name), task.name, labels, tuple(here[p] for p in order), order,
                              slice(end - len(task.classes), end)))
        numbers = partial(_layer_numbers, i=i, branches=len(names))
        yield Game(len(here), list(range(len(names))), numbers, parts)


def _layer_numbers(mixtures: Mixtures, bits: list[int], i: int, branches: int) -> tuple[int, ...]:
    """All branches, when what reaches each of them at layer i (from 0) is as its own ``branches`` bits say."""
    maps = [mixtures.mixed(i, t, bits[t * branches:(t + 1) * branches]) for t in range(branches)]
    return mixtures.onward(i + 1, maps)


def _label(stream: Stream, task: str, tasks: int) -> str:
    what = "own" if not stream.borrowed else f"borrowed from {stream.source}" if tasks > 2 else "borrowed"
    return what if stream.receiver == task else f"via {stream.receiver}: {what}"
