"""The picture of how cost grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from aesthemo_lib.files import digest
from aesthemo_lib.plots.style import NEUTRAL, save, use_style

from .rows import COMMAND, PICTURE

NAMES = {"images": "images in the training set", "pixels": "pixels an image", "tasks": "branches, one a task",
         "batch": "images a batch"}
LEAST = 4
UNITS = {"time": "seconds", "memory": "GB"}


def growth_figure(rows: Sequence[dict]) -> Figure:
    """Points and the fitted power of each row, time above memory, a column for each axis.

    Args:
        rows: as ``rows.row`` makes them, named ``growth_<time or memory>_<axis>``.
    """
    use_style()
    axes = list(dict.fromkeys(one["name"].split("_")[2] for one in rows))
    figure = Figure((3.1 * len(axes), 5.4))
    for panel, (what, axis) in zip(figure.subplots(2, len(axes), squeeze=False).ravel(),
                                   ((what, axis) for what in UNITS for axis in axes), strict=True):
        points = [one for one in rows if one["name"] == f"growth_{what}_{axis}"]
        if not points:
            panel.set_axis_off()
            continue
        x, y = np.array(points[0]["points"]).T
        slope, height = np.polyfit(np.log(x), np.log(y), 1)
        panel.plot(x, np.exp(height) * x**slope, color=NEUTRAL, lw=1)
        panel.plot(x, y, "o")
        per = "an epoch" if axis == "images" else "a step"
        panel.set(xscale="log", yscale="log", xlabel=NAMES[axis], title=f"{what}: power {round(slope, 2) + 0:.2f}",
                  ylim=_limits(y),
                  ylabel=f"{UNITS[what]}{f' {per}' if what == 'time' else ''}")
        panel.set_xticks(x, [f"{int(value):,}" for value in x], rotation=30, fontsize=8)
        panel.minorticks_off()
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
    return figure


def _limits(values: np.ndarray) -> tuple[float, float]:
    """At least a factor of ``LEAST`` from bottom to top, so that what doesn't grow looks flat."""
    middle = np.sqrt(values.min() * values.max())
    reach = 1.15 * np.sqrt(max(values.max() / values.min(), LEAST))
    return middle / reach, middle * reach


def draw(rows: Sequence[dict], path: Path) -> None:
    """Write the picture, with the command and its data's hash in its metadata."""
    data = digest([[one["name"], one["points"]] for one in rows])
    save(growth_figure(rows), path, {"Comment": COMMAND, "Source": data, "Description": PICTURE})
