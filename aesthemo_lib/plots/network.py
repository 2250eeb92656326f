"""A diagram of a network's branches and of what they exchange."""

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from ..models.networks import map_shapes
from .style import NEUTRAL, task_colour, use_style

STEP, APART, HALF_WIDTH, HALF_HEIGHT, GATE = 0.84, 2.5, 1.06, 0.17, 0.2
"""Inches: from box to box, downwards and sideways; half a box; and half the width of the box of a 1x1 convolution."""


def network_diagram(network: nn.Module, side: int = 224) -> Figure:
    """A diagram drawn from the network itself, from top to bottom: its groups, what lies between them, and its heads.

    It may be on any device, 'meta' too: nothing is computed. ``side``: of the images, from which maps' sizes follow.
    """
    use_style()
    rows, exchanges = _rows(network, side), len(getattr(network, "exchanges", ()))
    frozen = len(network.frozen)
    half, bottom = max(abs(x) for _, x, _ in rows[-1]) + HALF_WIDTH + 0.1, (len(rows) - 1) * STEP + 0.7
    figure = Figure((2 * half, bottom + 0.3), layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-half, half), ylim=(bottom, -0.3))
    ax.set_axis_off()
    for i, (here, there) in enumerate(pairwise(rows)):
        _connect(ax, i * STEP, here, there, exchanged=frozen < i <= frozen + exchanges)
    for i, row in enumerate(rows):
        for colour, x, text in row:
            _box(ax, x, i * STEP, colour, text)
    for task, (colour, x, _) in zip(network.tasks, rows[-1], strict=True):
        text = f"{task.name}\n{len(task.classes)} classes"
        ax.text(x, bottom - 0.45, text, ha="center", va="top", color=colour, fontweight="bold")
    return figure


def _rows(network: nn.Module, side: int) -> list[list[tuple[str, float, str]]]:
    """The rows of the diagram, from the top: (colour, place, text) of each box."""
    places = [(task_colour(t.name), (i - (len(network.tasks) - 1) / 2) * APART) for i, t in enumerate(network.tasks)]
    frozen = len(network.frozen)
    shared = frozen + len(getattr(network, "trunk", ()))
    rows = [[(NEUTRAL, 0.0, f"image: 3×{side}×{side}")]]
    for i, shape in enumerate(map_shapes(network, side), start=1):
        text = f"{'frozen' if i <= frozen else 'conv'} group {i}: " + "×".join(map(str, shape))
        rows.append([(*place, text) for place in ([(NEUTRAL, 0.0)] if i <= shared else places)])
    heads = [sum(isinstance(m, nn.Linear) for m in head.modules()) for _, head in network.parts()]
    rows.append([(*place, f"{full} fully connected") for place, full in zip(places, heads, strict=True)])
    return rows


def _connect(ax: Axes, y: float, here: list, there: list, exchanged: bool) -> None:
    """Arrows from one row to the next; if they exchange, from all branches through a 1x1 convolution for each."""
    start, end = y + HALF_HEIGHT, y + STEP - HALF_HEIGHT
    gate, half = end - 0.21, 0.11
    for target, (colour, x, _) in enumerate(there):
        for source, place, _ in here if exchanged or len(here) == 1 else [here[target]]:
            _arrow(ax, (place, start), (x, gate - half if exchanged else end), source)
        if exchanged:
            _arrow(ax, (x, gate + half), (x, end), colour)
            _box(ax, x, gate, colour, "1×1", GATE, half)


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 1.4})


def _box(ax, x, y, colour, text, width=HALF_WIDTH, height=HALF_HEIGHT) -> None:
    ax.add_patch(Rectangle((x - width, y - height), 2 * width, 2 * height, facecolor="white", edgecolor=colour, lw=1.6))
    ax.text(x, y, text, ha="center", va="center", fontsize=10)
