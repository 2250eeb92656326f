"""A diagram of a network's branches and of what they exchange."""

from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

from ..models.networks import map_shapes
from .style import NEUTRAL, task_colour, use_style

STEP, HALF_WIDTH, HALF_HEIGHT, GATE = 1.65, 0.5, 0.32, 0.15
"""Inches: from box to box, half a box, and half the box of a 1x1 convolution."""


def network_diagram(network: nn.Module, side: int = 224) -> Figure:
    """A diagram drawn from the network itself: its groups, what lies between them, and its heads.

    It may be on any device, 'meta' too: nothing is computed. ``side``: of the images, from which maps' sizes follow.
    """
    use_style()
    columns, exchanges = _columns(network, side), len(getattr(network, "exchanges", ()))
    frozen = len(network.frozen)
    half = max(abs(y) for _, y, _ in columns[-1]) + 0.45
    left, right = -0.6, len(columns) * STEP + 0.2
    figure = Figure((right - left, 2 * half), layout="none")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(-half, half))
    ax.set_axis_off()
    for i, (here, there) in enumerate(pairwise(columns)):
        _connect(ax, i * STEP, here, there, exchanged=frozen < i <= frozen + exchanges)
    for i, column in enumerate(columns):
        for box in column:
            _box(ax, i * STEP, *box)
    for task, (colour, y, _) in zip(network.tasks, columns[-1], strict=True):
        text = f"{task.name}\n{len(task.classes)} classes"
        ax.text((len(columns) - 1) * STEP + 0.6, y, text, va="center", color=colour, fontweight="bold")
    return figure


def _columns(network: nn.Module, side: int) -> list[list[tuple[str, float, str]]]:
    """The columns of the diagram, from left to right: (colour, height, text) of each box."""
    rows = [(task_colour(t.name), 0.55 * (len(network.tasks) - 1) - 1.1 * i) for i, t in enumerate(network.tasks)]
    frozen = len(network.frozen)
    shared = frozen + len(getattr(network, "trunk", ()))
    columns = [[(NEUTRAL, 0.0, f"image\n3×{side}×{side}")]]
    for i, shape in enumerate(map_shapes(network, side), start=1):
        text = f"{'frozen' if i <= frozen else 'conv'}\ngroup {i}\n" + "×".join(map(str, shape))
        columns.append([(*row, text) for row in ([(NEUTRAL, 0.0)] if i <= shared else rows)])
    heads = [sum(isinstance(m, nn.Linear) for m in head.modules()) for _, head in network.parts()]
    columns.append([(*row, f"{full} fully\nconnected") for row, full in zip(rows, heads, strict=True)])
    return columns


def _connect(ax: Axes, x: float, here: list, there: list, exchanged: bool) -> None:
    """Arrows from one column to the next; if they exchange, from all branches through a 1x1 convolution for each."""
    gate, end = x + STEP - HALF_WIDTH - 2 * GATE, x + STEP - HALF_WIDTH
    for target, (colour, y, _) in enumerate(there):
        for source, height, _ in here if exchanged or len(here) == 1 else [here[target]]:
            _arrow(ax, (x + HALF_WIDTH, height), (gate - GATE if exchanged else end, y), source)
        if exchanged:
            _arrow(ax, (gate + GATE, y), (end, y), colour)
            _box(ax, gate, colour, y, "1×1", GATE, GATE)


def _arrow(ax: Axes, start: tuple, end: tuple, colour: str) -> None:
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0, "lw": 1.4})


def _box(ax, x, colour, y, text, width=HALF_WIDTH, height=HALF_HEIGHT) -> None:
    ax.add_patch(Rectangle((x - width, y - height), 2 * width, 2 * height, facecolor="white", edgecolor=colour, lw=1.6))
    ax.text(x, y, text, ha="center", va="center", fontsize=10)
